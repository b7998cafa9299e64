package node_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/leasehold-go/leasehold/node"
)

func TestEntryText(t *testing.T) {
	abc, abcde := electorate(3, "abc"), electorate(5, "abcde")
	for _, c := range []struct {
		entry node.Entry
		text  string
	}{
		{node.Entry{Present: abc}, "3 a,b,c"}, // as a client of an earlier state leaves it
		{node.Entry{Present: node.Electorate{Nodes: 3}}, "3 "},
		{node.Entry{Former: abc, Present: abcde}, ">3>5:=a,=b,=c,+d,+e"},
		{node.Entry{Former: abc, Present: abcde, Modes: node.InFormer}, ">3>5:=a,=b,=c,+d,+e f"},
		{node.Entry{Former: abc, Present: abcde, Modes: node.InPresent | node.InBoth | node.InFormer}, ">3>5:=a,=b,=c,+d,+e fbp"},
	} {
		if got := c.entry.String(); got != c.text {
			t.Errorf("%+v is written %q: want %q", c.entry, got, c.text)
		}
		if got, ok := node.ParseEntry(c.text); !ok || !reflect.DeepEqual(got, c.entry) {
			t.Errorf("%q is read as %+v, %v: want %+v", c.text, got, ok, c.entry)
		}
	}
	for _, text := range []string{"", ">", "@5 3 a", "x", "0 a", ">3:=a", ">3>5:=a ", ">3>5:=a x", ">3>5:=a bf", ">3>5:=a ff", "> 3>5:=a"} {
		if got, ok := node.ParseEntry(text); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

// An entry of two electorates is no text that a client of an earlier state takes for one of its own.
func FuzzEntry(f *testing.F) {
	f.Add("3 a,b,c")
	f.Add(">3>5:=a,=b,=c,+d,+e fb")
	f.Fuzz(func(t *testing.T, text string) {
		e, ok := node.ParseEntry(text)
		if !ok {
			return
		}
		_, earlier := node.ParseElectorate(text)
		if both := e.Former.Nodes != 0; both && (e.String() != text || strings.Contains(text, "\n")) || both == earlier {
			t.Errorf("%q is read as %+v", text, e)
		}
	})
}
