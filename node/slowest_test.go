package node

import (
	"testing"
	"time"
)

// An answer that took much longer than any is waited for, as during a pause of ours, counts as the
// longest that is: a node is not thought slow for ever.
func TestPatienceOfAPause(t *testing.T) {
	p := patience{least: time.Second, most: 5 * time.Second}
	p.took(1, time.Hour)
	if got := p.slowest(1); got != p.most {
		t.Errorf("it counts as %v", got)
	}
}
