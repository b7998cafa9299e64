package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newWatchCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Print a line for each change of the holder of a name",
		Long: `watch prints the holder of a name, and a line for each change, until it is interrupted. Each line
begins with this host's time. With -o json each line is an object, with its Time.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				for h, err := range sup.Watch(ctx, args[0]) {
					if err != nil {
						return s.failure(err)
					}
					now := time.Now()
					if s.json() {
						err = s.emit(told{h, now})
					} else {
						_, err = fmt.Fprintln(s.out, say.Time(now), say.Holding(h))
					}
					if err != nil {
						return err // the reader of the output is gone
					}
				}
				return nil
			})
		},
	}
}
