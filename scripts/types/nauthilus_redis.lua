---@meta nauthilus_redis
-- Written by make generate: do not edit.

---A pool, as the first argument of the functions.
---@class nauthilus_redis_connection

---Redis or Valkey: the server of the section `redis`, and pools that scripts register. Needs `director.network: true`. The
---first argument is the handle: `"default"`, or what `get_redis_connection` returned; anything else means default too. What
---is not there is nil and `redis: nil`; what fails is nil and a text. A call ends after three quarters of what is left of
---`director.timeout`, so that the policy can still decide.
---@class nauthilus_redislib
nauthilus_redis = {}

---The pool that a script registered under that name.
---
---```lua
---local redis = require("nauthilus_redis")
---local pool, err = redis.get_redis_connection("sessions")
---print(pool) --> nil
---```
---@param name string
---@return userdata? pool
---@return string? err
function nauthilus_redis.get_redis_connection(name) end

---Registers a pool, best in an init script: it stays until the next reload. `"OK"`; nil and a text if there is one of that
---name. Nothing is connected yet.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.register_redis_pool("sessions", "standalone", {address = "127.0.0.1:6379"})) --> OK	nil
---```
---@param name string
---@param kind "standalone"|"cluster"|"sentinel"|"sentinel_replica"
---@param options {address?: string, addresses?: string[], master_name?: string, sentinel_username?: string, sentinel_password?: string, username?: string, password?: string, db?: integer, pool_size?: integer, min_idle_conns?: integer, tls_enabled?: boolean, tls_cert_file?: string, tls_key_file?: string}
---@return string? ok
---@return string? err
function nauthilus_redis.register_redis_pool(name, kind, options) end

---`PONG`.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_ping("default")) --> PONG	nil
---```
---@param handle any
---@return string? pong
---@return string? err
function nauthilus_redis.redis_ping(handle) end

---The value of a key. An empty one is nil without an error.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "n", 5)
---print(redis.redis_get("default", "n", "number") + 1) --> 6
---```
---@param handle any
---@param key string
---@param type? "string"|"number"|"bool"
---@return any value
---@return string? err
function nauthilus_redis.redis_get(handle, key, type) end

---Sets a key; a number is the seconds that it lives. Refused by `nx` or `xx`: nil without an error. With `get`: the value
---before.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_set("default", "k", "v", {nx = true})) --> OK	nil
---```
---@param handle any
---@param key string
---@param value string|number|boolean
---@param options? integer|{nx?: boolean, xx?: boolean, get?: boolean, keepttl?: boolean, ex?: integer, px?: integer, exat?: integer, pxat?: integer}
---@return string? ok
---@return string? err
function nauthilus_redis.redis_set(handle, key, value, options) end

---Deletes; how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_del("default", "k")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_del(handle, key) end

---1 if the key is there, else 0.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_exists("default", "k")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_exists(handle, key) end

---Adds one; the new value.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_incr("default", "n")) --> 1	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_incr(handle, key) end

---Lets a key live that long; false if it is not there.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_expire("default", "k", 60)) --> false	nil
---```
---@param handle any
---@param key string
---@param seconds integer
---@return boolean? set
---@return string? err
function nauthilus_redis.redis_expire(handle, key, seconds) end

---Gives a key another name.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "a", "1")
---print(redis.redis_rename("default", "a", "b")) --> OK	nil
---```
---@param handle any
---@param from string
---@param to string
---@return string? ok
---@return string? err
function nauthilus_redis.redis_rename(handle, from, to) end

---The values of several keys, by key; those that are not there are left out.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_set("default", "a", "1")
---print(redis.redis_mget("default", "a", "b").a) --> 1
---```
---@param handle any
---@param ... string|string[]
---@return table<string, string>? values
---@return string? err
function nauthilus_redis.redis_mget(handle, ...) end

---Sets several keys: `key, value, …` or a table.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_mset("default", {a = 1, b = 2})) --> OK	nil
---```
---@param handle any
---@param ... string|table<string, string>
---@return string? ok
---@return string? err
function nauthilus_redis.redis_mset(handle, ...) end

---The keys that fit a pattern. It keeps a large server busy: use scan.
---
---```lua
---local redis = require("nauthilus_redis")
---print(#redis.redis_keys("default", "*")) --> 0
---```
---@param handle any
---@param pattern string
---@return string[]? keys
---@return string? err
function nauthilus_redis.redis_keys(handle, pattern) end

---A page of the keys that fit a pattern. Begin with the cursor 0; it is 0 again at the end.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_scan("default", 0, "*", 10).cursor) --> 0
---```
---@param handle any
---@param cursor integer
---@param pattern? string
---@param count? integer
---@return {cursor: integer, keys: string[]}? page
---@return string? err
function nauthilus_redis.redis_scan(handle, cursor, pattern, count) end

---A field of a hash. One that is not there: nil, `redis: nil`.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hget("default", "h", "f")) --> nil	redis: nil
---```
---@param handle any
---@param key string
---@param field string
---@param type? "string"|"number"|"bool"
---@return any value
---@return string? err
function nauthilus_redis.redis_hget(handle, key, field, type) end

---Sets fields of a hash: `field, value, …` or a table; how many were new.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hset("default", "h", {a = 1, b = 2})) --> 2	nil
---```
---@param handle any
---@param key string
---@param ... string|number|table
---@return integer? added
---@return string? err
function nauthilus_redis.redis_hset(handle, key, ...) end

---Deletes fields; how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hdel("default", "h", "a", "b")) --> 0	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? n
---@return string? err
function nauthilus_redis.redis_hdel(handle, key, ...) end

---How many fields a hash has.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hlen("default", "h")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_hlen(handle, key) end

---All fields of a hash; `{}` if it is not there.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_hset("default", "h", "a", 1)
---print(redis.redis_hgetall("default", "h").a) --> 1
---```
---@param handle any
---@param key string
---@return table<string, string>? fields
---@return string? err
function nauthilus_redis.redis_hgetall(handle, key) end

---Several fields of a hash, by name; those that are not there are left out.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_hset("default", "h", "a", 1)
---print(redis.redis_hmget("default", "h", "a", "b").a) --> 1
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return table<string, string>? values
---@return string? err
function nauthilus_redis.redis_hmget(handle, key, ...) end

---Adds to a field; the new value.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hincrby("default", "h", "n", 2)) --> 2	nil
---```
---@param handle any
---@param key string
---@param field string
---@param n integer
---@return integer? value
---@return string? err
function nauthilus_redis.redis_hincrby(handle, key, field, n) end

---Adds to a field; the new value.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hincrbyfloat("default", "h", "x", 0.5)) --> 0.5	nil
---```
---@param handle any
---@param key string
---@param field string
---@param n number
---@return number? value
---@return string? err
function nauthilus_redis.redis_hincrbyfloat(handle, key, field, n) end

---Whether a hash has a field.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_hexists("default", "h", "f")) --> false	nil
---```
---@param handle any
---@param key string
---@param field string
---@return boolean? there
---@return string? err
function nauthilus_redis.redis_hexists(handle, key, field) end

---Adds members to a set; how many were new.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_sadd("default", "s", "a", "b")) --> 2	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? added
---@return string? err
function nauthilus_redis.redis_sadd(handle, key, ...) end

---Removes members; how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_srem("default", "s", "a")) --> 0	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? n
---@return string? err
function nauthilus_redis.redis_srem(handle, key, ...) end

---How many members a set has.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_scard("default", "s")) --> 0	nil
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
---print(redis.redis_sismember("default", "s", "a")) --> false	nil
---```
---@param handle any
---@param key string
---@param member string
---@return boolean? there
---@return string? err
function nauthilus_redis.redis_sismember(handle, key, member) end

---All members of a set, in no order.
---
---```lua
---local redis = require("nauthilus_redis")
---print(#redis.redis_smembers("default", "s")) --> 0
---```
---@param handle any
---@param key string
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_smembers(handle, key) end

---Adds members with scores to a sorted set: `{member = score}` or `member, score, …`; how many were new. In a pipeline it is
---`key, score, member`.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zadd("default", "z", {a = 1, b = 2})) --> 2	nil
---```
---@param handle any
---@param key string
---@param ... table<string, number>|string|number
---@return integer? added
---@return string? err
function nauthilus_redis.redis_zadd(handle, key, ...) end

---Removes members; how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zrem("default", "z", "a")) --> 0	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? n
---@return string? err
function nauthilus_redis.redis_zrem(handle, key, ...) end

---How many members have a score from min to max; `-inf`, `(5` and the like will do.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zcount("default", "z", "-inf", 5)) --> 0	nil
---```
---@param handle any
---@param key string
---@param min number|string
---@param max number|string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_zcount(handle, key, min, max) end

---A member's score; `nil, redis: nil` if it is not there.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "z", "a", 1.5)
---print(redis.redis_zscore("default", "z", "a")) --> 1.5	nil
---```
---@param handle any
---@param key string
---@param member string
---@return number? score
---@return string? err
function nauthilus_redis.redis_zscore(handle, key, member) end

---A member's place, from 0, the lowest score first.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zrank("default", "z", "a")) --> nil	redis: nil
---```
---@param handle any
---@param key string
---@param member string
---@return integer? rank
---@return string? err
function nauthilus_redis.redis_zrank(handle, key, member) end

---A member's place, from 0, the highest score first.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zrevrank("default", "z", "a")) --> nil	redis: nil
---```
---@param handle any
---@param key string
---@param member string
---@return integer? rank
---@return string? err
function nauthilus_redis.redis_zrevrank(handle, key, member) end

---Adds to a member's score; the new one.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zincrby("default", "z", 2, "a")) --> 2	nil
---```
---@param handle any
---@param key string
---@param n number
---@param member string
---@return number? score
---@return string? err
function nauthilus_redis.redis_zincrby(handle, key, n, member) end

---Removes the members with these scores; how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zremrangebyscore("default", "z", 0, 5)) --> 0	nil
---```
---@param handle any
---@param key string
---@param min number|string
---@param max number|string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_zremrangebyscore(handle, key, min, max) end

---Removes the members at these places; how many there were.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_zremrangebyrank("default", "z", 0, -1)) --> 0	nil
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return integer? n
---@return string? err
function nauthilus_redis.redis_zremrangebyrank(handle, key, from, to) end

---The members at these places, the lowest score first; -1 is the last.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "z", {a = 1, b = 2})
---print(redis.redis_zrange("default", "z", 0, -1)[1]) --> a
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_zrange(handle, key, from, to) end

---The same, the highest score first.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "z", {a = 1, b = 2})
---print(redis.redis_zrevrange("default", "z", 0, -1)[1]) --> b
---```
---@param handle any
---@param key string
---@param from integer
---@param to integer
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_zrevrange(handle, key, from, to) end

---The members with these scores.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_zadd("default", "z", {a = 1, b = 2})
---print(redis.redis_zrangebyscore("default", "z", 2, "+inf")[1]) --> b
---```
---@param handle any
---@param key string
---@param min number|string
---@param max number|string
---@param options? {offset?: integer, count?: integer}
---@return string[]? members
---@return string? err
function nauthilus_redis.redis_zrangebyscore(handle, key, min, max, options) end

---Puts values before a list; its length.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_lpush("default", "l", "a", "b")) --> 2	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? length
---@return string? err
function nauthilus_redis.redis_lpush(handle, key, ...) end

---Puts values behind a list; its length.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_rpush("default", "l", {"a", "b"})) --> 2	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? length
---@return string? err
function nauthilus_redis.redis_rpush(handle, key, ...) end

---Takes the first value of a list.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_lpop("default", "l")) --> nil	redis: nil
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
---print(redis.redis_rpop("default", "l")) --> nil	redis: nil
---```
---@param handle any
---@param key string
---@return string? value
---@return string? err
function nauthilus_redis.redis_rpop(handle, key) end

---The values at these places, from 0; -1 is the last.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_rpush("default", "l", "a", "b")
---print(redis.redis_lrange("default", "l", 0, -1)[2]) --> b
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
---print(redis.redis_llen("default", "l")) --> 0	nil
---```
---@param handle any
---@param key string
---@return integer? length
---@return string? err
function nauthilus_redis.redis_llen(handle, key) end

---Adds to a HyperLogLog; 1 if its estimate changed.
---
---```lua
---local redis = require("nauthilus_redis")
---print(redis.redis_pfadd("default", "p", "a", "b")) --> 1	nil
---```
---@param handle any
---@param key string
---@param ... string|string[]
---@return integer? changed
---@return string? err
function nauthilus_redis.redis_pfadd(handle, key, ...) end

---How many different values there are, about.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_pfadd("default", "p", "a", "b")
---print(redis.redis_pfcount("default", "p")) --> 2	nil
---```
---@param handle any
---@param ... string
---@return integer? n
---@return string? err
function nauthilus_redis.redis_pfcount(handle, ...) end

---Merges HyperLogLogs into one.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_pfadd("default", "p", "a")
---print(redis.redis_pfmerge("default", "q", "p")) --> OK	nil
---```
---@param handle any
---@param to string
---@param ... string|string[]
---@return string? ok
---@return string? err
function nauthilus_redis.redis_pfmerge(handle, to, ...) end

---Loads a script into the server, and remembers it by its name for `redis_run_script`, also when the server is away.
---
---```lua
---local redis = require("nauthilus_redis")
---print(#redis.redis_upload_script("default", "return 1", "One")) --> 40
---```
---@param handle any
---@param source string
---@param name string
---@return string? sha1
---@return string? err
function nauthilus_redis.redis_upload_script(handle, source, name) end

---Runs an uploaded script by its name, or, with the name `""`, the source. The arguments are a table or stand one by one. A
---server that has lost the script gets it again.
---
---```lua
---local redis = require("nauthilus_redis")
---redis.redis_upload_script("default", "return {KEYS[1], ARGV[1]}", "Echo")
---print(redis.redis_run_script("default", "", "Echo", {"k"}, "v")[2]) --> v
---```
---@param handle any
---@param source string
---@param name string
---@param keys string[]
---@param ... any
---@return any reply
---@return string? err
function nauthilus_redis.redis_run_script(handle, source, name, keys, ...) end

---Sends several commands at once: rows of a name and its arguments, as `{"hget", key, field}`; `{"run_script", source, name,
---keys, arguments}` too. zadd is `key, score, member`, mget and hmget give lists. If the first command that fails has an
---error of its own, the call is nil and that.
---
---```lua
---local redis = require("nauthilus_redis")
---local results = redis.redis_pipeline("default", "write", {{"set", "k", "v"}, {"get", "k"}})
---print(results[2].value) --> v
---```
---@param handle any
---@param mode "read"|"write"
---@param commands table[]
---@return {ok: boolean, value: any, err: string?}[]? results
---@return string? err
function nauthilus_redis.redis_pipeline(handle, mode, commands) end

return nauthilus_redis
