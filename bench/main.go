package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	quick := flag.Bool("quick", false, "measure once, and for a shorter time: in under two minutes")
	only := flag.String("only", "", "measure only the scenarios whose names match this `regexp`")
	out := flag.String("out", "results", "write results.md, results.json and the charts to this `directory`")
	lib := flag.String("lib", "", "measure only the libraries whose names match this `regexp`")
	profile := flag.String("cpuprofile", "", "write a profile of this process to this `file`")
	long := flag.Int("long", 1, "measure for that many `times` as long")
	list := flag.Bool("list", false, "list the scenarios, and measure nothing")
	note := flag.String("note", "", "a `text` that stands beside this run")
	pages := flag.String("pages", "", "renew the tables between the markers in these pages, whose `paths` are separated by commas")
	flag.Parse()
	finish := func(rs runs) error {
		return errors.Join(rs.write(*out), rs.fillPages(strings.FieldsFunc(*pages, func(r rune) bool { return r == ',' })))
	}
	if flag.NArg() > 0 { // measures nothing
		rs, err := readRuns(flag.Args())
		if err != nil {
			return err
		}
		return finish(rs)
	}
	want, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	wantLib, err := regexp.Compile(*lib)
	if err != nil {
		return err
	}
	var some []scenario
	if *long < 1 || *long > 100 {
		return fmt.Errorf("-long %d: want 1 to 100", *long)
	}
	for _, s := range (plan{*quick, *long}).scenarios() {
		if want.MatchString(s.name) {
			s.libs = slices.DeleteFunc(slices.Clone(s.libs), func(l library) bool { return !wantLib.MatchString(l.name) })
			some = append(some, s)
		}
	}
	if *list {
		for _, s := range some {
			fmt.Printf("%-36s %s\n", s.name, s.about)
		}
		return nil
	}
	if err := redisKind.missing(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if *profile != "" {
		file, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}

	r := newReport(*quick, *note)
	if err := etcdKind.missing(); err != nil {
		r.LeftOut = append(r.LeftOut, fmt.Sprintf("etcd, because %v", err))
		fmt.Fprintf(os.Stderr, "left out: etcd, because %v\n", err)
	}
	line := newProgress(len(some))
	for i, s := range some {
		o, err := s.run(ctx, func(rep int, lib string) { line.show(i, s, rep, lib) })
		if err != nil {
			line.end("")
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.Outcomes = append(r.Outcomes, o)
		line.end(fmt.Sprintf("%6.1f s  %s", line.since().Seconds(), o.summary()))
	}
	r.finish(line.since())
	fmt.Print(runs{r}.goalTable())
	return finish(runs{r})
}

// A progress is the line that tells what is being measured. If nobody watches,
// only what is done is told.
type progress struct {
	begun time.Time
	of    int
	tty   bool
}

func newProgress(of int) *progress {
	info, err := os.Stderr.Stat()
	return &progress{begun: time.Now(), of: of, tty: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) since() time.Duration { return time.Since(p.begun) }

func (p *progress) show(at int, s scenario, rep int, lib string) {
	if p.tty {
		fmt.Fprintf(os.Stderr, "\r\033[K%6.1f s  %d/%d  %s  %d/%d  %s", p.since().Seconds(), at+1, p.of, s.name, rep+1, s.repeat, lib)
	}
}

// end replaces the line by one that stays.
func (p *progress) end(text string) {
	if p.tty {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
	if text != "" {
		fmt.Fprintln(os.Stderr, text)
	}
}
