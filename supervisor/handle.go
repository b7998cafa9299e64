package supervisor

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A handleText is the text of a handle, after handleForm. Names and tokens may be any bytes.
type handleText struct {
	Key   []byte        `json:"key"`
	Token []byte        `json:"token"`
	Fence uint64        `json:"fence"`
	TTL   time.Duration `json:"ttl"`            // in nanoseconds
	Over  bool          `json:"over,omitempty"` // no process believes in the lease any more
	On    string        `json:"on,omitempty"`   // the lists of nodes that the lease rests on
}

const handleForm = "leasehold1."

// encodeHandle makes a handle. Anyone that has it can take the lease.
func encodeHandle(h core.Handle) lease.Handle {
	b, _ := json.Marshal(handleText{[]byte(h.Key), []byte(h.Token), h.Fence, h.TTL, h.Over, h.Electorates}) // of bytes and numbers, which cannot fail
	return lease.Handle(handleForm + base64.RawURLEncoding.EncodeToString(b))
}

// parseHandle reads a handle. Its errors do not show it.
func parseHandle(handle lease.Handle) (core.Handle, error) {
	if string(handle) == handle.String() {
		return core.Handle{}, fmt.Errorf("broken handle: it is %v, as a handle is printed or encoded: store string(handle) instead", handle)
	}
	encoded, ok := strings.CutPrefix(string(handle), handleForm)
	if !ok {
		return core.Handle{}, fmt.Errorf("broken handle: it must begin with %q", handleForm)
	}
	var h handleText
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return core.Handle{}, errors.New("broken handle: cut off or changed on the way")
	}
	return core.Handle{Key: string(h.Key), Token: string(h.Token), Fence: h.Fence, TTL: h.TTL, Over: h.Over, Electorates: h.On}, nil
}

// heir checks all of whether the handle's lease fits this supervisor, and makes a request for it.
func (s *Supervisor) heir(h core.Handle) (core.Request, error) {
	var broken []error
	name, ok := strings.CutPrefix(h.Key, s.cfg.Prefix)
	if !ok {
		broken = append(broken, fmt.Errorf("handle of %.64q: the name must begin with the prefix %q", h.Key, s.cfg.Prefix))
	} else if err := s.cfg.checkName(name); err != nil {
		broken = append(broken, err)
	}
	if owner := node.OwnerOf(h.Token); owner == "" || checkOwner("", owner) != nil || strings.HasPrefix(h.Token, node.LeftMark) {
		broken = append(broken, errors.New("handle: the token is broken, or not of this library"))
	}
	if h.Fence == 0 {
		broken = append(broken, errors.New("handle: the fence is 0"))
	}
	terms, err := s.termsFor(h.TTL)
	if err != nil {
		broken = append(broken, fmt.Errorf("handle with %w", err))
	}
	return core.Request{Key: h.Key, Terms: terms}, errors.Join(broken...)
}
