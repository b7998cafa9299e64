// Package list finds the names that are in use. No server keeps a list of them.
package list

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/server"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config says what to look for.
type Config struct {
	Nodes  []node.Conn
	Former []node.Conn   // as in supervisor.Config
	Prefix string        // as in supervisor.Config
	Limit  int           // of names; at least 1
	Within time.Duration // the time within which each step of connecting to a server must succeed
}

// A Finder looks through the keys of the servers. It is for one goroutine at a time.
type Finder struct {
	cfg   Config
	nodes []node.Conn    // of both lists
	conns []*server.Conn // nil for a server that is not connected
}

// NewFinder returns a finder. It connects when it is first asked.
func NewFinder(cfg Config) *Finder {
	f := &Finder{cfg: cfg, nodes: slices.Clone(cfg.Nodes)}
	for _, n := range cfg.Former {
		if !slices.ContainsFunc(f.nodes, n.Same) {
			f.nodes = append(f.nodes, n)
		}
	}
	f.conns = make([]*server.Conn, len(f.nodes))
	return f
}

// Close ends the connections.
func (f *Finder) Close() {
	for i, c := range f.conns {
		if c != nil {
			c.Close()
			f.conns[i] = nil
		}
	}
}

// Names holds the names that were found.
type Names struct {
	Names []string        // in order, without the prefix
	More  bool            // there are more than the limit
	Up    []time.Duration // of each server, 0 if that is not known
	// Err says why some names may be missing: so few servers were looked through that a name which
	// is held could be on the others alone. It names each of these.
	Err error
}

// Find looks through the keys of all servers, a few hundred in a call, so that it holds up others
// for no more than a moment. It finds a name if its key holds the token of a lease, or is reserved
// for a waiter. It does not find a name that is only waited for, nor the lock of another library.
// It returns when it has looked at all servers, or ctx is done.
func (f *Finder) Find(ctx context.Context) Names {
	type found struct {
		keys map[string]bool
		up   time.Duration
		more bool
		err  error
	}
	each := make([]found, len(f.conns))
	var wg sync.WaitGroup
	for i := range f.conns {
		wg.Go(func() {
			var r found
			r.keys, r.up, r.more, r.err = f.scan(ctx, i)
			each[i] = r
		})
	}
	wg.Wait()
	all := make(map[string]bool)
	n := Names{Up: make([]time.Duration, len(each))}
	var missed []error
	isMissed := make([]bool, len(each))
	for i, r := range each {
		maps.Copy(all, r.keys)
		n.Up[i], n.More = r.up, n.More || r.more
		if r.err != nil {
			isMissed[i] = true
			missed = append(missed, fmt.Errorf("%v: %w", f.nodes[i], r.err))
		}
	}
	n.Names = slices.Sorted(maps.Keys(all))
	if len(n.Names) > f.cfg.Limit {
		n.Names, n.More = n.Names[:f.cfg.Limit], true
	}
	if f.tooFew(f.cfg.Nodes, isMissed) || f.tooFew(f.cfg.Former, isMissed) {
		n.Err = fmt.Errorf("%d of %d nodes were looked through, so names may be missing: %w", len(each)-len(missed), len(each), errors.Join(missed...))
	}
	return n
}

// tooFew reports whether a name may be held on the nodes of a list that were missed alone. Each name
// that is held is on a quorum, so on one of any n-q+1.
func (f *Finder) tooFew(list []node.Conn, isMissed []bool) bool {
	n := 0
	for i, missed := range isMissed {
		if missed && slices.ContainsFunc(list, f.nodes[i].Same) {
			n++
		}
	}
	return n >= len(list)/2+1
}

const (
	// atOnce is how many keys a server looks at in one call, which takes it a fraction of a
	// millisecond.
	atOnce = "500"
	// longest is how much of a value is read. A token is shorter.
	longest = "255"
)

// scan looks through the keys of one server.
func (f *Finder) scan(ctx context.Context, i int) (names map[string]bool, up time.Duration, more bool, err error) {
	c := f.conns[i]
	if c == nil {
		if c, err = server.Dial(ctx, f.nodes[i], f.cfg.Within); err != nil {
			return nil, 0, false, err
		}
		f.conns[i] = c
	}
	defer func() {
		if err != nil {
			c.Close()
			f.conns[i] = nil
		}
	}()
	answers, err := c.Do(ctx, []string{"INFO", "server"})
	if err != nil {
		return nil, 0, false, err
	}
	if s, ok := answers[0].Info().Int("uptime_in_seconds"); ok {
		up = time.Duration(s) * time.Second
	}
	names = make(map[string]bool)
	for cursor := "0"; ; {
		answers, err := c.Do(ctx, []string{"SCAN", cursor, "MATCH", literal(f.cfg.Prefix) + "*", "COUNT", atOnce, "TYPE", "string"})
		if err != nil {
			return names, up, false, err
		}
		next, keys, err := answers[0].Scan()
		if err != nil {
			return names, up, false, err
		}
		keys = slices.DeleteFunc(keys, func(key string) bool {
			return strings.HasPrefix(key, node.ReservedPrefix) || key == f.cfg.Prefix
		})
		values, err := f.values(ctx, c, keys)
		if err != nil {
			return names, up, false, err
		}
		for k, key := range keys {
			if value := values[k]; node.IsReservation(value) && node.OwnerOf(strings.TrimPrefix(value, node.ReservationMark)) != "" || node.OwnerOf(value) != "" {
				names[strings.TrimPrefix(key, f.cfg.Prefix)] = true
			}
		}
		if len(names) > f.cfg.Limit {
			return names, up, true, nil
		}
		if cursor = next; cursor == "0" {
			return names, up, false, nil
		}
	}
}

// values reads the beginnings of what keys hold.
func (f *Finder) values(ctx context.Context, c *server.Conn, keys []string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	commands := make([][]string, len(keys))
	for i, key := range keys {
		commands[i] = []string{"GETRANGE", key, "0", longest}
	}
	answers, err := c.Do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	values := make([]string, len(keys))
	for i, a := range answers {
		if err := a.Err(); server.Begins(err, "NOPERM") {
			return nil, err
		}
		values[i] = a.Text() // a key that has changed its type meanwhile is none of ours
	}
	return values, nil
}

// literal returns a pattern that only a text itself matches.
func literal(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// Inspect asks the nodes about a name. If too few have answered in time it asks again, at most so
// many times in all, once a quorum is connected, or after a moment. The supervisor waits longer for
// them then.
func Inspect(ctx context.Context, sup *supervisor.Supervisor, name string, times int) (supervisor.Holding, error) {
	for {
		h, err := sup.Inspect(ctx, name)
		if times--; times <= 0 || ctx.Err() != nil || !late(err) {
			return h, err
		}
		connected(ctx, sup)
	}
}

// late reports whether some node did not answer in time. A node that is down says so at once.
func late(err error) bool {
	var e *supervisor.AcquireError
	return errors.As(err, &e) && slices.ContainsFunc(e.Nodes, func(a supervisor.Answer) bool { return errors.Is(a.Err, context.DeadlineExceeded) })
}

// connected waits until a quorum is connected, for a moment at most.
func connected(ctx context.Context, sup *supervisor.Supervisor) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for sup.Healthy() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Look asks the nodes about each name, some at once, as Inspect does. A name about which too few
// nodes answer has an Err.
func Look(ctx context.Context, sup *supervisor.Supervisor, names []string, times int) []supervisor.Holding {
	all := make([]supervisor.Holding, len(names))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(len(names), 64) { // as many as go into one call
		wg.Go(func() {
			for i := range next {
				h, err := Inspect(ctx, sup, names[i], times)
				if h.Err = err; h.Name == "" {
					h.Name = names[i]
				}
				all[i] = h
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	wg.Wait()
	return all
}

// Patient is how many times a command asks that shows its result once.
const Patient = 4

// Unknown returns an error if the holders of some names are not known, with the reason of the
// first.
func Unknown(all []supervisor.Holding) error {
	n := 0
	var first error
	for _, h := range all {
		if h.Err != nil {
			if n++; first == nil {
				first = h.Err
			}
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("the holders of %d names are not known: %w", n, first)
}

// InUse returns the names that are held, waited for, or about to be handed over, or for which that
// is not known. The others were given back since they were found.
func InUse(all []supervisor.Holding) []supervisor.Holding {
	return slices.DeleteFunc(all, func(h supervisor.Holding) bool { return h.Free && h.Waiting == 0 && h.Err == nil })
}
