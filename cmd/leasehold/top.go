package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/top"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newTopCommand(s *settings) *cobra.Command {
	var limit int
	var every time.Duration
	c := &cobra.Command{
		Use:   "top",
		Short: "Show nodes, names and queues in a terminal, and refresh them",
		Long: `top shows the state of each node, and the names in use with the longest queue first. It refreshes
that each second. q quits; j and k, or the arrows, move.

If it does not write to a terminal, or with -o json, it shows one picture, and ends.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if limit < 1 {
				return fmt.Errorf("--limit %d: want at least 1", limit)
			}
			if every < 100*time.Millisecond {
				return fmt.Errorf("--every %v: want at least 100ms", every)
			}
			finder, err := s.finder(limit)
			if err != nil {
				return err
			}
			defer finder.Close()
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				cfg := top.Config{Supervisor: sup, Finder: finder, Every: every, Out: s.out}
				if in, out, on := s.terminal(); on && !s.json() {
					return s.live(ctx, cfg, in, out)
				}
				p := top.Once(ctx, cfg)
				if err := ctx.Err(); err != nil {
					return s.failure(err)
				}
				if s.json() {
					return s.emit(p)
				}
				for _, line := range p.Lines() {
					if _, err := fmt.Fprintln(s.out, line); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 200, "show at most this `number` of names")
	c.Flags().Var(durationVar(&every, time.Second), "every", "the time from one picture to the next")
	return c
}

// terminal returns the terminal that is read and the one that is written to, if both are there.
func (s *settings) terminal() (in, out *os.File, on bool) {
	out, is := s.out.(*os.File)
	return os.Stdin, out, is && term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(out.Fd()))
}

// live shows pictures until it is told to end, and leaves the terminal as it was.
func (s *settings) live(ctx context.Context, cfg top.Config, in, out *os.File) error {
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(int(in.Fd()), was) }()
	err = top.Run(ctx, cfg, top.Terminal{Keys: io.Reader(in), Size: func() (int, int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}})
	if err != nil && ctx.Err() != nil {
		return s.failure(ctx.Err())
	}
	return err
}
