---@meta nauthilus_redis
-- Written by make generate: do not edit.

---A Redis that was registered by `register_redis_pool`: the first argument of each function.
---@class nauthilus_redis_connection

---Redis or Valkey: what all ushers share. Needs `director.network: true`. The first argument, `handle`, says which server:
---`"default"` is that of the configuration's section `redis`, another is what `get_redis_connection` returned; anything else
---means the default too. A function returns nil and a text when it fails, `"redis: nil"` where there is no such key, field
---or member. A call ends after three quarters of what is left of `director.timeout`, so that the policy can still decide. Of
---a server that answered nobody for a while one call at a time waits, and the others fail at once. Reads are tried again on
---a new connection, writes never. Values are strings, numbers (written without an exponent), booleans (1 and 0) or nil (an
---empty text). An empty table of keys or values is no error: nothing is asked.
---@class nauthilus_redislib
nauthilus_redis = {}

---Makes another Redis known under a name, which init scripts do; it is connected when it is first asked. `address` and
---`addresses` are `host:port` or `unix:/path`; `pool_size` is how many connections are kept to each server, 16 at most;
---`min_idle_conns` means nothing. A name that is taken returns nil and an error. At most 64 pools, which live until the next
---reload.
---
---```lua
---local redis = require("nauthilus_redis")
---local ok = redis.register_redis_pool("sessions", "standalone", {address = "192.0.2.20:6379", db = 2})
---print(ok) --> OK
---print(redis.register_redis_pool("sessions", "standalone", {address = "192.0.2.21:6379"})) --> nil	a pool of that name is registered already
---```
---@param name string
---@param kind "standalone"|"cluster"|"sentinel"|"sentinel_replica"
---@param options {address?: string, addresses?: string[], master_name?: string, sentinel_username?: string, sentinel_password?: string, username?: string, password?: string, db?: integer, pool_size?: integer, min_idle_conns?: integer, tls_enabled?: boolean, tls_cert_file?: string, tls_key_file?: string}
---@return "OK"? ok
---@return string? err
function nauthilus_redis.register_redis_pool(name, kind, options) end

---The handle of a pool, for the other functions; `"default"` is the configuration's. Nil and a text where no pool of that
---name is registered.
---
---```lua
---local redis = require("nauthilus_redis")
---local handle, err = redis.get_redis_connection("nothing")
---print(handle, err) --> nil	no pool "nothing" is registered
---```
---@param name string
---@return nauthilus_redis_connection? handle
---@return string? err
function nauthilus_redis.get_redis_connection(name) end

---Asks the server whether it is there.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_ping("default")) --> PONG	nil
---```
---@param handle any
---@return "PONG"? pong
---@return string? err
function nauthilus_redis.redis_ping(handle) end

---The value of a key, as a string unless `kind` says otherwise. Of an empty value nil, without an error.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "greeting", "hello")
---print(redis.redis_get("default", "greeting")) --> hello	nil
---print(redis.redis_get("default", "nothing")) --> nil	redis: nil
---```
---@param handle any
---@param key string
---@param kind? "string"|"number"|"bool"
---@return string|number|boolean|nil value
---@return string? err
function nauthilus_redis.redis_get(handle, key, kind) end

---Sets a key, for so many seconds or with Redis' own options. Returns `"OK"`; with `get` the value before; nil without an
---error where `nx` or `xx` refuses.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_set("default", "lock", request.session, {nx = true, ex = 30})) --> OK	nil
---print(redis.redis_set("default", "lock", "another", {nx = true, ex = 30})) --> nil	nil
---```
---@param handle any
---@param key string
---@param value any
---@param options? number|{nx?: boolean, xx?: boolean, get?: boolean, keepttl?: boolean, ex?: integer, px?: integer, exat?: integer, pxat?: integer}
---@return string? ok
---@return string? err
function nauthilus_redis.redis_set(handle, key, value, options) end

---Removes a key, and returns how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "k", 1)
---print(redis.redis_del("default", "k")) --> 1	nil
---```
---@param handle any
---@param key string
---@return integer? removed
---@return string? err
function nauthilus_redis.redis_del(handle, key) end

---1 where the key is there, else 0.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_exists("default", "nothing")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_exists(handle, key) end

---Adds one and returns the sum; what is not there counts as 0.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_incr("default", "logins")) --> 1	nil
---```
---@param handle any
---@param key string
---@return integer? value
---@return string? err
function nauthilus_redis.redis_incr(handle, key) end

---Lets a key end in so many seconds. False where it is not there.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "k", 1)
---print(redis.redis_expire("default", "k", 60)) --> true	nil
---```
---@param handle any
---@param key string
---@param seconds integer
---@return boolean? done
---@return string? err
function nauthilus_redis.redis_expire(handle, key, seconds) end

---Gives a key another name. One of that name is overwritten.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "a", 1)
---print(redis.redis_rename("default", "a", "b")) --> OK	nil
---```
---@param handle any
---@param from string
---@param to string
---@return "OK"? ok
---@return string? err
function nauthilus_redis.redis_rename(handle, from, to) end

---The values of several keys, by key; those that are not there are not in it. In a Cluster the keys must share a slot.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_mset("default", {a = 1, b = 2})
---local values = redis.redis_mget("default", "a", "b", "c")
---print(values.a, values.b, values.c) --> 1	2	nil
---```
---@param handle any
---@param keys string|string[]
---@param ... string
---@return table<string, string>? values
---@return string? err
function nauthilus_redis.redis_mget(handle, keys, ...) end

---Sets several keys: a table, or keys and values in turn. In a Cluster the keys must share a slot.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_mset("default", "a", 1, "b", 2)) --> OK	nil
---```
---@param handle any
---@param values string|table<string, any>
---@param ... any
---@return "OK"? ok
---@return string? err
function nauthilus_redis.redis_mset(handle, values, ...) end

---All keys like a pattern, in no order. It stops a big server for a while: `redis_scan` does not. In a Cluster those of one
---node.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "user:alice", 1)
---print(redis.redis_keys("default", "user:*")[1]) --> user:alice
---```
---@param handle any
---@param pattern string
---@return string[]? keys
---@return string? err
function nauthilus_redis.redis_keys(handle, pattern) end

---Some of the keys like a pattern, about `count` (10), and the cursor to go on with; 0 is the beginning and, as an answer,
---the end. In a Cluster those of one node.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "user:alice", 1)
---local page = redis.redis_scan("default", 0, "user:*", 100)
---print(page.cursor, page.keys[1]) --> 0	user:alice
---```
---@param handle any
---@param cursor? integer
---@param pattern? string
---@param count? integer
---@return {cursor: integer, keys: string[]}? page
---@return string? err
function nauthilus_redis.redis_scan(handle, cursor, pattern, count) end

---The value of a field, as a string unless `kind` says otherwise. Of an empty value nil, without an error.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_hset("default", "user:alice", "host", "192.0.2.11")
---print(redis.redis_hget("default", "user:alice", "host")) --> 192.0.2.11	nil
---print(redis.redis_hget("default", "user:alice", "site")) --> nil	redis: nil
---```
---@param handle any
---@param key string
---@param field string
---@param kind? "string"|"number"|"bool"
---@return string|number|boolean|nil value
---@return string? err
function nauthilus_redis.redis_hget(handle, key, field, kind) end

---Sets fields: a table, or names and values in turn. Returns how many are new.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hset("default", "user:alice", {host = "192.0.2.11", site = "north"})) --> 2	nil
---```
---@param handle any
---@param key string
---@param fields string|table<string, any>
---@param ... any
---@return integer? added
---@return string? err
function nauthilus_redis.redis_hset(handle, key, fields, ...) end

---Removes fields, and returns how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_hset("default", "h", "a", 1)
---print(redis.redis_hdel("default", "h", "a", "b")) --> 1	nil
---```
---@param handle any
---@param key string
---@param fields string|string[]
---@param ... string
---@return integer? removed
---@return string? err
function nauthilus_redis.redis_hdel(handle, key, fields, ...) end

---How many fields there are.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hlen("default", "nothing")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_hlen(handle, key) end

---All fields and their values; an empty table where there is no such key.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_hset("default", "h", {a = 1})
---print(redis.redis_hgetall("default", "h").a) --> 1
---```
---@param handle any
---@param key string
---@return table<string, string>? fields
---@return string? err
function nauthilus_redis.redis_hgetall(handle, key) end

---The values of several fields, by field; those that are not there are not in it.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_hset("default", "h", {a = 1, b = 2})
---local values = redis.redis_hmget("default", "h", {"a", "c"})
---print(values.a, values.c) --> 1	nil
---```
---@param handle any
---@param key string
---@param fields string|string[]
---@param ... string
---@return table<string, string>? values
---@return string? err
function nauthilus_redis.redis_hmget(handle, key, fields, ...) end

---Adds to a field and returns the sum.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hincrby("default", "counts", "logins", 5)) --> 5	nil
---```
---@param handle any
---@param key string
---@param field string
---@param by integer
---@return integer? value
---@return string? err
function nauthilus_redis.redis_hincrby(handle, key, field, by) end

---Adds to a field and returns the sum.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hincrbyfloat("default", "counts", "load", 0.5)) --> 0.5	nil
---```
---@param handle any
---@param key string
---@param field string
---@param by number
---@return number? value
---@return string? err
function nauthilus_redis.redis_hincrbyfloat(handle, key, field, by) end

---Whether there is such a field.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hexists("default", "h", "a")) --> false	nil
---```
---@param handle any
---@param key string
---@param field string
---@return boolean? there
---@return string? err
function nauthilus_redis.redis_hexists(handle, key, field) end

---Adds members to a set, and returns how many are new.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_sadd("default", "users", "alice", "bob")) --> 2	nil
---```
---@param handle any
---@param key string
---@param members any
---@param ... any
---@return integer? added
---@return string? err
function nauthilus_redis.redis_sadd(handle, key, members, ...) end

---Removes members, and returns how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_sadd("default", "users", "alice")
---print(redis.redis_srem("default", "users", {"alice", "bob"})) --> 1	nil
---```
---@param handle any
---@param key string
---@param members any
---@param ... any
---@return integer? removed
---@return string? err
function nauthilus_redis.redis_srem(handle, key, members, ...) end

---How many members a set has.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_scard("default", "nothing")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_scard(handle, key) end

---Whether a set has a member.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_sadd("default", "moved", request.account)
---print(redis.redis_sismember("default", "moved", "alice@example.org")) --> true	nil
---```
---@param handle any
---@param key string
---@param member any
---@return boolean? there
---@return string? err
function nauthilus_redis.redis_sismember(handle, key, member) end

---All members, in no order.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_sadd("default", "users", "alice")
---print(#redis.redis_smembers("default", "users")) --> 1
---```
---@param handle any
---@param key string
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_smembers(handle, key) end

---Counts values in a HyperLogLog. 1 where that changed the estimate, else 0.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_pfadd("default", "clients", request.client_ip)) --> 1	nil
---```
---@param handle any
---@param key string
---@param values any
---@param ... any
---@return integer? changed
---@return string? err
function nauthilus_redis.redis_pfadd(handle, key, values, ...) end

---About how many different values were counted.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_pfadd("default", "clients", "192.0.2.7", "192.0.2.8")
---print(redis.redis_pfcount("default", "clients")) --> 2	nil
---```
---@param handle any
---@param keys string|string[]
---@param ... string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_pfcount(handle, keys, ...) end

---Makes one HyperLogLog of several.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_pfadd("default", "monday", "192.0.2.7")
---print(redis.redis_pfmerge("default", "week", "monday", "tuesday")) --> OK	nil
---```
---@param handle any
---@param into string
---@param keys string|string[]
---@param ... string
---@return "OK"? ok
---@return string? err
function nauthilus_redis.redis_pfmerge(handle, into, keys, ...) end

---Sets the scores of members: a table of scores by member, or members and scores in turn. Returns how many are new.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zadd("default", "load", {["192.0.2.11"] = 5, ["192.0.2.12"] = 3})) --> 2	nil
---```
---@param handle any
---@param key string
---@param members string|table<string, number>
---@param ... any
---@return integer? added
---@return string? err
function nauthilus_redis.redis_zadd(handle, key, members, ...) end

---Removes members, and returns how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", "a", 1)
---print(redis.redis_zrem("default", "load", "a", "b")) --> 1	nil
---```
---@param handle any
---@param key string
---@param members any
---@param ... any
---@return integer? removed
---@return string? err
function nauthilus_redis.redis_zrem(handle, key, members, ...) end

---How many members have a score from `min` to `max`; `"-inf"`, `"+inf"` and `"(5"` (without 5) as in Redis.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1, b = 5})
---print(redis.redis_zcount("default", "load", 1, "(5")) --> 1	nil
---```
---@param handle any
---@param key string
---@param min number|string
---@param max number|string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_zcount(handle, key, min, max) end

---The score of a member.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1.5})
---print(redis.redis_zscore("default", "load", "a")) --> 1.5	nil
---```
---@param handle any
---@param key string
---@param member string
---@return number? score
---@return string? err
function nauthilus_redis.redis_zscore(handle, key, member) end

---The place of a member, 0 has the lowest score.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1, b = 5})
---print(redis.redis_zrank("default", "load", "b")) --> 1	nil
---```
---@param handle any
---@param key string
---@param member string
---@return integer? rank
---@return string? err
function nauthilus_redis.redis_zrank(handle, key, member) end

---The place of a member, 0 has the highest score.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1, b = 5})
---print(redis.redis_zrevrank("default", "load", "b")) --> 0	nil
---```
---@param handle any
---@param key string
---@param member string
---@return integer? rank
---@return string? err
function nauthilus_redis.redis_zrevrank(handle, key, member) end

---Adds to a member's score and returns the sum.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zincrby("default", "load", 2, "192.0.2.11")) --> 2	nil
---```
---@param handle any
---@param key string
---@param by number
---@param member string
---@return number? score
---@return string? err
function nauthilus_redis.redis_zincrby(handle, key, by, member) end

---Removes the members with a score from `min` to `max`, and returns how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "seen", {old = 1, new = 9})
---print(redis.redis_zremrangebyscore("default", "seen", "-inf", 5)) --> 1	nil
---```
---@param handle any
---@param key string
---@param min number|string
---@param max number|string
---@return integer? removed
---@return string? err
function nauthilus_redis.redis_zremrangebyscore(handle, key, min, max) end

---Removes the members at places `from` to `to`; -1 is the last. Returns how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "seen", {old = 1, new = 9})
---print(redis.redis_zremrangebyrank("default", "seen", 0, 0)) --> 1	nil
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return integer? removed
---@return string? err
function nauthilus_redis.redis_zremrangebyrank(handle, key, from, to) end

---The members at places `from` to `to`, the lowest score first; -1 is the last.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1, b = 5})
---print(table.concat(redis.redis_zrange("default", "load", 0, -1), " ")) --> a b
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_zrange(handle, key, from, to) end

---The members at places `from` to `to`, the highest score first; -1 is the last.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1, b = 5})
---print(table.concat(redis.redis_zrevrange("default", "load", 0, -1), " ")) --> b a
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_zrevrange(handle, key, from, to) end

---The members with a score from `min` to `max`, the lowest first; with `limit` only some of them. Offset and count may be
---two numbers too.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "load", {a = 1, b = 5, c = 7})
---print(table.concat(redis.redis_zrangebyscore("default", "load", 2, "+inf", {offset = 0, count = 1}), " ")) --> b
---```
---@param handle any
---@param key string
---@param min number|string
---@param max number|string
---@param limit? integer|{offset?: integer, count?: integer}
---@param count? integer
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_zrangebyscore(handle, key, min, max, limit, count) end

---Puts values before a list, one after the other, and returns its length.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_lpush("default", "queue", "a", "b")) --> 2	nil
---```
---@param handle any
---@param key string
---@param values any
---@param ... any
---@return integer? length
---@return string? err
function nauthilus_redis.redis_lpush(handle, key, values, ...) end

---Puts values behind a list, and returns its length.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_rpush("default", "queue", {"a", "b"})) --> 2	nil
---```
---@param handle any
---@param key string
---@param values any
---@param ... any
---@return integer? length
---@return string? err
function nauthilus_redis.redis_rpush(handle, key, values, ...) end

---Takes the first value of a list.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_rpush("default", "queue", "a", "b")
---print(redis.redis_lpop("default", "queue")) --> a	nil
---```
---@param handle any
---@param key string
---@return string? value
---@return string? err
function nauthilus_redis.redis_lpop(handle, key) end

---Takes the last value of a list.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_rpush("default", "queue", "a", "b")
---print(redis.redis_rpop("default", "queue")) --> b	nil
---```
---@param handle any
---@param key string
---@return string? value
---@return string? err
function nauthilus_redis.redis_rpop(handle, key) end

---The values at places `from` to `to`; 0 is the first, -1 the last.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_rpush("default", "queue", "a", "b", "c")
---print(table.concat(redis.redis_lrange("default", "queue", 1, -1), " ")) --> b c
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return string[]? values
---@return string? err
function nauthilus_redis.redis_lrange(handle, key, from, to) end

---The length of a list.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_llen("default", "nothing")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? length
---@return string? err
function nauthilus_redis.redis_llen(handle, key) end

---Gives Redis a script of up to 256 KiB, which `redis_run_script` then runs by its name. The name is kept, for all requests
---until the next reload, even where the server is away just now. At most 256 names. Without a name Redis gets it, and it is
---run by its `sha1` in Redis alone.
---
---```lua
---local redis = require("nauthilus_redis")
---local sha1, err = redis.redis_upload_script("default", "return redis.call('INCR', KEYS[1])", "Count")
---print(sha1) --> 61636018f4e6b5817b89791bbed242f93fa089e3
---print(redis.redis_run_script("default", "", "Count", {"logins"}, {})) --> 1	nil
---```
---@param handle any
---@param source string
---@param name? string
---@return string? sha1
---@return string? err
function nauthilus_redis.redis_upload_script(handle, source, name) end

---Runs a script in Redis, in one step that nobody comes between: the one that was uploaded under `name`, or, where that is
---`""` or nil, `source`. A Redis that has forgotten it gets it again. In a Cluster all keys must share a slot. `args` is a
---table, or several values.
---
---```lua
---local redis = require("nauthilus_redis")
---local host = redis.redis_run_script("default", [[
---  redis.call("SET", KEYS[1], ARGV[1], "NX")
---  return redis.call("GET", KEYS[1])
---]], "", {"user:" .. request.account}, "192.0.2.11")
---print(host) --> 192.0.2.11
---```
---@param handle any
---@param source string
---@param name string?
---@param keys string[]
---@param args any
---@param ... any
---@return any reply
---@return string? err
function nauthilus_redis.redis_run_script(handle, source, name, keys, args, ...) end

---Sends up to 1000 commands at once and returns what came of each, in their order. A command is a list: its name without
---`redis_`, then its arguments without the handle; `zadd` takes key, score, member, `set` no other option than seconds,
---`run_script` source, name, keys, arguments. Where nothing is there `ok` is true and there is no value; `mget` and `hmget`
---are lists without what is not there. If the first command to fail has a real error, the whole call returns nil and that
---error.
---
---```lua
---local redis = require("nauthilus_redis")
---local results, err = redis.redis_pipeline("default", "write", {
---  {"hset", "user:alice", "host", "192.0.2.11"},
---  {"expire", "user:alice", 3600},
---  {"hget", "user:alice", "host"},
---})
---if not results then error(err) end
---print(#results, results[1].value, results[2].value, results[3].value) --> 3	1	true	192.0.2.11
---```
---@param handle any
---@param mode "read"|"write"
---@param commands any[][]
---@return {ok: boolean, value?: any, err?: string}[]? results
---@return string? err
function nauthilus_redis.redis_pipeline(handle, mode, commands) end

return nauthilus_redis
