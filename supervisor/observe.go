package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
)

// An Observer is called with each event, one after the other, by a goroutine that serves it and the
// Logger alone. It may take its time: the leases do not wait for it. If more than 1,024 events wait
// for it, further ones are dropped and counted in [Stats], as Untold. If it panics, the panic is
// recovered and the event is counted there too.
type Observer interface {
	Observe(Event)
}

// ObserverFunc is a function that is an [Observer].
type ObserverFunc func(Event)

// Observe calls f with e.
func (f ObserverFunc) Observe(e Event) { f(e) }

// An Event describes something that happened.
type Event struct {
	Kind    EventKind
	Name    string        // of events about a lease, EventWaiting and EventFailed: the name, prefix included
	Fence   uint64        // of events about a lease: its fence
	Node    string        // of EventNodeUp, EventNodeDown, EventReconnected and EventWarning: the node, without credentials; empty if a warning is about no node
	Err     error         // of EventFailed, EventLost, EventNodeDown, EventWarning and EventYoung: why; of EventReconnected: why the former connection had ended; of EventReleased: lease.ErrHandedOver or nil
	Waited  time.Duration // of EventAcquired and EventFailed: how long the caller had waited, the election included
	Elapsed time.Duration // of EventAcquired: how long the election took; of EventLost and EventReleased: how long the lease was held; of EventYoung: how long the nodes stay young
	Raise   time.Duration // of EventAcquired: the last part of Elapsed, in which a quorum stored a larger fence; 0 if that was left out, or the lease was adopted

	// Ctx is the context of the call, of EventWaiting, EventAcquired and EventFailed: its values say for
	// what the lease is, as those of a trace do. It may be done by now. It is nil for every other event.
	Ctx context.Context
}

// MarshalJSON returns the fields that are set, except Ctx: Kind in words, durations as in "1.5s",
// Err as its text.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind    EventKind
		Name    string `json:",omitempty"`
		Fence   uint64 `json:",omitempty"`
		Node    string `json:",omitempty"`
		Err     string `json:",omitempty"`
		Waited  span   `json:",omitempty"`
		Elapsed span   `json:",omitempty"`
		Raise   span   `json:",omitempty"`
	}{e.Kind, e.Name, e.Fence, e.Node, plain.ErrorText(e.Err), span(e.Waited), span(e.Elapsed), span(e.Raise)})
}

// An EventKind says what happened.
type EventKind uint8

const (
	EventAcquired    EventKind = iota + 1 // a lease was won, or adopted
	EventFailed                           // an acquisition ended without a lease
	EventReleased                         // a holder gave its lease up; Err is lease.ErrHandedOver if it was handed over
	EventLost                             // a lease ended without its holder asking
	EventNodeUp                           // a node was enrolled
	EventNodeDown                         // a node is no longer enrolled, and could not be enrolled again at once; or its first enrolment failed
	EventWarning                          // something is wrong: Err says what to mend
	EventWaiting                          // a caller does not get its lease at once, and waits from now on: EventAcquired or EventFailed follows
	EventYoung                            // so many nodes are young that nothing can be acquired for Elapsed
	EventReconnected                      // a connection had ended, for example because it was idle, and another to the same data was made at once
)

var eventKinds = plain.Enum{Package: "supervisor", Name: "EventKind", Words: []string{
	EventAcquired:    "acquired",
	EventFailed:      "not acquired",
	EventReleased:    "released",
	EventLost:        "lost",
	EventNodeUp:      "node up",
	EventNodeDown:    "node down",
	EventWarning:     "warning",
	EventWaiting:     "waiting",
	EventYoung:       "nodes are young",
	EventReconnected: "node reconnected",
}}

// String returns the kind in words, or its number if it has none: "EventKind(17)".
func (k EventKind) String() string { return eventKinds.Text(uint8(k)) }

// MarshalText returns what String returns.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText sets the kind from what MarshalText returns.
func (k *EventKind) UnmarshalText(text []byte) error {
	n, err := eventKinds.Parse(string(text))
	if err == nil {
		*k = EventKind(n)
	}
	return err
}

// maxUntold is how many events may wait for the observer and the logger.
const maxUntold = 1024

// tell counts an event and queues it for the Observer and the Logger. It never waits.
func (s *Supervisor) tell(e Event) {
	switch e.Kind {
	case EventAcquired:
		s.count.acquired.Add(1)
	case EventFailed:
		s.count.failed.Add(1)
	case EventReleased:
		s.count.released.Add(1)
	case EventLost:
		s.count.lost.Add(1)
	case EventWaiting:
		s.count.waits.Add(1)
	}
	if s.told == nil {
		return
	}
	select {
	case s.told <- e:
	default:
		s.count.untold.Add(1)
	}
}

// startTelling starts the goroutine that calls the observer and the logger, if
// there is one of them.
func (s *Supervisor) startTelling() {
	s.count.begun = s.clock.Now()
	if s.cfg.Observer == nil && s.cfg.Logger == nil {
		return
	}
	s.told = make(chan Event, maxUntold)
	s.telling.Go(func() {
		for e := range s.told {
			s.announce(e)
		}
	})
}

// stopTelling closes the queue of events; their goroutine finishes by itself.
func (s *Supervisor) stopTelling() {
	if s.told != nil {
		close(s.told)
	}
}

// waitTold waits until the last events were told. For a stuck observer it waits no longer than for
// a node, or than ctx.
func (s *Supervisor) waitTold(ctx context.Context) {
	timer := s.clock.NewTimer(s.cfg.NodeTimeout)
	defer timer.Stop()
	told := make(chan struct{})
	go func() { s.telling.Wait(); close(told) }()
	select {
	case <-told:
	case <-timer.C():
	case <-ctx.Done():
	}
}

func (s *Supervisor) announce(e Event) {
	defer func() {
		if recover() != nil {
			s.count.untold.Add(1)
		}
	}()
	if l := s.cfg.Logger; l != nil {
		level := slog.LevelInfo
		switch e.Kind {
		case EventFailed, EventWaiting, EventReconnected:
			level = slog.LevelDebug // its caller has the error; and the others are ordinary
		case EventLost, EventNodeDown, EventWarning:
			level = slog.LevelWarn
		}
		if s.isOfClose(e.Err) {
			level = slog.LevelInfo // the user asked for it
		}
		attrs := make([]slog.Attr, 0, 4)
		if e.Name != "" {
			attrs = append(attrs, slog.String("name", e.Name))
		}
		if e.Fence != 0 {
			attrs = append(attrs, slog.Uint64("fence", e.Fence))
		}
		if e.Node != "" {
			attrs = append(attrs, slog.String("node", e.Node))
		}
		if e.Waited != 0 {
			attrs = append(attrs, slog.Duration("waited", e.Waited))
		}
		if e.Elapsed != 0 {
			key := "elapsed"
			switch e.Kind {
			case EventLost, EventReleased:
				key = "held"
			case EventYoung:
				key = "left"
			}
			attrs = append(attrs, slog.Duration(key, e.Elapsed))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		l.LogAttrs(context.Background(), level, e.Kind.String(), attrs...)
	}
	if s.cfg.Observer != nil {
		s.cfg.Observer.Observe(e)
	}
}

// isOfClose reports whether something has happened because of Close.
func (s *Supervisor) isOfClose(why error) bool {
	return errors.Is(why, lease.ErrClosed) || errors.Is(why, errNoTime) || errors.Is(why, context.Canceled) && s.isClosing()
}

// isClosing reports whether Close was called.
func (s *Supervisor) isClosing() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}
