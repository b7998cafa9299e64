package keyspace

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Member is one of a sorted set. A score that is no number was given as none, or stands
// for a member that is not there.
type Member struct {
	Name  string
	Score float64
}

func (m Member) compare(o Member) int {
	switch {
	case m.Score < o.Score:
		return -1
	case m.Score > o.Score:
		return 1
	}
	return strings.Compare(m.Name, o.Name)
}

// NoScore is the score of nothing.
func NoScore() float64 { return math.NaN() }

// IsScore tells a score from that of nothing.
func IsScore(score float64) bool { return score == score }

// ScoreText returns a score as Redis 7.0 writes it, by C's %.17g, and nothing for NoScore.
func ScoreText(score float64) string { return string(appendScore(nil, score)) }

func appendScore(to []byte, score float64) []byte {
	switch {
	case !IsScore(score):
		return to
	case math.IsInf(score, 1):
		return append(to, "inf"...)
	case math.IsInf(score, -1):
		return append(to, "-inf"...)
	case score == math.Trunc(score) && math.Abs(score) < 1e17 && score != 0:
		return strconv.AppendInt(to, int64(score), 10)
	}
	return fmt.Appendf(to, "%.17g", score)
}

// Whole returns a score that is a fence or a ticket, and 0 for NoScore.
func Whole(score float64) uint64 {
	if !IsScore(score) {
		return 0
	}
	return uint64(score)
}

// indexOf returns where a member is, or -1.
func indexOf(set []Member, name string) int {
	for i := range set {
		if set[i].Name == name {
			return i
		}
	}
	return -1
}

func scoreOf(set []Member, name string) float64 {
	if i := indexOf(set, name); i >= 0 {
		return set[i].Score
	}
	return NoScore()
}

// set returns the members of a sorted set, none if there is no key.
func (e *entry) members() ([]Member, error) {
	switch e.kind() {
	case None:
		return nil, nil
	case String:
		return nil, ErrType
	}
	return e.set, nil
}

// write puts the members of a sorted set into the place of those before, of which e is
// the entry, or nil.
func (t *Turn) write(key string, e *entry, set []Member) {
	ends := int64(Never)
	if e != nil {
		ends = e.ends
	}
	t.Server.Changes(key)
	t.put(&entry{name: key, set: set, ends: ends})
}

// An Add is how ZADD treats members that are there, or are not.
type Add struct {
	NX, XX, GT, LT bool
}

// ZAdd gives members their scores, and returns how many were added and how many changed.
func (t *Turn) ZAdd(key string, how Add, members ...Member) (added, changed int, err error) {
	for i := range members {
		if !IsScore(members[i].Score) {
			return 0, 0, ErrFloat
		}
	}
	e := t.lookup(key)
	old, err := e.members()
	if err != nil {
		return 0, 0, err
	}
	var set []Member // nil as long as nothing has changed
	own := func(room int) {
		if set == nil {
			set = append(make([]Member, 0, len(old)+room), old...)
		}
	}
	for _, m := range members {
		now := set
		if now == nil {
			now = old
		}
		at := indexOf(now, m.Name)
		switch {
		case at < 0 && how.XX:
			continue
		case at < 0:
			own(len(members))
			added++
			set = append(set, m)
			at = len(set) - 1
		case how.keeps(now[at].Score, m.Score):
			continue
		default:
			own(0)
			set[at].Score = m.Score
			changed++
		}
		settle(set, at)
	}
	if set != nil {
		t.write(key, e, set)
	}
	return added, changed, nil
}

// settle moves the one member that may be out of order to its place.
func settle(set []Member, at int) {
	for ; at > 0 && set[at].compare(set[at-1]) < 0; at-- {
		set[at], set[at-1] = set[at-1], set[at]
	}
	for ; at+1 < len(set) && set[at].compare(set[at+1]) > 0; at++ {
		set[at], set[at+1] = set[at+1], set[at]
	}
}

// keeps reports whether a member that is there keeps its score.
func (a Add) keeps(old, score float64) bool {
	return a.NX || a.GT && score <= old || a.LT && score >= old || score == old
}

// ZRem removes members, and returns how many were there.
func (t *Turn) ZRem(key string, names ...string) (removed int, err error) {
	e := t.lookup(key)
	old, err := e.members()
	if err != nil {
		return 0, err
	}
	isOne := func(m Member) bool { return slices.Contains(names, m.Name) }
	if len(names) > fewNames {
		all := make(map[string]bool, len(names))
		for _, name := range names {
			all[name] = true
		}
		isOne = func(m Member) bool { return all[m.Name] }
	}
	if !slices.ContainsFunc(old, isOne) {
		return 0, nil
	}
	set := slices.DeleteFunc(slices.Clone(old), isOne)
	if len(set) == 0 {
		t.Del(key)
	} else {
		t.write(key, e, set)
	}
	return len(old) - len(set), nil
}

// fewNames are compared with each member one by one.
const fewNames = 8

// Members returns a sorted set, by score and then by name. It must not be changed.
func (t *Turn) Members(key string) ([]Member, error) { return t.read(key).members() }

// ZScore returns the score of a member.
func (t *Turn) ZScore(key, name string) (score float64, err error) {
	set, err := t.Members(key)
	return scoreOf(set, name), err
}

// ZRank returns how many members come before one, -1 if it is not there.
func (t *Turn) ZRank(key, name string) (int, error) {
	set, err := t.Members(key)
	return indexOf(set, name), err
}

// A Bound is one end of a range of scores.
type Bound struct {
	Score float64
	Open  bool // what has just that score is not in the range
}

// Least and Most are the bounds that leave out nothing.
var Least, Most = Bound{Score: math.Inf(-1)}, Bound{Score: math.Inf(1)}

// Between returns the members whose scores are in a range. They must not be changed.
func (t *Turn) Between(key string, low, high Bound) ([]Member, error) {
	if !IsScore(low.Score) || !IsScore(high.Score) {
		return nil, ErrRange
	}
	set, err := t.Members(key)
	from := below(set, Bound{low.Score, !low.Open})
	return set[from:max(from, below(set, high))], err
}

// below returns how many members are on the lower side of a bound, those of its score
// included unless it is open.
func below(set []Member, b Bound) int {
	at, _ := slices.BinarySearchFunc(set, b, func(m Member, b Bound) int {
		if c := cmp.Compare(m.Score, b.Score); c != 0 {
			return c
		}
		if b.Open {
			return 1
		}
		return -1
	})
	return at
}
