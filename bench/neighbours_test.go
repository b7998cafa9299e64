package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// TestRedlockNeighbours has leasehold share a name with clients of other libraries,
// which know nothing of its guard and its fences: the key is what all of them
// respect. Each takes turns at adding to a counter by reading and writing it, so
// that two holders at once would lose an update.
//
// It goes on for LEASEHOLD_NEIGHBOURS, 3 s by default, and until everybody has had
// a turn.
func TestRedlockNeighbours(t *testing.T) {
	needRedis(t)
	long := 3 * time.Second
	if text := os.Getenv("LEASEHOLD_NEIGHBOURS"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("LEASEHOLD_NEIGHBOURS: %v", err)
		}
	}
	t.Run("one node", func(t *testing.T) {
		n := newNeighbours(t, 1)
		n.join("leasehold", openLeasehold)
		n.join("redsync", redsyncOver(goredisPools, false))
		python, err := pythonRedis()
		if err == nil {
			n.joinPython(python)
		}
		n.live(long)
		if err != nil { // the others have shown what they can
			need(t, err)
		}
	})
	t.Run("five nodes", func(t *testing.T) {
		n := newNeighbours(t, 5)
		n.join("leasehold", openLeasehold)
		n.join("redsync", redsyncOver(rueidisPools, false))
		n.live(long)
	})
}

const (
	sharedName  = "shared"
	storeCount  = "counter" // read and written by the holder
	storeInside = "inside"  // how many are holders now
	storeTurns  = "turns:"  // of one neighbour
	storeStop   = "stop"    // exists when it is time to go
)

// neighbours share one name on a fleet. What they do with it is in a store, which
// is another server.
type neighbours struct {
	t     *testing.T
	fleet *fleet
	addr  string // of the store
	store rueidis.Client
	names []string
	done  chan error // how each has ended
}

func newNeighbours(t *testing.T, nodes int) *neighbours {
	f, err := startFleet(nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	s, err := startRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	n := &neighbours{t: t, fleet: f, addr: s.addr, done: make(chan error, 8)}
	n.store, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.addr}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.store.Close)
	return n
}

// get returns a number of the store; what is not there is 0.
func (n *neighbours) get(ctx context.Context, key string) (int64, error) {
	v, err := n.store.Do(ctx, n.store.B().Get().Key(key).Build()).AsInt64()
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	return v, err
}

// join lets a library of this process in.
func (n *neighbours) join(name string, open func(*fleet) (locker, error)) {
	l, err := open(n.fleet)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(l.close)
	n.names = append(n.names, name)
	go func() {
		var err error
		for stop := int64(0); stop == 0 && err == nil; {
			if err = n.turn(l, name); err == nil {
				// Others poll: who came again at once would always be first.
				<-time.After(rand.N(10 * time.Millisecond))
				stop, err = n.get(context.Background(), storeStop)
			}
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		n.done <- err
	}()
}

// turn adds one to the counter under the name.
func (n *neighbours) turn(l locker, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := l.acquire(ctx, sharedName)
	if err != nil {
		return err
	}
	add := func(key string, by int64) (int64, error) {
		return n.store.Do(ctx, n.store.B().Incrby().Key(key).Increment(by).Build()).AsInt64()
	}
	inside, err := add(storeInside, 1)
	if err != nil {
		return err
	}
	if inside != 1 {
		return fmt.Errorf("holds the name together with %d others", inside-1)
	}
	count, err := n.get(ctx, storeCount)
	if err != nil {
		return err
	}
	<-time.After(time.Millisecond) // the work, in which a second holder would read the same
	err = n.store.Do(ctx, n.store.B().Set().Key(storeCount).Value(fmt.Sprint(count+1)).Build()).Error()
	_, err2 := add(storeTurns+name, 1)
	_, err3 := add(storeInside, -1)
	return errors.Join(err, err2, err3, h.release(ctx))
}

// pythonTurns does the same as join and turn, with redis-py's lock.
const pythonTurns = `
import random, redis, sys, time
node, store = [redis.Redis(host="127.0.0.1", port=int(p)) for p in sys.argv[1:3]]
while not store.exists("stop"):
    lock = node.lock("shared", timeout=10, sleep=0.01, blocking_timeout=60)
    if not lock.acquire():
        sys.exit("not acquired within a minute")
    inside = store.incr("inside")
    if inside != 1:
        sys.exit("holds the name together with %d others" % (inside - 1))
    count = int(store.get("counter") or 0)
    time.sleep(0.001)
    store.set("counter", count + 1)
    store.incr("turns:redis-py")
    store.decr("inside")
    lock.release()
    time.sleep(random.random() / 100)
`

// pythonRedis returns a Python that has redis-py.
func pythonRedis() (string, error) {
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(path, "-c", "import redis.lock").Run() == nil {
			return path, nil
		}
	}
	return "", errors.New("redis-py's lock: there is no python3 with the module redis (Debian: python3-redis)")
}

func (n *neighbours) joinPython(path string) {
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	var said bytes.Buffer
	cmd := exec.Command(path, "-c", pythonTurns, port(n.fleet.addrs[0]), port(n.addr))
	cmd.Stderr = &said
	cmd.SysProcAttr = childAttr()
	if err := onKeeper(cmd.Start); err != nil {
		n.t.Fatal(err)
	}
	n.names = append(n.names, "redis-py")
	gone := make(chan struct{})
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("redis-py: %w: %s", err, last(said.Bytes()))
		}
		close(gone)
		n.done <- err
	}()
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it fails only if the process has ended
		<-gone
	})
}

// live lets them share for that long, and until each has had a turn; then it stops
// them, and counts.
func (n *neighbours) live(long time.Duration) {
	t, ctx := n.t, n.t.Context()
	begun, check := time.Now(), time.NewTicker(50*time.Millisecond)
	defer check.Stop()
	ended := 0
	for idle := n.names; len(idle) > 0 || time.Since(begun) < long; {
		select {
		case err := <-n.done:
			ended++
			t.Errorf("one has left: %v", err)
		case <-check.C:
		}
		if time.Since(begun) > long+time.Minute {
			t.Errorf("without a turn: %v", idle)
		}
		if t.Failed() {
			break
		}
		idle = nil
		for _, name := range n.names {
			if turns, err := n.get(ctx, storeTurns+name); err != nil {
				t.Fatal(err)
			} else if turns == 0 {
				idle = append(idle, name)
			}
		}
	}
	if err := n.store.Do(ctx, n.store.B().Set().Key(storeStop).Value("1").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for ; ended < len(n.names); ended++ {
		if err := <-n.done; err != nil {
			t.Error(err)
		}
	}
	var sum int64
	for _, name := range n.names {
		turns, err := n.get(ctx, storeTurns+name)
		if err != nil {
			t.Fatal(err)
		}
		sum += turns
		t.Logf("%-10s %5d turns", name, turns)
	}
	if count, err := n.get(ctx, storeCount); err != nil || count != sum {
		t.Errorf("the counter is at %d after %d turns (%v): updates were lost", count, sum, err)
	}
}
