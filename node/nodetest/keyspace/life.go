package keyspace

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// Own are the keys that a server keeps of itself.
type Own struct {
	Marker, Grown, Identity, Clients string
}

// OwnKeys returns those of every server.
func OwnKeys() Own { return Own{script.Marker, script.Grown, script.Identity, script.Clients} }

// An Enrolment is what an Enrol answers.
type Enrolment struct {
	Marker   string
	Life     string // which the marker tells
	Grown    bool
	Identity string
}

// Enrol is the script of that name. maxTTL is in ms. The client knows an identity, or "".
func (t *Turn) Enrol(k *Own, incarnation string, maxTTL int64, known string) (e Enrolment, err error) {
	before, err := t.get(k.Marker)
	switch {
	case err != nil:
		return e, err
	case maxTTL == Bad:
		return e, Error("ERR attempt to compare number with nil")
	}
	now := t.Now.Microseconds()
	e.Marker, e.Life = Mark(before, incarnation, maxTTL, now)
	identity, err := t.get(k.Identity)
	if err != nil {
		return e, err
	}
	grown, err := t.get(k.Grown)
	if err != nil {
		return e, err
	}
	sum := sha1.Sum([]byte(e.Life))
	made := hex.EncodeToString(sum[:])[:script.LenIdentity]
	e.Identity = cmp.Or(identity, known, made)
	if identity == made && known != "" && known != made && grown != e.Life {
		e.Identity = known
		was := e.Life
		e.Life = incarnation + " " + strconv.FormatInt(now, 10)
		e.Marker = e.Life + e.Marker[len(was):]
	}
	if e.Identity != identity {
		t.Set(k.Identity, e.Identity, Never)
	}
	if e.Marker != before {
		t.Set(k.Marker, e.Marker, Never)
	}
	e.Grown = grown == e.Life
	return e, nil
}

// Advance is the script of that name. The client was told one marker, and wants the next.
func (t *Turn) Advance(k *Own, told, next string) (says int, err error) {
	marker, err := t.get(k.Marker)
	switch {
	case err != nil:
		return 0, err
	case marker == told:
		if next != marker {
			t.Set(k.Marker, next, Never)
		}
		return Ours, nil
	case marker == "":
		return Absent, nil
	}
	return Other, nil
}

// Sign is the script of that name. The entry counts for some ms, and has counted for some. life is
// what has grown, or nothing.
func (t *Turn) Sign(k *Own, entry string, alive, age int64, life string) (entries string, err error) {
	if alive == Bad || age == Bad {
		return "", Error("ERR attempt to perform arithmetic on a nil value")
	}
	if life != "" {
		marker, err := t.get(k.Marker)
		if err != nil {
			return "", err
		}
		if MayGrow(marker, life) {
			t.Set(k.Grown, life, Never)
		}
	}
	if err := t.forgetUntil(k.Clients, float64(t.ms())); err != nil {
		return "", err
	}
	all, err := t.Members(k.Clients)
	if err != nil {
		return "", err
	}
	first, ends := t.ms()-age, float64(t.ms()+alive)
	since, scores := map[string]int64{}, map[string]float64{}
	for _, m := range all {
		if began, of, is := began(m.Name); is {
			if earlier, seen := since[of]; !seen || began < earlier {
				since[of] = began
			}
			if toldBy(of) == toldBy(entry) {
				first = min(first, began)
			}
		} else if m.Name == entry {
			ends = max(ends, m.Score)
		}
		scores[m.Name] = m.Score
	}
	since[entry] = first
	var lines []string
	for _, m := range slices.Clone(all) {
		if began, of, is := began(m.Name); is {
			if began != since[of] {
				t.ZRem(k.Clients, m.Name)
			}
			continue
		}
		if m.Name == entry {
			continue
		}
		began, seen := since[m.Name]
		if !seen {
			began = t.ms() - 1
		}
		if beside := besideOf(m.Name, began); scores[beside] < m.Score {
			t.ZAdd(k.Clients, Add{}, Member{beside, m.Score})
		}
		lines = append(lines, fmt.Sprint(m.Name, " ", began, " ", ScoreText(m.Score)))
	}
	t.ZAdd(k.Clients, Add{}, Member{entry, ends}, Member{besideOf(entry, first), ends})
	if t.PTTL(k.Clients) < alive {
		if _, err := t.PExpire(k.Clients, alive); err != nil {
			return "", err
		}
	}
	return strings.Join(append(lines, fmt.Sprint(entry, " ", first, " ", ScoreText(ends))), "\n"), nil
}

// besideOf returns the member that says since when an entry counts.
func besideOf(entry string, since int64) string { return fmt.Sprint("@", since, " ", entry) }

// toldBy returns the part of an entry that tells the electorates.
func toldBy(entry string) string {
	if !strings.HasPrefix(entry, ">") {
		return entry
	}
	told, _, _ := strings.Cut(entry, " ")
	return told
}

// began reads a member that says since when an entry counts. It reports false if it is another one.
func began(member string) (ms int64, entry string, is bool) {
	rest, is := strings.CutPrefix(member, "@")
	number, entry, spaced := strings.Cut(rest, " ")
	ms, err := strconv.ParseInt(number, 10, 64)
	return ms, entry, is && spaced && entry != "" && err == nil && ms >= 0
}

// forgetUntil removes the members of a sorted set whose scores are not above a limit.
func (t *Turn) forgetUntil(key string, limit float64) error {
	old, err := t.Between(key, Least, Bound{Score: limit})
	if err != nil || len(old) == 0 {
		return err
	}
	names := make([]string, len(old))
	for i, m := range old {
		names[i] = m.Name
	}
	_, err = t.ZRem(key, names...)
	return err
}
