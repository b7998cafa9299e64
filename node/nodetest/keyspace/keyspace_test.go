package keyspace_test

import (
	"cmp"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A server on which everybody listens. It notes what it is told.
type server struct{ told []string }

func (s *server) Publish(channel, message string) int {
	s.told = append(s.told, "publish "+channel+" "+message)
	return 1
}
func (s *server) Reads(string)       {}
func (s *server) Changes(key string) { s.told = append(s.told, "change "+key) }
func (s *server) Expires(key string) { s.told = append(s.told, "expire "+key) }

func turn(s *keyspace.Space, now time.Duration) *keyspace.Turn {
	return &keyspace.Turn{Space: s, Server: &server{}, Now: now}
}

// anything does something to a space.
func anything(t *keyspace.Turn, r *rand.Rand) {
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	k := keyspace.KeysOf(one("a", "b"))
	own := keyspace.OwnKeys()
	token, fence := one("x/1", "y/2", "z/3"), float64(r.IntN(9))
	switch r.IntN(14) {
	case 0:
		t.SetFree(k.Name, token, 20)
	case 1:
		t.Enqueue(&k, "in", token, keyspace.Enqueuing{Ticket: fence, New: r.IntN(2) == 0, Reserve: 9, Alive: 30})
	case 2:
		t.Claim(&k, "in", token, 20, fence)
	case 3:
		t.Release(&k, token, 9, 0)
	case 4:
		t.Leave(&k, "in", token, 9, r.IntN(2) == 0, 0)
	case 5:
		t.Renew(k.Name, token, 25)
	case 6:
		t.Heal(&k, token, 20, fence, one("", "+7"))
	case 7:
		t.Adopt(&k, token, "x/1", 20, fence)
	case 8:
		t.Raise(&k, token, fence, []int64{0, 30}[r.IntN(2)])
	case 9:
		t.Enrol(&own, one("run/1", "run/2"), 5, one("", "ME"))
	case 10:
		t.Sign(&own, token, 30, int64(r.IntN(20)), one("", "run/1 0"))
	case 11:
		t.Vacate(&k, "in", token, 15)
	case 12:
		marker, _ := t.Text(own.Marker)
		t.Advance(&own, one(marker, "run/1 0 5"), one("run/1 0 5 7", "run/2 1 5 0 1 3>5:=A"))
	case 13:
		t.Del(one(append(t.Names(), "none")...))
	}
}

// What happens to a space does not happen to its clones, nor the other way round.
func TestClone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var spaces [4]keyspace.Space
	var want [4]string
	now := time.Duration(0)
	code := func(i int) string { return string(spaces[i].Append(nil, 0)) }
	for range 20_000 {
		now += time.Duration(r.IntN(2)) * time.Millisecond
		i, from := r.IntN(len(spaces)), r.IntN(len(spaces))
		if r.IntN(5) == 0 && i != from {
			spaces[i] = spaces[from].Clone()
		} else {
			turn(&spaces[i], now).Set("last", fmt.Sprint(now), keyspace.Never)
			anything(turn(&spaces[i], now), r)
		}
		want[i] = code(i)
		for k := range spaces {
			if code(k) != want[k] {
				t.Fatalf("space %d was changed with space %d", k, i)
			}
		}
	}
}

// The encoding tells what is there, whichever way it came there.
func TestAppend(t *testing.T) {
	code := func(now time.Duration, does ...func(*keyspace.Turn)) string {
		var s keyspace.Space
		for _, do := range does {
			do(turn(&s, 0))
		}
		return string(s.Append(nil, now))
	}
	text := func(key, text string, ends int64) func(*keyspace.Turn) {
		return func(t *keyspace.Turn) { t.Set(key, text, ends) }
	}
	add := func(key, name string, score float64) func(*keyspace.Turn) {
		return func(t *keyspace.Turn) { t.ZAdd(key, keyspace.Add{}, keyspace.Member{Name: name, Score: score}) }
	}
	del := func(t *keyspace.Turn) { t.Del("gone") }
	if code(0) != "" || code(0, text("gone", "1", 5), del) != "" || code(6*time.Millisecond, text("a", "1", 5)) != "" {
		t.Error("what is empty has an encoding")
	}
	same := code(0, text("a", "1", 5), add("s", "x", 1), add("s", "y", -2))
	if got := code(0, add("s", "y", 7), add("s", "y", -2), text("gone", "", 1), del, add("s", "x", 1), text("a", "1", 5)); got != same {
		t.Errorf("%q is not %q", got, same)
	}
	seen := map[string]bool{}
	for _, one := range []string{
		same,
		code(0, text("a", "1", 6), add("s", "x", 1), add("s", "y", -2)),
		code(0, text("a", "2", 5), add("s", "x", 1), add("s", "y", -2)),
		code(0, text("a", "1", 5), add("s", "x", 1), add("s", "y", 2)),
		code(0, text("a", "1", 5), add("s", "x", 1)),
		code(0, text("a", "1", 5), add("sx", "", 1)),
		code(0, text("a", "", 5)), code(0, add("a", "", 5)),
	} {
		if seen[one] {
			t.Errorf("%q stands for two spaces", one)
		}
		seen[one] = true
	}
}

// A key is there for the whole of its last millisecond, and is told to have expired once.
func TestExpiry(t *testing.T) {
	var s keyspace.Space
	at := func(now time.Duration) (left int64, told string) {
		srv := &server{}
		left = (&keyspace.Turn{Space: &s, Server: srv, Now: now}).PTTL("a")
		return left, strings.Join(srv.told, " ")
	}
	begin := 7*time.Millisecond - 1
	turn(&s, begin).SetFor("a", "1", 10)
	for _, c := range []struct {
		now  time.Duration
		left int64
		told string
	}{
		{begin, 10, ""}, {begin + 1, 9, ""}, {16 * time.Millisecond, 0, ""}, {17*time.Millisecond - 1, 0, ""},
		{17 * time.Millisecond, -2, "expire a"}, {begin, -2, ""},
	} {
		if left, told := at(c.now); left != c.left || told != c.told {
			t.Errorf("at %v it has %d ms left, %q is told: want %d and %q", c.now, left, told, c.left, c.told)
		}
	}
}

// A plainSet is a sorted set that is sorted whenever it is asked.
type plainSet map[string]float64

func (p plainSet) remove(name string) (removed int) {
	if _, there := p[name]; there {
		removed = 1
	}
	delete(p, name)
	return removed
}

func (p plainSet) add(how keyspace.Add, m keyspace.Member) (added, changed int) {
	old, there := p[m.Name]
	switch {
	case !there && how.XX, there && how.NX, there && m.Score == old:
		return 0, 0
	case there && how.GT && m.Score < old, there && how.LT && m.Score > old:
		return 0, 0
	}
	p[m.Name] = m.Score
	if there {
		return 0, 1
	}
	return 1, 0
}

func (p plainSet) sorted() []string {
	return slices.SortedFunc(maps.Keys(p), func(a, b string) int {
		return cmp.Or(cmp.Compare(p[a], p[b]), strings.Compare(a, b))
	})
}

func (p plainSet) between(low, high keyspace.Bound) []string {
	return slices.DeleteFunc(p.sorted(), func(name string) bool {
		f := p[name]
		return f < low.Score || f == low.Score && low.Open || f > high.Score || f == high.Score && high.Open
	})
}

func TestSortedSets(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	ways := []keyspace.Add{{}, {NX: true}, {XX: true}, {GT: true}, {LT: true}, {XX: true, GT: true}}
	for range 300 {
		var s keyspace.Space
		plain := plainSet{}
		for range 60 {
			srv := &server{}
			work := &keyspace.Turn{Space: &s, Server: srv}
			m := keyspace.Member{Name: strconv.Itoa(r.IntN(6)), Score: float64(r.IntN(7) - 3)}
			how := ways[r.IntN(len(ways))]
			var got, want [2]int
			if r.IntN(3) == 0 {
				got[0], _ = work.ZRem("s", m.Name, "nobody")
				want[0] = plain.remove(m.Name)
			} else {
				got[0], got[1], _ = work.ZAdd("s", how, m)
				want[0], want[1] = plain.add(how, m)
			}
			if got != want || (len(srv.told) > 0) != (want != [2]int{}) {
				t.Fatalf("%+v of %v to what is %v now: %v, told %q: want %v", how, m, plain, got, srv.told, want)
			}
			bound := func() keyspace.Bound { return keyspace.Bound{Score: float64(r.IntN(8) - 4), Open: r.IntN(2) == 0} }
			compare(t, work, plain, bound(), bound())
		}
	}
}

func compare(t *testing.T, work *keyspace.Turn, plain plainSet, low, high keyspace.Bound) {
	t.Helper()
	for i, name := range plain.sorted() {
		rank, _ := work.ZRank("s", name)
		if score, err := work.ZScore("s", name); rank != i || score != plain[name] || err != nil {
			t.Fatalf("%s comes as %d with %v, %v in %v", name, rank, score, err, plain)
		}
	}
	members, err := work.Between("s", low, high)
	var got []string
	for _, m := range members {
		got = append(got, m.Name)
	}
	if want := plain.between(low, high); !slices.Equal(got, want) || err != nil {
		t.Fatalf("between %v and %v: %v, %v, want %v of %v", low, high, got, err, want, plain)
	}
	if there := work.Kind("s") == keyspace.SortedSet; there != (len(plain) > 0) {
		t.Fatalf("the key is there: %v, with %v", there, plain)
	}
}

// The simulation and the search through all interleavings build on it, so it needs
// neither a network nor a clock.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") && path != "github.com/leasehold-go/leasehold/node/internal/script" || first == "net" {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}
