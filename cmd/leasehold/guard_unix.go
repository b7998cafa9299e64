//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leasehold-go/leasehold/clock"
)

// The guard is a second process of this binary. It is the parent of the command, and outlives
// leasehold. If leasehold is killed, or stopped for longer than the lease lasts, the guard kills
// the command and all that it has started. The guard shares a socket with leasehold. The socket
// closes if leasehold dies. It also closes if the guard dies, and then leasehold kills them.
//
// 	leasehold ── guard ── command ── what it has started
//
// The guard is in a process group of its own, so that no signal to the group of leasehold or of the
// command reaches it. But it is in the same session: the command would lose its terminal otherwise.
// On Linux a process that the command leaves behind becomes a child of the guard. So none can get
// away from it, not even by a session of its own. Elsewhere the guard knows only the process group
// of the command.

// guardName is the guard's name in the list of processes. It does not contain that of leasehold, so
// that a kill of everything of that name, as by pkill, leaves the guard to do its work.
const guardName = "lh-guard"

// An order is what leasehold tells the guard to do.
type order struct {
	Start  *launch        `json:",omitempty"` // run the command; the first order
	Until  int64          `json:",omitempty"` // kill everything at this instant of bootTime
	Signal syscall.Signal `json:",omitempty"` // send it to the group of the command
	Tree   bool           `json:",omitempty"` // to all that it has started instead
	Resume bool           `json:",omitempty"` // SIGCONT after it
	Ask    bool           `json:",omitempty"` // report whether the command is still stopped
	End    bool           `json:",omitempty"` // end the processes that are left after the command
	Kill   bool           `json:",omitempty"` // kill everything now
}

// A launch describes the command to run.
type launch struct {
	Path       string
	Args       []string
	EndRest    bool          // end the processes that the command leaves behind, and do not wait for them
	Grace      time.Duration // between SIGTERM and SIGKILL of that
	Foreground bool          // the command's group gets the terminal
}

// A report is what the guard reports to leasehold.
type report struct {
	Started int            `json:",omitempty"` // the process id of the command
	Err     string         `json:",omitempty"` // why it could not be started
	Missing bool           `json:",omitempty"` // the error is that there is no such file
	Stopped syscall.Signal `json:",omitempty"` // the command was stopped by this
	Still   bool           `json:",omitempty"` // the command is stopped, and nothing has continued it
	Exited  *int           `json:",omitempty"` // the command's exit status
	By      syscall.Signal `json:",omitempty"` // the signal that has killed it
	Left    []string       `json:",omitempty"` // some of the processes that the command has left behind
	Gone    bool           `json:",omitempty"` // none of the command's processes is left; the last report
}

// A guardian is the state of the guard.
type guardian struct {
	conn     *os.File
	orders   <-chan order // closed if leasehold is gone
	children <-chan change
	front    int // the process group that had the terminal before

	pid     int // of the command, and of its group
	endRest bool
	grace   time.Duration
	stopped bool
	exited  bool
	until   int64
	deadly  bool // everything is being killed
	pause   time.Duration
	killAt  clock.Instant // when the processes that are left are killed; 0: not
}

// A change is a change of a child of the guard. The zero change says that there are none left.
type change struct {
	pid    int
	status syscall.WaitStatus
}

// guard is the main function of the guard. Its argument is the number of its socket.
func guard(args []string) int {
	if len(args) != 1 {
		return usage
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return usage
	}
	syscall.CloseOnExec(fd)
	nameProcess(guardName)
	adoptOrphans()
	heedNoIgnored()
	// These are swallowed, but not ignored: the command would ignore them too.
	swallowed := make(chan os.Signal, 1)
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE,
	} {
		if !signal.Ignored(s) || s == syscall.SIGTTOU {
			signal.Notify(swallowed, s)
		}
	}
	g := &guardian{conn: os.NewFile(uintptr(fd), "leasehold")}
	orders := make(chan order)
	g.orders = orders
	go func() {
		defer close(orders)
		for d := json.NewDecoder(g.conn); ; {
			var o order
			if d.Decode(&o) != nil {
				return
			}
			orders <- o
		}
	}()
	return g.run()
}

func (g *guardian) report(r report) { _ = json.NewEncoder(g.conn).Encode(r) } // if leasehold is gone, orders is closed

// run obeys orders until none of the command's processes is left.
func (g *guardian) run() int {
	clk := clock.System()
	timer := clk.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(g.next(clk.Now()))
		select {
		case o, open := <-g.orders:
			if !open {
				g.orders = nil
				if g.pid == 0 {
					return ok
				}
				g.deadly = true
				g.takeTerminal()
			} else if !g.obey(o, clk.Now()) {
				return ok
			}
		case c := <-g.children:
			if c.pid != 0 {
				g.saw(c, clk.Now())
			} else if g.exited && groupGone(g.pid) {
				g.report(report{Gone: true})
				return ok
			}
		case <-timer.C():
		}
		g.kill(clk.Now())
	}
}

// next returns the time until there is something to do.
func (g *guardian) next(now clock.Instant) time.Duration {
	switch {
	case g.deadly:
		return g.pause
	case g.pid == 0:
		return time.Hour
	}
	// A timer does not notice that the machine was suspended.
	d := 250 * time.Millisecond
	if g.until != 0 {
		d = min(d, time.Duration(g.until-bootTime()))
	}
	if g.killAt != 0 {
		d = min(d, g.killAt.Sub(now))
	}
	return max(0, d)
}

// obey carries out an order. It returns false if there is nothing to guard.
func (g *guardian) obey(o order, now clock.Instant) bool {
	if o.Until != 0 {
		g.until = o.Until
	}
	if o.Start != nil {
		if err := g.start(o.Start); err != nil {
			g.report(report{Err: err.Error(), Missing: errors.Is(err, os.ErrNotExist)})
			return false
		}
		g.report(report{Started: g.pid})
	}
	if o.Signal != 0 && !g.deadly {
		if o.Tree {
			signalTree(g.pid, o.Signal)
		} else {
			_ = syscall.Kill(-g.pid, o.Signal) // the group may be gone already
		}
	}
	if o.Resume && !g.deadly {
		_ = syscall.Kill(-g.pid, syscall.SIGCONT)
	}
	if o.Resume || o.Signal == syscall.SIGCONT {
		g.stopped = false
	}
	if o.Ask && g.stopped && !g.deadly {
		g.report(report{Still: true})
	}
	if o.End {
		g.endRest = true
		g.end(now)
	}
	g.deadly = g.deadly || o.Kill
	return true
}

// start runs the command.
func (g *guardian) start(s *launch) error {
	if bootTime() >= g.until {
		return errors.New("the lease was over before the command was started")
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)
	g.front, _ = syscall.Getpgid(os.Getppid())
	if s.Foreground {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err == nil {
			defer tty.Close()
			attr.Foreground, attr.Ctty = true, int(tty.Fd())
		}
	}
	g.endRest, g.grace = s.EndRest, s.Grace
	pid, err := syscall.ForkExec(s.Path, s.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attr})
	if err != nil {
		return fmt.Errorf("%s: %w", s.Path, err)
	}
	g.pid = pid
	children := make(chan change)
	g.children = children
	go watchChildren(children)
	return nil
}

// watchChildren sends every change of a child, and again and again that there are none.
func watchChildren(changes chan<- change) {
	for {
		var c change
		child, err := syscall.Wait4(-1, &c.status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil:
			c.pid = child
		}
		changes <- c
		if err != nil { // asked again, for those that know of a group only
			<-clock.System().NewTimer(20 * time.Millisecond).C()
		}
	}
}

// saw handles a change of a child.
func (g *guardian) saw(c change, now clock.Instant) {
	if c.pid != g.pid {
		return // a process that the command has left behind
	}
	if g.stopped = c.status.Stopped(); g.stopped {
		g.report(report{Stopped: c.status.StopSignal()})
		return
	}
	g.exited = true
	status := exitStatus(c.status)
	r := report{Exited: &status}
	if c.status.Signaled() {
		r.By = c.status.Signal()
	}
	r.Left = leftBehind(g.pid)
	g.report(r)
	if g.endRest {
		g.end(now)
	}
}

// end asks the processes that the command has left behind to end. It has them killed after the
// grace.
func (g *guardian) end(now clock.Instant) {
	if g.exited && g.killAt == 0 {
		signalTree(g.pid, syscall.SIGTERM)
		signalTree(g.pid, syscall.SIGCONT)
		g.killAt = now.Add(g.grace)
	}
}

// kill kills everything if it is time. It is called again and again then, because a process that is
// killed may just have started another.
func (g *guardian) kill(now clock.Instant) {
	if g.pid == 0 {
		return
	}
	if g.until != 0 && bootTime() >= g.until || g.killAt != 0 && now >= g.killAt {
		g.deadly = true
	}
	if g.deadly {
		signalTree(g.pid, syscall.SIGKILL)
		g.pause = min(max(2*g.pause, time.Millisecond), 100*time.Millisecond) // some may not be ours to kill
	}
}

// takeTerminal gives the terminal back to the group of leasehold, which is dead.
func (g *guardian) takeTerminal() {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer tty.Close()
	if front, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP); err == nil && front == g.pid {
		signal.Ignore(syscall.SIGTTOU) // a process gets that if it does this in the background
		_ = unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPGRP, g.front)
	}
}

// A guarded command is the guard as leasehold sees it.
type guarded struct {
	conn    *os.File
	fd      int           // of conn, which is written to without waiting
	pid     int           // of the guard
	reports <-chan report // closed when the guard is gone
	before  []int         // the children that this process had already
}

// startGuard starts the guard, with the environment for the command.
func startGuard(env []string) (*guarded, error) {
	adoptOrphans() // if the guard dies
	before := childrenOf(os.Getpid())
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	// The guard gets the descriptors that were inherited, with their numbers, and so does the
	// command.
	pid, err := syscall.ForkExec(self(), []string{guardName, strconv.Itoa(theirs)}, &syscall.ProcAttr{
		Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	syscall.Close(theirs)
	if err != nil {
		syscall.Close(ours)
		return nil, fmt.Errorf("start the process that watches over the command: %w", err)
	}
	_ = syscall.SetNonblock(ours, true)
	g := &guarded{conn: os.NewFile(uintptr(ours), guardName), fd: ours, pid: pid, before: before}
	reports := make(chan report)
	g.reports = reports
	go func() {
		defer close(reports)
		for d := json.NewDecoder(g.conn); ; {
			var r report
			if d.Decode(&r) != nil {
				return
			}
			reports <- r
		}
	}()
	return g, nil
}

// socketPair returns two connected sockets, of which the second is inherited.
func socketPair() (ours, theirs int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, 0, err
	}
	syscall.CloseOnExec(fds[0])
	return fds[0], fds[1], nil
}

// self returns a path of this binary that stays valid even if the binary was replaced.
func self() string {
	const link = "/proc/self/exe"
	if _, err := os.Readlink(link); err == nil {
		return link
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// send gives an order. It does not wait: a guard that does not read is none.
func (g *guarded) send(o order) {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // there is nothing in it that cannot be written
	}
	text = append(text, '\n')
	if n, err := syscall.Write(g.fd, text); err != nil || n < len(text) {
		g.shoot()
	}
}

// shoot kills the guard, whose children are then ours.
func (g *guarded) shoot() { _ = syscall.Kill(g.pid, syscall.SIGKILL) }

// close ends the reports. What the guard may still report is of no interest.
func (g *guarded) close() {
	_ = g.conn.Close()
	for range g.reports {
	}
}

// sweep kills everything that the guard has left, if it is dead.
func (g *guarded) sweep(command int) {
	clk := clock.System()
	timer := clk.NewTimer(0)
	defer timer.Stop()
	pause := func(d time.Duration) {
		timer.Reset(d)
		<-timer.C()
	}
	g.shoot() // it may be dying, or have closed its socket only
	for syscall.Kill(g.pid, 0) == nil {
		pause(time.Millisecond) // its children become ours before it is reaped
	}
	// The list of processes is no snapshot: a process whose parent ends meanwhile may be missed.
	for none, d := 0, time.Millisecond; none < 3; d = min(2*d, 100*time.Millisecond) {
		if command > 0 {
			_ = syscall.Kill(-command, syscall.SIGKILL)
		}
		if none++; killChildren(g.before) || command > 0 && !groupGone(command) {
			none = 0
		}
		pause(d)
	}
}

// reap collects the exit statuses of the children of this process for as long as it lives. If it is
// the first process of a container, these are all that have lost their parents.
func reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go func() {
		for range died {
			for {
				pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
				if pid <= 0 && !errors.Is(err, syscall.EINTR) {
					break
				}
			}
		}
	}()
}
