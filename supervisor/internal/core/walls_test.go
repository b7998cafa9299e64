package core

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources returns the syntax of the package without its tests, by file.
func sources(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	set := token.NewFileSet()
	files := make(map[string]*ast.File)
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return set, files
}

// A core imports instants, messages, and what reckons: nothing that waits, or reads a
// clock.
func TestImports(t *testing.T) {
	allowed := []string{
		"github.com/leasehold-go/leasehold/clock",
		"github.com/leasehold-go/leasehold/node",
		"maps", "math/bits", "math/rand/v2", "slices", "strings", "time",
	}
	imported := make(map[string]bool)
	_, files := sources(t)
	for name, f := range files {
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if imported[path] = true; !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	if got := slices.Sorted(maps.Keys(imported)); !slices.Equal(got, allowed) {
		t.Errorf("it imports %v: shorten the list of what it may", got)
	}
}

// A core cannot block: there is no channel in it, nothing runs beside it, and it calls
// nobody else's code. Of package clock it has instants, of package time durations.
func TestCannotBlock(t *testing.T) {
	ours := map[string]bool{"sleeper": true, "member": true} // interfaces of its own
	set, files := sources(t)
	bad := func(n ast.Node, what string) { t.Errorf("%v: %s", set.Position(n.Pos()), what) }
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ChanType:
				bad(n, "a channel")
			case *ast.SendStmt:
				bad(n, "a send on a channel")
			case *ast.UnaryExpr:
				if n.Op == token.ARROW {
					bad(n, "a receipt from a channel")
				}
			case *ast.GoStmt:
				bad(n, "a goroutine")
			case *ast.SelectStmt:
				bad(n, "a select")
			case *ast.TypeSpec:
				if _, ok := n.Type.(*ast.InterfaceType); ok && !ours[n.Name.Name] {
					bad(n, "an interface "+n.Name.Name+", behind which others' code can be")
				}
			case *ast.StructType:
				noFunctions(n.Fields, bad)
			case *ast.FuncDecl:
				noFunctions(n.Type.Params, bad)
			case *ast.SelectorExpr:
				pkg, ok := n.X.(*ast.Ident)
				if !ok {
					return true
				}
				switch what := pkg.Name + "." + n.Sel.Name; pkg.Name {
				case "time":
					if !slices.Contains([]string{"time.Duration", "time.Minute", "time.Second", "time.Millisecond", "time.Microsecond"}, what) {
						bad(n, what)
					}
				case "clock":
					if what != "clock.Instant" && what != "clock.Never" {
						bad(n, what)
					}
				}
			}
			return true
		})
	}
}

// noFunctions finds fields that are functions: of whom, nobody can tell.
func noFunctions(fields *ast.FieldList, bad func(ast.Node, string)) {
	for _, f := range fields.List {
		if _, ok := f.Type.(*ast.FuncType); ok {
			bad(f, "a function of somebody else's")
		}
	}
}
