package affinity

import (
	"strconv"

	"usher/internal/shared"
)

// Keys, after the prefix; B is the bucket of the name, in braces, so that all keys of
// one user are in one slot of a Cluster:
//
//	a:{B}NAME       hash: tag -> "EXPIRES HOST", ms since 1970
//	u:{B}NAME\0TAG  set: names of users, as Assignment.Users
//	h:{B}HOST       sorted set: NAME\0TAG by EXPIRES: who is on a host
//	n:{B}           set: the hosts that have such a set
const buckets = 32

// nearTrack is the part of keys whose changes are told.
const nearTrack = "a:"

// common are what scripts share. KEYS: a:{B}NAME, h:{B}, n:{B}, u:{B}NAME\0; ARGV:
// deadline, name.
const common = shared.Late + `
local function of(tag)
  local v = redis.call('HGET', KEYS[1], tag)
  if not v then return nil end
  local e, h = string.match(v, '^(%d+) (.*)$')
  if not e then return nil end -- nobody of usher wrote it
  return h, tonumber(e), tonumber(e) > now
end
local function forget(tag)
  local h = of(tag)
  if h then
    redis.call('ZREM', KEYS[2] .. h, ARGV[2] .. '\0' .. tag)
    redis.call('HDEL', KEYS[1], tag)
  end
end
local function put(tag, host, expires)
  local old = of(tag)
  if old and old ~= host then redis.call('ZREM', KEYS[2] .. old, ARGV[2] .. '\0' .. tag) end
  redis.call('HSET', KEYS[1], tag, string.format('%d', expires) .. ' ' .. host)
  if redis.call('PTTL', KEYS[1]) < expires - now then redis.call('PEXPIRE', KEYS[1], expires - now) end
  redis.call('ZADD', KEYS[2] .. host, expires, ARGV[2] .. '\0' .. tag)
  redis.call('SADD', KEYS[3], host)
  redis.call('PEXPIRE', KEYS[4] .. tag, expires - now)
end
`

var (
	// lookScript returns tag, host and ms to live of all that lives of a name.
	lookScript = shared.NewScript(common + `
local out = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local h, e, alive = of(all[i])
  if alive then
    out[#out + 1] = all[i]
    out[#out + 1] = h
    out[#out + 1] = e - now
  end
end
return out
`)
	// claimScript: ARGV tag, seen, host, life, and 1 where a new one may be
	// recorded. It returns the host, "" for none, and the ms that it lives.
	claimScript = shared.NewScript(common + `
local tag, seen, host, life = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local h, e, alive = of(tag)
if alive and h ~= host and h ~= seen then return {h, e - now} end
if not alive and ARGV[7] ~= '1' then return {'', 0} end
put(tag, host, now + life)
return {host, life}
`)
	// touchScript prolongs what lives on a host: ARGV tag, host, life.
	touchScript = shared.NewScript(common + `
local h, e, alive = of(ARGV[3])
if alive and h == ARGV[4] then put(ARGV[3], h, math.max(e, now + tonumber(ARGV[5]))) end
return 1
`)
	// refreshScript prolongs what lives of a name in every tag: ARGV life.
	refreshScript = shared.NewScript(common + `
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local h, e, alive = of(all[i])
  if alive then put(all[i], h, math.max(e, now + tonumber(ARGV[3]))) else forget(all[i]) end
end
return 1
`)
	// restoreScript records what a node knew while the store was away, where the
	// store has no other host by now: ARGV tag, host, ms to live. It returns the
	// host and the ms that it lives. Where the store knows as much, but for a
	// second, it writes nothing: all nodes would be told.
	restoreScript = shared.NewScript(common + `
local h, e, alive = of(ARGV[3])
local expires = now + tonumber(ARGV[5])
if alive and (h ~= ARGV[4] or e + 1000 > expires) then return {h, e - now} end
put(ARGV[3], ARGV[4], expires)
return {ARGV[4], expires - now}
`)
	// setScript records a host whatever stands: ARGV tag, host, life.
	setScript = shared.NewScript(common + `
put(ARGV[3], ARGV[4], now + tonumber(ARGV[5]))
return 1
`)
	// forgetScript: ARGV tag, host. 0: it is on another one.
	forgetScript = shared.NewScript(common + `
local h = of(ARGV[3])
if h ~= ARGV[4] then return 0 end
forget(ARGV[3])
redis.call('DEL', KEYS[4] .. ARGV[3])
return 1
`)
	// getScript: ARGV tag. It returns host, ms to live and users.
	getScript = shared.NewScript(common + `
local h, e, alive = of(ARGV[3])
if not alive then return {'', 0, {}} end
return {h, e - now, redis.call('SMEMBERS', KEYS[4] .. ARGV[3])}
`)
	// rememberScript: ARGV tag, user, most.
	rememberScript = shared.NewScript(common + `
local h, e, alive = of(ARGV[3])
local u = KEYS[4] .. ARGV[3]
if alive and redis.call('SCARD', u) < tonumber(ARGV[5]) then
  redis.call('SADD', u, ARGV[4])
  redis.call('PEXPIRE', u, e - now)
end
return 1
`)
	// countScript forgets what has expired of a bucket, a part at a time, and
	// returns each host with the number of its assignments. KEYS: h:{B}, n:{B};
	// ARGV: deadline.
	countScript = shared.NewScript(shared.Late + `
local out = {}
for _, host in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local old = redis.call('ZRANGEBYSCORE', KEYS[1] .. host, '-inf', now, 'LIMIT', 0, 1000)
  if #old > 0 then redis.call('ZREM', KEYS[1] .. host, unpack(old)) end
  local n = redis.call('ZCARD', KEYS[1] .. host)
  if n == 0 then redis.call('SREM', KEYS[2], host) end
  out[#out + 1] = host
  out[#out + 1] = string.format('%d', n)
end
return out
`)
)

func bucketOf(name string) string {
	return "{" + strconv.FormatUint(HashKey(name)%buckets, 10) + "}"
}

// call is a script's with the keys of a name.
func (v *Valkey) call(name string, args ...string) shared.Call {
	b := bucketOf(name)
	return shared.Call{
		Keys: []string{v.db.Key(nearTrack + b + name), v.db.Key("h:" + b), v.db.Key("n:" + b), v.db.Key("u:" + b + name + "\x00")},
		Args: append([]string{v.db.Deadline(), name}, args...),
	}
}
