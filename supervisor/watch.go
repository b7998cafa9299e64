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

// Watch tells who holds a name, as it changes: first how it is, then each time that
// somebody else has the name (another token, so also another lease of the same
// process), that it was left, that it is free, or held again. What comes and goes between two looks is
// not seen. The nodes are asked with Inspect about every TTL/20, 20 ms at least, and
// at once when this process itself acquires the name, or if a server that tracks
// keys tells of a change; like Inspect it is for display,
// and never to decide by whether to work.
//
// An outage is a state as others: Holding.Err says why it is not known who holds the name, and
// wraps [ErrNoQuorum]; Holding.Nodes has what each node said. It is told once, and the watch goes on,
// and tells how it is when a quorum can be reached again. If no quorum says the
// same, as during an election, that is told only if it lasts for two looks: Held and
// Free are both false then, and Err is nil.
//
// An error ends the sequence, so a loop may return it. It wraps [ErrClosed] if the supervisor
// was closed, or is about a broken name. Without one the sequence ends when ctx is done.
//
// It is a sequence and not a channel so that nothing runs but in the caller's loop, and a
// caller who is slow sees fewer changes. It may be ranged over again, which begins from the start.
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
			if errors.Is(err, ErrClosed) { // also if an outage was told before
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

// changes takes in a look, and reports whether the watcher is to be told.
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

// watchers are who wants to know of changes of a key.
type watchers struct {
	mu sync.Mutex
	of map[string]map[chan struct{}]struct{}
}

// add returns a channel that is sent to, if it has room, when the key has changed.
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

// touch has the watchers of a key, or of "*" for all keys, look at once. It does not
// wait for them.
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
