// Package script holds the Lua scripts that run on the nodes, and what they
// answer. It is apart from package node so that nodetest, which acts them out in
// Go, knows them by the same names.
//
// Each script takes many names in one call. KEYS are all the names, then all their
// keys of the next kind, so that one command reads many; ARGV are those of the call,
// then those of each name. The answer is an array that begins with the node's TIME
// (seconds, microseconds; read once, because it moves within a script before Redis
// 7.2) and goes on with a fixed number of elements for each name, in the order of the
// names; but that to a renewal has those names alone which were not simply renewed.
// Names are read with MGET, which answers nil for a key of another type
// instead of failing the whole call.
//
// Waiters of a name stand in one sorted set, two members for each: "w", the inbox, a
// space and the token, with the ticket for a score; and the same after an "l", with
// the node's time in ms until which it counts as alive, made negative. So the first
// that is not negative is the next one. The value "?" and a token under the name
// is a reservation: a promise that the waiter with this token may claim the key.
// To a renewal and a heal such a key is absent, and to everything else it is another's
// value: nobody has it, and it must not keep a lease that a quorum keeps from being
// healed for as long as somebody waits.
//
// The value "!" and what the key held, a token and maybe its fence, is a key that was left:
// the lease is over, and the name stays taken until the key expires. To everything it is
// another's value, but to a Release of that very token: so an operator frees the name.
package script

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"time"
)

// A Script is one Lua script. Beside it stand the functions that encode its ARGV: of the
// call, named Call, and of each name, named Args; and where the elements of its answer
// are. So all that must fit its text is in one place.
type Script struct {
	Name   string
	Text   string
	SHA    string                     // what EVALSHA calls it by
	KeysOf []func(name string) string // the kinds of its KEYS
	Says   [Broken + 1]bool           // what it may say of a key
	Each   int                        // elements answered for each name, after the two of TIME
	Keys   int                        // KEYS for each name
	Call   int                        // ARGV of the call, before those of the names
	Args   int                        // ARGV for each name
	Hands  bool                       // it hands over, and so may say that this is Unfinished
}

// Millis is a time as it is sent, in ms.
type Millis string

// InMillis returns at least 1: a 0 would delete a key, or stand for something else.
func InMillis(d time.Duration) Millis {
	return Millis(strconv.FormatInt(max(1, d.Milliseconds()), 10))
}

// ReserveNothing is how long a reservation lasts if nothing is to be handed over.
const ReserveNothing Millis = "0"

// What a script says of a key.
const (
	Absent = 0 // there is no such key
	Ours   = 1 // it holds the token, and was changed as asked
	Other  = 2 // it holds something else, of whatever type
	Broken = 3 // the fence or the queue key is no sorted set, and the key is as it was

	// Unfinished is added to one of these if the key was to be handed over, and all of the
	// MaxLooks that stood first in the queue were dead, and were dropped. The next Release of
	// the name, by any client, goes on.
	Unfinished = 4
)

// Where the answer to one name has what. All begin with what the script says of the key,
// and four of them go on alike.
const (
	Says  = iota // instead of Other, Renew and Heal tell what the key holds, if that is a string: see Told
	Value        // of Inspect, Enqueue, Claim and Adopt: what the key holds, or an empty string
	Left         // of the same: the key's PTTL in ms as Redis tells it
	Fence        // of the same: the stored fence as a decimal string, or an empty string
	holding
)

// Told begins what a renewal or a heal tells of another's value, so that no other answer passes
// for one. MaxTold is how much of the value follows: more than a token has, and little enough
// if somebody else has made it very long.
const (
	Told    = "="
	MaxTold = 256
)

// fenced is a function that tells whether a key holds a token with a fence after it. Who
// holds the name is compared with the token first, which nearly always is all that there is.
const fenced = `
local function fenced(held, token)
  return held and string.sub(held, 1, #token + 1) == token .. '` + FenceMark + `'
end
`

// behind is a function that tells whether a key was left that held a token. It needs fenced.
const behind = `
local function behind(held, token)
  local was = held and string.sub(held, 1, 1) == '` + LeftMark + `' and string.sub(held, 2)
  return was and (was == token or fenced(was, token))
end
`

// others is a function that tells what a key holds which is another's.
var others = `
local function others(held)
  return held and '` + Told + `' .. string.sub(held, 1, ` + strconv.Itoa(MaxTold) + `) or 2
end
`

// MaxNames is how many names one call carries at most.
const MaxNames = 64

// Renew extends each key that still holds its token. KEYS: name. ARGV of the call: 1
// to read the keys once more, because a change ends their being tracked; TTL in ms; of a
// name: token. Answers how many names are Ours, and for each of the others, in their order,
// which of KEYS it is, from 1, and Absent or Other, see Says. Nearly always all are ours.
// How many is told all the same: an answer to something else must not pass for one that has
// no exception.
var Renew = define(Script{
	Name: "renew", KeysOf: kinds{Name}, Says: says(Absent, Other), Each: Says + 1,
	Call: len(RenewCall(nil, false, "")), Args: len(RenewArgs(nil, "")),
}, renewal("", "ARGV[i+2]"))

// RenewAll does the same for tokens that begin alike and are of one length, which is how
// nearly all are that one client has. They come as two texts: that costs both sides half as
// much. ARGV of the call: as of Renew; how the tokens begin; the rest of all of them, one
// after the other.
var RenewAll = define(Script{
	Name: "renew all", KeysOf: kinds{Name}, Says: says(Absent, Other), Each: Says + 1,
	Call: len(RenewAllCall(nil, false, "", "", "")),
}, renewal(`
local size = #ARGV[4] / #KEYS`, "ARGV[3] .. string.sub(ARGV[4], size * (i - 1) + 1, size * i)"))

// renewal is the text of both. token is that of the name with index i.
func renewal(before, token string) string {
	return promised + fenced + others + before + `
local out = redis.call('TIME')
local held = redis.call('MGET', unpack(KEYS))
out[3] = 0
for i, name in ipairs(KEYS) do
  local token = ` + token + `
  if held[i] == token or fenced(held[i], token) then
    redis.call('PEXPIRE', name, ARGV[2])
    out[3] = out[3] + 1
  else
    local says = 0
    if not promised(held[i]) and (held[i] or redis.call('EXISTS', name) == 1) then
      says = others(held[i])
    end
    out[#out+1] = i
    out[#out+1] = says
  end
end
if ARGV[1] == '1' then
  redis.call('MGET', unpack(KEYS))
end
return out
`
}

func RenewCall(to []string, readAgain bool, ttl Millis) []string {
	return append(to, flag(readAgain), string(ttl))
}
func RenewArgs(to []string, token string) []string { return append(to, token) }

func RenewAllCall(to []string, readAgain bool, ttl Millis, begin, rests string) []string {
	return append(to, flag(readAgain), string(ttl), begin, rests)
}

// Where the answer to a renewal has what, after the two of TIME. Which of KEYS it is and what is
// said of it follow for each of the others.
const (
	RenewOurs = iota
	RenewOthers
)

// MaxLooks is how many entries of queues one call looks at, whatever it does with them: so
// very many dead do not keep the server from everybody else. They cost about 2 µs each.
const MaxLooks = 500

// looks is how many entries this call may still look at.
var looks = `
local looks = ` + strconv.Itoa(MaxLooks) + `
`

// handOver is a function that reserves a key, which must be absent or the caller's to
// delete, for the first living waiter, and tells its inbox. It returns true if there is
// one, and as its second value true if it has found none among as many as it may look at, so
// that there may be more: see Unfinished. One whose heartbeat is past, or whose inbox
// nobody listens to, is dropped. The waiter counts as dead until its next heartbeat,
// so that one that does nothing costs a single reservation. self is the caller, if it
// waits: the answer tells it. It is called by pcall: what it may not do, for want of
// memory or of a right, or because the queue is none, must not fail what was asked.
// It needs now, the node's time in ms, and reserve, for how long in ms. Nearly always the
// first one is alive, so it looks at one, then at ten, then at a hundred at a time.
//
// A release with a fence gives the key to that waiter instead, if the fence is larger than what
// its register has stored, and the waiter's heartbeat lasts for as long as a reservation. Then
// the key holds the waiter's token for as long as that, so that a dead one costs no more, and
// the message is a Gift. All that may fail comes before the message: the waiter that hears it counts on
// the key. The marker goes into the message, and is no key of the call. A server of a cluster that
// a proxy hides does not let a script read what is of another slot: then the key is reserved. So it
// is for waiters after one that does not listen: there may be very many of these, and to
// give costs more.
var handOver = looks + `
local function handOver(name, queue, self, fence, register)
  local some, raised, marker = 1, false, nil
  while looks > 0 do
    some = math.min(some, looks)
    local first = redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'LIMIT', 0, some)
    local dead, living = {}, nil
    for _, member in ipairs(first) do
      looks = looks - 1
      local id = string.sub(member, 2)
      local space = string.find(id, ' ', 1, true)
      local alive = redis.call('ZSCORE', queue, 'l' .. id)
      if space and alive and -alive > now then
        local inbox, token = string.sub(id, 1, space - 1), string.sub(id, space + 1)
        if fence and -alive - now >= tonumber(reserve) then
          marker = marker or redis.pcall('GET', '` + Marker + `') or ''
          raised = raised or type(marker) == 'string' and redis.pcall('ZADD', register, 'GT', 'CH', fence, 'f') == 1
        end
        if raised and -alive - now >= tonumber(reserve) then
          redis.call('SET', name, token .. '+' .. fence, 'PX', reserve)
          redis.call('ZREM', queue, member, 'l' .. id)
          local gift = '?1 ' .. fence .. ' ' .. string.format('%.0f %.0f %.0f', -alive, now, now + reserve) .. ' ' .. #token .. ' ' .. token
          if redis.call('PUBLISH', inbox, gift .. marker) > 0 then
            living = id
            break
          end
          fence, raised = nil, false
        elseif id == self or redis.call('PUBLISH', inbox, token) > 0 then
          living = id
          redis.call('SET', name, '?' .. token, 'PX', reserve)
          redis.call('ZADD', queue, -now, 'l' .. id)
          break
        end
      end
      dead[#dead+1], dead[#dead+2] = member, 'l' .. id
    end
    if dead[1] then
      redis.call('ZREM', queue, unpack(dead))
    end
    if living or #first < some then
      return living ~= nil
    end
    some = math.min(10 * some, 100)
  end
  return false, true
end
`

// bury is a function that drops those from a queue whose heartbeat is past, wherever they
// stand: a queue in use does not grow, also if its name is never free. One for whom the key is
// reserved counts as dead, and must still be seen to stand before the others: so they are
// dropped once they have been dead for as long as a reservation lasts. It needs now, looks
// and reserve.
const bury = `
local function bury(queue)
  local dead = redis.call('ZRANGEBYSCORE', queue, reserve - now, '(0', 'LIMIT', 0, looks)
  local n = #dead
  if n > 0 then
    looks = looks - n
    for i = 1, n do
      dead[n+i] = 'w' .. string.sub(dead[i], 2)
    end
    redis.call('ZREM', queue, unpack(dead))
  end
end
`

// promised is a function that tells a reservation from the values of other clients.
const promised = `
local function promised(held)
  return held and string.find(held, '^%?.+/%w+$')
end
`

// misused is a function that tells whether what pcall has returned says that a key is
// of another type. To ask for the type before would cost as much as to do it.
const misused = `
local function misused(said)
  return type(said) == 'table' and said.err and string.find(said.err, 'WRONGTYPE', 1, true)
end
`

// clock is the node's time in ms.
const clock = `
local now = out[1] * 1000 + math.floor(out[2] / 1000)
`

// Release deletes each key that still holds its token, or was left with it, and hands over those
// that are absent then, or gives them away. KEYS: name, queue key, fence key. ARGV of the call: how long
// a reservation lasts in ms, 0 to hand over nothing; of a name: token, and the fence with which
// the key may be given to a waiter, or 0. Answers for each name: Absent, Ours
// (it was deleted) or Other. A name must not stand twice in one call: all reads come
// before the first deletion. Names that nobody waits for, which are nearly all, are to
// pay for no more than one EXISTS.
var Release = define(Script{
	Name: "release", KeysOf: kinds{Name, QueueKey, FenceKey}, Says: says(Absent, Ours, Other), Each: Says + 1,
	Call: len(ReleaseCall(nil, "")), Args: len(ReleaseArgs(nil, "", 0)), Hands: true,
}, fenced+behind+`
local call = redis.call
local out = call('TIME')
local n = #KEYS / 3
local held = call('MGET', unpack(KEYS, 1, n))
local mine, handed, rest
for i = 1, n do
  local token = ARGV[2*i]
  if held[i] == token or fenced(held[i], token) then
    out[i+2] = 1
  elseif behind(held[i], token) then
    out[i+2] = 1
  elseif held[i] or call('EXISTS', KEYS[i]) == 1 then
    out[i+2] = 2
  else
    out[i+2] = 0
  end
end
local reserve = ARGV[1]
if reserve ~= '0' and call('EXISTS', unpack(KEYS, n + 1, 2 * n)) > 0 then
`+clock+handOver+`
  handed, rest = {}, {}
  for i = 1, n do
    if out[i+2] ~= 2 then
      local fence = out[i+2] == 1 and ARGV[2*i+1]
      local done, said, more = pcall(handOver, KEYS[i], KEYS[n+i], nil, fence ~= '0' and fence, KEYS[2*n+i])
      handed[i] = done and said
      if done and more then
        rest[#rest+1] = i + 2
      end
    end
  end
end
for i = 1, n do
  if out[i+2] == 1 and not (handed and handed[i]) then
    if mine then
      mine[#mine+1] = KEYS[i]
    else
      mine = {KEYS[i]}
    end
  end
end
if mine then
  call('DEL', unpack(mine))
end
if rest then
  for _, i in ipairs(rest) do
    out[i] = out[i] + 4
  end
end
return out
`)

func ReleaseCall(to []string, reserve Millis) []string { return append(to, string(reserve)) }
func ReleaseArgs(to []string, token string, fence uint64) []string {
	return append(to, token, decimal(fence))
}

// Leave takes each token out of its queue, and hands over a key that was reserved for
// it, or is absent. KEYS: name, queue key, fence key. ARGV of the call: the inbox; how long a
// reservation lasts in ms, 0 to hand over nothing; of a name: token; 1 if a key that holds the
// token, or was left with it, is to be released as well; and the fence with which that may be given, or 0. Answers for each name: Absent, Ours
// (the key held the token, or a reservation for it, or was left with it and is released) or Other.
var Leave = define(Script{
	Name: "leave", KeysOf: kinds{Name, QueueKey, FenceKey}, Says: says(Absent, Ours, Other), Each: Says + 1,
	Call: len(LeaveCall(nil, "", "")), Args: len(LeaveArgs(nil, "", false, 0)), Hands: true,
}, fenced+behind+`
local out = redis.call('TIME')
local n = #KEYS / 3
local held = redis.call('MGET', unpack(KEYS, 1, n))
local inbox, reserve = ARGV[1], ARGV[2]
`+clock+handOver+`
for i = 1, n do
  local name, queue, token = KEYS[i], KEYS[n+i], ARGV[3*i]
  local id = inbox .. ' ' .. token
  redis.pcall('ZREM', queue, 'w' .. id, 'l' .. id)
  local absent, mine, handed = false, false, false
  if held[i] == '?' .. token then
    out[i+2] = 1
    redis.call('DEL', name)
    absent = true
  elseif held[i] == token or fenced(held[i], token) then
    out[i+2] = 1
    mine = ARGV[3*i+1] == '1'
  elseif ARGV[3*i+1] == '1' and behind(held[i], token) then
    out[i+2] = 1
    mine = true
  elseif held[i] or redis.call('EXISTS', name) == 1 then
    out[i+2] = 2
  else
    out[i+2] = 0
    absent = true
  end
  if (absent or mine) and reserve ~= '0' then
    local fence = mine and ARGV[3*i+2]
    local done, said, more = pcall(handOver, name, queue, nil, fence ~= '0' and fence, KEYS[2*n+i])
    handed = done and said
    if done and more then
      out[i+2] = out[i+2] + 4
    end
  end
  if mine and not handed then
    redis.call('DEL', name)
  end
end
return out
`)

func LeaveCall(to []string, inbox string, reserve Millis) []string {
	return append(to, inbox, string(reserve))
}
func LeaveArgs(to []string, token string, release bool, fence uint64) []string {
	return append(to, token, flag(release), decimal(fence))
}

// Vacate marks each key that still holds its token as left, has it live for a time, and tells
// nobody. One that was left with the token gets that time as well: a server that was stopped may
// have been told so late that the time it was given then is too long. It takes the token out of its
// queue in any case. KEYS: name, queue key. ARGV of the
// call: the inbox; of a name: token; for how long the key is left, in ms. Answers for each name:
// Absent, Ours (it was left) or Other.
var Vacate = define(Script{
	Name: "vacate", KeysOf: kinds{Name, QueueKey}, Says: says(Absent, Ours, Other), Each: Says + 1,
	Call: len(VacateCall(nil, "")), Args: len(VacateArgs(nil, "", "")),
}, fenced+behind+`
local out = redis.call('TIME')
local n = #KEYS / 2
for i = 1, n do
  local name, token = KEYS[i], ARGV[2*i]
  local id = ARGV[1] .. ' ' .. token
  redis.pcall('ZREM', KEYS[n+i], 'w' .. id, 'l' .. id)
  local held = redis.call('MGET', name)[1]
  if held == token or fenced(held, token) then
    redis.call('SET', name, '`+LeftMark+`' .. held, 'PX', ARGV[2*i+1])
    out[i+2] = 1
  elseif behind(held, token) then
    redis.call('PEXPIRE', name, ARGV[2*i+1])
    out[i+2] = 1
  elseif held or redis.call('EXISTS', name) == 1 then
    out[i+2] = 2
  else
    out[i+2] = 0
  end
end
return out
`)

func VacateCall(to []string, inbox string) []string { return append(to, inbox) }
func VacateArgs(to []string, token string, left Millis) []string {
	return append(to, token, string(left))
}

// Raise stores the larger of a fence and the stored one, for each name whose key
// still holds its token, and has the key tell the fence. KEYS: name, fence key. ARGV: token,
// fence, and for how long the key is to live then in ms, or KeepTTL. Answers for each name:
// Absent, Ours, Other or Broken; the fence that was stored before, if Ours, as a decimal string,
// or an empty string.
var Raise = define(Script{
	Name: "raise", KeysOf: kinds{Name, FenceKey}, Says: says(Absent, Ours, Other, Broken), Each: RaiseBefore + 1,
	Args: len(RaiseArgs(nil, "", 0, "")),
}, fenced+`
local out = redis.call('TIME')
local n = #KEYS / 2
for i = 1, n do
  local name, fence = KEYS[i], KEYS[n+i]
  local token, proposed, ttl = ARGV[3*i-2], ARGV[3*i-1], ARGV[3*i]
  local held = redis.call('MGET', name)[1]
  local mine = held == token or fenced(held, token)
  local kind = redis.call('TYPE', fence).ok
  local at = 2 * i + 1
  out[at+1] = ''
  if mine and kind ~= 'zset' and kind ~= 'none' then
    out[at] = 3
  elseif mine then
    out[at+1] = redis.call('ZSCORE', fence, 'f') or ''
    redis.call('ZADD', fence, 'GT', proposed, 'f')
    redis.call('SET', name, token .. '+' .. proposed, 'KEEPTTL')
    if ttl ~= '0' then
      redis.call('PEXPIRE', name, ttl)
    end
    out[at] = 1
  elseif held or redis.call('EXISTS', name) == 1 then
    out[at] = 2
  else
    out[at] = 0
  end
end
return out
`)

func RaiseArgs(to []string, token string, fence uint64, ttl Millis) []string {
	return append(to, token, decimal(fence), string(ttl))
}

// KeepTTL leaves the expiry of a key as it is.
const KeepTTL Millis = "0"

// RaiseBefore is where a Raise answers the fence that was stored before.
const RaiseBefore = Says + 1

// Inspect reads the holder of each name. KEYS: name, fence key, queue key. ARGV of the call: 1
// to be brief.
// Answers for each name: Absent, Ours (a string, of any client) or Other (another type);
// the value, or an empty string; the key's PTTL in ms as Redis tells it; the stored
// fence as a decimal string, or an empty string; how many wait and are alive: one for
// whom the key is reserved is so from its next heartbeat. A brief answer has -2 for the PTTL, an
// empty string for the fence, and 0 for how many wait for an absent key: they are not read.
// Of 20 names, 18 of them held, that takes 22 commands instead of 123.
var Inspect = define(Script{
	Name: "inspect", KeysOf: kinds{Name, FenceKey, QueueKey}, Says: says(Absent, Ours, Other), Each: InspectWaiting + 1,
	Call: len(InspectCall(nil, false)),
}, `
local out = redis.call('TIME')
`+clock+`
local n = #KEYS / 3
if ARGV[1] == '1' then
  local held = redis.call('MGET', unpack(KEYS, 1, n))
  local living = string.format('(%.0f', -now)
  for i = 1, n do
    local at = 5 * i - 2
    out[at], out[at+1], out[at+2], out[at+3], out[at+4] = 0, held[i] or '', -2, '', 0
    if held[i] or redis.call('EXISTS', KEYS[i]) == 1 then
      out[at] = held[i] and 1 or 2
      local waiting = redis.pcall('ZCOUNT', KEYS[2*n+i], '-inf', living)
      out[at+4] = type(waiting) == 'number' and waiting or 0
    end
  end
  return out
end
for i = 1, n do
  local name, fence, queue = KEYS[i], KEYS[n+i], KEYS[2*n+i]
  local held = redis.call('MGET', name)[1]
  local at = 5 * i - 2
  if held then
    out[at] = 1
  elseif redis.call('EXISTS', name) == 1 then
    out[at] = 2
  else
    out[at] = 0
  end
  out[at+1] = held or ''
  out[at+2] = redis.call('PTTL', name)
  if redis.call('TYPE', fence).ok == 'zset' then
    out[at+3] = redis.call('ZSCORE', fence, 'f') or ''
  else
    out[at+3] = ''
  end
  if redis.call('TYPE', queue).ok == 'zset' then
    out[at+4] = redis.call('ZCOUNT', queue, '-inf', string.format('(%.0f', -now))
  else
    out[at+4] = 0
  end
end
return out
`)

func InspectCall(to []string, brief bool) []string { return append(to, flag(brief)) }

// InspectWaiting is where an Inspect answers how many wait.
const InspectWaiting = holding

// Enqueue puts each token into its queue, or refreshes its heartbeat there, unless the
// key holds it; drops some of the dead; and hands over a key that is absent. One that is new
// stands after all others, whatever its ticket. KEYS: name, fence key, queue key. ARGV of the call: the
// inbox; how long a reservation lasts in ms, 0 to hand over nothing; how long the
// heartbeat counts in ms; of a name: token, ticket, and 1 if it is new. Answers for
// each name: Ours (the key is reserved for the token, or holds it), Other (it is not)
// or Broken; value, PTTL and fence as Inspect does; how many stand before it; its
// ticket here as a decimal string, or an empty string if it is not in the queue; the node's time
// in ms until which its heartbeat counts, or 0 likewise.
var Enqueue = define(Script{
	Name: "enqueue", KeysOf: kinds{Name, FenceKey, QueueKey}, Says: says(Ours, Other, Broken), Each: enqueueEach,
	Call: len(EnqueueCall(nil, "", "", "")), Args: len(EnqueueArgs(nil, "", 0, false)), Hands: true,
}, misused+fenced+`
local out = redis.call('TIME')
local n = #KEYS / 3
local inbox, reserve, alive = ARGV[1], ARGV[2], tonumber(ARGV[3])
`+clock+handOver+bury+`
for i = 1, n do
  local name, fence, queue = KEYS[i], KEYS[n+i], KEYS[2*n+i]
  local token, ticket = ARGV[3*i+1], ARGV[3*i+2]
  local id = inbox .. ' ' .. token
  local held = redis.call('MGET', name)[1]
  local mine = held == token or fenced(held, token)
  local at = 7 * i - 4
  local place = redis.pcall('ZSCORE', queue, 'w' .. id)
  if misused(place) then
    out[at], out[at+1], out[at+2], out[at+3], out[at+4], out[at+5], out[at+6] = 3, '', -2, '', 0, '', 0
  elseif type(place) == 'table' then
    return place
  else
    local more
    out[at+4], out[at+5], out[at+6] = 0, '', 0
    if not mine then
      if ARGV[3*i+3] == '1' then
        local later = place and 0 or redis.call('ZCOUNT', queue, ticket, '+inf')
        if later > 0 then
          local last = redis.call('ZRANGEBYSCORE', queue, ticket, '+inf', 'WITHSCORES', 'LIMIT', later - 1, 1)
          ticket = string.format('%.0f', last[2] + 1)
        end
        ticket = place or ticket
      end
      redis.call('ZADD', queue, ticket, 'w' .. id, -now - alive, 'l' .. id)
      bury(queue)
      out[at+5], out[at+6] = ticket, now + alive
      if redis.call('PTTL', queue) < alive then
        redis.call('PEXPIRE', queue, alive)
      end
      if not held and reserve ~= '0' and redis.call('EXISTS', name) == 0 then
        local done, _, rest = pcall(handOver, name, queue, id)
        more = done and rest
        held = redis.call('MGET', name)[1]
      end
      out[at+4] = redis.call('ZRANK', queue, 'w' .. id) - redis.call('ZCOUNT', queue, '-inf', '(0')
    end
    out[at] = ((mine or held == '?' .. token) and 1 or 2) + (more and 4 or 0)
    out[at+1] = held or ''
    out[at+2] = redis.call('PTTL', name)
    local stored = redis.pcall('ZSCORE', fence, 'f')
    out[at+3] = type(stored) == 'string' and stored or ''
  end
end
return out
`)

func EnqueueCall(to []string, inbox string, reserve, alive Millis) []string {
	return append(to, inbox, string(reserve), string(alive))
}
func EnqueueArgs(to []string, token string, ticket uint64, isNew bool) []string {
	return append(to, token, decimal(ticket), flag(isNew))
}

// Where an Enqueue answers more than Inspect does.
const (
	EnqueueAhead = holding + iota
	EnqueueTicket
	EnqueueUntil
	enqueueEach
)

// Claim grants each key to its token, if it is absent, or reserved for the token,
// or holds it already, takes the token out of its queue then, and proposes the fence in
// any case; even if it is Broken, when the queue key is. KEYS: name, fence key, queue key.
// ARGV of the call: the inbox; of a name: token, TTL in ms, fence, which the key tells then.
// Answers for each name: Ours, Other or Broken; value and PTTL as Inspect does, if Other; the stored fence; how many stand
// before it, if Other; 1 if the fence was raised.
var Claim = define(Script{
	Name: "claim", KeysOf: kinds{Name, FenceKey, QueueKey}, Says: says(Ours, Other, Broken), Each: claimEach,
	Call: len(ClaimCall(nil, "")), Args: len(ClaimArgs(nil, "", "", 0)),
}, misused+fenced+`
local out = redis.call('TIME')
local n = #KEYS / 3
for i = 1, n do
  local name, fence, queue = KEYS[i], KEYS[n+i], KEYS[2*n+i]
  local token, ttl, proposed = ARGV[3*i-1], ARGV[3*i], ARGV[3*i+1]
  local id = ARGV[1] .. ' ' .. token
  local at = 6 * i - 3
  out[at], out[at+1], out[at+2], out[at+3], out[at+4], out[at+5] = 3, '', -2, '', 0, 0
  local raised = redis.pcall('ZADD', fence, 'GT', 'CH', proposed, 'f')
  if not misused(raised) then
    if type(raised) == 'table' then
      return raised
    end
    local held = redis.call('MGET', name)[1]
    local free = held == token or fenced(held, token) or held == '?' .. token or
      not held and redis.call('EXISTS', name) == 0
    local lined
    if free then
      lined = redis.pcall('ZREM', queue, 'w' .. id, 'l' .. id)
    else
      lined = redis.pcall('ZRANK', queue, 'w' .. id)
    end
    if not misused(lined) then
      if type(lined) == 'table' then
        return lined
      end
      if free then
        local life, told = ttl, proposed
        if held and held ~= '?' .. token then
          -- It is ours already. A claim that comes late, over a connection that was given up,
          -- must not take from what a raise has given it since: a longer life, a larger fence.
          life = math.max(tonumber(ttl), redis.call('PTTL', name))
          local has = string.sub(held, #token + 2)
          if (tonumber(has) or 0) > tonumber(proposed) then
            told = has
          end
        end
        redis.call('SET', name, token .. '+' .. told, 'PX', life)
        out[at] = 1
      else
        out[at], out[at+1], out[at+2] = 2, held or '', redis.call('PTTL', name)
        if lined then
          out[at+4] = lined - redis.call('ZCOUNT', queue, '-inf', '(0')
        end
      end
      out[at+5] = raised
      out[at+3] = raised == 1 and proposed or redis.call('ZSCORE', fence, 'f')
    end
  end
end
return out
`)

func ClaimCall(to []string, inbox string) []string { return append(to, inbox) }
func ClaimArgs(to []string, token string, ttl Millis, fence uint64) []string {
	return append(to, token, string(ttl), decimal(fence))
}

// Where a Claim answers more than Inspect does.
const (
	ClaimAhead = holding + iota
	ClaimRaised
	claimEach
)

// Heal grants each key to its lease again, if it is absent or reserved, with the lease's
// own fence. KEYS: name, fence key. ARGV: token, TTL in ms, fence, and what the key holds after
// the token. Answers for each name: Ours, Other, see Says, or Broken.
var Heal = define(Script{
	Name: "heal", KeysOf: kinds{Name, FenceKey}, Says: says(Ours, Other, Broken), Each: Says + 1,
	Args: len(HealArgs(nil, "", "", 0, "")),
}, promised+fenced+others+`
local out = redis.call('TIME')
local n = #KEYS / 2
for i = 1, n do
  local name, fence = KEYS[i], KEYS[n+i]
  local token, ttl = ARGV[4*i-3], ARGV[4*i-2]
  local held = redis.call('MGET', name)[1]
  local kind = redis.call('TYPE', fence).ok
  if held == token or fenced(held, token) then
    redis.call('PEXPIRE', name, ttl)
    out[i+2] = 1
  elseif not promised(held) and (held or redis.call('EXISTS', name) == 1) then
    out[i+2] = others(held)
  elseif kind ~= 'zset' and kind ~= 'none' then
    out[i+2] = 3
  else
    redis.call('SET', name, token .. ARGV[4*i], 'PX', ttl)
    redis.call('ZADD', fence, 'GT', ARGV[4*i-1], 'f')
    out[i+2] = 1
  end
end
return out
`)

func HealArgs(to []string, token string, ttl Millis, fence uint64, suffix string) []string {
	return append(to, token, string(ttl), decimal(fence), suffix)
}

// Adopt gives each key that holds the former token, or its own already, to its token, and
// proposes the fence then, which the key tells. It shortens no expiry: the former holder may
// count on it. KEYS: name, fence key. ARGV: token, former token, TTL in ms, fence. Answers for
// each name: Absent, Ours, Other or Broken; what the
// key holds, if Other and a string, or an empty string; its PTTL as Inspect does, from
// before the change, but -2 if it held its own token: that TTL was not the former's; the
// stored fence; 1 if the fence was raised. The fence comes first, because it tells whether
// it can be kept at all.
var Adopt = define(Script{
	Name: "adopt", KeysOf: kinds{Name, FenceKey}, Says: says(Absent, Ours, Other, Broken), Each: AdoptRaised + 1,
	Args: len(AdoptArgs(nil, "", "", "", 0)),
}, misused+fenced+`
local out = redis.call('TIME')
local n = #KEYS / 2
for i = 1, n do
  local name, fence = KEYS[i], KEYS[n+i]
  local token, former, ttl, proposed = ARGV[4*i-3], ARGV[4*i-2], tonumber(ARGV[4*i-1]), ARGV[4*i]
  local held = redis.call('MGET', name)[1]
  local mine = held == token or fenced(held, token)
  local at = 5 * i - 2
  out[at], out[at+1], out[at+2], out[at+3], out[at+4] = 0, '', redis.call('PTTL', name), '', 0
  if mine or held == former or fenced(held, former) then
    local raised = redis.pcall('ZADD', fence, 'GT', 'CH', proposed, 'f')
    if misused(raised) then
      out[at], out[at+2] = 3, -2
    elseif type(raised) == 'table' then
      return raised
    else
      redis.call('SET', name, token .. '+' .. proposed, 'PX', math.max(ttl, out[at+2]))
      out[at], out[at+4] = 1, raised
      if mine then
        out[at+2] = -2
      end
    end
  elseif held or redis.call('EXISTS', name) == 1 then
    out[at], out[at+1] = 2, held or ''
  end
  local stored = redis.pcall('ZSCORE', fence, 'f')
  out[at+3] = type(stored) == 'string' and stored or ''
end
return out
`)

func AdoptArgs(to []string, token, former string, ttl Millis, fence uint64) []string {
	return append(to, token, former, string(ttl), decimal(fence))
}

// AdoptRaised is where an Adopt answers whether the fence was raised.
const AdoptRaised = holding

// Enrol compares the server's incarnation with its marker, and writes it there. A life
// begins now if it is another, and also if there is none: what has forgotten its marker
// may have forgotten a grant with it, however long the server has been up. The largest
// MaxTTL stays over that as long as the marker does, and so do the floor and the change.
//
// Data that has no identity gets the one that the client knows: it was emptied, and is known by it
// to all others. If the client knows none, it gets one that is made of the life. So it is seen
// that nobody who knew the former one was there first. Whoever comes later in this life puts the
// former one in its place, as long as the life is not grown. Then the life begins again, so that
// all enrol again, and none goes on with what was made.
//
// KEYS: the marker, what is grown, the identity. ARGV: the incarnation; our MaxTTL in ms; the
// identity that the client knows, or an empty string. Answers TIME, the marker, 1 if this life is
// grown, and the identity.
var Enrol = define(Script{
	Name: "enrol", KeysOf: kinds{always(Marker), always(Grown), always(Identity)}, Says: says(), Each: enrolEach,
	Args: len(EnrolArgs(nil, "", 0, "")),
}, `
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000000 + t[2])
local before = redis.call('GET', KEYS[1])
local run, since, most, more = string.match(before or '', '^(%S+) (%d+) ?(%d*)(.*)$')
if more and more ~= '' and (most == '' or not string.find(more, '^ %d+$') and not string.find(more, '^ %d+ [123] %S+$')) then
  run, most, more = nil, nil, nil
end
if run ~= ARGV[1] then
  since = now
end
if (tonumber(most) or 0) < tonumber(ARGV[2]) then
  most = ARGV[2]
end
local life = ARGV[1] .. ' ' .. since
local identity, known, grown = redis.call('GET', KEYS[3]), ARGV[3], redis.call('GET', KEYS[2])
local made = string.sub(redis.sha1hex(life), 1, `+strconv.Itoa(LenIdentity)+`)
local given = identity or known ~= '' and known or made
if identity == made and known ~= '' and known ~= made and grown ~= life then
  given, life = known, ARGV[1] .. ' ' .. now
end
if given ~= identity then
  redis.call('SET', KEYS[3], given)
end
local marker = life .. ' ' .. (tonumber(most) and most or '0') .. (more or '')
if marker ~= before then
  redis.call('SET', KEYS[1], marker)
end
return {t[1], t[2], marker, grown == life and 1 or 0, given}
`)

// LenIdentity is how long an identity is that is made of a life.
const LenIdentity = 12

func EnrolArgs(to []string, incarnation string, maxTTL time.Duration, known string) []string {
	return append(to, incarnation, strconv.FormatInt(maxTTL.Milliseconds(), 10), known)
}

// Where an Enrol answers what. It says nothing of a key.
const (
	EnrolMarker = iota
	EnrolGrown
	EnrolIdentity
	enrolEach
)

// Advance puts a marker into the place of the one that the client was told when it enrolled. KEYS:
// the marker. ARGV: that; what it is to be. Answers Ours if the marker was the one that was told,
// else Absent or Other: it was lost, or another client has changed it.
var Advance = define(Script{
	Name: "advance", KeysOf: kinds{always(Marker)}, Says: says(Absent, Ours, Other), Each: Says + 1,
	Args: len(AdvanceArgs(nil, "", "")),
}, `
local out = redis.call('TIME')
local marker = redis.call('GET', KEYS[1])
if marker == ARGV[1] then
  if ARGV[2] ~= marker then
    redis.call('SET', KEYS[1], ARGV[2])
  end
  out[3] = 1
else
  out[3] = marker and 2 or 0
end
return out
`)

func AdvanceArgs(to []string, told, next string) []string { return append(to, told, next) }

// Sign leaves an entry, and reads all that count. KEYS: the marker, what is grown, the entries.
// ARGV: the entry; for how long it counts in ms; the life that is grown, or an empty string: it is
// written only if that is the present one; for how long the entry counts already in ms. Answers
// Ours, and the entries, that of the client last: each is followed by a space, the time in ms since when it counts without
// a break, a space and its score, and a line feed stands between them. What is grown comes first:
// a key of another type in the place of the entries must not keep the node young.
//
// Beside each entry stands another member, with the same score: "@", since when, a space and the
// entry. An entry without one is of a client of an earlier state, and counts since it was seen
// first, which is before the one that sees it. What a client holds comes and goes, so of entries
// that tell the same two electorates the first says since when. Clients of an earlier state read
// no such member, and no entry of two electorates: none of these begins with a digit.
var Sign = define(Script{
	Name: "sign", KeysOf: kinds{always(Marker), always(Grown), always(Clients)}, Says: says(Ours), Each: SignEntries + 1,
	Args: len(SignArgs(nil, "", "", "", 0)),
}, `
local out = redis.call('TIME')
local now = out[1] * 1000 + math.floor(out[2] / 1000)
local entry, alive, entries = ARGV[1], tonumber(ARGV[2]), KEYS[3]
if ARGV[3] ~= '' then
  local marker = redis.call('GET', KEYS[1])
  if marker and string.sub(marker, 1, #ARGV[3] + 1) == ARGV[3] .. ' ' then
    redis.call('SET', KEYS[2], ARGV[3])
  end
end
redis.call('ZREMRANGEBYSCORE', entries, '-inf', now)
local function told(text)
  return string.match(text, '^>%S+') or text
end
local all = redis.call('ZRANGEBYSCORE', entries, '-inf', '+inf', 'WITHSCORES')
local first, ends = now - ARGV[4], now + alive
local since, scores, lines = {}, {}, {}
for i = 1, #all, 2 do
  local began, of = string.match(all[i], '^@(%d+) (.+)$')
  if of then
    since[of] = math.min(since[of] or began, began)
    if told(of) == told(entry) then
      first = math.min(first, began)
    end
  elseif all[i] == entry then
    ends = math.max(ends, all[i+1])
  end
  scores[all[i]] = tonumber(all[i+1])
end
since[entry] = first
for i = 1, #all, 2 do
  local began, of = string.match(all[i], '^@(%d+) (.+)$')
  if of then
    if tonumber(began) ~= since[of] then
      redis.call('ZREM', entries, all[i])
    end
  elseif all[i] ~= entry then
    local text = string.format('%.0f', since[all[i]] or now - 1)
    local beside = '@' .. text .. ' ' .. all[i]
    if (scores[beside] or 0) < scores[all[i]] then
      redis.call('ZADD', entries, all[i+1], beside)
    end
    lines[#lines+1] = all[i] .. ' ' .. text .. ' ' .. all[i+1]
  end
end
local text = string.format('%.0f', first)
redis.call('ZADD', entries, ends, entry, ends, '@' .. text .. ' ' .. entry)
if redis.call('PTTL', entries) < alive then
  redis.call('PEXPIRE', entries, ARGV[2])
end
lines[#lines+1] = entry .. ' ' .. text .. ' ' .. string.format('%.0f', ends)
out[3], out[4] = 1, table.concat(lines, '\n')
return out
`)

func SignArgs(to []string, entry string, counts Millis, grown string, age time.Duration) []string {
	return append(to, entry, string(counts), grown, strconv.FormatInt(age.Milliseconds(), 10))
}

// SignEntries is where a Sign answers the entries.
const SignEntries = Says + 1

// All lists every script.
var All = []Script{Renew, RenewAll, Release, Vacate, Leave, Raise, Inspect, Enqueue, Claim, Heal, Adopt, Sign, Enrol, Advance}

func define(s Script, text string) Script {
	sum := sha1.Sum([]byte(text))
	s.Text, s.SHA, s.Keys = text, hex.EncodeToString(sum[:]), len(s.KeysOf)
	return s
}

type kinds = []func(name string) string

// always is a key of the node itself.
func always(key string) func(string) string { return func(string) string { return key } }

func says(all ...int) (may [Broken + 1]bool) {
	for _, is := range all {
		may[is] = true
	}
	return may
}

func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
