package keyspace

import (
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

// Enrol is the script of that name. maxTTL is in ms.
func (t *Turn) Enrol(k *Own, incarnation string, maxTTL int64, identity string) (e Enrolment, err error) {
	before, err := t.get(k.Marker)
	switch {
	case err != nil:
		return e, err
	case maxTTL == Bad:
		return e, Error("ERR attempt to compare number with nil")
	}
	if e.Marker, e.Life = Mark(before, incarnation, maxTTL, t.Now.Microseconds()); e.Marker != before {
		t.Set(k.Marker, e.Marker, Never)
	}
	text, is := t.Text(k.Identity)
	switch is {
	case None:
		text = identity
		t.Set(k.Identity, identity, Never)
	case SortedSet:
		return e, ErrType
	}
	e.Identity = text
	life, err := t.get(k.Grown)
	e.Grown = life == e.Life
	return e, err
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

// Sign is the script of that name. The fingerprint counts for some ms. life is what has
// grown, or nothing.
func (t *Turn) Sign(k *Own, fingerprint string, alive int64, life string) (fingerprints string, err error) {
	if alive == Bad {
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
	if _, _, err := t.ZAdd(k.Clients, Add{GT: true}, Member{fingerprint, float64(t.ms() + alive)}); err != nil {
		return "", err
	}
	if t.PTTL(k.Clients) < alive {
		if _, err := t.PExpire(k.Clients, alive); err != nil {
			return "", err
		}
	}
	all, err := t.Members(k.Clients)
	lines := make([]byte, 0, 256)
	for i, m := range all {
		if i > 0 {
			lines = append(lines, '\n')
		}
		lines = append(append(lines, m.Name...), ' ')
		lines = appendScore(lines, m.Score)
	}
	return string(lines), err
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
