//go:build unix && !linux

package main

import "syscall"

// dieWithParent cannot be had here.
func dieWithParent(*syscall.SysProcAttr) {}
