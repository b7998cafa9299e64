package plain

import (
	"fmt"
	"slices"
)

// An Enum has the words for the values of a type of numbers.
type Enum struct {
	Package, Name string   // of the type
	Words         []string // by value; "" if there is no such value
}

// Text returns the word for a value, or its number if it has no word.
func (e Enum) Text(n uint8) string {
	if int(n) < len(e.Words) && e.Words[n] != "" {
		return e.Words[n]
	}
	return fmt.Sprintf("%s(%d)", e.Name, n)
}

// Parse returns the value whose word or number is text, as Text returns it.
func (e Enum) Parse(text string) (uint8, error) {
	if i := slices.Index(e.Words, text); i >= 0 && text != "" {
		return uint8(i), nil
	}
	var n uint8
	if _, err := fmt.Sscanf(text, e.Name+"(%d)", &n); err != nil || e.Text(n) != text {
		return 0, fmt.Errorf("%s: no %s is called %q", e.Package, e.Name, text)
	}
	return n, nil
}

// ErrorText returns the text of an error, which is {} in JSON otherwise.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
