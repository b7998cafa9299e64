// Package script holds the Lua scripts that run on the nodes, and what they
// answer. It is apart from package node so that nodetest, which acts them out in
// Go, knows them by the same names.
//
// Each script takes many names in one call. Its answer is an array that begins
// with the node's TIME (seconds, microseconds; read once, because it moves within
// a script before Redis 7.2) and goes on with a fixed number of elements for each
// name, in the order of the names. Names are read with MGET, which answers nil for
// a key of another type instead of failing the whole call.
package script

import (
	"crypto/sha1"
	"encoding/hex"
)

// A Script is one Lua script.
type Script struct {
	Name string
	Text string
	SHA  string // what EVALSHA calls it by
	Each int    // elements answered for each name, behind the two of TIME
	Keys int    // KEYS for each name
	Args int    // ARGV for each name
}

// What a script says of a key.
const (
	Absent = 0 // there is no such key
	Ours   = 1 // it holds the token, and was changed as asked
	Other  = 2 // it holds something else, of whatever type
	Broken = 3 // of Raise and Heal: the fence key is no sorted set, and nothing was changed
)

// Member is the one member of a fence's sorted set; its score is the fence.
const Member = "f"

// FenceKey returns the key that keeps the highest fence known for a lock key. The
// braces put it into the lock key's slot on a server that is a cluster.
func FenceKey(name string) string { return "leasehold:{" + name + "}:fence" }

// Marker is the key that tells which incarnation of a node's data this is.
const Marker = "leasehold:incarnation"

// MaxNames is how many names one call carries at most.
const MaxNames = 64

// Renew extends each key that still holds its token. KEYS: name. ARGV: token,
// TTL in ms. Answers for each name: Absent, Ours or Other.
var Renew = define("renew", 1, 1, 2, `
local t = redis.call('TIME')
local held = redis.call('MGET', unpack(KEYS))
local out = {t[1], t[2]}
for i, name in ipairs(KEYS) do
  if held[i] == ARGV[2*i-1] then
    redis.call('PEXPIRE', name, ARGV[2*i])
    out[i+2] = 1
  elseif held[i] or redis.call('EXISTS', name) == 1 then
    out[i+2] = 2
  else
    out[i+2] = 0
  end
end
return out
`)

// Release deletes each key that still holds its token. KEYS: name. ARGV: token.
// Answers for each name: Absent, Ours (it was deleted) or Other. A name must not
// stand twice in one call: all reads come before the first deletion.
var Release = define("release", 1, 1, 1, `
local t = redis.call('TIME')
local held = redis.call('MGET', unpack(KEYS))
local out, mine = {t[1], t[2]}, {}
for i, name in ipairs(KEYS) do
  if held[i] == ARGV[i] then
    mine[#mine+1] = name
    out[i+2] = 1
  elseif held[i] or redis.call('EXISTS', name) == 1 then
    out[i+2] = 2
  else
    out[i+2] = 0
  end
end
if #mine > 0 then
  redis.call('DEL', unpack(mine))
end
return out
`)

// Raise stores the larger of a fence and the stored one, for each name whose key
// still holds its token. KEYS: name, fence key. ARGV: token, fence, retention in
// ms. Answers for each name: Absent, Ours, Other or Broken.
var Raise = define("raise", 1, 2, 3, `
local t = redis.call('TIME')
local out = {t[1], t[2]}
for i = 1, #KEYS / 2 do
  local name, fence = KEYS[2*i-1], KEYS[2*i]
  local held = redis.call('MGET', name)[1]
  local kind = redis.call('TYPE', fence).ok
  if held == ARGV[3*i-2] and kind ~= 'zset' and kind ~= 'none' then
    out[i+2] = 3
  elseif held == ARGV[3*i-2] then
    redis.call('ZADD', fence, 'GT', ARGV[3*i-1], 'f')
    redis.call('PEXPIRE', fence, ARGV[3*i])
    out[i+2] = 1
  elseif held or redis.call('EXISTS', name) == 1 then
    out[i+2] = 2
  else
    out[i+2] = 0
  end
end
return out
`)

// Inspect reads who holds each name. KEYS: name, fence key. No ARGV. Answers for
// each name: Absent, Ours (a string, whoever's) or Other (another type); the
// value, or an empty string; the key's PTTL in ms as Redis tells it; the stored
// fence as a decimal string, or an empty string.
var Inspect = define("inspect", 4, 2, 0, `
local t = redis.call('TIME')
local out = {t[1], t[2]}
for i = 1, #KEYS / 2 do
  local name = KEYS[2*i-1]
  local held = redis.call('MGET', name)[1]
  local at = 4 * i - 1
  if held then
    out[at] = 1
  elseif redis.call('EXISTS', name) == 1 then
    out[at] = 2
  else
    out[at] = 0
  end
  out[at+1] = held or ''
  out[at+2] = redis.call('PTTL', name)
  if redis.call('TYPE', KEYS[2*i]).ok == 'zset' then
    out[at+3] = redis.call('ZSCORE', KEYS[2*i], 'f') or ''
  else
    out[at+3] = ''
  end
end
return out
`)

// Heal grants each key to its lease again, where it is absent, with the lease's
// own fence. KEYS: name, fence key. ARGV: token, TTL in ms, fence, retention in ms.
// Answers for each name: Ours, Other or Broken.
var Heal = define("heal", 1, 2, 4, `
local t = redis.call('TIME')
local out = {t[1], t[2]}
for i = 1, #KEYS / 2 do
  local name, fence = KEYS[2*i-1], KEYS[2*i]
  local token, ttl = ARGV[4*i-3], ARGV[4*i-2]
  local held = redis.call('MGET', name)[1]
  local kind = redis.call('TYPE', fence).ok
  if held == token then
    redis.call('PEXPIRE', name, ttl)
    out[i+2] = 1
  elseif held or redis.call('EXISTS', name) == 1 then
    out[i+2] = 2
  elseif kind ~= 'zset' and kind ~= 'none' then
    out[i+2] = 3
  else
    redis.call('SET', name, token, 'NX', 'PX', ttl)
    redis.call('ZADD', fence, 'GT', ARGV[4*i-1], 'f')
    redis.call('PEXPIRE', fence, ARGV[4*i])
    out[i+2] = 1
  end
end
return out
`)

// Enrol compares the server's incarnation with its marker, and writes it there.
// The marker is the incarnation, a space, and the server time in microseconds since
// when it counts as young. KEYS: the marker. ARGV: the incarnation; how many
// microseconds ago it began, if there is no marker. Answers TIME and the marker.
var Enrol = define("enrol", 1, 1, 2, `
local t = redis.call('TIME')
local marker = redis.call('GET', KEYS[1])
if marker and string.sub(marker, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
  return {t[1], t[2], marker}
end
local since = t[1] * 1000000 + t[2]
if not marker then
  since = since - ARGV[2]
end
marker = ARGV[1] .. ' ' .. string.format('%.0f', since)
redis.call('SET', KEYS[1], marker)
return {t[1], t[2], marker}
`)

// All lists every script.
var All = []Script{Renew, Release, Raise, Inspect, Heal, Enrol}

func define(name string, each, keys, args int, text string) Script {
	sum := sha1.Sum([]byte(text))
	return Script{Name: name, Text: text, SHA: hex.EncodeToString(sum[:]), Each: each, Keys: keys, Args: args}
}
