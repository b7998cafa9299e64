package cluster

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

//go:embed testdata/clock.c
var clockSource []byte

// A Clocked server has a time of day of its own. It is a process.
type Clocked struct {
	Server
	t    testing.TB
	file string
}

// clockLibrary compiles what is loaded into the servers, once for all of them.
var clockLibrary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "leasehold-clock-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		return nil, err
	}
	if said, err := exec.Command("cc", "-shared", "-fPIC", "-O2", "-o", library, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("there is no working C compiler: %w %s", err, last(said))
	}
	return os.ReadFile(library)
})

// OpenClocked starts n empty servers, as [OpenYoung] does, whose clocks can be set. It
// returns why that is not possible here: there is no redis-server, or no C compiler to
// make what is loaded into them.
func OpenClocked(t testing.TB, n int) ([]*Clocked, error) {
	t.Helper()
	if _, err := redisServer(); err != nil {
		return nil, err
	}
	text, err := clockLibrary()
	if err != nil {
		return nil, err
	}
	library := filepath.Join(t.TempDir(), "clock.so")
	if err := os.WriteFile(library, text, 0o700); err != nil {
		return nil, err
	}
	list := make([]*Clocked, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range list {
		p := &process{t: t, dir: t.TempDir()}
		c := &Clocked{t: t, file: filepath.Join(p.dir, "clock")}
		p.env = []string{"LD_PRELOAD=" + library, "LEASEHOLD_TEST_CLOCK=" + c.file}
		list[i] = c
		wg.Go(func() {
			if errs[i] = c.set(0); errs[i] == nil {
				c.Server, errs[i] = open(p)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("start %d Redis servers with clocks of their own: %v", n, err)
	}
	return list, nil
}

// SetAhead sets the server's clock, by how far it is ahead of the machine's. It stays so
// over restarts.
func (c *Clocked) SetAhead(d time.Duration) {
	c.t.Helper()
	if err := c.set(d); err != nil {
		c.t.Errorf("set the clock of %s: %v", c.Addr(), err)
	}
}

// set writes into the file that the server has before it as memory, so it sees the new
// time with its next look.
func (c *Clocked) set(d time.Duration) error {
	f, err := os.OpenFile(c.file, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(d.Microseconds())), 0)
	return errors.Join(err, f.Close())
}
