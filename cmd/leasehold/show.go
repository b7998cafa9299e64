package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newShowCommand(s *settings) *cobra.Command {
	var token bool
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show who holds a name, and what each node says",
		Long: `show prints who holds a name, how many wait for it, and what each node says. Its exit status is 0
if the name is held or was left, and 1 if it is not.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				h, err := sup.Inspect(ctx, args[0])
				if err != nil {
					return s.failure(err)
				}
				fmt.Fprintln(s.out, describe(h))
				if token && h.Held {
					fmt.Fprintln(s.out, "token", string(h.Token))
				}
				if h.Waiting > 0 {
					fmt.Fprintln(s.out, h.Waiting, "waiting")
				}
				for _, a := range h.Nodes {
					fmt.Fprintln(s.out, " ", a)
				}
				if !h.Held {
					return &exit{status: no}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&token, "token", false, "show the token too, which is the key to the lease, and what revoke wants")
	return c
}

// describe says in a line who holds a name.
func describe(h supervisor.Holding) string {
	if !h.Held {
		if h.Free {
			return "free"
		}
		return "not clear: no quorum says the same"
	}
	var b strings.Builder
	if h.Vacated {
		b.WriteString("left")
	} else {
		b.WriteString("held")
	}
	if h.Owner != "" {
		fmt.Fprintf(&b, " by %s", plain.Line(h.Owner)) // which others have chosen
	}
	switch left := h.Left.Round(time.Millisecond); {
	case h.NoExpiry:
		b.WriteString(" with no expiry")
	case h.Vacated:
		fmt.Fprintf(&b, ", free in %v", left)
	default:
		fmt.Fprintf(&b, " for %v unless renewed", left)
	}
	if !h.Since.IsZero() {
		fmt.Fprintf(&b, ", since %s or before", h.Since.UTC().Format(time.RFC3339))
	}
	return b.String()
}
