// Command bench measures leasehold and what a user would otherwise pick, on real
// servers that it starts on loopback and ends again:
//
//	go run . [-quick] [-only REGEXP] [-lib REGEXP] [-out DIR] [-cpuprofile FILE] [-list]
//
// It needs a redis-server on the PATH. Where there is no etcd, that peer is left
// out, with a line that says so. It runs on Linux and macOS.
//
// Every scenario runs all libraries in turn, several times over, in an order that
// rotates, and reports the median of each figure and its ratio to the floor:
// bare rueidis, without renewal, fences or any care for what fails. The ratios are
// worth more than the digits, which are of one machine. The client's figures are of
// this whole process, so they contain the bench itself, for every library alike.
//
// To read the code: locker.go says what a library must do, and there is a file for
// each library. scenario.go says what a scenario is, and there is a file for each
// group of them: acquire.go, callers.go, hung.go, handover.go, crowd.go, held.go,
// distance.go. goals.go has what leasehold is meant to reach, report.go and
// charts.go write the results.
package main
