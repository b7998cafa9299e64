package supervisor_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every invariant of the package comment is cited by the code that keeps it, and what is
// cited exists.
func TestInvariantsAreCited(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(doc), "// # Invariants\n")
	if !ok {
		t.Fatal("no invariants")
	}
	comments := regexp.MustCompile(`\n\s*// `) // a line of a comment goes on on the next one
	citation := regexp.MustCompile(`invariant (\d+) of package supervisor`)
	cited := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^// +(\d+)\. `).FindAllStringSubmatch(list, -1) {
		cited[m[1]] = false
	}
	for _, pattern := range []string{"*.go", "internal/core/*.go", "internal/perform/*.go", "../node/*.go", "../lease/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", pattern, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range citation.FindAllStringSubmatch(comments.ReplaceAllString(string(text), " "), -1) {
				if _, is := cited[m[1]]; !is {
					t.Errorf("%s cites invariant %s, which is not in doc.go", file, m[1])
				}
				cited[m[1]] = true
			}
		}
	}
	if len(cited) < 10 {
		t.Errorf("%d invariants are found in doc.go", len(cited))
	}
	for n, is := range cited {
		if !is {
			t.Errorf("no code cites invariant %s", n)
		}
	}
}

// interfaces are the methods by which the standard library prints, compares and encodes a value. No
// program calls them by their names.
var interfaces = []string{
	"Error", "Unwrap", "Is", "String", "Format", "LogValue", "MarshalText", "MarshalJSON", "UnmarshalText",
}

// withoutExample are the other exported calls that have no example, and why.
var withoutExample = map[string]string{
	"supervisor.ObserverFunc.Observe": "the supervisor calls it",
	"nodetest.Node.ClusterMode":       "for tests of what node says of a cluster",
	"nodetest.Node.Slots":             "for tests of what node says of a cluster",
	"nodetest.Node.FlushScripts":      "for tests of what node does without its scripts",
}

// notForUsers are exported packages, or all of a package but some types, that users do not call.
var notForUsers = map[string]struct {
	but []string
	why string
}{
	"node":                   {[]string{"Conn"}, "its package comment has a part for the supervisor"},
	"node/nodetest/conform":  {nil, "the cases that keep nodetest equal to a real server"},
	"node/nodetest/keyspace": {nil, "what nodetest and the simulation are made of"},
}

// Every exported function and method has an example, or is called in another example of its package.
// Methods are told apart by their names alone.
func TestEveryCallHasAnExample(t *testing.T) {
	excepted := make(map[string]bool)
	packages := 0
	for _, dir := range publicPackages(t, "..") {
		except, isExcept := notForUsers[dir]
		if isExcept && except.but == nil {
			continue
		}
		packages++
		p, inExamples := readPackage(t, filepath.Join("..", dir))
		check := func(name string, examples []*doc.Example, called string) {
			name = p.Name + "." + name
			has := len(examples) > 0 || inExamples[called]
			switch _, is := withoutExample[name]; {
			case is && has:
				t.Errorf("%s has an example, so it is no exception", name)
			case is:
				excepted[name] = true
			case !has:
				t.Errorf("%s has no example, and no example of package %s calls it", name, p.Name)
			}
		}
		for _, f := range p.Funcs {
			if !isExcept {
				check(f.Name, f.Examples, p.Name+"."+f.Name)
			}
		}
		for _, typ := range p.Types {
			if isExcept && !slices.Contains(except.but, typ.Name) {
				continue
			}
			for _, f := range typ.Funcs {
				check(f.Name, f.Examples, p.Name+"."+f.Name)
			}
			for _, m := range typ.Methods {
				if !slices.Contains(interfaces, m.Name) {
					check(typ.Name+"."+m.Name, m.Examples, m.Name)
				}
			}
		}
	}
	if packages < 8 {
		t.Errorf("%d public packages are found", packages)
	}
	for name := range withoutExample {
		if !excepted[name] {
			t.Errorf("%s is an exception, and not there", name)
		}
	}
}

// publicPackages returns the folders of a module that have a package which others can import.
func publicPackages(t *testing.T, root string) (dirs []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		if name := d.Name(); name == "internal" || name == "testdata" || name == "cmd" || name[0] == '.' {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return filepath.SkipDir // another module
		}
		if files, err := filepath.Glob(filepath.Join(path, "*.go")); err != nil || len(files) == 0 {
			return err
		}
		dir, err := filepath.Rel(root, path)
		dirs = append(dirs, filepath.ToSlash(dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// readPackage returns the documentation of a package, and what its examples name: a method as
// "Close", what another package has also as "supervisor.New".
func readPackage(t *testing.T, dir string) (p *doc.Package, named map[string]bool) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files, tests []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if files = append(files, f); strings.HasSuffix(name, "_test.go") {
			tests = append(tests, f)
		}
	}
	if p, err = doc.NewFromFiles(fset, files, dir); err != nil {
		t.Fatal(err)
	}
	named = make(map[string]bool)
	for _, e := range doc.Examples(tests...) {
		ast.Inspect(e.Code, func(n ast.Node) bool {
			if s, is := n.(*ast.SelectorExpr); is {
				named[s.Sel.Name] = true
				if x, is := s.X.(*ast.Ident); is {
					named[x.Name+"."+s.Sel.Name] = true
				}
			}
			return true
		})
	}
	return p, named
}
