//go:build !linux

package redistest

import "syscall"

// childAttr returns nothing: it is not needed here.
func childAttr() *syscall.SysProcAttr { return nil }
