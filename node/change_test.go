package node_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/leasehold-go/leasehold/node"
)

// electorate returns one of n nodes, whose known identities are the letters of ids.
func electorate(n int, ids string) node.Electorate {
	var all []string
	for _, id := range ids {
		all = append(all, string(id))
	}
	return node.NewElectorate(n, all)
}

func change(stage node.Stage, former, present node.Electorate) node.Change {
	return node.Change{Former: former, Present: present, Stage: stage}
}

func TestChangeText(t *testing.T) {
	for _, c := range []struct {
		change node.Change
		text   string
	}{
		{node.Change{}, ""},
		{change(node.StageBegun, electorate(3, "abc"), electorate(5, "abcde")), "1 3>5:=a,=b,=c,+d,+e"},
		{change(node.StageClosed, electorate(3, "abc"), electorate(3, "abd")), "2 3>3:=a,=b,-c,+d"},
		{change(node.StageOpened, electorate(1, ""), electorate(64, "")), "3 1>64:"},
		{change(node.StageOpened, electorate(1, "a"), electorate(1, "")), "3 1>1:-a"},
	} {
		if got := c.change.String(); got != c.text {
			t.Errorf("%+v is written %q: want %q", c.change, got, c.text)
		}
		if got, ok := node.ParseChange(c.text); !ok || !reflect.DeepEqual(got, c.change) {
			t.Errorf("%q is read as %+v, %v: want %+v", c.text, got, ok, c.change)
		}
	}
	for _, text := range []string{
		" ", "1", "1 ", "0 3>5:", "4 3>5:", "12 3>5:", "1 3:=a", "1 3>5", "1 0>5:", "1 3>65:", "1 -3>5:", "1 03>5:", "1 x>5:",
		"1 3>5:a", "1 3>5:=", "1 3>5:=a,", "1 3>5:=a,,=b", "1 3>5:=b,=a", "1 3>5:=a,=a", "1 3>5:-a,+a", "1 1>5:=a,=b", "1 3>1:+a,+b",
		"1 3>5:=a b", "1 3>5:=a\n", "1 3>5:=a\tb", "1  3>5:=a", "1 3>5:=" + strings.Repeat("a", 33),
	} {
		if got, ok := node.ParseChange(text); ok || got.Stage != node.StageNone {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

// The text is of bounded length, whatever the identities are that others have given.
func TestChangeTextIsBounded(t *testing.T) {
	many := func(mark string) (ids []string) {
		for i := range 64 {
			ids = append(ids, fmt.Sprintf("%s%031d", mark, i))
		}
		return ids
	}
	c := change(node.StageOpened, node.NewElectorate(64, many("x")), node.NewElectorate(64, append(many("y"), strings.Repeat("z", 33))[1:]))
	text := c.String()
	if len(text) > 4359 || strings.Contains(text, "z") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	if _, ok := node.ParseChange(text); !ok {
		t.Errorf("%q is not read", text)
	}
}

func TestSamePair(t *testing.T) {
	abc, abcde := electorate(3, "abc"), electorate(5, "abcde")
	for _, c := range []struct {
		name string
		a, b node.Change
		same bool
	}{
		{"the same", change(1, abc, abcde), change(3, abc, abcde), true},
		{"nothing is known", change(1, electorate(3, ""), electorate(5, "")), change(1, abc, abcde), true},
		{"each knows others", change(1, electorate(3, "a"), electorate(5, "ad")), change(1, electorate(3, "bc"), electorate(5, "bce")), true},
		{"another number of former nodes", change(1, electorate(4, "abc"), abcde), change(1, abc, abcde), false},
		{"another number of present nodes", change(1, abc, electorate(4, "abcd")), change(1, abc, electorate(5, "abcd")), false},
		{"another former node", change(1, electorate(3, "abx"), electorate(5, "ab")), change(1, abc, electorate(5, "ab")), false},
		{"another present node", change(1, abc, electorate(5, "abcdx")), change(1, abc, abcde), false},
		{"the way back", change(1, abcde, abc), change(1, abc, abcde), false},
		{"the way back, one is not known", change(1, electorate(3, "ab"), electorate(3, "abd")), change(1, electorate(3, "abd"), electorate(3, "ab")), false},
		{"one that stays or leaves", change(1, abc, electorate(3, "ab")), change(1, electorate(3, "ab"), electorate(3, "abc")), false},
	} {
		if ab, ba := c.a.SamePair(c.b), c.b.SamePair(c.a); ab != c.same || ba != c.same {
			t.Errorf("%s: %v, %v: want %v", c.name, ab, ba, c.same)
		}
	}
}

func TestAdvanced(t *testing.T) {
	abc, abcde, abx := electorate(3, "abc"), electorate(5, "abcde"), electorate(3, "abx")
	begun, closed, opened := change(1, abc, abcde), change(2, abc, abcde), change(3, abc, abcde)
	for _, c := range []struct {
		name             string
		kept, told, want node.Change
		refused          bool
	}{
		{name: "the first", told: begun, want: begun},
		{name: "a node that forgot", told: opened, want: opened},
		{name: "no change", kept: begun, want: begun},
		{name: "further", kept: begun, told: closed, want: closed},
		{name: "not back", kept: closed, told: begun, want: closed},
		{name: "again", kept: opened, told: opened, want: opened},
		{name: "another pair", kept: begun, told: change(3, abc, abx), want: begun, refused: true},
		{name: "another pair while closed", kept: closed, told: change(1, abcde, abc), want: closed, refused: true},
		{name: "the way back after it was opened", kept: opened, told: change(1, abcde, abc), want: change(1, abcde, abc)},
		{name: "what either knows", kept: change(2, electorate(3, "a"), electorate(5, "ad")), told: change(1, electorate(3, "bc"), electorate(5, "bce")), want: closed},
	} {
		if got, ok := c.kept.Advanced(c.told); ok == c.refused || got.String() != c.want.String() {
			t.Errorf("%s: %v, %v: want %v", c.name, got, ok, c.want)
		}
	}
}

// A change can be undone as long as it is begun only.
func TestForgotten(t *testing.T) {
	abc, abcde := electorate(3, "abc"), electorate(5, "abcde")
	for _, c := range []struct {
		name             string
		kept, told, want node.Change
		refused          bool
	}{
		{name: "nothing", told: change(1, abc, abcde)},
		{name: "begun", kept: change(1, abc, abcde), told: change(1, electorate(3, "a"), electorate(5, "ae"))},
		{name: "another", kept: change(1, abc, abcde), told: change(1, abcde, abc), want: change(1, abc, abcde), refused: true},
		{name: "closed", kept: change(2, abc, abcde), told: change(1, abc, abcde), want: change(2, abc, abcde), refused: true},
		{name: "opened", kept: change(3, abc, abcde), told: change(3, abc, abcde), want: change(3, abc, abcde), refused: true},
	} {
		if got, ok := c.kept.Forgotten(c.told); ok == c.refused || got.String() != c.want.String() {
			t.Errorf("%s: %v, %v: want %v", c.name, got, ok, c.want)
		}
	}
}

func TestStageText(t *testing.T) {
	var words []string
	for s := range node.StageOpened + 2 {
		words = append(words, s.String())
	}
	if want := []string{"none", "begun", "closed", "opened", "no stage"}; !slices.Equal(words, want) {
		t.Errorf("%q: want %q", words, want)
	}
}

// What is read is written as it was read, fits its bounds, and is the same as itself. A change that
// is advanced keeps all that both know, and never goes back.
func FuzzChange(f *testing.F) {
	f.Add("1 3>5:=a,=b,=c,+d,+e", "2 3>5:=a,=f")
	f.Add("", "3 1>64:")
	f.Add("3 3>3:=a,=b,-c,+d", "1 3>3:=a,=b,+c,-d")
	f.Fuzz(func(t *testing.T, a, b string) {
		c, ok := node.ParseChange(a)
		d, ok2 := node.ParseChange(b)
		if !ok || !ok2 {
			return
		}
		if c.String() != a || len(a) > 4359 || strings.ContainsAny(c.Pair(), " \r\n") {
			t.Fatalf("%q is written %q", a, c.String())
		}
		if c.SamePair(d) != d.SamePair(c) || c.Stage != 0 && !c.SamePair(c) {
			t.Fatalf("%q and %q: the same is %v one way, %v the other", a, b, c.SamePair(d), d.SamePair(c))
		}
		next, ok := c.Advanced(d)
		if read, is := node.ParseChange(next.String()); !is || read.String() != next.String() {
			t.Fatalf("%q, told %q, is %q, which is not read", a, b, next)
		}
		switch same := c.Stage == 0 || d.Stage == 0 || c.SamePair(d); {
		case ok && same && (next.Stage < c.Stage || next.Stage < d.Stage), !ok && next.String() != a,
			ok != (same || c.Stage == node.StageOpened):
			t.Fatalf("%q, told %q, is %q, %v", a, b, next, ok)
		}
	})
}
