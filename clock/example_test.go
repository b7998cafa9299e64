package clock_test

import (
	"fmt"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// System also counts the time for which the machine was suspended.
func ExampleSystem() {
	c := clock.System()
	begun := c.Now()
	timer := c.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	<-timer.C()
	fmt.Println(c.Now().Sub(begun) > 0)
	// Output:
	// true
}

// Runtime is for testing/synctest bubbles: give it to supervisor.Config.Clock there. Instants are
// compared with <, and never with those of another clock.
func ExampleRuntime() {
	c := clock.Runtime()
	deadline := c.Now().Add(time.Minute)
	fmt.Println(c.Now() < deadline, deadline < clock.Never)
	// Output:
	// true true
}

// An Instant that is later than all others stays so.
func ExampleInstant_Add() {
	t := clock.Instant(0).Add(90 * time.Second)
	fmt.Println(t.Sub(clock.Instant(0)))
	fmt.Println(clock.Never.Add(time.Hour) == clock.Never)
	// Output:
	// 1m30s
	// true
}
