package main

import "syscall"

// childAttr lets a child die with this process, however this process ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
