//go:build linux

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

const (
	busyNodes = "LEASEHOLD_TEST_BUSY_NODES"
	busyName  = "LEASEHOLD_TEST_BUSY_NAME"
)

// TestBusyHolder is another process of TestBusyProcess: one processor, and eight goroutines that
// always have something to do. It acquires a few names, holds them for two TTLs, and gives
// them back, says "acquired" and "over", with how many milliseconds each has taken, or what
// went wrong.
func TestBusyHolder(t *testing.T) {
	if os.Getenv(busyNodes) == "" {
		t.Skip("this is another process of TestBusyProcess")
	}
	for range 8 {
		go func() {
			for n := uint(1); ; n = n*3 + 1 {
				if n == 0 {
					fmt.Println("never")
				}
			}
		}()
	}
	begun := time.Now()
	sup := begin(t, node.URLs(strings.Fields(os.Getenv(busyNodes))...))
	held := acquire(t, sup, os.Getenv(busyName))
	more := acquire(t, sup, os.Getenv(busyName)+" too")
	fmt.Println("acquired", time.Since(begun).Milliseconds())
	over := time.After(2 * ttl)
	select {
	case <-held.Lost():
		fmt.Println("lost:", held.Err())
	case <-more.Lost():
		fmt.Println("lost:", more.Err())
	case <-over:
	}
	begun = time.Now()
	if err := held.Release(t.Context()); err != nil {
		fmt.Println("release:", err)
	}
	fmt.Println("over", time.Since(begun).Milliseconds())
}

// A process that is so busy that it reads answers late acquires and keeps by default. It has
// one processor, which its goroutines take turns of 10 ms at.
func TestBusyProcess(t *testing.T) {
	takesLong(t)
	t.Parallel()
	c := processes(t, 5)
	var notes notes
	repeat(t, max(1, howOften(t)/10), 1, // it takes a processor from all others
		func(t *testing.T, run int) {
			w := newWorker(t, "TestBusyHolder", time.Minute, "GOMAXPROCS=1", busyNodes+"="+strings.Join(c.URLs(), " "), busyName+"="+fmt.Sprint("busy ", run))
			notes.took("acquired", time.Duration(w.says("acquired"))*time.Millisecond)
			notes.took("released", time.Duration(w.says("over"))*time.Millisecond)
		})
	notes.log(t)
}
