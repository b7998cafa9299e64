package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/list"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newShowCommand(s *settings) *cobra.Command {
	var token bool
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show the holder of a name, and what each node says",
		Long: `show prints the holder of a name, how many wait for it, and what each node says. If something
else than a lease keeps the name taken, it says what: a client of another library, a value that
is no lock, or a reservation for a waiter. Its exit status is 0
if the name is held or was left, and 1 if it is not.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				h, err := list.Inspect(ctx, sup, args[0], list.Patient)
				if err != nil {
					return s.failure(err)
				}
				if s.json() {
					err = s.emit(shown{h, secret(h, token)})
				} else {
					err = show(s.out, h, token)
				}
				if err == nil && !h.Held {
					err = &exit{status: no}
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&token, "token", false, "also show the token, which is the key to the lease, for revoke")
	_ = c.Flags().SetAnnotation("token", byFlagAlone, []string{}) // LEASEHOLD_TOKEN is that of revoke, and no yes or no
	return c
}

// show writes a holding as text.
func show(w io.Writer, h supervisor.Holding, token bool) error {
	_, err := fmt.Fprintln(w, say.Holding(h))
	if t := secret(h, token); t != "" {
		fmt.Fprintln(w, "token", t)
	}
	if h.Waiting > 0 {
		fmt.Fprintln(w, h.Waiting, "waiting")
	}
	for _, a := range h.Nodes {
		fmt.Fprintln(w, " ", say.Answer(a))
	}
	return err
}

// secret returns the token if it is to be shown.
func secret(h supervisor.Holding, show bool) string {
	if !show || !h.Held {
		return ""
	}
	return string(h.Token)
}

// shown is a holding, together with what it does not show by itself.
type shown struct {
	supervisor.Holding
	token string
}

func (v shown) MarshalJSON() ([]byte, error) {
	if v.token == "" {
		return v.Holding.MarshalJSON()
	}
	return say.With(v.Holding, "Token", v.token)
}

// told is a holding, together with the time when it was read.
type told struct {
	supervisor.Holding
	at time.Time
}

func (v told) MarshalJSON() ([]byte, error) { return say.With(v.Holding, "Time", say.Time(v.at)) }
