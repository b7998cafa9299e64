//go:build !unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
)

var (
	endings  = []os.Signal{os.Interrupt}
	passedOn = endings
)

const guardName = "" // there is none

func guard([]string) int     { return usage }
func die(os.Signal)          {}
func heedNoIgnored()         {}
func prepare()               {}
func stopHere(os.Signal)     {}
func statusOf(os.Signal) int { return 130 }
func hearing() (c chan os.Signal) {
	c = make(chan os.Signal, 16)
	signal.Notify(c, passedOn...)
	return c
}

// work runs the command under the lease, and returns its status. There are no process groups and no
// guard here: work ends only the command itself, and only by force.
func (j *job) work(held *lease.Lease, signals <-chan os.Signal) int {
	child := exec.Command(j.path, j.command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, j.out, j.err
	child.Env = j.environment(held)
	if err := child.Start(); err != nil {
		j.complain(err)
		if errors.Is(err, os.ErrNotExist) {
			return notFound
		}
		return cannotRun
	}
	done := make(chan struct{})
	go func() { _ = child.Wait(); close(done) }() // its state says how it ended
	timer := clock.System().NewTimer(0)
	defer timer.Stop()
	kill := func() { _ = child.Process.Kill() }
	for {
		timer.Reset(held.Remaining() - j.grace/4)
		select {
		case <-done:
			return child.ProcessState.ExitCode()
		case <-signals: // the console has told the command as well
		case <-held.Done():
			kill()
			<-done
			return child.ProcessState.ExitCode()
		case <-timer.C():
			if held.Remaining() <= j.grace/4 {
				kill()
			}
		}
	}
}
