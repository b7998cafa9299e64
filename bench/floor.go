package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// The floor is the least that a lock over several servers can be. It has one client
// with one connection for each server. Its caller asks the first server itself, has a
// goroutine ask each other one, and returns when a quorum has done as it was asked. On
// one server it is a call and nothing else. A waiter tries again every 2 ms.
//
// So the caller waits for the first server in any case. The servers that hang in the
// scenarios are the last ones.
type floorLocker struct {
	clients []rueidis.Client
	quorum  int32
	scripts [2]string // what the servers call them
	id      string    // of this client, with which its tokens begin
	tokens  atomic.Uint64
	renewer *renewer
}

type floorHeld struct {
	l           *floorLocker
	name, token string
}

const (
	giveBack = iota
	renew
)

var (
	errTaken = errors.New("held by another")

	floorScripts = [2]string{
		giveBack: `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`,
		renew:    `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`,
	}

	floorTTL = strconv.FormatInt(ttl.Milliseconds(), 10)
)

const floorPoll = 2 * time.Millisecond

func openFloor(f *fleet) (locker, error) {
	// Many callers share fewer and larger writes on one connection than on four.
	clients, err := rueidisClients(f, -1)
	if err != nil {
		return nil, err
	}
	l := &floorLocker{clients: clients, quorum: int32(len(clients)/2 + 1), id: rand.Text() + "-", renewer: newRenewer()}
	for _, c := range clients {
		for i, text := range floorScripts {
			if l.scripts[i], err = c.Do(context.Background(), c.B().ScriptLoad().Script(text).Build()).ToString(); err != nil {
				l.close()
				return nil, err
			}
		}
	}
	return l, nil
}

// rueidisClients returns a client for each server, with the multiplex of its
// connections: -1 is one, and 0 the library's default.
func rueidisClients(f *fleet, multiplex int) ([]rueidis.Client, error) {
	var clients []rueidis.Client
	for _, addr := range f.addrs {
		o := rueidis.ClientOption{
			InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true, PipelineMultiplex: multiplex,
		}
		f.shrink(&o)
		c, err := rueidis.NewClient(o)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

func (l *floorLocker) acquire(ctx context.Context, name string) (held, error) {
	for {
		h := &floorHeld{l: l, name: name, token: l.id + strconv.FormatUint(l.tokens.Add(1), 36)}
		err := l.ask(ctx, h, floorTake)
		if err == nil {
			return h, nil
		}
		if len(l.clients) > 1 {
			_ = h.release(ctx) // a minority of the servers, from which nothing is expected
		}
		select {
		case <-time.After(floorPoll):
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

func (h *floorHeld) release(ctx context.Context) error { return h.l.ask(ctx, h, floorGiveBack) }

// A floorCall asks one server.
type floorCall func(context.Context, rueidis.Client, *floorHeld) error

func floorTake(ctx context.Context, c rueidis.Client, h *floorHeld) error {
	return c.Do(ctx, c.B().Arbitrary("SET").Keys(h.name).Args(h.token, "NX", "PX", floorTTL).Build()).Error()
}

func floorGiveBack(ctx context.Context, c rueidis.Client, h *floorHeld) error {
	return wasHeld(c.Do(ctx, c.B().Evalsha().Sha1(h.l.scripts[giveBack]).Numkeys(1).Key(h.name).Arg(h.token).Build()))
}

func floorRenew(ctx context.Context, c rueidis.Client, h *floorHeld) error {
	return wasHeld(c.Do(ctx, c.B().Evalsha().Sha1(h.l.scripts[renew]).Numkeys(1).Key(h.name).Arg(h.token, floorTTL).Build()))
}

// wasHeld reads the answer of a script, which is 1 if the name was held.
func wasHeld(r rueidis.RedisResult) error {
	n, err := r.AsInt64()
	if err == nil && n == 0 {
		err = errNotOurs
	}
	return err
}

// ask asks every server at once, and returns when a quorum has done as it was
// asked, or cannot any more.
func (l *floorLocker) ask(ctx context.Context, h *floorHeld, one floorCall) error {
	if len(l.clients) == 1 {
		return one(ctx, l.clients[0], h)
	}
	v := &floorVotes{quorum: l.quorum, veto: int32(len(l.clients)) - l.quorum + 1, decided: make(chan error, 1)}
	for _, c := range l.clients[1:] {
		go func() { v.count(one(ctx, c, h)) }()
	}
	v.count(one(ctx, l.clients[0], h))
	return <-v.decided
}

// floorVotes are the answers to one question. Only the one that decides wakes
// the caller.
type floorVotes struct {
	yes, no      atomic.Int32
	quorum, veto int32
	decided      chan error
}

func (v *floorVotes) count(err error) {
	switch {
	case err == nil:
		if v.yes.Add(1) == v.quorum {
			v.decided <- nil
		}
	case v.no.Add(1) == v.veto:
		v.decided <- errors.Join(errTaken, err)
	}
}

func (l *floorLocker) hold(ctx context.Context, names []string) error {
	return holdAll(ctx, l, names, func(h held) {
		l.renewer.keep(func(ctx context.Context) error { return l.ask(ctx, h.(*floorHeld), floorRenew) })
	})
}

func (l *floorLocker) close() {
	l.renewer.close()
	for _, c := range l.clients {
		c.Close()
	}
}
