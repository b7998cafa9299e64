package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper is 0.1 to 0.2 ms late on average. The runtime's timers are a millisecond late
// if nothing else runs, which is more than some distances.
type sleeper struct {
	fd   int
	file *os.File
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &sleeper{fd, os.NewFile(uintptr(fd), "timer")}, nil
}

func (s *sleeper) until(due time.Time) error {
	d := time.Until(due)
	if d <= 0 {
		return nil
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(s.fd, 0, &at, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	var times [8]byte
	_, err := s.file.Read(times[:])
	return err
}

func (s *sleeper) close() { s.file.Close() }
