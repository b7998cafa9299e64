package supervisor

import (
	"fmt"
	"slices"
	"time"
)

// This file has how values are written as text and in JSON, for operators.

// An enum is the words for the values of a type of numbers.
type enum struct {
	name  string   // of the type
	words []string // by value; "" if there is no such value
}

// text returns the word for a value, and of one without a word its number.
func (e enum) text(n uint8) string {
	if int(n) < len(e.words) && e.words[n] != "" {
		return e.words[n]
	}
	return fmt.Sprintf("%s(%d)", e.name, n)
}

// parse returns the value of a text that text has returned.
func (e enum) parse(text string) (uint8, error) {
	if i := slices.Index(e.words, text); i >= 0 && text != "" {
		return uint8(i), nil
	}
	var n uint8
	if _, err := fmt.Sscanf(text, e.name+"(%d)", &n); err != nil || e.text(n) != text {
		return 0, fmt.Errorf("supervisor: no %s is called %q", e.name, text)
	}
	return n, nil
}

// A span is a duration that is "1.5s" in JSON, and not a number of nanoseconds.
type span time.Duration

func (d span) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// spanIf returns the text of a duration if it is known, and else none.
func spanIf(known bool, d time.Duration) string {
	if !known {
		return ""
	}
	return d.String()
}

// textOf returns the text of an error, which is {} in JSON otherwise.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
