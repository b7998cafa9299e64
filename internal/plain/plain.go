// Package plain shows what others have chosen, as an owner or the words of a server, to people.
package plain

import (
	"strings"
	"unicode"
)

// Line returns a text without line feeds, escape sequences of a terminal and the like: each run of
// what is not printed is one space. So it breaks neither the line that it stands in nor the terminal.
func Line(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return r == ' ' || !unicode.IsPrint(r)
	}), " ")
}
