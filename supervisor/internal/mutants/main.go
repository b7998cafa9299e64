// Command mutants plants bugs, one at a time, and reports which test catches each: code whose bug
// is not caught could break unnoticed. It changes nothing in the tree: a bug is an overlay of the
// compiler's.
//
// Run it in the root of the module:
//
//	go run ./supervisor/internal/mutants [-only regexp] [-markdown]
//
// It fails if a bug survives, or if the text that it replaces is not found exactly once. It also
// fails if the test that catches it fails without it as well.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A mutant is one rule broken.
type mutant struct {
	name string
	rule string // of the protocol
	file string // or the directory of one
	old  string // found exactly once
	new  string
	test string // "package TestName": what must fail; the simulation by default
}

// seeds is how many histories the simulation has to find a bug.
const seeds = 20_000

const simulation = "./supervisor/internal/core TestSimulation$"

// changes begins the names of the simulations in which nodes are changed, and changeSeeds is how many
// histories each of them has to find a bug.
const (
	changes     = "./supervisor/internal/core TestSimulationOf"
	changeSeeds = 1000
)

// search begins the name of a search within some bounds.
const search = "./supervisor/internal/core TestExplore$/"

var (
	only     = flag.String("only", "", "plant only those whose name, file or test matches this regular expression")
	markdown = flag.Bool("markdown", false, "print the table for docs/mutants.md")
)

type result struct {
	caught bool
	after  string // how many histories
	took   time.Duration
	err    error
}

func main() {
	flag.Parse()
	root, err := os.Getwd()
	if err == nil {
		err = run(root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	var chosen []mutant
	var tests []string
	for _, m := range mutants {
		if m.test == "" {
			m.test = simulation
		}
		if wanted.MatchString(m.name + "\n" + m.file + "\n" + m.test) {
			chosen = append(chosen, m)
			if !slices.Contains(tests, m.test) {
				tests = append(tests, m.test)
			}
		}
	}
	// Without a bug everything must pass, otherwise it proves nothing.
	begin := clock.System().Now()
	built := map[string]error{} // by package: each is built once
	for _, test := range tests {
		pkg, _, _ := strings.Cut(test, " ")
		if _, done := built[pkg]; !done {
			built[pkg] = build(root, dir, clean(pkg), mutant{test: test})
		}
	}
	unbroken := make([]error, len(tests))
	each(len(tests), func(i int) {
		pkg, _, _ := strings.Cut(tests[i], " ")
		err := built[pkg]
		if err == nil {
			if r := check(root, dir, clean(pkg), mutant{test: tests[i]}); r.err != nil || r.caught {
				err = cmp.Or(r.err, errors.New("caught"))
			}
		}
		if err != nil {
			unbroken[i] = fmt.Errorf("%s fails without any bug: %w", tests[i], err)
		}
	})
	broken := map[string]error{}
	for i, test := range tests {
		broken[test] = unbroken[i]
	}
	results := make([]result, len(chosen))
	each(len(chosen), func(i int) {
		m := chosen[i]
		if err := broken[m.test]; err != nil {
			results[i] = result{err: err}
		} else {
			results[i] = try(root, dir, fmt.Sprint(i), m)
		}
		if *markdown {
			fmt.Fprintf(os.Stderr, "%d of %d: %s: caught %t, %v\n", i+1, len(chosen), m.name, results[i].caught, results[i].err)
		} else {
			report(m, results[i])
		}
	})
	if *markdown {
		table(chosen, results)
	}
	alive := 0
	var errs []error
	for i, r := range results {
		if r.err != nil {
			alive++
			errs = append(errs, fmt.Errorf("%s: %w", chosen[i].name, r.err))
		} else if !r.caught {
			alive++
			errs = append(errs, fmt.Errorf("%s: survived", chosen[i].name))
		}
	}
	fmt.Fprintf(os.Stderr, "%d of %d bugs caught in %v\n", len(chosen)-alive, len(chosen), clock.System().Now().Sub(begin).Round(time.Second))
	return errors.Join(errs...)
}

// each does something n times, as many at once as there are processors.
func each(n int, do func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

// clean returns the name of the file that holds the tests of a package without a bug.
func clean(pkg string) string {
	return "none-" + strings.NewReplacer("/", "-", ".", "").Replace(pkg)
}

var history = regexp.MustCompile(`\(history (\d+)\)`)

// try runs the test of a mutant against it.
func try(root, dir, id string, m mutant) (r result) {
	begin := clock.System().Now()
	if err := build(root, dir, id, m); err != nil {
		r.err = err
	} else {
		r = check(root, dir, id, m)
		os.Remove(filepath.Join(dir, id+".test"))
	}
	r.took = clock.System().Now().Sub(begin)
	return r
}

// build compiles the tests of a mutant's package, with the bug in it if there is one.
func build(root, dir, id string, m mutant) error {
	module, pkg, _, err := m.place(root)
	if err != nil {
		return err
	}
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", filepath.Join(dir, id+".test")}
	if m.file != "" {
		if m.test != simulation && !strings.HasPrefix(m.test, search) && !strings.HasPrefix(m.test, changes) {
			args = append(args, "-gcflags=-N -l") // it runs for a moment, and takes half as long to build
		}
		overlay, err := plant(root, dir, id, m)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	c := exec.Command("go", append(args, pkg)...)
	c.Dir = module
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("does not compile: %s", out)
	}
	return nil
}

// place returns what must fail: the module, and in it the package and the test.
func (m mutant) place(root string) (module, pkg, test string, err error) {
	pkg, test, ok := strings.Cut(m.test, " ")
	if !ok {
		return "", "", "", fmt.Errorf("test %q: want a package and a test", m.test)
	}
	// A package of a nested module is built from there.
	for _, nested := range []string{"integration", "cmd/leasehold"} {
		if rest, in := strings.CutPrefix(pkg, "./"+nested); in {
			return filepath.Join(root, nested), "." + rest, test, nil
		}
	}
	return root, pkg, test, nil
}

// check runs the test that was built.
func check(root, dir, id string, m mutant) (r result) {
	module, pkg, test, err := m.place(root)
	if err != nil {
		return result{err: err}
	}
	var out bytes.Buffer
	exe := exec.Command(filepath.Join(dir, id+".test"), "-test.run", test, "-test.timeout", "15m", "-test.v")
	if m.test == simulation {
		n := seeds
		if m.file == "" {
			n = 1000
		}
		exe.Args = append(exe.Args, fmt.Sprint("-sim.seeds=", n))
	}
	if strings.HasPrefix(m.test, changes) {
		n := changeSeeds
		if m.file == "" {
			n /= 5
		}
		exe.Args = append(exe.Args, fmt.Sprint("-sim.changes=", n))
	}
	if strings.HasPrefix(m.test, search) {
		exe.Args = append(exe.Args, "-explore=all") // of which the test's name chooses one
	}
	exe.Dir = filepath.Join(module, pkg)
	exe.Env = append(os.Environ(), "GOMAXPROCS=1")
	exe.Stdout, exe.Stderr = &out, &out
	err = exe.Run()
	if strings.Contains(out.String(), "no tests to run") || strings.Contains(out.String(), "--- SKIP") {
		return result{err: fmt.Errorf("%s did not run", m.test)}
	}
	if err != nil && !strings.Contains(out.String(), "--- FAIL") && !strings.Contains(out.String(), "panic: ") {
		return result{err: fmt.Errorf("%v: %s", err, out.String())}
	}
	if strings.Contains(out.String(), "panic: test timed out") {
		return result{err: fmt.Errorf("%s has not ended in time", m.test)}
	}
	if found := history.FindStringSubmatch(out.String()); found != nil {
		r.after = found[1]
	}
	if r.caught = err != nil; r.caught && m.file == "" {
		r.err = errors.New(out.String())
	}
	return r
}

// plant writes the file with the bug in it, and the overlay that makes the compiler see that
// instead.
func plant(root, dir, id string, m mutant) (string, error) {
	path, text, err := m.find(root)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(dir, id+".go")
	if err := os.WriteFile(changed, []byte(strings.Replace(text, m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, id+".json")
	return name, os.WriteFile(name, overlay, 0o600)
}

// find returns the file that a mutant changes, and its text.
func (m mutant) find(root string) (path, text string, err error) {
	paths := []string{filepath.Join(root, m.file)}
	if s, err := os.Stat(paths[0]); err == nil && s.IsDir() {
		// A pattern that is broken is the only error.
		paths, _ = filepath.Glob(filepath.Join(paths[0], "*.go"))
	}
	found := 0
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return "", "", err
		}
		if n := strings.Count(string(b), m.old); n > 0 {
			found += n
			path, text = p, string(b)
		}
	}
	if found != 1 {
		return "", "", fmt.Errorf("its text is found %d times in %s: want once", found, m.file)
	}
	return path, text, nil
}

func report(m mutant, r result) {
	what := "SURVIVED " + m.test
	switch {
	case r.err != nil:
		what, _, _ = strings.Cut("ERROR "+r.err.Error(), "\n")
	case r.caught && r.after != "":
		what = "simulation, history " + r.after
	case r.caught:
		what = m.test
	}
	fmt.Printf("%-58s %6.1fs  %s\n", m.name, r.took.Seconds(), what)
}

func table(chosen []mutant, results []result) {
	fmt.Print("# Planted bugs\n\nEach of these breaks one rule of the protocol, in the code or, where that says \"as played\" or names a file of the simulation, in what the simulation plays of it. `make mutants` plants them one at a time and shows which test catches each; the simulation has ", seeds, " histories to do so. This page is written by `go run ./supervisor/internal/mutants -markdown`.\n\n")
	fmt.Println("| bug | in | rule of the protocol that it breaks | caught by |")
	fmt.Println("|---|---|---|---|")
	for i, m := range chosen {
		by := "**nothing**"
		switch r := results[i]; {
		case r.caught && r.after != "":
			by = "simulation, history " + r.after
		case r.caught:
			by = "`" + strings.TrimSuffix(strings.Replace(m.test, " ", "` `", 1), "$") + "`"
		}
		fmt.Printf("| %s | `%s` | %s | %s |\n", m.name, m.file, m.rule, by)
	}
}
