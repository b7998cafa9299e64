package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newRevokeCommand(s *settings) *cobra.Command {
	var token string
	c := &cobra.Command{
		Use:   "revoke NAME --token TOKEN",
		Short: "Take a lease away from its holder",
		Long: `revoke takes the lease with the given token away. The holder learns of it at its next renewal at
the latest, and others may get the name before that. The exit status is 1 if the token is not
the holder's.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if token == "" {
				return errors.New("no --token: want that of the lease, as show --token prints it")
			}
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				if err := sup.Revoke(ctx, args[0], lease.Token(token)); err != nil {
					return s.failure(err)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&token, "token", "", "the `token` of the lease, as show --token prints it; or LEASEHOLD_TOKEN")
	return c
}
