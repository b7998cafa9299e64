package supervisor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/lease"
)

// Watch yields the holder of a name, and again after each change. It begins with the present state.
// Then it yields each time that another lease holds the name (which may be one of the same
// process), that the name was left, that it is free, and that it is held again. It looks with
// Inspect about every TTL/20, but not more often than every 20 ms. It also looks at once when this
// process itself acquires the name, or when a server that tracks keys reports a change. What comes
// and goes between two looks is not seen. Like Inspect it is for display, and never for deciding
// whether to work.
//
// An outage is a state like the others: Holding.Err says why the holder is not known, and wraps
// [ErrNoQuorum]; Holding.Nodes has what each node answered. Watch yields an outage once, goes on,
// and yields the holder when a quorum can be reached again. If no quorum says the same, as during
// an election, Held and Free are both false and Err is nil. Watch yields that only if it lasts for
// two looks.
//
// An error ends the sequence, so a loop may return it. It wraps [ErrClosed] if the supervisor was
// closed, or is about a broken name. Without an error the sequence ends when ctx is done.
//
// Nothing runs but the caller's own loop, which waits between two changes; a slow caller sees fewer
// of them. The sequence may be ranged over again, and then begins with the state at that time.
func (s *Supervisor) Watch(ctx context.Context, name string) iter.Seq2[Holding, error] {
	return func(yield func(Holding, error) bool) {
		if err := s.cfg.checkName(name); err != nil {
			yield(Holding{}, fmt.Errorf("watch: %w", err))
			return
		}
		key := s.cfg.Prefix + name
		touched := s.watchers.add(key)
		defer s.watchers.remove(key, touched)
		every := max(s.cfg.TTL/20, minWatch)
		timer := s.clock.NewTimer(every)
		defer timer.Stop()
		var last sight
		for {
			h, err := s.inspect(ctx, name, true)
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, ErrClosed) { // even if an outage was told before
				yield(h, err)
				return
			}
			if h.Err = err; last.changes(h) && !yield(h, nil) {
				return
			}
			timer.Reset(every + rand.N(every/10+1))
			select {
			case <-timer.C():
			case <-touched:
			case <-ctx.Done():
				return
			case <-s.stop:
			}
		}
	}
}

const minWatch = 20 * time.Millisecond

// A sight is what a watcher was told last.
type sight struct {
	told, failed, held, free, vacated bool
	token                             lease.Token
	unclear                           bool // the latest look, which was not told
}

// changes updates the sight with a look, and reports whether to tell the watcher.
func (last *sight) changes(h Holding) bool {
	now := sight{told: true, failed: h.Err != nil, held: h.Held, free: h.Free, vacated: h.Vacated, token: h.Token}
	if now.failed { // whatever the rest says
		now.held, now.free, now.vacated, now.token = false, false, false, ""
	}
	unclear := !now.failed && !now.held && !now.free
	if unclear && last.told && !last.failed && !last.unclear {
		last.unclear = true
		return false
	}
	last.unclear = false
	if now == *last {
		return false
	}
	*last = now
	return true
}

// watchers holds the channels of those that watch a key.
type watchers struct {
	mu sync.Mutex
	of map[string]map[chan struct{}]struct{}
}

// add returns a channel on which the loop sends when the key has changed, if the channel has room.
func (ws *watchers) add(key string) chan struct{} {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.of == nil {
		ws.of = make(map[string]map[chan struct{}]struct{})
	}
	if ws.of[key] == nil {
		ws.of[key] = make(map[chan struct{}]struct{})
	}
	touched := make(chan struct{}, 1)
	ws.of[key][touched] = struct{}{}
	return touched
}

func (ws *watchers) remove(key string, touched chan struct{}) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if delete(ws.of[key], touched); len(ws.of[key]) == 0 {
		delete(ws.of, key)
	}
}

// touch makes the watchers of a key, or of "*" for all keys, look at once. It does not wait for
// them.
func (ws *watchers) touch(key string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if key != "*" {
		touchAll(ws.of[key])
		return
	}
	for _, of := range ws.of {
		touchAll(of)
	}
}

func touchAll(of map[chan struct{}]struct{}) {
	for touched := range of {
		select {
		case touched <- struct{}{}:
		default: // it is about to look
		}
	}
}
