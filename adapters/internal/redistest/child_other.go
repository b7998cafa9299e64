//go:build !linux

package redistest

import "syscall"

// childAttr has nothing that is needed here.
func childAttr() *syscall.SysProcAttr { return nil }
