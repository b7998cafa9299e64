package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// BenchmarkFenceAndGuard measures what fence and guard cost an acquisition: against
// the same build without them, on the same five servers, in blocks that take turns.
// The guard has a switch. The fence has none, so its commands are taken out of a
// grant by an overlay of the compiler's, and whatever was granted counts as raised.
func BenchmarkFenceAndGuard(b *testing.B) {
	if err := redisKind.missing(); err != nil {
		b.Skip("left out: ", err)
	}
	f, err := startFleet(5)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.close)
	with := startWorker(b, f, "", "")
	without := startWorker(b, f, withoutFence(b), "off")

	const block = 100
	with.pairs(b, 5*block)
	without.pairs(b, 5*block)
	var on, off []time.Duration
	b.ResetTimer()
	for left := b.N; left > 0; left -= block {
		n := min(left, block)
		on = append(on, with.pairs(b, n)...)
		b.StopTimer()
		off = append(off, without.pairs(b, n)...)
		b.StartTimer()
	}
	b.StopTimer()
	p50 := func(ds []time.Duration) float64 { return micros(quantile(ds, .5)) }
	b.ReportMetric(p50(on), "acquire-µs")
	b.ReportMetric(p50(off), "without-µs")
	b.ReportMetric(p50(on)/p50(off), "acquire-x-without")
}

// withoutFence returns an overlay of package node that sends no fence with a grant.
func withoutFence(b *testing.B) string {
	b.Helper()
	path, err := filepath.Abs("../node/pipeline.go")
	if err != nil {
		b.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	text := string(source)
	for old, short := range map[string]string{
		"\tp.add(append(p.words[:0], \"ZADD\", script.FenceKey(c.Name), \"GT\", \"CH\", strconv.FormatUint(c.Fence, 10), script.Member))\n": "",
		"readGrant(vs[c.at:c.at+2], &p.replies[live[0]])": "func() (err error) {\n" +
			"r := &p.replies[live[0]]\nr.Raised = true\nr.Status, err = readSet(&vs[c.at])\nreturn err\n}()",
	} {
		if strings.Count(text, old) != 1 {
			b.Fatalf("%s: %q is there %d times: want once", path, old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, short, 1)
	}
	dir := b.TempDir()
	changed, overlay := filepath.Join(dir, "pipeline.go"), filepath.Join(dir, "overlay.json")
	table, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		b.Fatal(err)
	}
	for name, content := range map[string][]byte{changed: []byte(text), overlay: table} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return overlay
}

// A worker is another process, which makes as many pairs as it is told.
type worker struct {
	in  io.Writer
	out *bufio.Reader
}

const (
	workerServers = "LEASEHOLD_WORKER_SERVERS"
	workerGuard   = "LEASEHOLD_WORKER_GUARD"
)

func startWorker(b *testing.B, f *fleet, overlay, guard string) *worker {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "worker")
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", bin, ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	c := exec.Command(bin, "-test.run", "^TestWorker$", "-test.timeout", "10m")
	c.Env = append(os.Environ(), workerServers+"="+strings.Join(f.addrs, ","), workerGuard+"="+guard)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // it ends with its input
		_ = in.Close()
		_ = c.Wait()
	})
	return &worker{in, bufio.NewReader(out)}
}

// pairs has it make n pairs, and returns how long it took each time to acquire.
func (w *worker) pairs(b *testing.B, n int) []time.Duration {
	b.Helper()
	if _, err := fmt.Fprintln(w.in, n); err != nil {
		b.Fatal(err)
	}
	line, err := w.out.ReadString('\n')
	if err != nil {
		b.Fatalf("worker: %v: %s", err, line)
	}
	var ds []time.Duration
	for _, field := range strings.Fields(line) {
		ns, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatalf("worker: %s", line)
		}
		ds = append(ds, time.Duration(ns))
	}
	return ds
}

// TestWorker is the other process of BenchmarkFenceAndGuard.
func TestWorker(t *testing.T) {
	servers := os.Getenv(workerServers)
	if servers == "" {
		t.Skip("it is a process of BenchmarkFenceAndGuard")
	}
	sup, err := supervisor.New(supervisor.Config{
		Nodes: node.URLs(strings.Split(servers, ",")...), TTL: ttl, DisableGuard: os.Getenv(workerGuard) == "off",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sup.Close(context.Background()) }()
	names := names(16)
	at := 0
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := strconv.Atoi(in.Text())
		if err != nil {
			t.Fatal(err)
		}
		took := make([]string, 0, n)
		for range n {
			begun := time.Now()
			l, err := sup.Acquire(t.Context(), names[at%len(names)])
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, strconv.FormatInt(int64(time.Since(begun)), 10))
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			at++
		}
		fmt.Println(strings.Join(took, " "))
	}
}
