package status

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
)

//go:embed assets
var assets embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"age":     (*report).showAge,
	"tab":     (*report).tab,
	"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"day":     func(t time.Time) string { return t.UTC().Format("2006-01-02") },
	"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"span":    showSpan,
	"latency": func(d time.Duration) string { return showSpan(span(d)) },
	"offset":  showOffset,
	"line":    plain.Line,
	"short":   short,
	"holder":  name.holder,
	"holds":   name.state,
	"unknown": name.unknown,
	"about":   event.about,
	"detail":  event.detail,
	"level":   event.level,
	"late":    leaseReport.late,
	"part":    leaseReport.part,
	"percent": func(part, whole span) string {
		if whole <= 0 {
			return "0"
		}
		return fmt.Sprintf("%.1f", 100*float64(part)/float64(whole))
	},
	"more": func(all int, shown []leaseReport) int { return max(0, all-len(shown)) },
}).ParseFS(assets, "assets/page.html"))

// render returns one template as a line of text for each line that is not empty.
func render(name string, r *report) []byte {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, r); err != nil {
		// The templates are part of this package, and what they are given is of its types.
		panic(err)
	}
	lines := bytes.Split(b.Bytes(), []byte("\n"))
	var out bytes.Buffer
	for _, line := range lines {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			out.Write(line)
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// An asset is a file that never changes while the program runs.
type asset struct {
	text []byte
	kind string
	tag  string // of its text, for If-None-Match
}

var files = map[string]asset{
	"style.css": load("style.css", "text/css; charset=utf-8"),
	"script.js": load("script.js", "text/javascript; charset=utf-8"),
	"icon.svg":  load("icon.svg", "image/svg+xml"),
}

func load(name, kind string) asset {
	text, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return asset{text, kind, fmt.Sprintf(`"%x"`, sha256.Sum256(text))}
}
