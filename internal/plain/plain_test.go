package plain

import "testing"

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		" host:1 ":                          "host:1",
		"evil\nlevel=ERROR\r\n\thost:1":     "evil level=ERROR host:1",
		"a\x1b[2Jb\x1b]0;title\x07c\x00":    "a [2Jb ]0;title c",
		"8-bit \x9b2J, or \u009b2J":         "8-bit \uFFFD2J, or 2J",
		"line\u2028end, \u202eback, über 你": "line end, back, über 你",
	} {
		if got := Line(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
