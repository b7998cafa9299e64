package node

import "testing"

// A batch and a pipeline are of limited size, however much is handed over at once, and all of it
// comes, in its order.
func TestMailboxFillsPipelines(t *testing.T) {
	m := newMailbox(8192)
	commands := make([]Command, 3*maxPipeline)
	for i := range commands {
		commands[i] = Command{ID: uint64(i + 1), Op: Release}
	}
	if refused := m.put(commands...); len(refused) > 0 {
		t.Fatalf("%d refused", len(refused))
	}
	next := uint64(1)
	for len(m.batches) > 0 {
		batch := <-m.batches
		if len(batch) > maxBatch {
			t.Errorf("a batch of %d", len(batch))
		}
		pipeline := m.take(nil, batch)
		if n := len(pipeline); n != maxPipeline {
			t.Errorf("a pipeline of %d", n)
		}
		for _, c := range pipeline {
			if c.ID != next {
				t.Fatalf("command %d comes as %d", c.ID, next)
			}
			next++
		}
	}
	if next != uint64(len(commands)+1) || m.waiting.Load() != 0 {
		t.Errorf("%d have come, %d are thought to wait", next-1, m.waiting.Load())
	}
}

// Commands that are handed over at once have no more room than others; a room for one has it for
// whatever is asked.
func TestMailboxRoom(t *testing.T) {
	for _, c := range []struct {
		op             Op
		room, all, has int // there is room for so many of all
	}{
		{Release, 4, 6, 4}, {Renew, 1, 2, 1}, {Grant, 4, 6, 2}, {Grant, 5, 6, 3}, {Grant, 1, 2, 1},
		{Claim, 4, 6, 2}, {Enqueue, 4, 6, 2}, {Adopt, 4, 6, 2}, {Sign, 4, 6, 2}, {Heal, 4, 6, 4}, {Leave, 4, 6, 4},
	} {
		m := newMailbox(c.room)
		commands := make([]Command, c.all)
		for i := range commands {
			commands[i].Op = c.op
		}
		if refused := m.put(commands...); len(refused) != c.all-c.has {
			t.Errorf("%v with room for %d: %d of %d were refused, want %d", c.op, c.room, len(refused), c.all, c.all-c.has)
		}
	}
}

// A group takes the room of its members. It is taken whole, or not at all.
func TestMailboxRoomForGroups(t *testing.T) {
	group := func(members int) Command {
		return Command{Op: RenewAll, Group: &Group{Members: make([]Member, members)}}
	}
	m := newMailbox(100)
	if refused := m.put(group(60), group(60), group(1), Command{Op: Renew}); len(refused) != 2 {
		t.Errorf("%d refused, want 2", len(refused))
	}
	if n := m.waiting.Load(); n != 120 {
		t.Errorf("%d wait, want 120", n)
	}
	m = newMailbox(8192)
	m.put(group(maxBatch), group(maxBatch), group(1), group(1))
	if n := len(m.batches); n != 3 {
		t.Errorf("%d batches, want 3", n)
	}
	if pipeline := m.take(nil, <-m.batches); len(pipeline) != 2 {
		t.Errorf("a pipeline of %d groups, want 2", len(pipeline))
	}
	if n := m.waiting.Load(); n != 2 {
		t.Errorf("%d wait, want 2", n)
	}
}

// A reply to a group says OK of nobody if somebody was not answered.
func TestMiscountedGroup(t *testing.T) {
	for ours, want := range []Status{Unknown, OK, Unknown} {
		p := pipeline{commands: []Command{{Op: RenewAll, Group: &Group{Members: make([]Member, 2)}}}, ours: []int{ours}}
		p.replies = []Reply{{Op: RenewAll, But: &Exceptions{{Member: 1, Status: Absent}}}}
		p.finish()
		if r := p.replies[0]; r.Status != want || (r.Err == nil) != (want == OK) || len(r.But.All()) != map[Status]int{OK: 1}[want] {
			t.Errorf("%d of two: %+v, want %v", ours, r, want)
		}
	}
}
