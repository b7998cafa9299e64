package keyspace

import (
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// nobody is what a script answers that finds a key of another type.
var nobody = Answer{Says: Broken, Left: -2, Fence: NoScore(), Ticket: NoScore()}

// A Waiter is one that stands in the queue of a name.
type Waiter struct {
	Inbox, Token string
	Ticket       uint64
	Until        int64 // in ms of the server's clock, when it counts as dead
}

// Waiters returns the waiters in a queue, in order. It does not count as reading.
func (t *Turn) Waiters(queue string) []Waiter {
	var all []Waiter
	set, _ := t.lookup(queue).members()
	for _, m := range set[below(set, Bound{0, true}):] {
		inbox, token, _ := strings.Cut(m.Name[1:], " ")
		until := scoreOf(set, script.Alive(inbox, token))
		all = append(all, Waiter{inbox, token, Whole(m.Score), int64(-until)})
	}
	return all
}

// memberOf returns where one of the two members of a waiter is, "w" or "l", or -1.
func memberOf(set []Member, kind byte, inbox, token string) int {
	for i := range set {
		name := set[i].Name
		if len(name) == len(inbox)+len(token)+2 && name[0] == kind && name[len(inbox)+1] == ' ' &&
			name[len(inbox)+2:] == token && name[1:len(inbox)+1] == inbox {
			return i
		}
	}
	return -1
}

// Alive reports whether a waiter stands in a queue and counts as alive. It does not count
// as reading.
func (t *Turn) Alive(queue, inbox, token string) bool {
	set, _ := t.lookup(queue).members()
	at := memberOf(set, 'l', inbox, token)
	return at >= 0 && -set[at].Score > float64(t.ms())
}

// A Gift is the message with which a server gives a key to a waiter.
type Gift = script.Gift

// ReadGift reads a message to an inbox. It reports false if it is a reservation's.
func ReadGift(message string) (Gift, bool) { return script.ReadGift(message) }

// give gives a key to a waiter whose heartbeat ends then, for as long as a reservation lasts, and
// reports whether somebody listens there. All that may fail comes before the message.
func (t *Turn) give(k *Keys, fence float64, inbox, token string, beat, reserve int64) bool {
	if t.SetFor(k.Name, Fenced(token, fence), reserve) != nil {
		return false
	}
	t.ZRem(k.Queue, script.Waiter(inbox, token), script.Alive(inbox, token))
	marker, _ := t.get(script.Marker)
	gift := Gift{Token: token, Fence: uint64(fence), Beat: beat, At: t.ms(), Until: t.ms() + reserve, Marker: marker}
	return t.Server.Publish(inbox, gift.Message()) > 0
}

// raises stores a fence if it is larger than what is stored, and reports whether it was. It does
// nothing if the marker cannot be read, which a gift tells.
func (t *Turn) raises(k *Keys, fence float64, raised *bool) bool {
	if _, err := t.get(script.Marker); err == nil && !*raised {
		*raised, _ = t.Propose(k.Fence, fence)
	}
	return *raised
}

// handOver reserves a key that is absent for the first living waiter. self is the member of
// the one that asks, if it waits. With a fence it gives the key instead, if the fence is larger
// than what is stored and the heartbeat lasts for as long as a reservation. It returns Unfinished if it has met only dead among as many as it may look at,
// and else 0.
func (t *Turn) handOver(k *Keys, self string, reserve int64, fence float64) (handed bool, unfinished int) {
	raised := false
	for some := 1; t.looks() > 0; some = min(10*some, 100) {
		some = min(some, t.looks())
		set, _ := t.Members(k.Queue)
		first := set[below(set, Bound{0, true}):]
		first = first[:min(some, len(first))]
		var dead []string
		living := false
		for i := range first {
			t.Looked++
			id := first[i].Name[min(1, len(first[i].Name)):]
			inbox, token, named := strings.Cut(id, " ")
			alive := "l" + id
			end := int64(-scoreOf(set, alive))
			switch {
			case !named || end <= t.ms():
			case fence != 0 && end-t.ms() >= reserve && t.raises(k, fence, &raised):
				if living = t.give(k, fence, inbox, token, end, reserve); !living {
					fence = 0
				}
			case first[i].Name == self || t.Server.Publish(inbox, token) > 0:
				if t.SetFor(k.Name, Reserved(token), reserve) != nil {
					return false, 0
				}
				t.ZAdd(k.Queue, Add{}, Member{alive, float64(-t.ms())})
				living = true
			}
			if living {
				break
			}
			dead = append(dead, first[i].Name, alive)
		}
		t.ZRem(k.Queue, dead...)
		if living || len(first) < some {
			return living, 0
		}
	}
	return false, Unfinished
}

// bury drops those from a queue whose heartbeat has been past for as long as a reservation
// lasts, wherever they stand.
func (t *Turn) bury(queue string, reserve int64) {
	past, _ := t.Between(queue, Bound{Score: float64(reserve - t.ms())}, Bound{0, true})
	past = past[:min(len(past), t.looks())]
	if len(past) == 0 {
		return
	}
	t.Looked += len(past)
	dead := make([]string, 0, 2*len(past))
	for _, m := range past {
		dead = append(dead, m.Name, "w"+m.Name[min(1, len(m.Name)):])
	}
	t.ZRem(queue, dead...)
}

// looks is how many entries of queues the call may still look at.
func (t *Turn) looks() int {
	most := t.MaxLooks
	if most == 0 {
		most = script.MaxLooks
	}
	return most - t.Looked
}

// ahead returns how many stand before a waiter, 0 if it does not wait.
func (t *Turn) ahead(queue, inbox, token string) int {
	set, _ := t.Members(queue)
	return max(0, memberOf(set, 'w', inbox, token)-below(set, Bound{0, true}))
}

// leave takes a waiter out of a queue.
func (t *Turn) leave(queue, inbox, token string) {
	set, _ := t.lookup(queue).members()
	if memberOf(set, 'w', inbox, token) >= 0 || memberOf(set, 'l', inbox, token) >= 0 {
		t.ZRem(queue, script.Waiter(inbox, token), script.Alive(inbox, token))
	}
}

// Leave is the script of that name. A key that holds the token, or was left with it, is released if
// that is wanted, with a fence as a release has.
func (t *Turn) Leave(k *Keys, inbox, token string, reserve int64, release bool, fence float64) (says int) {
	says, text := t.holds(k.Name, token)
	t.leave(k.Queue, inbox, token)
	absent, mine, handed, unfinished := says == Absent, false, false, 0
	switch {
	case says == Ours:
		mine = release
	case release && isLeft(text, token):
		says, mine = Ours, true
	case IsReserved(text, token):
		says, absent = Ours, t.Del(k.Name)
	}
	if !mine {
		fence = 0
	}
	if (absent || mine) && reserve != 0 {
		handed, unfinished = t.handOver(k, "", reserve, fence)
	}
	if mine && !handed {
		t.Del(k.Name)
	}
	return says | unfinished
}

// An Enqueuing is what an Enqueue is told besides whom it is for.
type Enqueuing struct {
	Ticket         float64
	New            bool
	Reserve, Alive int64 // in ms
}

// Enqueue is the script of that name.
func (t *Turn) Enqueue(k *Keys, inbox, token string, e Enqueuing) (a Answer, err error) {
	if e.Alive == Bad || e.Reserve == Bad {
		return a, Error("ERR attempt to perform arithmetic on a nil value")
	}
	text, is := t.Text(k.Name)
	if t.misused(k.Queue) {
		return nobody, nil
	}
	a.Ticket = NoScore()
	unfinished := 0
	mine := is == String && Holds(text, token)
	if !mine {
		var waiter string
		if waiter, a.Ticket, err = t.stand(k.Queue, inbox, token, e); err != nil {
			return a, err
		}
		a.Until = t.ms() + e.Alive
		if is == None && e.Reserve != 0 {
			_, unfinished = t.handOver(k, waiter, e.Reserve, 0)
			text, _ = t.Text(k.Name)
		}
		a.Ahead = t.ahead(k.Queue, inbox, token)
	}
	a.Says, a.Value = Other, text
	if mine || IsReserved(text, token) {
		a.Says = Ours
	}
	a.Says |= unfinished
	a.Left, a.Fence = t.PTTL(k.Name), t.fence(k.Fence)
	return a, nil
}

// stand has a waiter stand in a queue, or beat there, and returns its member and its
// ticket.
func (t *Turn) stand(queue, inbox, token string, e Enqueuing) (waiter string, ticket float64, err error) {
	set, _ := t.Members(queue)
	var alive string
	at, beat := memberOf(set, 'w', inbox, token), memberOf(set, 'l', inbox, token)
	if at >= 0 && beat >= 0 {
		waiter, alive = set[at].Name, set[beat].Name
	} else {
		waiter, alive = script.Waiter(inbox, token), script.Alive(inbox, token)
	}
	switch ticket = e.Ticket; {
	case e.New && at >= 0:
		ticket = set[at].Score
	case e.New:
		later, err := t.Between(queue, Bound{Score: ticket}, Most)
		if err != nil {
			return waiter, ticket, err
		}
		if len(later) > 0 {
			ticket = later[len(later)-1].Score + 1
		}
	}
	if _, _, err = t.ZAdd(queue, Add{}, Member{waiter, ticket}, Member{alive, float64(-t.ms() - e.Alive)}); err != nil {
		return waiter, ticket, err
	}
	t.bury(queue, e.Reserve)
	if t.PTTL(queue) < e.Alive {
		_, err = t.PExpire(queue, e.Alive)
	}
	return waiter, ticket, err
}

// Claim is the script of that name.
func (t *Turn) Claim(k *Keys, inbox, token string, ttl int64, fence float64) (a Answer, err error) {
	if t.misused(k.Fence) {
		return nobody, nil
	}
	raised, err := t.Propose(k.Fence, fence)
	if err != nil {
		return a, err
	}
	if t.misused(k.Queue) {
		return nobody, nil
	}
	a = Answer{Says: Ours, Left: -2, Raised: raised}
	says, text := t.holds(k.Name, token)
	if says == Other && !IsReserved(text, token) {
		a.Says, a.Value, a.Left, a.Ahead = Other, text, t.PTTL(k.Name), t.ahead(k.Queue, inbox, token)
	} else {
		if says == Ours { // a claim that comes late must not take from what a raise has given it since
			ttl, fence = max(ttl, t.PTTL(k.Name)), max(fence, fenceIn(text, token))
		}
		t.leave(k.Queue, inbox, token)
		err = t.SetFor(k.Name, Fenced(token, fence), ttl)
	}
	a.Fence = t.fence(k.Fence)
	return a, err
}
