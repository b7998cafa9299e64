package core

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// calls returns which functions of the package each of them may call, by name, methods with
// a dot before it: those of one name on several types are taken for one.
func calls(t *testing.T) map[string][]string {
	_, files := sources(t)
	graph := make(map[string][]string)
	nameOf := func(fn *ast.FuncDecl) string {
		if fn.Recv != nil {
			return "." + fn.Name.Name
		}
		return fn.Name.Name
	}
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				graph[nameOf(fn)] = nil
			}
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				name := ""
				switch f := call.Fun.(type) {
				case *ast.Ident:
					name = f.Name
				case *ast.SelectorExpr:
					name = "." + f.Sel.Name
					if x, ok := f.X.(*ast.Ident); ok && slices.Contains([]string{"slices", "maps", "bits", "rand", "clock", "node", "time"}, x.Name) {
						return true
					}
				}
				if _, ours := graph[name]; ours && !slices.Contains(graph[nameOf(fn)], name) {
					graph[nameOf(fn)] = append(graph[nameOf(fn)], name)
				}
				return true
			})
		}
	}
	return graph
}

// path returns how one function reaches another; nil if it does not.
func path(graph map[string][]string, from, to string) []string {
	way := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range graph[queue[0]] {
			if _, seen := way[next]; seen && next != to {
				continue
			}
			if next == to {
				found := []string{to}
				for at := queue[0]; at != ""; at = way[at] {
					found = append(found, at)
				}
				slices.Reverse(found)
				return found
			}
			way[next] = queue[0]
			queue = append(queue, next)
		}
	}
	return nil
}

// Nothing in the core calls itself, by whatever way: so no input needs more stack than
// another.
func TestNoRecursion(t *testing.T) {
	graph := calls(t)
	for name := range graph {
		if name == ".String" {
			continue // a vote's has that of its standing
		}
		if p := path(graph, name, name); p != nil {
			t.Errorf("%s", strings.Join(p, " -> "))
		}
	}
}

// An answer to a renewal ends a lease at most: it begins no election.
func TestAnswerBeginsNoElection(t *testing.T) {
	graph := calls(t)
	for _, answer := range []string{".onRenewal", ".onHeal", ".recomputeDeadline", ".end", ".drop"} {
		for _, election := range []string{".try", ".newAttempt", ".startElection", ".startClaims", ".claim", ".enterQueue"} {
			if _, ok := graph[election]; !ok {
				t.Fatalf("no function %s", election)
			}
			if p := path(graph, answer, election); p != nil {
				t.Errorf("%s", strings.Join(p, " -> "))
			}
		}
	}
}
