package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/doctor"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newDoctorCommand(s *settings) *cobra.Command {
	var cfg doctor.Config
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the nodes, and say what is wrong with them",
		Long: `doctor asks each node for its state, watches its clock and its round trips for some seconds, and
then acquires a name of its own and hands it over. It says what is wrong, and what to do.

It reads and writes no key but those of that name, and what every client of the nodes leaves
there. If other clients use other nodes it does not get that far. Give it --ttl, --max-ttl-cap
and --prefix as the jobs have them: it judges by those, and the nodes remember the largest --ttl.

The exit status is 0 if nothing is wrong, 1 if there are only warnings, and 2 if something is
broken: a node that gives no lease, or one of which two could be given.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if cfg.For <= 0 {
				return fmt.Errorf("--for %v: want more than 0", cfg.For)
			}
			ctx, stop := s.untilSignal()
			defer stop()
			var err error
			if cfg.Supervisor, err = s.configure(supervisor.Config{}); err != nil {
				return err
			}
			report, err := doctor.Examine(ctx, cfg)
			if err != nil {
				return s.failure(err)
			}
			if s.json() {
				err = s.emit(report)
			} else {
				err = report.WriteText(s.out)
			}
			return errors.Join(err, statusOfReport(report.Level))
		},
	}
	c.Flags().Var(durationVar(&cfg.For, 3*time.Second), "for", "watch clocks and round trips for this long")
	c.Flags().StringVar(&cfg.Name, "try-name", "", "the `name` to acquire, if the user's rights do not cover one that is made up (default: a made-up one)")
	return c
}

// statusOfReport returns the exit for the findings of doctor.
func statusOfReport(l doctor.Level) error {
	switch l {
	case doctor.Warning:
		return &exit{status: 1}
	case doctor.Broken:
		return &exit{status: 2}
	}
	return nil
}
