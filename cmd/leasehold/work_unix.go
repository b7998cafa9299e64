//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
)

// prepare is called before anything is waited for.
func prepare() { reap() }

// hearing subscribes to signals, those for a command and those that stop a job.
func hearing() chan os.Signal {
	heard := make(chan os.Signal, 16)
	signal.Notify(heard, passedOn...)
	// A write to a terminal or a pipe that is gone is then an error, and does not kill this
	// process.
	signal.Notify(heard, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(heard, syscall.SIGTSTP)
	}
	return heard
}

// stopHere handles a signal that comes while there is no command: ^Z stops this process.
func stopHere(s os.Signal) {
	if s == syscall.SIGTSTP && hasShell() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}

// A watch watches over one command under one lease.
type watch struct {
	*job
	held   *lease.Lease
	guard  *guarded
	tty    *terminal
	clk    clock.Clock
	timer  clock.Timer
	pid    int         // of the command; 0: it does not run
	early  []os.Signal // those that came before it ran
	exited bool
	status int
	lost   <-chan struct{}

	free      clock.Instant // when the nodes may let others in, at the earliest
	most      clock.Instant // when --max-hold is over
	stopped   bool          // the command is
	suspended bool          // it was stopped because this process must stop
	asked     bool          // it was asked to end because it has taken too long
	wantsTTY  bool          // it was in the foreground, or asked for it
}

// work runs the command under the lease, and returns its status. None of its processes is left when
// work returns, nor when others may have the lease.
func (j *job) work(held *lease.Lease, signals <-chan os.Signal) int {
	guard, err := startGuard(j.environment(held))
	if err != nil {
		j.complain(err)
		return cannotRun
	}
	w := &watch{job: j, held: held, guard: guard, tty: openTerminal(), clk: clock.System(), lost: held.Lost()}
	w.timer = w.clk.NewTimer(0)
	w.most = clock.Never
	if j.maxHold > 0 {
		w.most = w.clk.Now().Add(j.maxHold)
	}
	defer w.timer.Stop()
	defer guard.close()
	defer w.tty.close()
	w.wantsTTY = w.tty.isInteractive()
	w.follow(&launch{
		Path: j.path, Args: j.command, EndRest: j.children == childrenKill, Grace: j.grace, Foreground: w.wantsTTY,
	})
	for {
		select {
		case r, open := <-guard.reports:
			if !open {
				return w.unguarded()
			}
			if w.heed(r) {
				return w.status
			}
		case s := <-signals:
			w.pass(s)
		case <-w.lost:
			w.lost = nil
			w.lose()
		case <-w.timer.C():
			if w.lost != nil && held.Valid() { // otherwise lost is closed by now
				w.follow(nil)
				w.tooLong()
			} else if w.lost == nil {
				guard.shoot() // it has not done its work
			}
		}
	}
}

// follow tells the guard until when the lease lasts. The guard kills the command's processes a
// quarter of the grace before that. follow is called while the lease is held, so that the end of
// the grace does not depend on how late a loss is noticed. A busy machine, or one that was
// suspended, may notice it late.
func (w *watch) follow(s *launch) {
	now, boot := w.clk.Now(), bootTime() // before, so that free is early rather than late
	left := min(w.held.Remaining(), w.most.Sub(now))
	w.free = now.Add(left)
	w.guard.send(order{Start: s, Until: boot + int64(left-w.grace/4)})
	// The guard must never be told late: this may be the last that it hears.
	w.timer.Reset(min(max(left-w.grace, w.grace/8), w.ttl/8))
}

// tooLong asks the command to end if --max-hold is nearly over: that lease ends without a grace.
func (w *watch) tooLong() {
	if w.most.Sub(w.clk.Now()) <= w.grace && !w.asked {
		w.asked = true
		w.complain(fmt.Errorf("--max-hold %v is over: the command is ended", w.maxHold))
		w.guard.send(order{Signal: syscall.SIGTERM, Tree: true})
	}
}

// lose ends the command, because the lease has ended.
func (w *watch) lose() {
	if err := w.held.Err(); !errors.Is(err, lease.ErrExpired) {
		w.guard.send(order{Kill: true}) // others may hold the name already, or soon
	} else {
		w.guard.send(order{Signal: syscall.SIGTERM, Tree: true})
		w.guard.send(order{Signal: syscall.SIGCONT, Tree: true}) // if it is stopped it could not end
	}
	// The guard kills what is left before that. If it has not, this process does so a moment later.
	w.timer.Reset(w.free.Add(-w.grace / 8).Sub(w.clk.Now()))
}

// heed handles a report. It returns true if none of the command's processes is left.
func (w *watch) heed(r report) bool {
	switch {
	case r.Started != 0:
		if w.pid = r.Started; w.wantsTTY {
			w.tty.given = w.pid
		}
		for _, s := range w.early {
			w.pass(s)
		}
	case r.Err != "":
		w.complain(errors.New(r.Err))
		if w.status = cannotRun; r.Missing {
			w.status = notFound
		}
		return true
	case r.Stopped != 0:
		w.halt(r.Stopped)
	case r.Still:
		w.suspend()
	case r.Exited != nil:
		w.exited, w.status = true, *r.Exited
		alone := w.tty.group == os.Getpid()
		if w.tty.file != nil && !alone && (r.By == syscall.SIGINT || r.By == syscall.SIGQUIT) {
			// A script ends on ^C if ^C killed the command for which it waits. An exit status alone
			// does not end it.
			w.dieOf = r.By
			if w.tty.given != 0 { // then ^C went to the command alone, and not to the script
				_ = syscall.Kill(0, r.By)
			}
		}
		w.tty.takeBack()
		if len(r.Left) > 0 && !w.quiet && w.children == childrenWait {
			w.complain(fmt.Errorf("the command has ended; waiting for the processes it has left behind: %s", strings.Join(r.Left, ", ")))
		}
	case r.Gone:
		return true
	}
	return false
}

// pass passes a signal on.
func (w *watch) pass(s os.Signal) {
	switch {
	case s == syscall.SIGPIPE:
	case w.pid == 0:
		w.early = append(w.early, s) // it is just being started
	case s == syscall.SIGTSTP:
		if w.suspended || !hasShell() { // no process would continue it
			return
		}
		w.suspended = true
		w.guard.send(order{Signal: syscall.SIGSTOP, Tree: true})
	case s == syscall.SIGCONT:
		w.goOn()
	case s == w.dieOf: // the signal that has ended the command
	case slices.Contains(endings, s) && w.exited:
		w.guard.send(order{End: true})
	default:
		w.guard.send(order{Signal: s.(syscall.Signal), Resume: slices.Contains(endings, s) && w.lost != nil})
	}
}

// halt handles a stop of the command: by ^Z, because it wants to read the terminal, or because this
// process must stop and the command was to stop first.
func (w *watch) halt(by syscall.Signal) {
	w.stopped = true
	reads := by == syscall.SIGTTIN || by == syscall.SIGTTOU
	switch {
	case reads && w.tty.give(w.pid):
		w.stopped, w.wantsTTY = false, true
		w.guard.send(order{Resume: true})
		return
	case reads:
		w.wantsTTY = true
	case w.suspended, w.tty.given != 0, by == syscall.SIGTSTP && w.tty.file != nil:
	default:
		return // a user has stopped it by hand, and may continue it as well
	}
	if !hasShell() {
		if w.suspended = false; reads {
			w.complain(errors.New("the command wants to read a terminal that it cannot have: it is ended"))
			w.guard.send(order{Signal: syscall.SIGHUP, Resume: true})
			return
		}
		w.guard.send(order{Signal: syscall.SIGCONT, Tree: true})
		return
	}
	w.guard.send(order{Ask: true}) // a signal that was passed on may just have continued it
}

// suspend stops this process, as the command is.
func (w *watch) suspend() {
	w.wantsTTY = w.wantsTTY || w.tty.given != 0
	w.tty.takeBack()
	if w.tty.group != os.Getpid() {
		_ = syscall.Kill(0, syscall.SIGTSTP) // as the terminal would have done
	}
	w.suspended = true
	// While this process is stopped it renews nothing: the guard kills the command when the lease
	// is over.
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

// goOn continues the command after this process was continued, if the lease is still held.
func (w *watch) goOn() {
	if !w.held.Valid() {
		w.guard.send(order{Kill: true})
		return
	}
	w.follow(nil)
	if w.stopped && w.wantsTTY {
		w.tty.give(w.pid)
	}
	tree := w.suspended
	w.stopped, w.suspended = false, false
	w.guard.send(order{Signal: syscall.SIGCONT, Tree: tree})
}

// unguarded ends everything after the guard has died.
func (w *watch) unguarded() int {
	w.guard.sweep(w.pid)
	if w.lost != nil && w.held.Valid() {
		w.complain(errors.New("the process that watches over the command was killed, so the command was killed as well"))
	}
	if w.exited {
		return w.status
	}
	return 128 + int(syscall.SIGKILL)
}
