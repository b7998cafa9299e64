//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/redistest"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// The nodes are changed from three to three others by the command: what it shows, when it refuses, and
// what processes get that were given the one list or the other.
func TestNodesAreChanged(t *testing.T) {
	_, was := serve(t, 3)
	_, is := serve(t, 3)
	times := []string{"-ttl", "1s", "-max-ttl-cap", "1s"}
	both := func(args ...string) []string {
		return append(append(args, "-former", was), times...)
	}
	sup, err := supervisor.New(supervisor.Config{Nodes: node.URLs(strings.Split(was, ",")...), TTL: time.Second, MaxTTLCap: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer sup.Close(t.Context())
	held, err := sup.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	type shown struct {
		Nodes []struct {
			Node, List, Stage, MaxTTL string
			Floor                     uint64
			Clients                   []struct{ Use, Left string }
		}
		Next string
	}
	look := func() (st shown) {
		t.Helper()
		out := start(t, is, both("nodes", "-o", "json")...).ends(t, ok)
		if err := json.Unmarshal([]byte(out), &st); err != nil || len(st.Nodes) != 6 {
			t.Fatalf("%s, %v", out, err)
		}
		return st
	}
	uses := func(st shown, use string) bool {
		for _, n := range st.Nodes {
			for _, c := range n.Clients {
				if left, err := time.ParseDuration(c.Left); err != nil || left <= 0 {
					t.Errorf("%+v", c)
				}
				if c.Use == use {
					return true
				}
			}
		}
		return false
	}
	redistest.Until(t, "the client to be seen", func() bool { return uses(look(), "former alone") })
	if out := start(t, is, both("nodes")...).ends(t, ok); !strings.Contains(out, "next: give each process both lists") || strings.Count(out, "former  none") != 3 || strings.Count(out, "nodes   none") != 3 || strings.Count(out, "\n") != 9 {
		t.Errorf("%s", out)
	}

	// One process is given both lists. Its command is not told of them.
	cmd := append(both("run", "x2"), "--", "sh", "-c", `echo "[$LEASEHOLD_NODES$LEASEHOLD_FORMER]"`)
	if out := start(t, is, cmd...).ends(t, ok); out != "[]\n" {
		t.Errorf("%s", out)
	}
	if st := look(); st.Nodes[0].Stage != "begun" || st.Nodes[5].Stage != "begun" || st.Nodes[5].List != "former" || st.Nodes[5].MaxTTL != "1s" {
		t.Errorf("%+v", st)
	}
	p := start(t, is, both("nodes", "finish")...)
	if p.ends(t, no); !strings.Contains(p.errors.String(), "finish: too early: clients use the former nodes alone: give them both lists (seen at ") {
		t.Errorf("%s", &p.errors)
	}
	p = start(t, is, both("nodes", "forget-change")...)
	if p.ends(t, no); !strings.Contains(p.errors.String(), "clients use both: give them the former list alone") {
		t.Errorf("%s", &p.errors)
	}
	p = start(t, is, append([]string{"run", "-try", "x3"}, append(times, "--", "true")...)...)
	if p.ends(t, usage); !strings.Contains(p.errors.String(), "the change of the nodes is not finished: give it the former list as well, or finish the change") {
		t.Errorf("%s", &p.errors)
	}

	if err := sup.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, "the client to be forgotten", func() bool { return !uses(look(), "former alone") })
	p = start(t, is, both("nodes", "finish")...)
	if p.ends(t, ok); !strings.Contains(p.errors.String(), "the former nodes are closed: waiting 1.012s") || !strings.Contains(p.errors.String(), "finished: fences are larger than ") {
		t.Errorf("%s", &p.errors)
	}
	if out := start(t, is, both("nodes", "finish", "-q", "-o", "json")...).ends(t, ok); out != `{"Done":"finished"}`+"\n" {
		t.Errorf("%s", out)
	}
	if st := look(); st.Nodes[0].Stage != "opened" || st.Nodes[0].Floor < held.Fence() {
		t.Errorf("%+v: want a floor of at least %d", st, held.Fence())
	}
	start(t, is, append([]string{"run", "x"}, append(times, "--", "true")...)...).ends(t, ok)
	p = start(t, was, append([]string{"run", "-try", "x"}, append(times, "--", "true")...)...)
	if p.ends(t, usage); !strings.Contains(p.errors.String(), "these nodes were left: give it the present list, alone or with the former one") {
		t.Errorf("%s", &p.errors)
	}
	start(t, is, both("show", "x")...).ends(t, no)
}

// list finds names on either list, and doctor looks at both and begins nothing.
func TestListAndDoctorOfBothLists(t *testing.T) {
	_, was := realNodes(t)
	_, is := realNodes(t)
	holder(t, was, "x")
	if out := start(t, is, "list", "-former", was).ends(t, ok); !strings.Contains(out, "x ") || !strings.Contains(out, "holder") {
		t.Errorf("%s", out)
	}
	if out := start(t, is, "doctor", "-for", "100ms", "-former", was).ends(t, ok); strings.Count(out, "127.0.0.1:") < 6 || !strings.Contains(out, "the nodes are being changed") {
		t.Errorf("%s", out)
	}
	if out := start(t, is, "nodes", "-former", was).ends(t, ok); strings.Contains(out, "begun") {
		t.Errorf("%s", out)
	}
	servers, down := realNodes(t)
	servers[0].Hang()
	servers[1].Hang()
	start(t, is, "list", "-former", down, "-ttl", "1s").ends(t, noQuorum)
}

// What is wrong with the arguments, and nodes that do not answer.
func TestNodesOfBrokenArguments(t *testing.T) {
	nodes, was := serve(t, 3)
	_, is := serve(t, 3)
	file := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(file, []byte("# the former ones\n"+strings.ReplaceAll(was, ",", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	times := []string{"-ttl", "1s", "-max-ttl-cap", "1s"}
	for want, args := range map[string][]string{
		"no former nodes: give --former, --former-file":        {"nodes", "finish"},
		"LEASEHOLD_FORMER or LEASEHOLD_FORMER_FILE":            {"nodes", "forget-change"},
		"no former nodes: give --former, ":                     {"nodes", "floor"},
		"--former and --former-file: give only one":            {"nodes", "-former", was, "-former-file", file},
		"--former-file: open":                                  {"nodes", "-former-file", file + ".not"},
		"Former: the same 3 nodes as Nodes":                    {"show", "x", "-former", is},
		"dead node redis-x:6379: want one of ":                 {"nodes", "finish", "-former-file", file, "-dead", "redis-x"},
		"1 of the nodes of Former are not dead: want at least": {"nodes", "finish", "-former-file", file, "-dead", strings.Split(was, ",")[0], "-dead", strings.Split(was, ",")[1]},
	} {
		p := start(t, is, append(args, times...)...)
		if p.ends(t, usage); !strings.Contains(p.errors.String(), want) {
			t.Errorf("%q: %s: want %q", args, &p.errors, want)
		}
	}
	if out := start(t, is, append([]string{"nodes", "floor", "-former-file", file}, times...)...).ends(t, ok); out != "floor 0\n" {
		t.Errorf("%s", out)
	}
	if out := start(t, is, append([]string{"nodes"}, times...)...).ends(t, ok); !strings.Contains(out, "next: the nodes are not being changed") {
		t.Errorf("%s", out)
	}
	nodes[0].Crash()
	for _, sub := range []string{"finish", "forget-change"} {
		p := start(t, is, append([]string{"nodes", sub, "-former-file", file}, times...)...)
		if p.ends(t, noQuorum); !strings.Contains(p.errors.String(), "cannot be asked") {
			t.Errorf("%s: %s", sub, &p.errors)
		}
	}
	if out := start(t, is, append([]string{"nodes", "-former-file", file}, times...)...).ends(t, ok); strings.Count(out, "it cannot be asked") != 1 {
		t.Errorf("%s", out)
	}
	nodes[1].Crash()
	if out := start(t, is, append([]string{"nodes", "-former-file", file}, times...)...).ends(t, noQuorum); strings.Count(out, "it cannot be asked") != 2 {
		t.Errorf("%s", out)
	}
}
