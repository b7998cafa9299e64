package core

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// The histories in testdata are text: prose, what comes in, and what the core decides. The
// model is the interaction tests of etcd's raft. A line that begins with "<- " is an input,
// see history.play. What is indented was written by the core, and is written again by
//
//	go test ./supervisor/internal/core -run TestHistories -golden
//
// so that a change of what is decided is reviewed as a difference of texts. All other lines
// are prose. docs/design.md leads through the histories.
var golden = flag.Bool("golden", false, "write the histories in testdata again")

func TestHistories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := played(t, string(was))
			if got == string(was) {
				return
			}
			if *golden {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s tells something else (- was told, + is told now):\n%s", file, difference(string(was), got))
		})
	}
}

// played returns a history with what the core decides written again.
func played(t *testing.T, text string) string {
	h := &history{t: t, tokens: make(map[string]string), letters: make(map[string]string), shown: make(map[string]string)}
	for n, line := range strings.Split(text, "\n") {
		input, is := strings.CutPrefix(line, "<- ")
		if !is && strings.HasPrefix(line, " ") {
			continue
		}
		h.out = append(h.out, line)
		if !is {
			continue
		}
		h.at = fmt.Sprintf("line %d, %q", n+1, line)
		if after, then, ok := strings.Cut(input, " later, "); ok {
			h.wait(h.duration(after))
			input = then
		}
		h.play(input)
		h.perform()
		h.tellVotes()
		h.tellDrained()
	}
	return strings.Join(h.out, "\n")
}

// A history is a core to which a script is played.
type history struct {
	t     *testing.T
	at    string // where in the script it is
	c     *Core
	clock *clocktest.Manual
	out   []string
	told  clock.Instant // the instant that was told last

	sends      []send            // since the last effect: told together
	unanswered []send            // by the script
	tokens     map[string]string // by the letters that stand for them
	letters    map[string]string
	made       int               // tokens of the core
	shown      map[string]string // by the letter of a token: its votes, as they were told last
	drained    bool              // it was told
	over       []string          // the letters of what was sent, and the calls and leases that were answered or ended
}

// start is the instant of our clock that a history calls 0, when the clock of every node
// shows one second: so the fences that are proposed first are a million and a little more.
const (
	start  = clock.Instant(time.Hour)
	offset = time.Second - time.Duration(start)
)

func (h *history) now() clock.Instant { return h.clock.Now() }

func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s: %s\n%s", h.at, fmt.Sprintf(format, args...), strings.Join(h.out[max(0, len(h.out)-20):], "\n"))
}

// play gives the core one input:
//
//	3 nodes                             they are enrolled, and were known for long
//	call 1: acquire x                   also with "once", or "to stay taken for 10s"
//	call 1: acquire any x y
//	call 2: release A                   of the lease whose token is A; also "hand over A", and "forgo A"
//	call 3: adopt x from A              of a former holder that is over; also "from A, alive"
//	call 1: give up
//	node 0: grant A ok                  or absent, other, unknown, unsent; to the command that
//	                                    was sent first. More is told after a comma, see reply
//	node 0: reserved for A
//	node 0: given to A, fence 7, until 1s, by the heartbeat until 2s
//	node 0: restarted empty             also "down", "back", "marker confirmed", "grown"
//	node 0: clock 2s ahead
//	wait 2s
//	wait for renew A                    until it is sent; also "wait for call 1", "wait for end A"
//	close
//
// Several nodes may say the same: "nodes 0 1: ...". "2ms later, " may stand before each.
func (h *history) play(input string) {
	who, what, said := strings.Cut(input, ": ")
	words := strings.Fields(who)
	switch {
	case !said && words[len(words)-1] == "nodes":
		h.begin(h.number(words[0]))
	case !said && words[0] == "close":
		h.c.Close(h.now())
	case !said && words[0] == "wait" && words[1] == "for":
		h.waitFor(strings.Join(words[2:], " "))
	case !said && words[0] == "wait":
		h.wait(h.duration(words[1]))
	case said && words[0] == "call":
		h.call(Call(h.number(words[1])), what)
	case said && (words[0] == "node" || words[0] == "nodes"):
		// As the loop does it: effects after each message, and commands after all of them.
		next := 1
		perform.Messages(h.now(), h.c, h, func() bool {
			if next == len(words) {
				return false
			}
			h.says(h.number(words[next]), what)
			next++
			return true
		})
	default:
		h.fail("no such input")
	}
}

func (h *history) begin(n int) {
	h.c, h.clock = New(defaults(n, 3*time.Second)), clocktest.NewManual(start)
	for i := range n {
		s := node.State{Enrolled: true, Life: 1, Guarded: true, Grown: true, Offset: offset, OffsetAt: start, Latency: 2 * time.Millisecond}
		s.Time, s.TimeSent, s.TimeBack = time.Second, start, start
		h.c.Receive(start, node.Batch{Node: i, State: s})
	}
	for len(h.c.TakeEffects()) > 0 { // that they are enrolled
	}
	h.perform()
}

// call has a caller ask for something.
func (h *history) call(call Call, what string) {
	what, option, _ := strings.Cut(what, ", ")
	words := strings.Fields(what)
	last := words[len(words)-1]
	switch verb := strings.Join(words[:len(words)-1], " "); {
	case what == "give up":
		h.c.Cancel(h.now(), call)
	case strings.HasPrefix(verb, "acquire any"):
		h.c.AcquireAny(h.now(), Request{Call: call, Terms: h.c.terms}, words[2:])
	case verb == "acquire":
		r := Request{Call: call, Key: last, Terms: h.c.terms}
		if d, stays := strings.CutPrefix(option, "to stay taken for "); stays {
			r.MinHold = h.duration(d)
		} else if option == "once" {
			r.Once, r.Attempts = true, 1
		}
		h.c.Acquire(h.now(), r)
	case verb == "release":
		h.c.Release(h.now(), h.tenure(last).id, call)
	case verb == "forgo":
		h.c.Forgo(h.now(), h.tenure(last).id, call)
	case verb == "hand over":
		h.c.HandOver(h.now(), h.tenure(last).id, call)
	case words[0] == "adopt":
		r := Request{Call: call, Key: words[1], Terms: h.c.terms}
		h.c.Adopt(h.now(), r, Handle{Key: r.Key, Token: h.token(last), Fence: 1, TTL: r.Terms.TTL, Over: option != "alive"})
	default:
		h.fail("no such call")
	}
}

// says has a node answer, or tell something by itself.
func (h *history) says(i int, what string) {
	s := h.c.nodes[i].state
	words := strings.Fields(what)
	switch {
	case what == "down":
		s.Enrolled, s.Err = false, errSilent
	case what == "back":
		s.Enrolled, s.Err = true, nil
	case what == "restarted empty":
		s.Life, s.LifeAt, s.Grown = s.Life+1, h.now(), false
	case what == "grown":
		s.Grown = true
	case what == "marker confirmed":
		s.MarkedAt = h.now()
	case words[0] == "clock":
		s.Time = time.Duration(h.now()) + offset + h.duration(words[1])
		s.TimeSent, s.TimeBack = h.now(), h.now()
	case words[0] == "reserved":
		h.c.Hear(h.now(), node.Wake{Node: i, Token: h.token(words[2])})
		return
	case words[0] == "given":
		h.c.Hear(h.now(), node.Wake{
			Node: i, Token: h.token(strings.Trim(words[2], ",")), Fence: uint64(h.number(strings.Trim(words[4], ","))),
			Until: h.time(strings.Trim(words[6], ",")), Beat: h.time(words[11]), Life: s.Life, At: offset + time.Duration(h.now()),
		})
		return
	default:
		h.c.Receive(h.now(), node.Batch{Node: i, State: s, Replies: []node.Reply{h.reply(i, what)}})
		return
	}
	h.c.Receive(h.now(), node.Batch{Node: i, State: s})
}

// reply reads what a node answers to what it was sent, as "grant A ok". After a comma
// there may be "stored 7" of a fence, "left 1s", "value Z", "ticket 7", "until 2s" of a heartbeat and "ahead 1".
func (h *history) reply(i int, what string) node.Reply {
	parts := strings.Split(what, ", ")
	words := strings.Fields(parts[0])
	if len(words) != 3 {
		h.fail("want a command, a token and a status")
	}
	k := slices.IndexFunc(h.unanswered, func(s send) bool {
		return s.node == i && s.cmd.Op.String() == words[0] && h.subject(s.cmd) == words[1]
	})
	if k < 0 {
		h.fail("node %d was sent no such command", i)
	}
	cmd := h.unanswered[k].cmd
	h.unanswered = slices.Delete(h.unanswered, k, k+1)
	r := node.Reply{ID: cmd.ID, Op: cmd.Op}
	for r.Status = node.Unknown; r.Status.String() != words[2]; r.Status++ {
		if r.Status > node.Other {
			h.fail("no such status")
		}
	}
	switch {
	case r.Status == node.Unknown:
		r.Err = errSilent
	case r.Status == node.Unsent:
		r.Err = errDown
	case r.Status == node.OK && (cmd.Op == node.Grant || cmd.Op == node.Claim || cmd.Op == node.Adopt):
		r.Raised, r.Fence = true, cmd.Fence
	}
	for _, part := range parts[1:] {
		switch key, value, _ := strings.Cut(part, " "); key {
		case "stored":
			r.Raised, r.Fence = false, uint64(h.number(value))
			if cmd.Op == node.Grant {
				r.Fence = 0 // it does not tell
			}
		case "left":
			r.Left = h.duration(value)
		case "value":
			letter, left := strings.CutPrefix(value, node.LeftMark)
			if r.Value = h.token(letter); left {
				r.Value = node.LeftMark + r.Value
			}
		case "ticket":
			r.Ticket = uint64(h.number(value))
		case "until":
			r.Until = h.time(value)
		case "ahead":
			r.Ahead = h.number(value)
		default:
			h.fail("no node tells %q", part)
		}
	}
	return r
}

// time reads a time of the nodes, as it is told of ours.
func (h *history) time(text string) time.Duration {
	return offset + time.Duration(start) + h.duration(text)
}

var errSilent = fmt.Errorf("no answer in time")

// wait lets time pass. What is due meanwhile is done when it is due.
func (h *history) wait(d time.Duration) {
	for until := h.now().Add(d); ; {
		next := h.c.Next()
		if next > until {
			h.clock.Advance(until.Sub(h.now()))
			return
		}
		h.tick(next)
	}
}

// waitFor lets time pass until a command is sent, a call is answered or a lease has ended.
func (h *history) waitFor(what string) {
	limit := h.now().Add(2 * time.Minute)
	for h.over = nil; !slices.Contains(h.over, what); {
		next := h.c.Next()
		if next > limit {
			h.fail("it never comes")
		}
		h.tick(next)
	}
}

func (h *history) tick(at clock.Instant) {
	h.clock.Advance(max(0, at.Sub(h.now())))
	h.c.Tick(h.now())
	h.perform()
	h.tellVotes()
}

func (h *history) perform() {
	if h.c != nil {
		perform.All(h.now(), h.c, len(h.c.nodes), h)
		h.tellSends()
	}
}

// tenure returns that with a token.
func (h *history) tenure(letter string) *tenure {
	for _, t := range h.c.tenures.slots {
		if t != nil && h.letter(t.token) == letter {
			return t
		}
	}
	h.fail("there is no lease %s", letter)
	return nil
}

// letter returns what stands for a token: A for the first that the core has made.
func (h *history) letter(token string) string {
	if h.letters[token] == "" {
		h.know(string(rune('A'+h.made)), token)
		h.made++
	}
	return h.letters[token]
}

// token returns what a letter stands for. One that is not known yet is another client's.
func (h *history) token(letter string) string {
	if h.tokens[letter] == "" {
		h.know(letter, "them/"+strings.Repeat(letter, 26))
	}
	return h.tokens[letter]
}

func (h *history) know(letter, token string) {
	h.tokens[letter], h.letters[token] = token, letter
}

func (h *history) number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		h.fail("%v", err)
	}
	return n
}

func (h *history) duration(word string) time.Duration {
	d, err := time.ParseDuration(word)
	if err != nil {
		h.fail("%v", err)
	}
	return d
}

// What docs/design.md quotes from a history stands there, word for word and in this order. A
// line "…" leaves something out.
func TestQuotations(t *testing.T) {
	design, err := os.ReadFile("../../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := make(map[string]bool)
	for _, block := range strings.Split(string(design), "\n```text ")[1:] {
		block, _, _ = strings.Cut(block, "\n```")
		name, quotation, _ := strings.Cut(block, "\n")
		quoted[name] = true
		text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		rest := "\n" + string(text)
		for _, part := range strings.Split(quotation, "\n…\n") {
			_, after, found := strings.Cut(rest, "\n"+part+"\n")
			if !found {
				t.Errorf("%s.txt does not say\n%s", name, part)
			}
			rest = "\n" + after
		}
	}
	files, _ := filepath.Glob("testdata/*.txt")
	if len(quoted) != len(files) {
		t.Errorf("%d histories of %d are quoted", len(quoted), len(files))
	}
}

// difference shows by which lines two texts differ, each with the line before.
func difference(was, now string) string {
	a, b := strings.Split(was, "\n"), strings.Split(now, "\n")
	// common[i][j] is how many lines a[i:] and b[j:] have in common, in their order.
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	same := false
	for i, j := 0, 0; i < len(a) || j < len(b); {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j, same = i+1, j+1, true
			continue
		}
		if same {
			fmt.Fprintf(&out, "  %s\n", a[i-1])
		}
		if same = false; j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1] {
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		} else {
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}

func TestDifference(t *testing.T) {
	for _, x := range []struct{ was, now, want string }{
		{"a\nb\nc", "a\nb\nc", ""},
		{"a\nb\nc", "a\nx\nc", "  a\n- b\n+ x\n"},
		{"a\nb\nc", "a\nc", "  a\n- b\n"},
		{"b", "a\nb\nc", "+ a\n  b\n+ c\n"},
	} {
		if got := difference(x.was, x.now); got != x.want {
			t.Errorf("from %q to %q: %q, want %q", x.was, x.now, got, x.want)
		}
	}
}
