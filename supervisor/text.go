package supervisor

import "time"

// This file writes values as text and in JSON, for operators.

// A span is a duration that is "1.5s" in JSON, and not a number of nanoseconds.
type span time.Duration

func (d span) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// spanIf returns the text of a duration if it is known, and "" otherwise.
func spanIf(known bool, d time.Duration) string {
	if !known {
		return ""
	}
	return d.String()
}
