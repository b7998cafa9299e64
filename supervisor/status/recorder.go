package status

import (
	"slices"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/supervisor"
)

// A Recorder is a [supervisor.Observer] that keeps the last events for a [Page]. Give it to the
// supervisor as Config.Observer, and to the page as Options.Events. Its zero value is ready. It must
// be made before the supervisor, so it knows nothing of the supervisor, and needs no end.
//
// It keeps two lists of 50 events: of nodes, warnings and losses, and of all the rest. So a process that
// acquires a thousand leases a second still shows which node went down an hour ago.
type Recorder struct {
	// Next is told every event too. Default nobody.
	Next supervisor.Observer

	mu    sync.Mutex
	grave ring // of nodes, warnings and losses
	usual ring
	pages []chan<- struct{}
}

const maxKept = 50

// A ring is the last events of some kinds.
type ring struct {
	events []event
	oldest int // if it is full
}

// An event is one that has happened, and when.
type event struct {
	Time  time.Time
	Event supervisor.Event
}

func (r *ring) add(e event) {
	if len(r.events) < maxKept {
		r.events = append(r.events, e)
		return
	}
	r.events[r.oldest] = e
	r.oldest = (r.oldest + 1) % maxKept
}

// Observe keeps an event, has the pages show it, and tells Next. It waits for Next alone. It may be
// called from any goroutine.
func (r *Recorder) Observe(e supervisor.Event) {
	kept := event{wallTime(), e}
	r.mu.Lock()
	switch e.Kind {
	case supervisor.EventAcquired, supervisor.EventReleased, supervisor.EventFailed, supervisor.EventWaiting:
		r.usual.add(kept)
	default:
		r.grave.add(kept)
	}
	for _, page := range r.pages {
		poke(page)
	}
	r.mu.Unlock()
	if r.Next != nil {
		r.Next.Observe(e)
	}
}

// last returns the events that were kept, the latest first.
func (r *Recorder) last() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Concat(r.grave.events, r.usual.events)
	slices.SortStableFunc(all, func(a, b event) int { return b.Time.Compare(a.Time) })
	return all
}

// attach has a page be told that something has happened, until detach.
func (r *Recorder) attach(page chan<- struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages = append(r.pages, page)
}

func (r *Recorder) detach(page chan<- struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages = slices.DeleteFunc(r.pages, func(p chan<- struct{}) bool { return p == page })
}

// poke sends to a channel with room for one, unless there is something in it.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
