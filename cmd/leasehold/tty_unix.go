//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A terminal is the one that controls this process, if there is one. It has one process group in
// the foreground, which may read it, and which gets ^C, ^\ and ^Z.
type terminal struct {
	file  *os.File // nil: there is none
	group int      // the group of this process
	given int      // the group that it was given to; 0: none
}

func openTerminal() *terminal {
	t := &terminal{group: syscall.Getpgrp()}
	if file, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		t.file = file
		// A process that gives the terminal away, and takes it back in the background, would be
		// stopped.
		signal.Ignore(syscall.SIGTTOU)
	}
	return t
}

func (t *terminal) close() {
	t.takeBack()
	if t.file != nil {
		_ = t.file.Close()
	}
}

// front returns the process group in the foreground, or 0.
func (t *terminal) front() int {
	if t.file == nil {
		return 0
	}
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

func (t *terminal) set(group int) bool {
	return unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, group) == nil
}

// isOurs reports whether this process may give the terminal away.
func (t *terminal) isOurs() bool { return t.file != nil && t.front() == t.group }

// isInteractive reports whether a shell has started this process alone in the foreground, with its
// input and output on the terminal. Then no other process of its group misses a ^C that only the
// command gets. In a pipeline, or a script, the command gets the terminal when it reads it.
func (t *terminal) isInteractive() bool {
	return t.isOurs() && t.group == os.Getpid() && isTerminal(0) && isTerminal(1)
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil
}

// give puts a command's group into the foreground, and reports whether it is there.
func (t *terminal) give(group int) bool {
	if t.isOurs() && t.set(group) {
		t.given = group
	}
	return t.given == group
}

// takeBack puts the group of this process into the foreground, if it has given that away.
func (t *terminal) takeBack() {
	if t.given != 0 {
		t.set(t.group)
		t.given = 0
	}
}

// hasShell reports whether there is a process that would continue this one if it was stopped: an
// ancestor of the same session in another group. If there is none the kernel does not stop a group
// because of its terminal.
func hasShell() bool {
	session, err := unix.Getsid(0)
	if err != nil || os.Getpid() == 1 {
		return false
	}
	group := syscall.Getpgrp()
	for pid := os.Getppid(); pid > 1; pid = parentOf(pid) {
		s, err := unix.Getsid(pid)
		if err != nil || s != session {
			return false
		}
		if g, err := syscall.Getpgid(pid); err == nil && g != group {
			return true
		}
	}
	return false
}
