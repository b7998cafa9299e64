package clocktest_test

import (
	"fmt"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
	"github.com/leasehold-go/leasehold/lease"
)

// A Manual clock moves only when it is told to, and its timers fire then.
func ExampleManual() {
	c := clocktest.NewManual(0)
	timer := c.NewTimer(10 * time.Second)
	for range 3 {
		c.Advance(5 * time.Second)
		select {
		case <-timer.C():
			fmt.Println("fired at", c.Now().Sub(0))
		default:
			fmt.Println("nothing at", c.Now().Sub(0))
		}
	}
	// Output:
	// nothing at 5s
	// fired at 10s
	// nothing at 15s
}

// A lease on a clock that is moved by hand ends without waiting.
func ExampleNewManual() {
	c := clocktest.NewManual(clock.Instant(time.Hour))
	held, _ := lease.New(lease.Spec{Name: "nightly-report", Clock: c, Until: c.Now().Add(10 * time.Second)})
	fmt.Println(held.Valid())
	c.Advance(10 * time.Second)
	fmt.Println(held.Valid())
	// Output:
	// true
	// false
}

// A Skewed clock shows what a holder does whose clock runs fast, or slow as here.
func ExampleSkewed() {
	base := clocktest.NewManual(0)
	slow := clocktest.Skewed(base, 0.5)
	begun := slow.Now()
	base.Advance(10 * time.Second)
	fmt.Println(slow.Now().Sub(begun))
	// Output:
	// 5s
}
