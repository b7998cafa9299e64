package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Supervisors that want a fresh name at the same moment split the votes. That never
// lasts: one of them has it within an election's window and a pause.
func TestSplitVote(t *testing.T) {
	const most = ttl/4 + 300*time.Millisecond // RetryMax
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("N=%d", nodes), func(t *testing.T) {
			c := processes(t, nodes)
			sups := make([]*supervisor.Supervisor, 16)
			for i := range sups {
				sups[i] = supervise(t, c.Conns(), func(cfg *supervisor.Config) { cfg.Owner = fmt.Sprint("racer-", i) })
			}
			v := watchVotes(t, c)
			var n notes
			rounds, lasted := map[int]int{}, map[time.Duration]int{}
			several(t, 25*howOften(t))
			for race := range 25 * howOften(t) {
				name := fmt.Sprint("race-", race)
				rand.Shuffle(len(sups), func(i, j int) { sups[i], sups[j] = sups[j], sups[i] })
				w := newWatch()
				took, l, end := raceFor(t, sups[:2+race%15], name)
				if l == nil {
					t.Fatal("nobody has the name")
				}
				n.took("somebody held it after", took)
				lasted[roundUp(took)]++
				w.within(t, fmt.Sprintf("%d supervisors: somebody held the name after", 2+race%15), took, most)
				for i, s := range c.Servers {
					if _, err := s.Do("ECHO", name); err != nil {
						t.Fatal(err)
					}
					for v.done[i] != name {
						select {
						case v.done[i] = <-v.echoes[i]:
						case <-time.After(10 * time.Second):
							t.Fatal("a server does not show what it is asked")
						}
					}
				}
				of := v.take(name)
				rounds[of]++
				n.add("rounds until somebody held it (times)", float64(of))
				end()
				giveBack(t, l)
			}
			n.log(t)
			t.Logf("rounds: %s", histogram(rounds))
			t.Logf("held within: %s", histogram(lasted))
		})
	}
}

// raceFor has supervisors acquire a name at the same moment, and returns how long it
// took until the first had it. What ends it has the others give up.
func raceFor(t *testing.T, sups []*supervisor.Supervisor, name string) (took time.Duration, l *lease.Lease, end func()) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	type result struct {
		l  *lease.Lease
		at time.Time
	}
	won, start := make(chan result, len(sups)), make(chan struct{})
	var racers sync.WaitGroup
	for _, sup := range sups {
		racers.Go(func() {
			<-start
			l, err := sup.Acquire(ctx, name)
			if err == nil {
				won <- result{l, time.Now()}
			} else if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	begun := time.Now()
	close(start)
	end = func() {
		cancel()
		racers.Wait()
		if len(won) > 0 {
			t.Errorf("%d more have the name", len(won))
		}
	}
	select {
	case r := <-won:
		return r.at.Sub(begun), r.l, end
	case <-ctx.Done():
		return 0, nil, end
	}
}

// votes are the tokens for which nodes were asked for a vote, as MONITOR shows it: by a
// grant, whatever came of it, or by a claim that some node has granted.
type votes struct {
	echoes []chan string // of each server: that it has shown everything up to an ECHO
	done   []string

	mu     sync.Mutex
	tokens map[string]map[string]bool // of each name
}

func watchVotes(t *testing.T, c *cluster.Cluster) *votes {
	t.Helper()
	v := &votes{tokens: map[string]map[string]bool{}, done: make([]string, len(c.Servers))}
	for _, s := range c.Servers {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		echoes, ended := make(chan string, 1), make(chan struct{})
		v.echoes = append(v.echoes, echoes)
		if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer close(ended)
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				_, command, _ := strings.Cut(lines.Text(), `] "`)
				switch words := strings.Split(strings.TrimSuffix(command, `"`), `" "`); {
				case words[0] == "ECHO":
					echoes <- words[1]
				case words[0] == "SET" && !strings.HasPrefix(words[2], "?"):
					v.add(words[1], words[2])
				}
			}
		}()
		t.Cleanup(func() {
			conn.Close()
			<-ended
		})
	}
	return v
}

func (v *votes) add(name, token string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tokens[name] == nil {
		v.tokens[name] = map[string]bool{}
	}
	v.tokens[name][token] = true
}

// take returns in how many elections for a name the most eager of all stood.
func (v *votes) take(name string) (most int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := map[string]int{}
	for token := range v.tokens[name] {
		owner, _, _ := strings.Cut(token, "/")
		of[owner]++
		most = max(most, of[owner])
	}
	delete(v.tokens, name)
	return most
}

// roundUp returns the upper end of the bar of a histogram in which d falls.
func roundUp(d time.Duration) time.Duration {
	for _, end := range []time.Duration{2, 5, 10, 20, 50, 100, 200, 500, 1000} {
		if d <= end*time.Millisecond {
			return end * time.Millisecond
		}
	}
	return d.Truncate(time.Second) + time.Second
}

func histogram[K int | time.Duration](of map[K]int) string {
	var bars []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		bars = append(bars, fmt.Sprintf("%v: %d", k, of[k]))
	}
	return strings.Join(bars, ", ")
}
