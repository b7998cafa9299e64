package status_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/status"
)

// New says all that is wrong.
func TestOptions(t *testing.T) {
	_, err := status.New(nil, status.Options{Every: time.Millisecond, Streams: -1, Watch: append([]string{"", "a", "a"}, make([]string, 98)...)})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"want a supervisor, not nil", "Every 1ms: want 100ms to 5s", "Streams -1: want 1 to 10000", "Watch: 101 names given: want at most 100",
		`Watch[0] "": want a name`, `Watch: name "a": given more than once`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	page, err := status.New(new(supervisor.Supervisor), status.Options{}) // which does nothing
	if err != nil {
		t.Fatal(err)
	}
	page.Close()
	page.Close()
}

// commands returns how many the nodes were given.
func (w *world) commands() (sum int) {
	for _, n := range w.nodes {
		for _, count := range n.Commands() {
			sum += count
		}
	}
	return sum
}

// The nodes are asked about names while somebody looks at the page, and only then.
func TestAsksWhileViewed(t *testing.T) {
	bubble(t, status.Options{Watch: []string{"a", "b"}}, func(w *world) {
		in := func(d time.Duration) int {
			before := w.commands()
			time.Sleep(d)
			return w.commands() - before
		}
		// A question about a name is a pipeline of three commands to each of three nodes. The two names are
		// asked at once: whether they share a pipeline is up to the scheduler.
		const least, most, pings = 9, 18, 10
		unseen := []int{in(20 * time.Second)}
		w.wants("/", 200, "nobody")
		if n := in(10 * time.Second); n < 9*least || n > 11*most+pings {
			t.Errorf("%d commands after a look at the page", n)
		}
		in(time.Second)
		unseen = append(unseen, in(20*time.Second))
		s := w.listen()
		received := make(chan struct{})
		go func() {
			defer close(received)
			for {
				if _, err := s.next(); err != nil {
					return
				}
			}
		}()
		if n := in(20 * time.Second); n < 19*least || n > 21*most+pings {
			t.Errorf("%d commands during a stream", n)
		}
		s.close()
		<-received
		in(2 * time.Second)
		unseen = append(unseen, in(20*time.Second))
		w.page.Close()
		alone := in(20 * time.Second) // the supervisor pings each node now and then
		for _, n := range unseen {
			if n > alone+pings { // one more of each may fall into the same time
				t.Errorf("%d commands although nobody looks, and %d without a page", n, alone)
			}
		}
	})
}

// A node that hangs delays what is known of names, and nothing else.
func TestHangingNode(t *testing.T) {
	bubble(t, status.Options{Watch: []string{"a"}}, func(w *world) {
		w.acquire("a")
		s := w.listen()
		s.await("(held here)")
		w.nodes[0].Hang()
		begun := time.Now()
		s.await("2 of 3 nodes are up")
		if took := time.Since(begun); took > 5*time.Second { // a renewal and a NodeTimeout
			t.Errorf("it is seen after %v", took)
		}
		w.nodes[1].Hang()
		s.await("Too few nodes")
		w.wants("/status.json", 200, "no quorum")
		w.nodes[0].Resume()
		w.nodes[1].Resume()
		s.await("All is well")
		s.close()
	})
}

// Of very many leases the page shows some, and says how many more there are.
func TestManyLeases(t *testing.T) {
	bubble(t, status.Options{}, func(w *world) {
		for i := range 250 {
			w.acquire(fmt.Sprint("n", i))
		}
		time.Sleep(time.Second)
		page := w.wants("/", 200, `<span class="count">250</span>`, "and 50 more")
		if n := strings.Count(page, `data-key="lease `); n != 200 {
			t.Errorf("%d leases are shown", n)
		}
	})
}

// A page forgets leases that are over.
func TestForgets(t *testing.T) {
	bubble(t, status.Options{}, func(w *world) {
		for i := range 20 {
			held := w.acquire(fmt.Sprint("n", i))
			time.Sleep(time.Second)
			if err := held.Release(w.t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.acquire("last")
		time.Sleep(time.Second)
		w.page.Close()
		if n := status.Kept(w.page); n != 1 {
			t.Errorf("something is kept of %d leases, although 1 is held", n)
		}
	})
}

// The states of nodes and of names that are rare.
func TestRareStates(t *testing.T) {
	bubble(t, status.Options{Watch: []string{"left", "other", "foreign", "forever"}}, func(w *world) {
		held, err := w.sup.Acquire(w.t.Context(), "left", supervisor.WithMinHold(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Release(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, n := range w.nodes {
			n.Set("foreign", "0123456789abcdef", time.Hour)
			n.Set("forever", "0123456789abcdef", 0)
		}
		time.Sleep(time.Second)
		w.wants("/", 200, "me (left, kept for its time)", "free in 5", "a client of another library", "no expiry")

		w.nodes[0].Restart()
		w.nodes[1].Restart()
		time.Sleep(2 * time.Second)
		w.wants("/", 200, "Nothing can be acquired yet: too many nodes are young", `class="young"`, "more</span>", "Warning – leasehold")
		time.Sleep(time.Minute)
		w.wants("/", 200, "All is well", "OK – leasehold")

		w.acquire("a")
		w.nodes[2].Fail("EVALSHA", "OOM command not allowed")
		w.nodes[2].Fail("EVAL", "OOM command not allowed")
		time.Sleep(ttl)
		w.wants("/", 200, "Something is to be mended", `class="refuses"`, "OOM command not allowed")
		_ = w.sup.Close(canceled())
		time.Sleep(time.Second)
		w.wants("/", 200, "The supervisor was closed", "NOT WORKING – leasehold")
	})
}

// A Recorder keeps what is rare apart from what is frequent, in the order of time, and tells its Next.
func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told int
		r := &status.Recorder{Next: supervisor.ObserverFunc(func(supervisor.Event) { told++ })}
		r.Observe(supervisor.Event{Kind: supervisor.EventNodeDown, Node: "x"})
		for i := range 500 {
			time.Sleep(time.Millisecond)
			r.Observe(supervisor.Event{Kind: supervisor.EventAcquired, Name: fmt.Sprint("n", i)})
			r.Observe(supervisor.Event{Kind: supervisor.EventReleased, Name: fmt.Sprint("n", i)})
		}
		last := status.Last(r)
		if len(last) != 51 || last[50].Kind != supervisor.EventNodeDown || told != 1001 {
			t.Fatalf("%d events are kept, and %d were told", len(last), told)
		}
		for i, e := range last[:50] {
			if want := fmt.Sprint("n", 499-i/2); e.Name != want {
				t.Errorf("event %d is of %s, want %s", i, e.Name, want)
			}
		}
	})
}
