//go:build !linux

package main

import "time"

// A sleeper sleeps as exactly as the runtime's timers are.
type sleeper struct{}

func newSleeper() (*sleeper, error) { return &sleeper{}, nil }

func (*sleeper) until(due time.Time) error {
	time.Sleep(time.Until(due))
	return nil
}

func (*sleeper) close() {}
