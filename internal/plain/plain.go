// Package plain shows text that others have chosen, such as an owner or the words of a server, to
// people.
package plain

import (
	"strings"
	"unicode"
)

// Line returns a text without line feeds, escape sequences of a terminal and the like: each run of
// unprintable characters becomes one space. So it breaks neither the line that it stands in nor the
// terminal.
func Line(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return r == ' ' || !unicode.IsPrint(r)
	}), " ")
}
