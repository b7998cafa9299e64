package keyspace

import (
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// This file and queue.go are leasehold's scripts for one name. Each calls the same commands
// as its text in package script does, in the same order, so that an error in the midst
// leaves the same things done. Numbers of milliseconds may be Bad, and fences and tickets
// NoScore, if they could not be read.

// Keys are the keys of one name.
type Keys struct {
	Name, Fence, Queue string
}

// KeysOf returns those of a lock key.
func KeysOf(name string) Keys { return Keys{name, script.FenceKey(name), script.QueueKey(name)} }

// What a script says of a key.
const (
	Absent = script.Absent // there is no such key
	Ours   = script.Ours   // it holds the token, and was changed as asked
	Other  = script.Other  // it holds something else, of whatever type
	Broken = script.Broken // the fence or the queue key is no sorted set, and the key is as it was

	Unfinished = script.Unfinished // is added: the hand-over is to go on
)

// Reserved returns what a lock key holds that is reserved for a token.
func Reserved(token string) string { return script.Reserved(token) }

// IsReserved reports whether a lock key that holds a text is reserved for a token.
func IsReserved(text, token string) bool {
	rest, is := strings.CutPrefix(text, script.Reservation)
	return is && rest == token
}

// isLeft reports whether a lock key that holds a text was left with a token.
func isLeft(text, token string) bool {
	rest, is := strings.CutPrefix(text, script.LeftMark)
	return is && Holds(rest, token)
}

// An Answer is what a script answers for one name. Which fields there are is that
// script's matter, see package script.
type Answer struct {
	Says   int
	Value  string
	Left   int64   // in ms, as PTTL tells it
	Fence  float64 // NoScore if there is none
	Ahead  int
	Ticket float64 // NoScore if it does not stand in the queue
	Raised bool
	Until  int64 // of Enqueue: in ms of the server's clock, when its heartbeat ends; 0 if it does not stand in the queue
}

// holds returns what a script says of a key, and the text that it holds.
func (t *Turn) holds(key, token string) (says int, text string) {
	text, is := t.Text(key)
	switch {
	case is == None:
		return Absent, ""
	case is == String && Holds(text, token):
		return Ours, text
	}
	return Other, text
}

// Holds reports whether what a lock key holds is a token, alone or with a fence after it.
func Holds(text, token string) bool {
	rest, begins := strings.CutPrefix(text, token)
	return begins && (rest == "" || strings.HasPrefix(rest, script.FenceMark))
}

// Fenced returns what a lock key holds that tells a fence after its token.
func Fenced(token string, fence float64) string {
	return token + script.FenceMark + strconv.FormatFloat(fence, 'f', -1, 64)
}

// fenceIn returns the fence that a text tells after its token, or 0.
func fenceIn(text, token string) float64 {
	told, err := strconv.ParseFloat(strings.TrimPrefix(text, token+script.FenceMark), 64)
	if err != nil {
		return 0
	}
	return told
}

// keeps is what a script says of a key that keeps a lease or may be healed: nobody has one
// that is reserved. Of another's text it tells what that is, after Told.
func (t *Turn) keeps(key, token string) (says int, others string) {
	text, is := t.Text(key)
	switch {
	case is == None:
		return Absent, ""
	case is != String:
		return Other, ""
	case Holds(text, token):
		return Ours, ""
	case promised(text):
		return Absent, ""
	}
	return Other, script.Told + text[:min(len(text), script.MaxTold)]
}

// promised tells a reservation from the values of other clients.
func promised(text string) bool {
	rest, marked := strings.CutPrefix(text, script.Reservation)
	if !marked {
		return false
	}
	slash := strings.LastIndexByte(rest, '/')
	return slash > 0 && slash+1 < len(rest) && !strings.ContainsFunc(rest[slash+1:], func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// fence returns the stored fence as scripts answer it.
func (t *Turn) fence(key string) float64 {
	fence, _ := t.ZScore(key, script.Member)
	return fence
}

// Propose stores a fence if it is larger than the stored one. A grant does it by a command
// of its own.
func (t *Turn) Propose(key string, fence float64) (raised bool, err error) {
	added, changed, err := t.ZAdd(key, Add{GT: true}, Member{script.Member, fence})
	return added+changed > 0, err
}

// misused reports whether a key is there and is no sorted set.
func (t *Turn) misused(key string) bool { return t.lookup(key).kind() == String }

// Renew is the script of that name. The key is not read again after it was changed.
func (t *Turn) Renew(key, token string, ttl int64) (a Answer, err error) {
	if a.Says, a.Value = t.keeps(key, token); a.Says == Ours {
		_, err = t.PExpire(key, ttl)
	}
	return a, err
}

// Release is the script of that name. Nothing is handed over if reserve is 0, and nothing given
// if the fence is.
func (t *Turn) Release(k *Keys, token string, reserve int64, fence float64) (says int) {
	says, text := t.holds(k.Name, token)
	if isLeft(text, token) {
		says = Ours
	}
	handed, unfinished := false, 0
	if says != Other && reserve != 0 {
		if says != Ours {
			fence = 0
		}
		handed, unfinished = t.handOver(k, "", reserve, fence)
	}
	if says == Ours && !handed {
		t.Del(k.Name)
	}
	return says | unfinished
}

// Vacate is the script of that name. The key is left for some ms.
func (t *Turn) Vacate(k *Keys, inbox, token string, left int64) (says int, err error) {
	t.leave(k.Queue, inbox, token)
	says, text := t.holds(k.Name, token)
	switch {
	case says == Ours:
		err = t.SetFor(k.Name, script.LeftMark+text, left)
	case isLeft(text, token):
		says = Ours
		_, err = t.PExpire(k.Name, left)
	}
	return says, err
}

// Raise is the script of that name. It returns the fence of before as well. The key keeps its
// expiry if ttl is 0.
func (t *Turn) Raise(k *Keys, token string, fence float64, ttl int64) (says int, before float64, err error) {
	says, _ = t.holds(k.Name, token)
	switch {
	case says != Ours:
		return says, NoScore(), nil
	case t.misused(k.Fence):
		return Broken, NoScore(), nil
	}
	before = t.fence(k.Fence)
	if _, err = t.Propose(k.Fence, fence); err == nil {
		t.SetKeeping(k.Name, Fenced(token, fence))
		if ttl != 0 {
			_, err = t.PExpire(k.Name, ttl)
		}
	}
	return says, before, err
}

// Inspect is the script of that name.
func (t *Turn) Inspect(k *Keys, brief bool) Answer {
	says := Ours
	text, is := t.Text(k.Name)
	switch is {
	case None:
		says = Absent
	case SortedSet:
		says = Other
	}
	a := Answer{Says: says, Value: text, Left: -2, Fence: NoScore()}
	if !brief {
		a.Left, a.Fence = t.PTTL(k.Name), t.fence(k.Fence)
	}
	if !brief || says != Absent {
		alive, _ := t.Between(k.Queue, Least, Bound{float64(-t.ms()), true})
		a.Ahead = len(alive)
	}
	return a
}

// Heal is the script of that name. After the token the key holds a suffix.
func (t *Turn) Heal(k *Keys, token string, ttl int64, fence float64, suffix string) (a Answer, err error) {
	a.Says, a.Value = t.keeps(k.Name, token)
	switch {
	case a.Says == Ours:
		_, err = t.PExpire(k.Name, ttl)
	case a.Says == Other:
	case t.misused(k.Fence):
		a.Says = Broken
	default:
		if err = t.SetFor(k.Name, token+suffix, ttl); err == nil {
			_, err = t.Propose(k.Fence, fence)
		}
		a.Says = Ours
	}
	return a, err
}

// Adopt is the script of that name.
func (t *Turn) Adopt(k *Keys, token, former string, ttl int64, fence float64) (a Answer, err error) {
	says, text := t.holds(k.Name, token)
	a = Answer{Says: says, Left: t.PTTL(k.Name)}
	switch {
	case says == Absent:
	case says == Other && !Holds(text, former):
		a.Value = text
	case t.misused(k.Fence):
		a.Says, a.Left = Broken, -2
	default:
		if a.Raised, err = t.Propose(k.Fence, fence); err != nil {
			return a, err
		}
		if ttl == Bad {
			return a, Error("ERR bad argument #1 to 'max' (number expected, got nil)")
		}
		if err = t.SetFor(k.Name, Fenced(token, fence), max(ttl, a.Left)); err != nil {
			return a, err
		}
		if a.Says = Ours; says == Ours {
			a.Left = -2
		}
	}
	a.Fence = t.fence(k.Fence)
	return a, nil
}
