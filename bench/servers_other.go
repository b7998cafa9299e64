//go:build !linux

package main

import "syscall"

// childAttr is nothing special here: a child outlives this process if that is
// killed.
func childAttr() *syscall.SysProcAttr { return nil }
