package node

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// lastInboxPause is between two attempts to subscribe. A waiter also tries by itself.
const lastInboxPause = time.Second

var errUnsubscribed = errors.New("the subscription to the inbox has ended")

// listen has the inbox listened to for as long as the session lives, once something
// has waited: a process that never waits needs no second connection. The listener of
// the session before has been cancelled, and is waited for.
func (a *Actor) listen() {
	if a.session == nil || a.session.heard || !a.waits || a.Inbox == "" || a.Wakes == nil {
		return
	}
	a.session.heard = true
	ctx, dialled, marker, before, done := a.session.ctx, a.session.dialled, a.session.marker, a.listening, make(chan struct{})
	a.listening = done
	life := a.state.Life
	a.tasks.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		l := listener{Actor: a, ctx: ctx, dialled: dialled, marker: marker, life: life}
		l.run()
	})
}

// A listener is subscribed to the inbox over a connection of its own, and makes
// another one when it breaks. The receiver of the wakes may keep it waiting: it is no
// part of the actor's loop.
type listener struct {
	*Actor
	ctx     context.Context // of the session to which it belongs
	dialled time.Duration   // within which that was
	marker  string          // of that session; "" if it has none
	life    uint32          // and in which incarnation that is
}

func (l *listener) run() {
	pause, refused := newPause(lastInboxPause), newPause(refusedFor)
	timer := l.Clock.NewTimer(0)
	defer timer.Stop()
	for {
		was, refusal, err := l.subscribe()
		if was {
			pause.Reset()
			refused.Reset()
		}
		l.report(l.ctx, err)
		if refusal {
			timer.Reset(refused.NextBackOff())
		} else {
			timer.Reset(pause.NextBackOff())
		}
		select {
		case <-timer.C():
		case <-l.ctx.Done():
			return
		}
	}
}

// subscribe returns when the subscription has ended, or did not come about, and tells
// which, and whether the server refuses it for good. Over RESP2 a client whose subscription has
// died never makes another: so each time it is a new one.
func (l *listener) subscribe() (was, refusal bool, err error) {
	s := newSession(l.ctx, l.Clock, l.Longest, l.dialled, &l.callouts)
	s.listens = true
	l.tasks.Go(s.watchdog)
	defer s.end()
	s.start(l.Clock.Now(), l.Longest)
	if err := s.connect(l.Conn, l.inboxes.lend); err != nil {
		return false, isRefusal(err), s.why(err)
	}
	s.step()
	var up atomic.Bool
	// The hook runs in the goroutine that reads the connection, before any message
	// is read. Nothing else comes over it, so it may wait there.
	ctx := rueidis.WithOnSubscriptionHook(s.ctx, func(e rueidis.PubSubSubscription) {
		if e.Kind != "subscribe" {
			return
		}
		s.stop()
		up.Store(true)
		l.report(s.ctx, nil)
		l.wake(s.ctx, Wake{Node: l.Index})
	})
	err = s.client.Receive(ctx, s.client.B().Subscribe().Channel(l.Inbox).Build(), func(m rueidis.PubSubMessage) {
		l.wake(s.ctx, l.read(m.Message))
	})
	refusal = isRefusal(err)
	if err = s.why(err); err == nil {
		err = errUnsubscribed
	}
	return up.Load(), refusal, err
}

// read reads a message. If another incarnation than that of the session has given the key away,
// it is worth no more than a reservation: a server that has lost its data since may have sent
// it, or one whose replica is listened to.
func (l *listener) read(message string) Wake {
	g, is := script.ReadGift(message)
	switch {
	case !is:
		return Wake{Node: l.Index, Token: message}
	case l.marker != "" && g.Marker != l.marker:
		return Wake{Node: l.Index, Token: g.Token}
	}
	return Wake{
		Node: l.Index, Token: g.Token, Fence: g.Fence, Life: l.life,
		Beat: time.Duration(g.Beat) * time.Millisecond, At: time.Duration(g.At) * time.Millisecond,
		Until: time.Duration(g.Until) * time.Millisecond,
	}
}

func (l *listener) wake(ctx context.Context, w Wake) {
	select {
	case l.Wakes <- w:
	case <-ctx.Done():
	}
}

// report lets the actor know.
func (l *listener) report(ctx context.Context, err error) {
	select {
	case l.heard <- err:
	case <-ctx.Done():
	}
}
