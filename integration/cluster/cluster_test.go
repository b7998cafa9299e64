package cluster

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestServers(t *testing.T) {
	for _, kind := range Kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			c := Open(t, kind, 2, "--maxmemory", "7mb")
			a, b := c.Servers[0], c.Servers[1]
			if urls := c.URLs(); urls[0] != "redis://"+a.Addr() || urls[1] != "redis://"+b.Addr() {
				t.Errorf("URLs() = %q", urls)
			}
			want(t, a, []any{"maxmemory", "7340032"}, "config", "get", "maxmemory")
			want(t, a, "OK", "set", "k", "of a")
			want(t, b, nil, "get", "k")
			want(t, a, "of a", "get", "k")
			if _, err := a.Do("incr", "k"); err == nil || !strings.HasPrefix(err.Error(), "ERR ") {
				t.Errorf("incr: %v", err)
			}

			before := runID(t, a)
			a.Kill()
			if _, err := a.Do("ping"); err == nil {
				t.Error("a killed server answers")
			}
			want(t, b, "PONG", "ping")
			a.Start()
			want(t, a, nil, "get", "k")
			if runID(t, a) == before {
				t.Error("the run id is the same after a restart")
			}

			want(t, a, "OK", "set", "k", "again")
			a.Pause()
			conn := dial(t, a.Addr())
			send(t, conn, "*1\r\n$4\r\nPING\r\n")
			quiet(t, conn, 50*time.Millisecond)
			a.Resume()
			receive(t, conn, "+PONG\r\n")
			want(t, a, "again", "get", "k")

			a.Pause()
			a.Kill()
			a.Start()
			want(t, a, nil, "get", "k")

			a.Pause() // and is left so, for the clean-up
			b.Kill()
		})
	}
}

// A server that was just opened is one that was known for long, and has nothing else; one
// that is young has nothing at all.
func TestAge(t *testing.T) {
	for _, kind := range Kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			want(t, OpenYoung(t, kind, 1).Servers[0], int64(0), "dbsize")
			s := Open(t, kind, 1).Servers[0]
			want(t, s, int64(2), "dbsize")
			marker, err := s.Do("get", "leasehold:incarnation")
			if err != nil {
				t.Fatal(err)
			}
			life, widest, _ := strings.Cut(strings.TrimPrefix(marker.(string), runID(t, s)+"/"), " ")
			since, widest, _ := strings.Cut(widest, " ")
			us, err := strconv.ParseInt(since, 10, 64)
			if age := time.Since(time.UnixMicro(us)); len(life) != 40 || err != nil || (age-24*time.Hour).Abs() > time.Minute || widest != "0" {
				t.Errorf("the marker is %q, which began %v ago: %v", marker, age, err)
			}
			want(t, s, strings.TrimSuffix(marker.(string), " 0"), "get", "leasehold:{leasehold:incarnation}:grown")
		})
	}
}

// The processes of a test that is killed, and runs no clean-up, die with it.
func TestProcessesDieWithTheTest(t *testing.T) {
	if os.Getenv("CLUSTER_TEST_VICTIM") == "1" {
		os.Stdout.WriteString(Open(t, Process, 1).Servers[0].Addr() + "\n")
		select {}
	}
	if _, err := redisServer(); err != nil {
		Kinds(t)
		t.Skip("left out: this needs the processes of a real Redis server, and ", err)
	}
	if attr := childAttr(); attr == nil {
		t.Skip("left out: this system does not end children with their parent")
	}
	victim := exec.Command(os.Args[0], "-test.run=^TestProcessesDieWithTheTest$")
	victim.Env = append(os.Environ(), "CLUSTER_TEST_VICTIM=1", "TMPDIR="+t.TempDir())
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := out.Read(buf)
	server := address(strings.TrimSpace(string(buf[:n])))
	if _, doErr := server.Do("ping"); doErr != nil {
		t.Errorf("%q, %v: %v", server, err, doErr)
	}
	_ = victim.Process.Kill()
	_ = victim.Wait()
	err = await(func() error {
		if _, err := server.Do("ping"); err == nil {
			return errors.New("the server has outlived its test")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// If something is missing, this is found out quickly and said in one sentence.
func TestNoDocker(t *testing.T) {
	for host, want := range map[string]string{
		"unix:///nonexistent/docker.sock": "no answer from Docker",
		"tcp://192.0.2.1:2375":            "not a socket of this machine",
	} {
		t.Setenv("DOCKER_HOST", host)
		start := time.Now()
		err := docker()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("DOCKER_HOST=%s: %v", host, err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("DOCKER_HOST=%s: it took %v", host, took)
		}
	}
}

func want(t *testing.T, s Server, answer any, args ...string) {
	t.Helper()
	got, err := s.Do(args...)
	if err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("%q: %v, %v; want %v", args, got, err, answer)
	}
}

func runID(t *testing.T, s Server) string {
	t.Helper()
	info, err := s.Do("info", "server")
	if err != nil {
		t.Fatal(err)
	}
	_, id, found := strings.Cut(info.(string), "run_id:")
	if !found {
		t.Fatalf("no run id in %q", info)
	}
	return id[:40]
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, bytes string) {
	t.Helper()
	if _, err := c.Write([]byte(bytes)); err != nil {
		t.Fatal(err)
	}
}

// receive wants exactly these bytes.
func receive(t *testing.T, c net.Conn, bytes string) {
	t.Helper()
	buf := make([]byte, len(bytes))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		if n += m; err != nil {
			t.Fatalf("%q, and then %v; want %q", buf[:n], err, bytes)
		}
	}
	if string(buf) != bytes {
		t.Fatalf("%q, want %q", buf, bytes)
	}
}

// quiet wants nothing to come, and the connection to stay open, for a while.
func quiet(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(d))
	var timeout net.Error
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("%d bytes, %v; want silence", n, err)
	}
}

// ended wants the connection to be closed or reset, with nothing more to come.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var timeout net.Error
	n, err := c.Read(make([]byte, 1))
	if n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("%d bytes, %v; want the end", n, err)
	}
}
