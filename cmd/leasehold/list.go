package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/list"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newListCommand(s *settings) *cobra.Command {
	var limit int
	var within time.Duration
	c := &cobra.Command{
		Use:   "list",
		Short: "List the names in use, with the holder of each and how many wait",
		Long: `list prints the names that are held: the holder, since when, how many wait, and the
fence. It looks through all keys of the nodes that begin with --prefix, some hundred in a call,
so as not to hold up others, and then asks the nodes about each name. It does not list names that
clients of other libraries hold; show shows them.

With -o json it prints one object on a line for each name.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if limit < 1 {
				return fmt.Errorf("--limit %d: want at least 1", limit)
			}
			finder, err := s.finder(limit)
			if err != nil {
				return err
			}
			defer finder.Close()
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				bounded, cancel := context.WithTimeout(ctx, within)
				defer cancel()
				found := finder.Find(bounded)
				all := list.InUse(list.Look(ctx, sup, found.Names, list.Patient))
				if err := ctx.Err(); err != nil {
					return s.failure(err)
				}
				rows := []string{say.Columns}
				for _, h := range all {
					rows = append(rows, say.Row(h, time.Now()))
					if !s.json() {
						continue
					}
					if err := s.emit(h); err != nil {
						return err
					}
				}
				if !s.json() {
					if err := say.Table(s.out, rows...); err != nil {
						return err
					}
				}
				if found.More {
					s.complain(fmt.Errorf("there are more names: give a --limit above %d, or a --prefix", limit))
				}
				err := found.Err
				if err == nil {
					err = list.Unknown(all)
				}
				if err != nil {
					return &exit{noQuorum, errors.New(plain.Line(err.Error()))}
				}
				return nil
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 1000, "list at most this `number` of names")
	c.Flags().Var(durationVar(&within, 30*time.Second), "within", "look through the keys for this long at most")
	return c
}

// finder returns the finder that looks through the keys of the nodes.
func (s *settings) finder(limit int) (*list.Finder, error) {
	cfg, err := s.configure(supervisor.Config{})
	if err != nil {
		return nil, err
	}
	return list.NewFinder(list.Config{Nodes: cfg.Nodes, Former: cfg.Former, Prefix: cfg.Prefix, Limit: limit, Within: s.ttl / 4}), nil
}
