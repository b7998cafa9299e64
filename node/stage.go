package node

import "fmt"

// MarshalText returns what String returns.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets the stage from what MarshalText returns.
func (s *Stage) UnmarshalText(text []byte) error {
	for is := StageNone; is <= StageOpened; is++ {
		if is.String() == string(text) {
			*s = is
			return nil
		}
	}
	return fmt.Errorf("node: %.32q is no Stage", text)
}
