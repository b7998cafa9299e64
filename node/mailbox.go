package node

import "sync"

// A mailbox has the commands that an actor has not sent yet. It takes all of one call
// at once, so that they share a pipeline: an actor that is woken by the first of many
// would send that one alone.
type mailbox struct {
	room int
	news chan struct{} // has one while there is something to take, or it is closed

	mu       sync.Mutex
	commands []Command
	closed   bool // nothing more is put
	stopped  bool // what would be put would not be answered
}

func newMailbox(room int) mailbox {
	return mailbox{room: room, news: make(chan struct{}, 1), commands: make([]Command, 0, min(room, maxPipeline))}
}

// put takes in the commands, but for those that it returns.
func (m *mailbox) put(commands ...Command) (refused []Command) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range commands {
		c := &commands[i]
		room := m.room
		if c.Op == Grant || c.Op == Enqueue || c.Op == Claim {
			room = (m.room + 1) / 2
		}
		if m.stopped || len(m.commands) >= room {
			refused = append(refused, *c)
			continue
		}
		m.commands = append(m.commands, *c)
	}
	if len(m.commands) > 0 {
		m.tell()
	}
	return refused
}

// take returns the commands that have waited longest, as many as a pipeline holds. Its
// caller gives it those of the last time, which it may write over. It reports false if
// there is nothing left and nothing will come.
func (m *mailbox) take(last []Command) (commands []Command, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.commands) <= maxPipeline {
		commands, m.commands = m.commands, last[:0]
	} else {
		commands = append(last[:0], m.commands[:maxPipeline]...)
		m.commands = m.commands[maxPipeline:]
	}
	if m.closed || len(m.commands) > 0 {
		m.tell()
	}
	return commands, !m.closed || len(commands) > 0
}

func (m *mailbox) tell() {
	select {
	case m.news <- struct{}{}:
	default: // it has been told
	}
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.tell()
}

// stop has everything refused that is put from now on.
func (m *mailbox) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
}
