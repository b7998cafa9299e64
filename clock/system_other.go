//go:build !linux && !darwin && !windows

package clock

func systemNow() Instant { return runtimeClock{}.Now() }
