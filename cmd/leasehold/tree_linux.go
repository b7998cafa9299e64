package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieWithParent makes the command die if this process dies.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// nameProcess sets what the list of processes shows. The thread of main calls it.
func nameProcess(name string) {
	text, err := unix.BytePtrFromString(name)
	if err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0)
	}
}

// adoptOrphans makes processes below this one its children when they lose their parents.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// bootTime returns the nanoseconds since the machine was started, suspensions included. It is the
// same for all processes.
func bootTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // package clock does not work without it either
	}
	return ts.Nano()
}

// A proc is a process as /proc shows it.
type proc struct {
	pid, parent int
	state       byte
	name        string
}

// processes returns those that can be seen. Without /proc there are none.
func processes() (all []proc) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it is gone
		}
		p := proc{pid: pid}
		begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')') // the name may contain any of these
		if begin < 0 || end < begin {
			continue
		}
		p.name = string(stat[begin+1 : end])
		if n, _ := fmt.Sscanf(string(stat[end+1:]), " %c %d", &p.state, &p.parent); n == 2 {
			all = append(all, p)
		}
	}
	return all
}

// below returns the descendants of a process, parents first. It leaves zombies out, but not their
// children.
func below(root int) (list []proc) {
	of := make(map[int][]proc)
	for _, p := range processes() {
		of[p.parent] = append(of[p.parent], p)
	}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, p := range of[queue[0]] {
			queue = append(queue, p.pid)
			if p.state != 'Z' && p.state != 'X' {
				list = append(list, p)
			}
		}
	}
	return list
}

// signalTree sends a signal to the command's group and to everything else below this process, which
// is the guard. It reaches a group at once, before its members can start anything.
func signalTree(command int, s syscall.Signal) {
	_ = syscall.Kill(-command, s)
	for _, p := range below(os.Getpid()) {
		if group, err := syscall.Getpgid(p.pid); err == nil && group != command {
			_ = syscall.Kill(p.pid, s)
		}
	}
}

// leftBehind returns some of the processes below this one.
func leftBehind(int) (list []string) {
	for _, p := range below(os.Getpid()) {
		if list = append(list, fmt.Sprintf("%s (%d)", p.name, p.pid)); len(list) == 3 {
			break
		}
	}
	return list
}

// groupGone reports whether a group has no members. A process that has no parent but the guard is
// its child, so there is nothing left to look for.
func groupGone(int) bool { return true }

// childrenOf returns the children of a process.
func childrenOf(pid int) (list []int) {
	for _, p := range processes() {
		if p.parent == pid {
			list = append(list, p.pid)
		}
	}
	return list
}

// killChildren kills everything below this process, except some of its children and what is below
// those. It reports whether there was anything.
func killChildren(but []int) (found bool) {
	for _, child := range childrenOf(os.Getpid()) {
		if slices.Contains(but, child) {
			continue
		}
		for _, p := range append(below(child), proc{pid: child}) {
			found = syscall.Kill(p.pid, syscall.SIGKILL) == nil || found
		}
	}
	return found
}

// parentOf returns the parent of a process, or 0.
func parentOf(pid int) int {
	for _, p := range processes() {
		if p.pid == pid {
			return p.parent
		}
	}
	return 0
}
