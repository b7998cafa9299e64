package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newNodesCommand(s *settings) *cobra.Command {
	c := &cobra.Command{
		Use:   "nodes",
		Short: "Show how far a change of the nodes has come, and which step is next",
		Long: `nodes asks each node of --nodes and --former how far the change from --former to --nodes has
come there, and how clients use the two lists. It says which step is safe next. It changes
nothing. docs/operating.md has the steps.

STAGE is begun once a process was given both lists, closed once the former nodes count no vote
for processes that were given them alone, and opened once processes may be given --nodes alone.
All fences are larger than FLOOR. CLIENTS are those that the node has heard of lately: what ends
is remembered for two MaxTTLs, at least 4 s and at most 40 s.

The exit status is 0, or 69 if no quorum of a list could be asked.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return s.changing(false, func(ctx context.Context, cfg supervisor.Config) error {
				st, err := supervisor.InspectChange(ctx, cfg)
				if err != nil {
					return s.failure(err)
				}
				if s.json() {
					err = s.emit(st)
				} else {
					err = showChange(s.out, st)
				}
				if err == nil && !answered(st) {
					err = &exit{status: noQuorum}
				}
				return err
			})
		},
	}
	c.AddCommand(newFinishCommand(s), newForgetCommand(s), newFloorCommand(s))
	return c
}

func newFinishCommand(s *settings) *cobra.Command {
	var opts supervisor.FinishOptions
	c := &cobra.Command{
		Use:   "finish",
		Short: "Finish a change of the nodes, after all processes were given both lists",
		Long: `finish has the nodes of --former count no more votes for processes that were given them alone.
It waits until no lease that rests on them alone is believed in, the largest MaxTTL of all clients
and the drift. Then the nodes of --nodes count votes for processes that are given --nodes alone.
Leases of processes that were given both go on.

It refuses while the nodes know of clients that use --former alone, with exit status 1. Every node
must answer, or be named as dead; otherwise the exit status is 69. Run it again as often as needed,
also from several places, also if it was interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !s.quiet {
				opts.Say = func(text string) { s.complain(fmt.Errorf("%s", text)) }
			}
			return s.changing(true, func(ctx context.Context, cfg supervisor.Config) error {
				if err := supervisor.FinishChange(ctx, cfg, opts); err != nil {
					return s.failure(err)
				}
				return s.did("finished")
			})
		},
	}
	c.Flags().StringArrayVar(&opts.Dead, "dead", nil, "a `node` that is off for good and will not come back with its data; again for another")
	c.Flags().BoolVar(&opts.Force, "force", false, "finish although clients use the former nodes alone: they lose their leases, and get none")
	for _, name := range []string{"dead", "force"} {
		_ = c.Flags().SetAnnotation(name, byFlagAlone, []string{}) // one that was meant for another change does harm
	}
	return c
}

func newForgetCommand(s *settings) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "forget-change",
		Short: "Give up a change of the nodes that was begun, and not finished",
		Long: `forget-change makes the nodes forget that a change from --former to --nodes was begun. Before,
give every process the nodes of --former alone again, as its --nodes. It refuses while the nodes
know of clients that use --nodes, with exit status 1. Every node must answer; otherwise the exit
status is 69. A change of which finish has done a part can only be finished: then change the nodes
back.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return s.changing(true, func(ctx context.Context, cfg supervisor.Config) error {
				if err := supervisor.ForgetChange(ctx, cfg, force); err != nil {
					return s.failure(err)
				}
				return s.did("forgotten")
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "forget it although clients use --nodes: two could then hold one name at once")
	_ = c.Flags().SetAnnotation("force", byFlagAlone, []string{})
	return c
}

func newFloorCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "floor",
		Short: "Keep fences growing while nodes are changed one at a time",
		Long: `floor reads the highest fence of a quorum of --former, the list of the step before, and makes all
fences on --nodes larger. Run it after each step in which one node was added or removed, when all
processes have the next list. It needs no --former in any process. Every node of --nodes must
answer; otherwise the exit status is 69.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return s.changing(true, func(ctx context.Context, cfg supervisor.Config) error {
				floor, err := supervisor.RaiseFloor(ctx, cfg)
				switch {
				case err != nil:
					return s.failure(err)
				case s.json():
					return s.emit(struct{ Floor uint64 }{floor})
				}
				_, err = fmt.Fprintln(s.out, "floor", floor)
				return err
			})
		},
	}
}

// changing runs do until a signal comes.
func (s *settings) changing(needsFormer bool, do func(context.Context, supervisor.Config) error) error {
	cfg, err := s.configure(supervisor.Config{})
	if err != nil {
		return err
	}
	if needsFormer && len(cfg.Former) == 0 {
		return errors.New("no former nodes: give --former, --former-file, LEASEHOLD_FORMER or LEASEHOLD_FORMER_FILE")
	}
	ctx, stop := s.untilSignal()
	defer stop()
	return do(ctx, cfg)
}

// did says that something is done, to programs. People see that there is no error.
func (s *settings) did(what string) error {
	if !s.json() {
		return nil
	}
	return s.emit(struct{ Done string }{what})
}

// answered reports whether a quorum of each list was asked.
func answered(st supervisor.ChangeStatus) bool {
	var nodes []supervisor.NodeStatus
	for _, n := range st.Nodes {
		nodes = append(nodes, supervisor.NodeStatus{List: n.List, Enrolled: n.Err == nil})
	}
	return reachQuorum(nodes, func(n supervisor.NodeStatus) bool { return n.Enrolled })
}

// showChange writes how far a change has come as text.
func showChange(w io.Writer, st supervisor.ChangeStatus) error {
	rows := []string{"NODE\tLIST\tSTAGE\tFLOOR\tMAX TTL\tCLIENTS"}
	for _, n := range st.Nodes {
		stage, floor, longest, clients := n.Stage.String(), "-", "-", "none seen"
		if n.Other {
			stage = "of another change"
		}
		if n.Floor != 0 {
			floor = fmt.Sprint(n.Floor)
		}
		if n.MaxTTL != 0 {
			longest = short(n.MaxTTL)
		}
		var uses []string
		for _, c := range n.Clients {
			uses = append(uses, c.Use.String())
		}
		if uses != nil {
			clients = strings.Join(uses, "; ")
		}
		if n.Err != nil && n.Stage == node.StageNone {
			stage, clients = "?", "it cannot be asked: "+plain.Line(n.Err.Error())
		}
		rows = append(rows, strings.Join([]string{n.Node, n.List.String(), stage, floor, longest, clients}, "\t"))
	}
	if err := say.Table(w, rows...); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\nnext:", st.Next)
	return err
}
