package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A forgetting is a way in which a node loses all that it knew and leaves no trace of it.
type forgetting struct {
	name  string
	of    int    // how many nodes there are
	query string // of the URLs
	// prepare returns what has the node forget. The wires are those of all clients to it.
	prepare func(t *testing.T, lost cluster.Server, wires ...*cluster.Proxy) (forget func())
}

// To a process that has just started nothing tells a node that was flushed, or an empty
// one that has taken a dead one's address, from one that has always been so, or from one
// that was never used.
func TestForgottenWithoutTrace(t *testing.T) {
	takesLong(t)
	t.Parallel()
	processes(t, 0) // or skip
	flush := func(t *testing.T, lost cluster.Server, _ ...*cluster.Proxy) func() {
		return func() { mustDo(t, lost, "FLUSHALL") }
	}
	dies, hangs := bySpare(cluster.Server.Kill), bySpare(cluster.Server.Pause)
	for _, x := range []forgetting{
		{"a spare takes the address", 3, "", dies},
		{"flushed, over RESP3", 3, "", flush},
		{"flushed, over RESP2", 3, "?protocol=2", flush},
		{"the only node dies", 1, "", dies},
		{"the only node hangs", 1, "", hangs},
		{"the only node is flushed", 1, "", flush},
	} {
		for _, how := range []string{"connected", "cut off"} {
			t.Run(x.name+", "+how, func(t *testing.T) {
				onProcesses(t, x.of, 5, func(t *testing.T, c *cluster.Cluster, n *notes) { x.run(t, c, how == "cut off", n) })
			})
		}
	}
}

// bySpare has another server take the address of one that goes: an empty one that has been
// up for longer than the window, in case somebody goes by that.
func bySpare(goes func(cluster.Server)) func(*testing.T, cluster.Server, ...*cluster.Proxy) func() {
	return func(t *testing.T, lost cluster.Server, wires ...*cluster.Proxy) func() {
		spare := cluster.OpenYoung(t, cluster.Process, 1).Servers[0]
		if err := poll(4*guardWindow, func() error {
			return says(spare.Addr(), "server", fmt.Sprintf("uptime_in_seconds:%d\r", int(guardWindow/time.Second)+2))
		}); err != nil {
			t.Fatal(err)
		}
		return func() {
			goes(lost)
			for _, w := range wires {
				w.Lead(spare.Addr())
			}
		}
	}
}

// run has a holder with the votes of a bare quorum, one of whose nodes forgets, and a
// process that starts right after that and wants the name. As long as the holder reaches
// its nodes it keeps its lease, and the newcomer gets it when it is released. If the
// holder is cut off just then, the newcomer has the name when the window is over that it
// counts itself; by then the holder knows that its lease is over.
func (x forgetting) run(t *testing.T, c *cluster.Cluster, cutOff bool, n *notes) {
	toHolder, toRival := fronts(t, c), fronts(t, c)
	quorum := x.of/2 + 1
	for _, f := range toHolder[quorum:] {
		f.proxy.Cut()
	}
	lost := quorum - 1
	forget := x.prepare(t, c.Servers[lost], toHolder[lost].proxy, toRival[lost].proxy)

	v := keepVigil(t)
	held := acquire(t, superviseSome(t, asked(toHolder, x.query), quorum), "x")
	v.over(held)
	kept(t, held, anyMoment())
	w := newWatch()
	if cutOff {
		for _, f := range toHolder {
			f.proxy.Cut()
		}
		for _, f := range toRival[:lost] {
			f.proxy.Cut() // or it would have these when the holder's keys have expired
		}
	}
	forget()

	came := time.Now()
	rival := begin(t, asked(toRival, x.query))
	waits(t, rival)
	d := duel{vigil: v, held: held, rival: rival, window: guardWindow, watch: w}
	if cutOff {
		d.afterTheWindow(t, came, came, n)
	} else {
		d.afterTheHolder(t, toRival[lost].proxy, n)
	}
}

// A duel is between the holder of the name x, one of whose nodes has forgotten that, and a
// rival to which that node is young for the window.
type duel struct {
	vigil  *vigil
	held   *lease.Lease
	rival  *supervisor.Supervisor
	window time.Duration
	watch  watch // since the duel began

	reunite func() // before the rival may acquire after the holder; nil if there is no need
}

// A server answers commands: one itself, or a proxy for the one it leads to.
type server interface{ Do(...string) (any, error) }

// afterTheHolder wants the holder to keep the name over the window, to have the node's
// key again by then, and the rival to get the name when the holder releases it.
func (d duel) afterTheHolder(t *testing.T, lost server, n *notes) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d.window+ttl/2)
	defer cancel()
	begun := time.Now()
	next, err := d.rival.Acquire(ctx, "x")
	if err == nil {
		d.vigil.over(next)
	}
	if !d.held.Valid() && d.watch.expired(t, d.held) {
		t.SkipNow()
	}
	if err == nil {
		t.Fatalf("the rival got it after %v, fence %d behind %d; the holder: Valid() = %v, Err() = %v",
			time.Since(begun), next.Fence(), d.held.Fence(), d.held.Valid(), d.held.Err())
	}
	if !d.held.Valid() {
		t.Fatalf("the holder lost it: %v", d.held.Err())
	}
	if token := mustDo(t, lost, "GET", "x"); token != string(d.held.Token()) {
		t.Errorf("the node that forgot has %v, want the holder's token again", token)
	}
	giveBack(t, d.held)
	if d.reunite != nil {
		d.reunite()
	}
	d.vigil.over(acquire(t, d.rival, "x"))
	n.add("kept (1)", 1)
}

// afterTheWindow wants the rival to get the name when the window is over, which began between from
// and up, and not much later.
func (d duel) afterTheWindow(t *testing.T, from, up time.Time, n *notes) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d.window+3*ttl)
	defer cancel()
	next, err := d.rival.Acquire(ctx, "x")
	won := time.Now()
	took := won.Sub(from)
	if err != nil {
		t.Fatalf("the rival never got it: %v", err)
	}
	d.vigil.over(next)
	if took < d.window {
		t.Errorf("the rival got it after %v, within its window of %v; the holder: Valid() = %v", took, d.window, d.held.Valid())
	}
	late := won.Sub(up) - d.window
	d.watch.within(t, "the rival had it after its window by", late, 500*time.Millisecond)
	n.took("the rival had it after its window by", late)
}

// waits wants a client to get no lease, and to be told that young nodes are the reason,
// and for how long they are.
func waits(t *testing.T, sup *supervisor.Supervisor) {
	t.Helper()
	w := newWatch()
	if err := poll(guardWindow/2, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		l, err := sup.Acquire(ctx, "x")
		var e *supervisor.AcquireError
		switch {
		case err == nil:
			t.Errorf("the nodes are young, and yet there is a lease for %v", l.Remaining())
			return nil
		case !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) || e.Young() <= 0:
			return err // on a busy machine not all of them are reached yet
		}
		return nil
	}); err != nil {
		if w.busy() {
			excuse(t, "%v; %v", err, w)
			t.SkipNow()
		}
		t.Errorf("the nodes are young, and the error does not say so: %v", err)
	}
}

// asked returns how a client reaches nodes through their proxies, with a query to the
// URLs.
func asked(list []front, query string) []node.Conn {
	urls := make([]string, len(list))
	for i, f := range list {
		urls[i] = f.proxy.URL() + query
	}
	return node.URLs(urls...)
}
