//go:build unix

package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// endings are the signals that ask a process to end, and passedOn those that a running command
// gets.
var (
	endings  = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}
	passedOn = append([]os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT, syscall.SIGWINCH}, endings...)
)

// heedNoIgnored leaves out the signals that this process was started to ignore, as by nohup, or by
// a shell that starts it in the background. A subscription to such a signal would end that, here
// and for the command. SIGTERM always stays: the runtime handles it, however this process was
// started.
func heedNoIgnored() {
	if signal.Ignored(syscall.SIGINT) {
		// Such a shell makes it ignore SIGQUIT as well, which the runtime has undone.
		signal.Ignore(syscall.SIGQUIT)
	}
	endings = slices.DeleteFunc(endings, signal.Ignored)
	passedOn = slices.DeleteFunc(passedOn, signal.Ignored)
}

// exitStatus returns a command's exit status as a shell reports it.
func exitStatus(w syscall.WaitStatus) int {
	if w.Signaled() {
		return statusOf(w.Signal())
	}
	return w.ExitStatus()
}

func statusOf(s os.Signal) int { return 128 + int(s.(syscall.Signal)) }

// die ends this process by a signal, if there is one.
func die(of os.Signal) {
	if s, is := of.(syscall.Signal); is {
		signal.Reset(s)
		_ = syscall.Kill(os.Getpid(), s)
		<-clock.System().NewTimer(time.Second).C() // until it comes
	}
}
