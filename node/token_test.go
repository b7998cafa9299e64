package node_test

import (
	"testing"

	"github.com/leasehold-go/leasehold/node"
)

// The mark of a key that was left stands before what it held. It is told from the values of other
// libraries, and hides neither owner nor fence.
func TestCutLeft(t *testing.T) {
	const token = "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, c := range []struct {
		value, cut, owner string
		left              bool
		token             string
		fence             uint64
	}{
		{token, token, "me", false, token, 0},
		{token + "+7", token + "+7", "me", false, token, 7},
		{"!" + token, token, "me", true, "!" + token, 0},
		{"!" + token + "+7", token + "+7", "me", true, "!" + token, 7},
		{node.Reserved(token), node.Reserved(token), "", false, node.Reserved(token), 0},
		{"!abc", "!abc", "", false, "!abc", 0},
		{"", "", "", false, "", 0},
	} {
		cut, left := node.CutLeft(c.value)
		is, fence := node.TokenOf(c.value)
		if owner := node.OwnerOf(c.value); cut != c.cut || left != c.left || owner != c.owner || is != c.token || fence != c.fence {
			t.Errorf("%q: cut to %q, left %v, of %q, token %q, fence %d: want %+v", c.value, cut, left, owner, is, fence, c)
		}
	}
}
