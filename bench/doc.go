// Command bench measures leasehold and what a user would otherwise pick, on real
// servers that it starts on loopback and ends again:
//
//	go run . [-quick] [-only REGEXP] [-lib REGEXP] [-out DIR] [-note TEXT] [-cpuprofile FILE] [-list]
//	go run . [-out DIR] [-pages FILES] RESULTS...
//
// The second form measures nothing. It joins the runs of several results.json, shows
// their ranges, and renews the tables in the pages that are about them.
//
// It needs a redis-server on the PATH, or LEASEHOLD_SERVER names one. If there is no
// etcd, that peer is left out, with a line that says so. It runs on Linux and macOS.
//
// Every scenario runs all libraries in turn, several times over, in an order that
// rotates, and reports the median of each figure and its ratio to the floor:
// bare rueidis, without renewal, fences or any care for what fails. Digits and ratios
// are both of one machine. The client's figures are of this whole process, so they
// contain the bench itself, for every library alike.
//
// To read the code: locker.go says what a library must do, and there is a file for
// each library. scenario.go says what a scenario is, and there is a file for each
// group of them: acquire.go, callers.go, hung.go, handover.go, crowd.go, any.go,
// held.go, distance.go. goals.go has what leasehold is meant to reach, report.go has what one
// run has found, runs.go what several have, and tables.go and charts.go show it.
package main
