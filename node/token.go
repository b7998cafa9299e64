package node

import (
	"slices"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// A token is its owner, a slash, 128 random bits in base32 and a little, and the fence that it was
// made for, in base32 as well. A lease that was granted with it has that fence, unless the value of
// the key has another one after it, see [TokenOf].
const (
	tokenRandom = 26
	tokenFence  = 11
)

// NewToken returns a fresh token of an owner. fence is the one that will be proposed with it; 0 if
// that is not known yet.
func NewToken(owner string, fence uint64, random interface{ Uint64() uint64 }) string {
	var buf [256]byte // on the stack, and enough for every owner that a configuration allows
	b := append(append(buf[:0], owner...), '/')
	for left, bits := 0, uint64(0); len(b) < len(owner)+1+tokenRandom; left -= 5 {
		if left < 5 {
			left, bits = 60, random.Uint64()
		}
		b = append(b, base32[bits&31])
		bits >>= 5
	}
	for at := 5 * (tokenFence - 1); at >= 0; at -= 5 {
		b = append(b, base32[fence>>at&31])
	}
	return string(b)
}

const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// OwnerOf returns the owner that a value of a key names, even if the key was left. It returns "" if
// the value is a reservation, or from another library.
func OwnerOf(value string) string {
	token, _ := TokenOf(value)
	owner, _ := parts(token)
	return owner
}

// ValueOf returns the value of a key that keeps a lease with the given token and fence. TokenOf reads
// both from it.
func ValueOf(token string, fence uint64) string { return token + suffix(token, fence) }

// suffix returns the part that follows a token in the value of a key: "" if the token has the fence
// itself.
func suffix(token string, fence uint64) string {
	if _, told := TokenOf(token); told == fence {
		return ""
	}
	return script.FenceMark + strconv.FormatUint(fence, 10)
}

// TokenOf returns the token that a lock key holds, and the fence of its lease. The fence is the one
// after the token, or else the one in it, or 0 if there is none. The value of another library is
// returned as it is. The mark of a key that was left stays before the token, see [CutLeft].
func TokenOf(value string) (token string, fence uint64) {
	token = value
	if i := strings.LastIndex(value, script.FenceMark); i >= 0 {
		if after, err := strconv.ParseUint(value[i+1:], 10, 64); err == nil && after <= 1<<53 {
			token, fence = value[:i], after
		}
	}
	owner, digits := parts(token)
	switch {
	case owner == "":
		return value, 0
	case fence != 0:
		return token, fence
	}
	for i := range len(digits) {
		digit := strings.IndexByte(base32, digits[i])
		if digit < 0 {
			return token, 0
		}
		fence = fence<<5 | uint64(digit)
	}
	return token, min(fence, 1<<53)
}

// parts returns the owner of a token, and the letters of the fence, which a token of version 0.1
// does not have. The owner is "" if it is no token.
func parts(token string) (owner, fence string) {
	token = strings.TrimPrefix(token, LeftMark)
	i := strings.LastIndexByte(token, '/') + 1
	rest := token[i:]
	if IsReservation(token) || i < 2 || len(rest) != tokenRandom && len(rest) != tokenRandom+tokenFence {
		return "", ""
	}
	return token[:i-1], rest[tokenRandom:]
}

// IsReservation reports whether a key with this value is kept for a waiter that has yet to claim
// it: no client holds the name by it.
func IsReservation(value string) bool { return strings.HasPrefix(value, ReservationMark) }

// CutLeft returns the token of a value of a key without the mark of one that was left, and whether
// it had that mark. If so the lease is over, and the key keeps the name taken until it expires.
func CutLeft(value string) (token string, left bool) {
	if token, left = strings.CutPrefix(value, LeftMark); left && OwnerOf(token) != "" {
		return token, true
	}
	return value, false
}

// An Electorate is a set of nodes that a client uses, as its entry says.
type Electorate struct {
	Nodes      int
	Identities []string // of those that were met, each once, in order
}

// NewElectorate returns the electorate of n nodes, some of whose identities are known. It keeps and
// sorts ids.
func NewElectorate(n int, ids []string) Electorate {
	slices.Sort(ids)
	return Electorate{Nodes: n, Identities: slices.Compact(ids)}
}

// String returns the text of the electorate.
func (e Electorate) String() string {
	return strconv.Itoa(e.Nodes) + " " + strings.Join(e.Identities, ",")
}

// ParseElectorate reads the text of an electorate. It returns false if the text has another form.
func ParseElectorate(text string) (Electorate, bool) {
	count, list, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(count)
	e := Electorate{Nodes: n}
	if list != "" {
		e.Identities = strings.Split(list, ",")
	}
	return e, err == nil && n > 0
}
