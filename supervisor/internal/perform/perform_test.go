package perform_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// A script is a core that decides an end and its releases as soon as a command finds no room
// at node 0. It is its own doer, and writes down what is done.
type script struct {
	effects []string
	outbox  [3][]node.Command
	log     []string
}

func (s *script) Serve(clock.Instant) {}

func (s *script) Idle() bool {
	return len(s.effects)+len(s.outbox[0])+len(s.outbox[1])+len(s.outbox[2]) == 0
}

func (s *script) TakeEffects() (taken []string) {
	taken, s.effects = s.effects, nil
	return taken
}

func (s *script) ReturnEffects([]string) {}

func (s *script) TakeCommands(i int) (taken []node.Command) {
	taken, s.outbox[i] = s.outbox[i], nil
	return taken
}

func (s *script) Unsent(clock.Instant, int, node.Command) {
	s.effects = append(s.effects, "ended")
	for i := range s.outbox {
		s.outbox[i] = append(s.outbox[i], node.Command{Op: node.Release})
	}
}

func (s *script) Effect(_ clock.Instant, e *string) { s.log = append(s.log, *e) }

func (s *script) Send(i int, commands []node.Command) (unsent []node.Command) {
	for _, c := range commands {
		if i == 0 && c.Op == node.Renew {
			unsent = append(unsent, c)
			continue
		}
		s.log = append(s.log, fmt.Sprintf("%v %d", c.Op, i))
	}
	return unsent
}

// What is decided because one node has no room is told before the next node hears of it.
func TestEffectsBeforeSends(t *testing.T) {
	s := &script{}
	for i := range s.outbox {
		s.outbox[i] = []node.Command{{Op: node.Renew}}
	}
	perform.All(1, s, len(s.outbox), s)
	ended := slices.Index(s.log, "ended")
	for i := range s.outbox {
		if told := slices.Index(s.log, fmt.Sprintf("%v %d", node.Release, i)); told < ended {
			t.Errorf("%v: node %d hears of the end before the holder", s.log, i)
		}
	}
}
