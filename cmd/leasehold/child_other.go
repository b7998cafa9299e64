//go:build !unix

package main

import (
	"os"
	"os/exec"
)

var (
	endings  = []os.Signal{os.Interrupt}
	passedOn = endings
)

func heedNoIgnored() {}

// There are no process groups here: the command alone is ended, and only by force.

func ownGroup(*exec.Cmd) {}

func signalGroup(child *exec.Cmd, _ os.Signal) { killGroup(child) }
func terminateGroup(child *exec.Cmd)           { killGroup(child) }
func killGroup(child *exec.Cmd)                { _ = child.Process.Kill() }

func exitStatus(state *os.ProcessState) int { return state.ExitCode() }

func statusOf(os.Signal) int { return 130 }
