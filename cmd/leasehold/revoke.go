package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/list"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newRevokeCommand(s *settings) *cobra.Command {
	var token string
	c := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Take a lease away from its holder",
		Long: `revoke takes a lease away. On a terminal it shows the holder of the name, and asks whether to go on;
otherwise it needs the lease's token. The holder learns of it at its next renewal at the latest, and
others may get the name before that. The exit status is 1 if another lease holds the name by now, if
none does, or if the answer was no.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if token == "" && !term.IsTerminal(int(os.Stdin.Fd())) {
				return errors.New("no --token, and no terminal to ask on: give the token of the lease, as show --token prints it")
			}
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				is := lease.Token(token)
				if is == "" {
					var err error
					if is, err = s.confirm(ctx, sup, name, os.Stdin); err != nil {
						return err
					}
				}
				if err := sup.Revoke(ctx, name, is); err != nil {
					return s.failure(err)
				}
				if s.json() {
					return s.emit(struct{ Revoked string }{name})
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&token, "token", "", "the `token` of the lease, as show --token prints it; or LEASEHOLD_TOKEN")
	return c
}

// confirm shows the holder of a name. It returns the token of that lease if the user wants to
// revoke it.
func (s *settings) confirm(ctx context.Context, sup *supervisor.Supervisor, name string, in io.Reader) (lease.Token, error) {
	h, err := list.Inspect(ctx, sup, name, list.Patient)
	if err != nil {
		return "", s.failure(err)
	}
	fmt.Fprintf(s.err, "%q is %s\n", name, say.Holding(h))
	if !h.Held {
		return "", &exit{status: no}
	}
	if h.Waiting > 0 {
		fmt.Fprintf(s.err, "%d waiting; the first in line gets it at once\n", h.Waiting)
	}
	fmt.Fprint(s.err, "take it away? The holder may work on for a moment [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return h.Token, nil
		}
		return "", &exit{no, errors.New("nothing was revoked")}
	case <-ctx.Done(): // ^C
		return "", s.failure(ctx.Err())
	}
}
