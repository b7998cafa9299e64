// Package documents_test checks what the repository's documents show and where their
// links lead. It has no code of its own.
package documents_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// A document is one Markdown file of the repository.
type document struct {
	path  string // from the root
	prose string // without the blocks of code
	code  []block
}

// A block is a block of code in a document.
type block struct {
	path string
	line int
	info string // what follows the fence: a language, and words for the tests
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.path, b.line) }

// documents returns every Markdown file of the repository.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".md") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		d2, err := parse(filepath.ToSlash(name), string(text))
		all = append(all, d2)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("%d documents are found", len(all))
	}
	return all
}

// parse separates the prose of a document from its blocks of code.
func parse(path, text string) (document, error) {
	d := document{path: path}
	var prose strings.Builder
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, is := strings.CutPrefix(line, "```")
		switch {
		case is && open == nil:
			open = &block{path: path, line: i + 1, info: strings.TrimSpace(fence)}
		case is:
			d.code = append(d.code, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		default:
			prose.WriteString(line + "\n")
		}
	}
	d.prose = prose.String()
	if open != nil {
		return d, fmt.Errorf("%v has no end", open)
	}
	return d, nil
}

var (
	codeSpan = regexp.MustCompile("`[^`\n]+`")
	link     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
)

// anchors returns the anchors of a document's headings, as GitHub makes them.
func (d document) anchors() map[string]bool {
	anchors := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(d.prose, -1) {
		text := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(m[1], "$1")
		slug := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, text)
		anchor := slug
		for n := 1; anchors[anchor]; n++ {
			anchor = fmt.Sprintf("%s-%d", slug, n)
		}
		anchors[anchor] = true
	}
	return anchors
}

// Every relative link of a document leads to a file that exists, and to a heading of it.
func TestLinks(t *testing.T) {
	all := documents(t)
	anchors := make(map[string]map[string]bool)
	for _, d := range all {
		anchors[d.path] = d.anchors()
	}
	for _, d := range all {
		links := 0
		for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(d.prose, ""), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(target, "#")
			path := d.path
			if file != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(d.path), file))
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which does not exist", d.path, target)
			} else if anchor != "" && !anchors[path][anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", d.path, target, path)
			}
		}
		if d.path == "README.md" && links < 10 {
			t.Errorf("%d links are found in %s", links, d.path)
		}
	}
}

// Every document that a comment or a text of the code names exists.
func TestDocumentsNamedInCode(t *testing.T) {
	named := regexp.MustCompile(`\bdocs/(decisions/\d+\b|[a-z0-9/-]+\.md(#[a-z0-9-]+)?)`)
	found := 0
	anchors := make(map[string]map[string]bool)
	for _, d := range documents(t) {
		anchors[d.path] = d.anchors()
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range named.FindAllString(string(text), -1) {
			found++
			file, anchor, _ := strings.Cut(name, "#")
			if !strings.HasSuffix(file, ".md") {
				if files, _ := filepath.Glob(filepath.Join(root, file+"-*.md")); len(files) != 1 {
					t.Errorf("%s names %s, of which there are %d", path, name, len(files))
				}
				continue
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s names %s, which does not exist", path, name)
			} else if anchor != "" && !anchors[file][anchor] {
				t.Errorf("%s names %s, and there is no such heading", path, name)
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Errorf("%d names are found, %v", found, err)
	}
}

// imports are the packages that a block of code may use without importing them.
var imports = map[string]string{
	"clock":      "github.com/leasehold-go/leasehold/clock",
	"context":    "context",
	"errors":     "errors",
	"fence":      "github.com/leasehold-go/leasehold/lease/fence",
	"fmt":        "fmt",
	"http":       "net/http",
	"lease":      "github.com/leasehold-go/leasehold/lease",
	"log":        "log",
	"node":       "github.com/leasehold-go/leasehold/node",
	"nodetest":   "github.com/leasehold-go/leasehold/node/nodetest",
	"os":         "os",
	"rueidis":    "github.com/redis/rueidis",
	"shards":     "github.com/leasehold-go/leasehold/supervisor/shards",
	"status":     "github.com/leasehold-go/leasehold/supervisor/status",
	"slog":       "log/slog",
	"strings":    "strings",
	"supervisor": "github.com/leasehold-go/leasehold/supervisor",
	"synctest":   "testing/synctest",
	"testing":    "testing",
	"time":       "time",
	"tls":        "crypto/tls",
}

// prelude declares the names that a block of code takes for granted. docs/README.md lists
// them for readers.
const prelude = `package fragment

import (
	"context"
	"testing"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

var (
	ctx    context.Context
	sup    *supervisor.Supervisor
	held   *lease.Lease
	handle lease.Handle
	conns  []node.Conn
	nodes  []*nodetest.Node
	t      *testing.T
)

// work stands for what is done under a lease.
func work(ctx context.Context) error { return ctx.Err() }

// write writes to a store that refuses a smaller fence than it has seen.
func write(ctx context.Context, fence uint64) error { return ctx.Err() }
`

// source returns the Go file that a block stands for. A block that begins with a package
// clause is one already. Declarations get an import of what they use, and statements a
// function around them too.
func (b block) source() (string, error) {
	if strings.HasPrefix(b.text, "package ") {
		return b.text, nil
	}
	var head strings.Builder
	head.WriteString("package fragment\n")
	for _, name := range slices.Sorted(keys(imports)) {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(b.text) {
			fmt.Fprintf(&head, "import %q\n", imports[name])
		}
	}
	if regexp.MustCompile(`^(func|type|var|const) `).MatchString(b.text) {
		return head.String() + b.text, nil
	}
	text := head.String() + "func _() error {\n" + b.text
	file, err := parser.ParseFile(token.NewFileSet(), "", text+"return nil\n}\n", 0)
	if err != nil {
		return "", err
	}
	// What a fragment declares it need not use.
	for _, d := range file.Decls {
		f, is := d.(*ast.FuncDecl)
		if !is {
			continue
		}
		for _, s := range f.Body.List {
			if a, is := s.(*ast.AssignStmt); is && a.Tok == token.DEFINE {
				for _, left := range a.Lhs {
					if name := left.(*ast.Ident).Name; name != "_" {
						text += "_ = " + name + "\n"
					}
				}
			}
		}
	}
	return text + "return nil\n}\n", nil
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Every block of Go in a document compiles in a module that requires leasehold, and vet
// finds nothing in it.
func TestGoBlocks(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	library, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		put(name, strings.Replace(string(text), "=> ../\n", "=> "+library+"\n", 1))
	}
	where := make(map[string]block) // by the name of a folder
	for _, d := range documents(t) {
		for _, b := range d.code {
			language, of, _ := strings.Cut(b.info, " ")
			if language != "go" || strings.HasPrefix(of, "adapters/") { // whose module tests it
				continue
			}
			text, err := b.source()
			if err != nil {
				t.Errorf("%v: %v", b, err)
				continue
			}
			name := fmt.Sprintf("b%d", len(where)+1)
			where[name] = b
			put(name+"/block.go", text)
			if strings.HasPrefix(text, "package fragment\n") {
				put(name+"/prelude.go", prelude)
			}
		}
	}
	if len(where) < 10 {
		t.Fatalf("%d blocks of Go are found", len(where))
	}
	vet := exec.Command("go", "vet", "-unreachable=false", "./...")
	vet.Dir, vet.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := vet.CombinedOutput()
	if err != nil {
		text := regexp.MustCompile(`\bb(\d+)/block\.go`).ReplaceAllStringFunc(string(out), func(s string) string {
			name, _, _ := strings.Cut(s, "/")
			return fmt.Sprintf("%s, in %s", where[name], s)
		})
		t.Errorf("%v: %v\n%s", vet, err, text)
	}
}

// The README's first block of Go is a whole program, and begins with its package clause.
func TestFirstProgram(t *testing.T) {
	for _, d := range documents(t) {
		if d.path != "README.md" {
			continue
		}
		for _, b := range d.code {
			if b.info == "go" {
				if !strings.HasPrefix(b.text, "package main\n") {
					t.Errorf("%v is no program", b)
				}
				return
			}
		}
	}
	t.Error("the README has no block of Go")
}

// Every command of a shell block that says "run" is run by CI, which finds the README's
// by that word. Other documents have none.
func TestShellBlocks(t *testing.T) {
	commands := 0
	for _, d := range documents(t) {
		for _, b := range d.code {
			words := strings.Fields(b.info)
			if len(words) == 0 || words[0] != "sh" {
				continue
			}
			run := slices.Contains(words, "run")
			if run && d.path != "README.md" {
				t.Errorf("%v says run, and CI only runs those of the README", b)
			}
			if !run && d.path == "README.md" {
				t.Errorf("%v is not run by CI: a reader of the README may try it", b)
			}
			for line := range strings.Lines(b.text) {
				if run && strings.TrimSpace(line) != "" {
					commands++
				}
			}
		}
	}
	if commands < 2 {
		t.Errorf("the README has %d commands that CI runs", commands)
	}
	ci, err := os.ReadFile(filepath.Join(root, ".ci/run"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ci), "```sh run") {
		t.Error(".ci/run does not look for the README's commands")
	}
}

// The README is short.
func TestReadmeIsShort(t *testing.T) {
	const most = 900
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`[^\s|]*[\pL\pN][^\s|]*`).FindAll(text, -1)); n > most {
		t.Errorf("the README has %d words: want at most %d", n, most)
	}
}
