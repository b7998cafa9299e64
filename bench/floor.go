package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// The floor is the least that a lock over several servers can be: one client for
// each server, one goroutine for each server and call, and no waiting for more
// than a quorum. Who waits for a name tries again every 2 ms.
type floorLocker struct {
	clients []rueidis.Client
	quorum  int
	renewer *renewer
}

type floorHeld struct {
	l           *floorLocker
	name, token string
}

var (
	errTaken = errors.New("held by another")

	floorRelease = rueidis.NewLuaScript(
		`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)
	floorRenew = rueidis.NewLuaScript(
		`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`)
)

const floorPoll = 2 * time.Millisecond

func openFloor(f *fleet) (locker, error) {
	l := &floorLocker{quorum: len(f.addrs)/2 + 1, renewer: newRenewer()}
	var err error
	l.clients, err = rueidisClients(f)
	return l, err
}

// rueidisClients returns a client for each server.
func rueidisClients(f *fleet) ([]rueidis.Client, error) {
	var clients []rueidis.Client
	for _, addr := range f.addrs {
		o := rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true}
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
		h := &floorHeld{l: l, name: name, token: rand.Text()}
		err := l.ask(func(c rueidis.Client) error {
			return c.Do(ctx, c.B().Set().Key(name).Value(h.token).Nx().Px(ttl).Build()).Error()
		})
		if err == nil {
			return h, nil
		}
		_ = h.release(ctx) // a minority of the servers, from which nothing is expected
		select {
		case <-time.After(floorPoll):
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

func (h *floorHeld) release(ctx context.Context) error { return h.script(ctx, floorRelease) }

func (h *floorHeld) script(ctx context.Context, s *rueidis.Lua) error {
	return h.l.ask(func(c rueidis.Client) error {
		n, err := s.Exec(ctx, c, []string{h.name}, []string{h.token, strconv.FormatInt(ttl.Milliseconds(), 10)}).AsInt64()
		if err == nil && n == 0 {
			err = errNotOurs
		}
		return err
	})
}

// ask asks every server at once, and returns when a quorum has done as it was
// asked, or cannot any more.
func (l *floorLocker) ask(one func(rueidis.Client) error) error {
	answers := make(chan error, len(l.clients))
	for _, c := range l.clients {
		go func() { answers <- one(c) }()
	}
	done, failed := 0, 0
	for {
		if err := <-answers; err == nil {
			if done++; done == l.quorum {
				return nil
			}
		} else if failed++; failed > len(l.clients)-l.quorum {
			return errors.Join(errTaken, err)
		}
	}
}

func (l *floorLocker) hold(ctx context.Context, names []string) error {
	return holdAll(ctx, l, names, func(h held) {
		l.renewer.keep(func(ctx context.Context) error { return h.(*floorHeld).script(ctx, floorRenew) })
	})
}

func (l *floorLocker) close() {
	l.renewer.close()
	for _, c := range l.clients {
		c.Close()
	}
}
