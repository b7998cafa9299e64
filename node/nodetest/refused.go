//go:build !plan9

package nodetest

import "syscall"

const errRefused = syscall.ECONNREFUSED
