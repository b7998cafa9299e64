package node

import (
	"sync"
	"sync/atomic"
)

// maxBatch is how many names the commands that are handed over at once are about, at most; but the
// last of them may be a whole group. The last batch of a pipeline may exceed the pipeline by so
// many.
const maxBatch = maxPipeline / 2

// A mailbox is the channel from which an actor takes its commands. Those of one call come as one
// batch, so that they share a pipeline. Otherwise an actor that is woken by the first of many would
// send that one alone.
type mailbox struct {
	batches chan []Command // has room for a batch of each command that there is room for
	spare   chan []Command // batches that were taken, to be used again
	room    int            // for names: a group may fill it, and so exceed it
	waiting atomic.Int64   // names in the channel

	mu      sync.Mutex
	stopped bool // a command that is put now would not be answered
}

func newMailbox(room int) mailbox {
	return mailbox{room: room, batches: make(chan []Command, room), spare: make(chan []Command, 4)}
}

// put adds the commands, and returns those for which there is no room. It never blocks.
func (m *mailbox) put(commands ...Command) (refused []Command) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var batch []Command
	names := 0 // of the batch
	send := func() {
		if len(batch) > 0 {
			m.waiting.Add(int64(names))
			m.batches <- batch
			batch, names = nil, 0
		}
	}
	for i := range commands {
		c := &commands[i]
		room := m.room
		if c.Op == Grant || c.Op == Enqueue || c.Op == Claim || c.Op == Adopt || c.Op == Sign {
			room = (m.room + 1) / 2
		}
		if m.stopped || int(m.waiting.Load())+names >= room {
			refused = append(refused, *c)
			continue
		}
		if batch == nil {
			batch = m.empty(min(len(commands)-i, maxBatch))
		}
		batch = append(batch, *c)
		if names += c.weight(); names >= maxBatch {
			send()
		}
	}
	send()
	return refused
}

func (m *mailbox) empty(size int) []Command {
	select {
	case b := <-m.spare:
		return b
	default:
		return make([]Command, 0, size)
	}
}

// take appends a batch that was received to commands, and then further waiting batches, until they
// fill a pipeline. It never waits for more.
func (m *mailbox) take(commands, batch []Command) []Command {
	names := namesOf(commands)
	for {
		n := namesOf(batch)
		names += n
		m.waiting.Add(-int64(n))
		commands = append(commands, batch...)
		clear(batch)
		select {
		case m.spare <- batch[:0]:
		default:
		}
		if names >= maxPipeline {
			return commands
		}
		var more bool
		select {
		case batch, more = <-m.batches:
			if !more {
				return commands
			}
		default:
			return commands
		}
	}
}

// stop makes put refuse everything from now on.
func (m *mailbox) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
}

// namesOf returns how many names commands are about.
func namesOf(commands []Command) (n int) {
	for i := range commands {
		n += commands[i].weight()
	}
	return n
}
