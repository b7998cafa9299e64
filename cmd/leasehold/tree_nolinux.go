//go:build unix && !linux

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Here the guard knows the command's process group, and nothing that has left it.

func dieWithParent(*syscall.SysProcAttr) {}
func nameProcess(string)                 {}
func adoptOrphans()                      {}

// bootTime returns the nanoseconds of a clock that is the same for all processes.
func bootTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func signalTree(command int, s syscall.Signal) { _ = syscall.Kill(-command, s) }

func leftBehind(command int) []string {
	if groupGone(command) {
		return nil
	}
	return []string{"processes of its group"}
}

// groupGone reports whether a group has no members.
func groupGone(command int) bool { return syscall.Kill(-command, 0) == syscall.ESRCH }

func childrenOf(int) []int    { return nil }
func killChildren([]int) bool { return false }

// parentOf returns 0: the parent is not known here.
func parentOf(int) int { return 0 }
