package node

import (
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// maxChanged is how many keys may wait to be handed on. If there are more, the receiver looks at
// everything instead.
const maxChanged = 1024

// changedKeys holds the keys that a server says have changed. They come in the goroutine that reads
// the answers, which must not wait.
type changedKeys struct {
	more chan struct{} // says that there are some; room for one

	mu   sync.Mutex
	keys []string
	all  bool // too many came, or everything has changed
}

func newChangedKeys() *changedKeys { return &changedKeys{more: make(chan struct{}, 1)} }

// add adds keys. An empty list stands for all keys.
func (c *changedKeys) add(keys []value) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = c.all || len(keys) == 0
	for i := range keys {
		key, err := keys[i].string()
		if err != nil || strings.HasPrefix(key, ReservedPrefix) { // which are read along with a name
			continue
		}
		if len(c.keys) == maxChanged {
			c.all = true
			break
		}
		c.keys = append(c.keys, key)
	}
	if c.all {
		c.keys = nil
	} else if len(c.keys) == 0 {
		return
	}
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// take returns the keys that have come.
func (c *changedKeys) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := c.keys
	if c.all {
		keys = []string{"*"}
	}
	c.keys, c.all = nil, false
	return keys
}

// told is the callback of the library. The library also calls it when the connection has broken,
// which the session learns otherwise.
func (s *session) told(keys []rueidis.RedisMessage) {
	values := make([]value, len(keys))
	for i := range keys {
		values[i] = valueOfMessage(&keys[i])
	}
	s.invalidated(values)
}

// invalidated adds keys that have changed.
func (s *session) invalidated(keys []value) {
	if s.isLost() {
		return
	}
	if len(keys) == 0 {
		s.flushed.Store(int64(s.clock.Now()))
	}
	s.changed.add(keys)
}

// forward hands the changed keys of a session on until it ends.
func (a *Actor) forward(s *session) {
	for {
		select {
		case <-s.changed.more:
		case <-s.ctx.Done():
			return
		}
		for _, key := range s.changed.take() {
			select {
			case a.Wakes <- Wake{Node: a.Index, Key: key}:
			case <-s.ctx.Done():
				return
			}
		}
	}
}
