package node

import (
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// maxNews is how many keys wait to be handed on. More than that means that whoever
// receives them had better look at everything.
const maxNews = 1024

// news are keys that a server says have changed. They come in the goroutine that reads
// the answers, which must not wait.
type news struct {
	more chan struct{} // says that there are some; room for one

	mu   sync.Mutex
	keys []string
	all  bool // too many came, or everything has changed
}

func newNews() *news { return &news{more: make(chan struct{}, 1)} }

// add takes keys, or what stands for all of them if there are none.
func (n *news) add(keys []rueidis.RedisMessage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = n.all || len(keys) == 0
	for i := range keys {
		key, err := keys[i].ToString()
		if err != nil || strings.HasPrefix(key, ReservedPrefix) { // which are read along with a name
			continue
		}
		if len(n.keys) == maxNews {
			n.all = true
			break
		}
		n.keys = append(n.keys, key)
	}
	if n.all {
		n.keys = nil
	} else if len(n.keys) == 0 {
		return
	}
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// take returns what has come.
func (n *news) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	keys := n.keys
	if n.all {
		keys = []string{"*"}
	}
	n.keys, n.all = nil, false
	return keys
}

// invalidated is called by the library. It also is when the connection has broken,
// which is known otherwise.
func (s *session) invalidated(keys []rueidis.RedisMessage) {
	if !s.isLost() {
		s.news.add(keys)
	}
}

// forward hands the news of a session on until it ends.
func (a *Actor) forward(s *session) {
	for {
		select {
		case <-s.news.more:
		case <-s.ctx.Done():
			return
		}
		for _, key := range s.news.take() {
			select {
			case a.Wakes <- Wake{Node: a.Index, Key: key}:
			case <-s.ctx.Done():
				return
			}
		}
	}
}
