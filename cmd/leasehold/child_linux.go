package main

import "syscall"

// dieWithParent has the command killed if this process dies, which then renews its
// lease no more.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
