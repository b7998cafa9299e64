package main

const (
	acquire  = "supervisor/acquire.go"
	hold     = "supervisor/hold.go"
	releases = "supervisor/release.go"
	queue    = "supervisor/queue.go"
	line     = "supervisor/sim_queue_test.go"
	adopt    = "supervisor/adopt.go"
	agree    = "supervisor/agreement.go"
	watches  = "supervisor/watch.go"
	actor    = "node/actor.go"
	session  = "node/session.go"
	script   = "node/internal/script/script.go"
	played   = "supervisor/sim_actor_test.go" // the actor and the scripts as the simulation plays them
)

// real is where the scripts run: on a real server.
const (
	real = "./integration TestConformReal/process"
)

// Most bugs of the actor and of the scripts stand here twice: once in the code, for
// a named test, and once in how the simulation plays it, which shows that the rule
// is needed and that the simulation gets there.
var mutants = []mutant{
	// What is believed.
	{"quorum less one, of what is believed", "deadline = the q-th largest until_i", "supervisor/tally.go",
		"	n := 0\n	for i := range votes", "	n, need := 0, max(1, need-1)\n	for i := range votes", ""},
	{"quorum less one, in an election", "As soon as q nodes have granted", acquire,
		"	case t.phase == electing && b.granted.len() >= c.quorum:\n		c.raise(now, t)", "	case t.phase == electing && b.granted.len() >= c.quorum-1:\n		c.win(now, t)", ""},
	{"quorum of half the nodes", "q = n/2 + 1", "supervisor/core.go",
		"n/2 + 1,", "n / 2,", "./supervisor TestQuorumOfTheConfigured$"},
	{"until counts from the answer", "sent_i is read before the command is queued", hold,
		"		v.until = v.promise\n		v.life = c.nodes[i].state.Life\n		h.heard(i)\n		if first {\n			c.joined(now, t, i) // its",
		"		v.until = now.Add(t.terms.ttl - t.terms.drift)\n		v.life = c.nodes[i].state.Life\n		h.heard(i)\n		if first {\n			c.joined(now, t, i) // its", ""},
	{"no drift", "until_i = sent_i + TTL - drift", hold,
		"	return now.Add(ttl - t.terms.drift)", "	return now.Add(ttl)", ""},
	{"two renewals under way at once", "at most one unanswered renewal for a lease and node", hold,
		"	nodes &^= t.pending\n", "", ""},
	{"a late renewal for a shorter TTL does not matter", "at least q nodes keep the token at any instant before the deadline", hold,
		"d.capped |= d.late | pending", "d.capped |= 0 & d.late", "./supervisor TestLateShorterRenewal"},
	{"a shorter renewal does not shorten at once", "a node keeps a lease to until_i", hold,
		"			v.until, shortened = v.promise, true\n", "", "./supervisor TestExtend$"},
	{"not lost when the deadline passes", "lost, at once and for ever, when the deadline passes", hold,
		"min(h.until, h.endAt, h.leaveAt, h.renewAt, h.retryAt)", "min(h.endAt, h.leaveAt, h.renewAt, h.retryAt)", ""},
	{"told at the deadline, not before", "Lost closes at deadline - grace", hold,
		"	return until.Add(-t.terms.grace)\n", "	return until\n", ""},
	{"given back before the grace is over", "told before and not after: somebody else may start when the nodes are told", releases,
		"	if why == lease.ErrExpired && !c.closing {", "	if false {", "./supervisor TestLostAtDeadlineLessGrace"},
	{"a late claim for a shorter TTL does not matter", "at least q nodes keep the token at any instant before the deadline", acquire,
		"			t.ballot.unsure.add(i)\n", "", "./supervisor TestLateShorterClaim"},
	{"a lost lease is revived", "A lost lease is never revived by a late answer", hold,
		"	if now >= h.until {\n		// The answer", "	if false {\n		// The answer", ""},
	{"a suspension is noticed late", "The holder's clock counts the time that the machine was suspended", "clock/system_linux.go",
		"within(wall-mono-s.wall.Load(), unmoved)", "wall > 0", "./clock TestSuspensions"},
	{"the clock goes back where somebody was held up", "sent_i is read before the command is queued", "clock/system_linux.go",
		"lacks < boot-after-unmoved {", "lacks != boot-mono {", "./clock TestSuspensionsHeldUpFirst"},
	{"the clocks of nodes are not watched", "a hypervisor's pause is seen by no local clock, but by the nodes' TIME", watches,
		"	if ran < c.quorum {", "	if true {", "./supervisor TestClockWatch"},
	{"an election goes on behind a pause", "a hypervisor's pause is seen by no local clock, but by the nodes' TIME", watches,
		"			c.lose(now, t) // the votes have aged as well\n", "", "./supervisor TestPausedElection"},

	// Acquiring.
	{"a token is used again", "fresh for every attempt (why: a delayed release deleted the vote of the next)", acquire,
		"token := c.token()\n", "token := c.token()[:2]\n", ""},
	{"votes older than W", "all of them sent at most W ago", acquire,
		"	case now.Sub(t.begun) > t.terms.window:", "	case false:", "./supervisor TestElectionWindow"},
	{"raise skipped", "if q of them have raised; otherwise raise", acquire,
		"b.granted.len() >= c.quorum:\n		c.raise(now, t)", "b.granted.len() >= c.quorum:\n		c.win(now, t)", ""},
	{"raised to what is stored, not above", "T = one more than the largest that was stored", acquire,
		"	t.fence = max(t.fence, b.highest) + 1", "	t.fence = max(t.fence+1, b.highest)", "./supervisor TestFenceRaisedTwice"},
	{"a fence that was there already confirms", "won with T when q of just those nodes have confirmed it", acquire,
		"	case b.highest < t.fence:", "	case true:", ""},
	{"an answer to a lower raise confirms", "won with T when q of just those nodes have confirmed it", acquire,
		"	late := b.late.has(i)", "	late := false", "./supervisor TestFenceRaisedTwice"},
	{"raise confirmed by less than a quorum", "won with T when q of just those nodes have confirmed it", acquire,
		"	case b.raised.len() >= c.quorum:", "	case b.raised.len() >= c.quorum-1:", ""},
	{"fences by the client's own clock", "p is the nodes' time", acquire,
		"uint64((time.Duration(now)+median)/time.Microsecond)", "uint64((time.Duration(now)+median*0)/time.Microsecond)", ""},
	{"proposed by the time of one node", "nothing is proposed before the offsets of q nodes are known", acquire,
		"	if len(offsets) < c.quorum {\n		return 0, false", "	if len(offsets) < 1 {\n		return 0, false", "./supervisor TestProposalWaitsForQuorumOfOffsets"},
	{"cancelled, and not given back", "cancelling mid-way leaves nothing behind", acquire,
		"	if t := l.attempt; t != nil {\n		c.abandon(now, t)\n	}", "	if t := l.attempt; t != nil {\n		c.alarms.clear(t)\n		l.attempt = nil\n		c.tenures.del(t)\n	}", ""},

	// Keeping.
	{"a deleted vote counts on", "absent, same incarnation, before until_i: withdrawn", hold,
		"	case !forgot:\n		c.suspectOf(now, t, i, &t.withdrawn) // somebody", "	case !forgot: // somebody", ""},
	{"another's value does not matter", "another value: withdrawn", hold,
		"		return\n	case node.Other:\n		c.suspectOf(now, t, i, &t.withdrawn)\n", "		return\n	case node.Other:\n", ""},
	{"a lapsed vote counts once healed", "absent, until_i passed: on probation", hold,
		"		c.suspectOf(now, t, i, &t.probation) // it has expired", "		// it has expired", ""},
	{"suspect votes count", "a vote that is withdrawn or on probation does not count", hold,
		"{ return t.asked &^ t.suspect() }", "{ return t.asked }", ""},
	{"healed, and counted at once", "two trials stand before it (why: keys deleted on a majority; a rival came, worked and went)", hold,
		"		if (x.confirmed &^ unproven).len() < c.quorum {\n			return false", "		if (x.confirmed &^ unproven).len() < 0 {\n			return false", "./supervisor TestTrial"},
	{"suspects confirm each other", "q other nodes, none of them withdrawn or on probation", hold,
		"		if (x.confirmed &^ unproven).len() < c.quorum {\n			return false", "		if (x.confirmed &^ (0 * unproven)).len() < c.quorum {\n			return false", "./supervisor TestSuspectsConfirmNothing"},
	{"a late grant is never in doubt", "a grant that came late is in doubt as soon as a vote is withdrawn", hold,
		"		t.probation.del(i)\n		t.doubtLate(now)\n", "		t.probation.del(i)\n", ""},
	{"who was told by a renewal only is never in doubt", "a grant that came late is in doubt as soon as a vote is withdrawn", hold,
		"			c.joined(now, t, i) // its grant was never answered, or it is on trial\n", "", "./supervisor TestLateGrantHidesNoRival"},
	{"late grants confirm each other", "q other nodes, none of them withdrawn or on probation", hold,
		"	unproven := t.unproven()", "	unproven := t.suspect()", "./supervisor TestLateGrantsConfirmNothing"},
	{"earlier renewals confirm", "renewals sent after it was noticed", hold,
		"append(o.trials, trial{node: i, since: now, early: t.pending})", "append(o.trials, trial{node: i, since: now})", "./supervisor TestTrial"},
	{"healed at once", "W + drift since the incarnation was heard from (why: a rival's election had that vote)", hold,
		"now < at {", "now < at && false {", "./supervisor TestForgottenVoteCountsAndIsHealed"},
	{"a node that forgot counts without a guard", "with the guard off: valid without that vote", hold,
		"	case !s.Guarded:", "	case false:", "./supervisor TestForgottenVoteWithoutGuard"},
	{"what was deleted is healed at once", "deleting the key on a majority is how an operator revokes a lease", hold,
		"			at = max(at, x.since.Add(t.terms.renewEvery))\n", "", "./supervisor TestDeletedOneAfterTheOther"},
	{"a trial ends before the vote is healed", "deleting the key on a majority is how an operator revokes a lease", hold,
		"			absent.add(x.node)\n			return false\n", "			absent.add(x.node)\n", "./supervisor TestDeletedOneAfterTheOther"},
	{"healed whatever incarnation it is", "and in no other one", actor,
		"(c.Op == Heal || c.Op == Sign && c.Grown) && c.Life", "c.Op == Sign && c.Grown && c.Life", "./node TestHealOfAnotherLife"},

	// Adopting.
	{"adopted by less than a quorum", "at least q nodes keep the token at any instant before the deadline", adopt,
		"	case b.raised.len() >= c.quorum:\n		c.elected", "	case b.raised.len() >= c.quorum-1:\n		c.elected", "./supervisor TestAdoptAnswers"},
	{"an adopted lease counts from the answer", "sent_i is read before the command is queued", adopt,
		"		t.votes[i].until = t.votes[i].promise\n", "		t.votes[i].until = now.Add(t.terms.ttl - t.terms.drift)\n", "./supervisor TestAdoptedDeadline"},
	{"a vote that an adopted lease never had counts", "absent, until_i passed: on probation", adopt,
		"			c.suspectOf(now, t, i, &t.probation)\n", "", "./supervisor TestAdoptedIsKept"},
	{"released when it is handed over", "an adoption takes the lease: a script swaps the token where it still is the handle's", adopt,
		"	t.asked = 0\n", "", "./supervisor TestHandOver$"},

	// The guard.
	{"young nodes are asked", "a young node is asked for no grant", acquire,
		"now < young {", "now < young && false {", "./supervisor TestYoungNodesAreNotAsked"},
	{"young nodes grant", "a young node is asked for no grant", actor,
		"(c.Op == Grant || c.Op == Claim) && young", "(c.Op == Grant || c.Op == Claim) && young && false", "./node TestYoungNodeGrantsNothing"},
	{"window halved", "the window is MaxTTL + drift", agree,
		"	return p.state.LifeAt.Add(c.limits.window(widest))", "	return p.state.LifeAt.Add(c.limits.window(widest) / 2)", "./supervisor TestAllRestartAtOnce"},
	{"guard off", "a young node is asked for no grant", agree,
		"	if p.state.Grown || !p.state.Guarded {\n		return 0", "	if true {\n		return 0", "./supervisor TestYoungNodesAreNotAsked"},

	// Enrolment.
	{"whoever answers counts", "CLIENT GETNAME must answer the nonce", actor,
		"err != nil || name != s.nonce", "err != nil || name != s.nonce && false", "./node TestStrangerWithMarker"},
	{"whoever answers counts, as played", "CLIENT GETNAME must answer the nonce", played,
		"	if p.stranger {\n", "	if false {\n", ""},
	{"the marker is not looked at", "ends with GET of the marker", actor,
		"if got, err := rs[len(rs)-1].ToString(); err != nil || got != want {", "if got, err := rs[len(rs)-1].ToString(); s.marker == \"\" && (err != nil || got != want) {", "./node TestMarkerBehindEveryPipeline"},
	{"the marker is not looked at, as played", "ends with GET of the marker (why: a FLUSHALL between the check and the SET)", played,
		"p.marker != p.conn.marker", "false", ""},
	{"a marker of another since will do", "the whole marker, its since too (why: two clients enrolled after a FLUSHALL)", played,
		"p.marker != p.conn.marker", "p.marker.run != p.conn.marker.run", ""},

	// Releasing.
	{"release deletes whatever is there", "compare-and-delete", played,
		"		if r.Status == node.OK {\n			w.deletes(n, k, value)\n			n.del(k)\n		}\n		a.hand", "		if value != \"\" {\n			w.deletes(n, k, value)\n			n.del(k)\n		}\n		a.hand", ""},
	{"silent nodes get no release", "release on every node that was asked, also the silent ones", releases,
		"		if t.asked.has(i) {\n			c.sendRelease", "		if t.asked.has(i) && t.votes[i].until != 0 {\n			c.sendRelease", ""},
	{"an unanswered release is not owed", "nothing is left behind", releases,
		"			c.owe(now, t, i)\n", "", ""},
	{"a discarded grant is given back at once", "released when its election is decided against it, not before (why: a renewal adopted the key)", acquire,
		"	switch t.phase {\n	case electing, raising:\n		b := t.ballot", "	if r.Status == node.Unknown {\n		c.send(i, node.Command{ID: c.newID(c.tenures.vacancy()), Op: node.Release, Name: t.key, Token: t.token, By: 1 << 62})\n	}\n	switch t.phase {\n	case electing, raising:\n		b := t.ballot", "./supervisor TestUnknownGrantIsKeptUntilDecided"},

	// The queue.
	{"a reservation is counted as a vote", "a reservation is a promise, not a vote: only the answered claim counts", queue,
		"	b.claims = true\n", "	b.claims, b.granted, b.raised = true, kept, kept\n", "./supervisor TestReservationIsNoVote"},
	{"claimed before a quorum has reserved", "votes are not split", queue,
		"if t.promised(now).len() >= c.quorum {", "if t.promised(now).len() >= 1 {", "./supervisor TestClaimsWhenQuorumHasReserved"},
	{"a reservation that has lapsed counts", "PX of a few node timeouts", queue,
		"t.stand.kept.has(i) && t.votes[i].promise > now", "t.stand.kept.has(i)", "./supervisor TestReservationsLapse"},
	{"a new ticket for each attempt", "ordered by a ticket: the fence first proposed", queue,
		"queued, true, &standing{ticket: l.ticket}", "queued, true, &standing{ticket: uint64(now)}", "./supervisor TestLosersKeepTheirPlace"},
	{"a new waiter keeps the ticket that it brought", "ordered by a ticket that is the same on all nodes", queue,
		"	if !l.placed && ticket > s.ticket {", "	if false {", "./supervisor TestRefusedWaiterStandsInQueue"},
	{"a message that overtook an answer is forgotten", "a wake-up is only ever an optimisation", queue,
		"		t.again.add(i)\n	}\n}\n\n// reserved", "		t.again.del(i)\n	}\n}\n\n// reserved", "./supervisor TestMessageOvertakesAnswer"},
	{"nobody gives way", "all nodes use the same order, and votes are not split", queue,
		"s.first.len() < c.quorum && !s.gaveWay", "s.first.len() < 0", "./supervisor TestGivesWay"},
	{"a reservation for the holder counts at once", "counts again only when q other nodes have answered (why: a stale queue entry of the holder itself was reserved)", queue,
		"			c.suspectOf(now, t, i, &t.probation)\n", "", "./supervisor TestReservedForHolder"},
	{"news has a held lease claim", "counts again only when q other nodes have answered", queue,
		"	case held:\n		c.renewAnd(now, t, 1<<i)\n", "	case held:\n		c.claim(now, t, i)\n", "./supervisor TestNewsDuringLateGrant"},
	{"a winner stays in the queue", "winning removes the queue entry", hold,
		"			if c.leaveAll(now, t) != 0 {", "			if false {", "./supervisor TestReservedForHolder"},
	{"a cancelled waiter stays in the queue", "cancelling mid-way leaves nothing behind", releases,
		"Queued: t.stands(i), By: clock.Never", "By: clock.Never", "./supervisor TestCancelledWaiterLeavesQueues"},
	{"a waiter does not beat", "a heartbeat that lets the dead be skipped", queue,
		"	c.alarms.set(t, at)\n	for i := range", "	for i := range", "./supervisor TestBeat$"},
	{"a new subscription is not news", "after each rebuilding every waiter tries once", queue,
		"				c.enqueue(now, t, w.Node)\n", "", "./supervisor TestNewSubscription"},
	{"the last in line is served first, as played", "ordered by a ticket that is the same on all nodes", line,
		"		x := n.data.queues[k][0]\n", "		x := n.data.queues[k][len(n.data.queues[k])-1]\n", ""},
	{"the dead are not skipped, as played", "a heartbeat that lets the dead be skipped", line,
		"if x.alive < n.ms() || x.token != asker", "if x.token != asker && false || x.token != asker", ""},
	{"script: claim without compare", "a script: compare the token", script,
		"held == token or held == '?' .. token or not held and redis.call('EXISTS', name) == 0\n    local lined", "true\n    local lined", real},
	{"script: the dead are not skipped", "a heartbeat that lets the dead be skipped", script,
		"if space and alive and -alive > now and", "if space and alive and", real},
	{"script: the new do not stand behind", "ordered by a ticket", script,
		"ticket = mine or later[1] and string.format('%.0f', later[#later] + 1) or ticket\n", "ticket = mine or ticket\n", real + "/queue/the_new_stand_behind_all"},
	{"script: a raise tells what it has stored", "T is larger than what was stored", script,
		"    out[at+1] = redis.call('ZSCORE', fence, 'f') or ''\n    redis.call('ZADD', fence, 'GT', ARGV[3*i-1], 'f')", "    redis.call('ZADD', fence, 'GT', ARGV[3*i-1], 'f')\n    out[at+1] = redis.call('ZSCORE', fence, 'f') or ''", real + "/commands/raise"},
	{"script: reserved for who came last", "ordered by a ticket", script,
		"redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'LIMIT', 0, 1)[1]", "redis.call('ZREVRANGEBYSCORE', queue, '+inf', 0, 'LIMIT', 0, 1)[1]", real},
	{"script: a winner stays in the queue", "winning removes the queue entry", script,
		"      lined = redis.pcall('ZREM', queue, 'w' .. id, 'l' .. id)\n", "      lined = 0\n", real},
	{"script: a release hands nothing over", "release takes the first living waiter, reserves the key for it", script,
		"pcall(handOver, KEYS[i], KEYS[n+i])\n", "false\n", real + "/queue/in_the_order_of_tickets"}, // each of the others waits as long

	// The scripts, on a real server.
	{"script: release without compare", "compare-and-delete", script,
		"  if held[i] == ARGV[i+1] then\n    out[i+2] = 1\n  elseif held[i] or call", "  if held[i] then\n    out[i+2] = 1\n  elseif held[i] or call", real},
	{"script: renew without compare", "renew, where it still holds the token", script,
		"  if held[i] == ARGV[i+2] then", "  if held[i] then", real},
	{"script: raise without compare", "where the token still holds the key", script,
		"  elseif held == ARGV[3*i-2] then", "  elseif held then", real},
	{"script: raise lowers", "stores the larger of T and what is there", script,
		"    redis.call('ZADD', fence, 'GT', ARGV[3*i-1], 'f')", "    redis.call('ZADD', fence, ARGV[3*i-1], 'f')", real},
	{"script: heal says yes to another's key", "heal: grant it to this lease again, where it is absent", script,
		"  elseif not promised(held) and (held or redis.call('EXISTS', name) == 1) then\n    out[i+2] = 2\n  elseif kind", "  elseif false then\n    out[i+2] = 2\n  elseif kind", real},
	{"script: the marker is not written", "compares with the marker, and writes it there", script,
		"redis.call('SET', KEYS[1], marker)", "-- forgotten", real},
}
