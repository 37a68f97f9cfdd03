package modules

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// A redisCommand is one of nauthilus_redis, also as a row of a pipeline.
type redisCommand struct {
	name string
	// build makes the words that are sent.
	build func(a redisArgs) ([]string, error)
	// reply makes a Lua value of the answer; inPipeline, if set, does so for rows.
	reply      redisReply
	inPipeline redisReply
	sig, doc   string
	example    string
}

// words builds a command from a form: k and t for a key or text, v for a value, n
// for a whole number, f for a number, m for a bound of scores, + for what is left.
func words(command, form string) func(a redisArgs) ([]string, error) {
	return func(a redisArgs) ([]string, error) {
		out := []string{command}
		for i, c := range form {
			var w string
			var err error
			switch c {
			case 'k', 't':
				w, err = a.text(i)
			case 'v':
				w, err = a.value(i)
			case 'n':
				w, err = a.integer(i)
			case 'f':
				w, err = a.number(i)
			case 'm':
				w, err = a.score(i)
			case '+':
				rest, err := a.rest(i)
				return append(out, rest...), err
			}
			if err != nil {
				return nil, err
			}
			out = append(out, w)
		}
		return out, nil
	}
}

func buildSet(a redisArgs) ([]string, error) {
	key, err := a.text(0)
	if err != nil {
		return nil, err
	}
	value, err := a.value(1)
	if err != nil {
		return nil, err
	}
	out := []string{"SET", key, value}
	opt := a.options(2)
	if opt == nil {
		if a.at(2) == lua.LNil {
			return out, nil
		}
		seconds, err := a.integer(2)
		if err != nil || strings.HasPrefix(seconds, "-") {
			return nil, errors.New("argument 3 is the seconds to live: expected a whole number, or a table of options")
		}
		if seconds != "0" {
			out = append(out, "EX", seconds)
		}
		return out, nil
	}
	for _, flag := range []string{"nx", "xx", "get", "keepttl"} {
		if lua.LVAsBool(opt.RawGetString(flag)) {
			out = append(out, strings.ToUpper(flag))
		}
	}
	for _, name := range []string{"ex", "px", "exat", "pxat"} {
		if v := opt.RawGetString(name); v != lua.LNil {
			w, err := redisArgs{a.L, []lua.LValue{v}}.integer(0)
			if err != nil {
				return nil, fmt.Errorf("option %s: expected a whole number", name)
			}
			out = append(out, strings.ToUpper(name), w)
		}
	}
	return out, nil
}

// buildScores is ZADD key {member = score}, or key member score ….
func buildScores(a redisArgs) ([]string, error) {
	key, err := a.text(0)
	if err != nil {
		return nil, err
	}
	list, err := a.pairs(1)
	if err != nil {
		return nil, err
	}
	out := []string{"ZADD", key}
	for i := 0; i < len(list); i += 2 {
		out = append(out, list[i+1], list[i])
	}
	return out, nil
}

// buildScoreFirst is ZADD key score member, as pipelines have it.
func buildScoreFirst(a redisArgs) ([]string, error) { return words("ZADD", "kft")(a) }

func buildPairs(command string, from int) func(a redisArgs) ([]string, error) {
	return func(a redisArgs) ([]string, error) {
		out := []string{command}
		for i := range from {
			w, err := a.text(i)
			if err != nil {
				return nil, err
			}
			out = append(out, w)
		}
		pairs, err := a.pairs(from)
		return append(out, pairs...), err
	}
}

func buildRangeByScore(a redisArgs) ([]string, error) {
	out, err := words("ZRANGEBYSCORE", "kmm")(a)
	opt := a.options(3)
	if err != nil || opt == nil {
		return out, err
	}
	o := redisArgs{a.L, []lua.LValue{opt.RawGetString("offset"), opt.RawGetString("count")}}
	if o.list[0] == lua.LNil && o.list[1] == lua.LNil {
		return out, nil
	}
	limit := []string{"0", "-1"}
	for i := range limit {
		if o.list[i] != lua.LNil {
			if limit[i], err = o.integer(i); err != nil {
				return nil, errors.New("offset and count: expected whole numbers")
			}
		}
	}
	return append(out, "LIMIT", limit[0], limit[1]), nil
}

func buildScan(a redisArgs) ([]string, error) {
	cursor, err := a.integer(0)
	if err != nil {
		return nil, err
	}
	match, count := "*", "10"
	if a.at(1) != lua.LNil {
		if match, err = a.text(1); err != nil {
			return nil, err
		}
	}
	if a.at(2) != lua.LNil {
		if count, err = a.integer(2); err != nil {
			return nil, err
		}
	}
	return []string{"SCAN", cursor, "MATCH", match, "COUNT", count}, nil
}

// redisCommands are all of them. The functions are named redis_ and the name.
var redisCommands = []redisCommand{
	{name: "ping", build: words("PING", ""), reply: replyText,
		sig: `() -> pong: string?, err: string?`, doc: "`PONG`.",
		example: `print(redis.redis_ping("default")) --> PONG` + "\tnil"},
	{name: "get", build: words("GET", "k"), reply: replyTyped, inPipeline: replyText,
		sig:     `(key: string, type?: "string"|"number"|"bool") -> value: any, err: string?`,
		doc:     "The value of a key. An empty one is nil without an error.",
		example: `redis.redis_set("default", "n", 5)` + "\n" + `print(redis.redis_get("default", "n", "number") + 1) --> 6`},
	{name: "set", build: buildSet, reply: replySet,
		sig:     `(key: string, value: string|number|boolean, options?: integer|{nx?: boolean, xx?: boolean, get?: boolean, keepttl?: boolean, ex?: integer, px?: integer, exat?: integer, pxat?: integer}) -> ok: string?, err: string?`,
		doc:     "Sets a key; a number is the seconds that it lives. Refused by `nx` or `xx`: nil without an error. With `get`: the value before.",
		example: `print(redis.redis_set("default", "k", "v", {nx = true})) --> OK` + "\tnil"},
	{name: "del", build: words("DEL", "+"), reply: replyNumber,
		sig: `(key: string) -> n: integer?, err: string?`, doc: "Deletes; how many there were.",
		example: `print(redis.redis_del("default", "k")) --> 0` + "\tnil"},
	{name: "exists", build: words("EXISTS", "k"), reply: replyNumber,
		sig: `(key: string) -> n: integer?, err: string?`, doc: "1 if the key is there, else 0.",
		example: `print(redis.redis_exists("default", "k")) --> 0` + "\tnil"},
	{name: "incr", build: words("INCR", "k"), reply: replyNumber,
		sig: `(key: string) -> n: integer?, err: string?`, doc: "Adds one; the new value.",
		example: `print(redis.redis_incr("default", "n")) --> 1` + "\tnil"},
	{name: "expire", build: words("EXPIRE", "kn"), reply: replyBool,
		sig: `(key: string, seconds: integer) -> set: boolean?, err: string?`, doc: "Lets a key live that long; false if it is not there.",
		example: `print(redis.redis_expire("default", "k", 60)) --> false` + "\tnil"},
	{name: "rename", build: words("RENAME", "kk"), reply: replyText,
		sig: `(from: string, to: string) -> ok: string?, err: string?`, doc: "Gives a key another name.",
		example: `redis.redis_set("default", "a", "1")` + "\n" + `print(redis.redis_rename("default", "a", "b")) --> OK` + "\tnil"},
	{name: "mget", build: words("MGET", "+"), reply: replyByName(1), inPipeline: replyList,
		sig: `(...: string|string[]) -> values: table<string, string>?, err: string?`, doc: "The values of several keys, by key; those that are not there are left out.",
		example: `redis.redis_set("default", "a", "1")` + "\n" + `print(redis.redis_mget("default", "a", "b").a) --> 1`},
	{name: "mset", build: buildPairs("MSET", 0), reply: replyText,
		sig: `(...: string|table<string, string>) -> ok: string?, err: string?`, doc: "Sets several keys: `key, value, …` or a table.",
		example: `print(redis.redis_mset("default", {a = 1, b = 2})) --> OK` + "\tnil"},
	{name: "keys", build: words("KEYS", "t"), reply: replyList,
		sig: `(pattern: string) -> keys: string[]?, err: string?`, doc: "The keys that fit a pattern. It keeps a large server busy: use scan.",
		example: `print(#redis.redis_keys("default", "*")) --> 0`},
	{name: "scan", build: buildScan, reply: replyScan,
		sig: `(cursor: integer, pattern?: string, count?: integer) -> page: {cursor: integer, keys: string[]}?, err: string?`, doc: "A page of the keys that fit a pattern. Begin with the cursor 0; it is 0 again at the end.",
		example: `print(redis.redis_scan("default", 0, "*", 10).cursor) --> 0`},

	{name: "hget", build: words("HGET", "kt"), reply: replyTyped, inPipeline: replyText,
		sig: `(key: string, field: string, type?: "string"|"number"|"bool") -> value: any, err: string?`, doc: "A field of a hash. One that is not there: nil, `redis: nil`.",
		example: `print(redis.redis_hget("default", "h", "f")) --> nil` + "\tredis: nil"},
	{name: "hset", build: buildPairs("HSET", 1), reply: replyNumber,
		sig: `(key: string, ...: string|number|table) -> added: integer?, err: string?`, doc: "Sets fields of a hash: `field, value, …` or a table; how many were new.",
		example: `print(redis.redis_hset("default", "h", {a = 1, b = 2})) --> 2` + "\tnil"},
	{name: "hdel", build: words("HDEL", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> n: integer?, err: string?`, doc: "Deletes fields; how many there were.",
		example: `print(redis.redis_hdel("default", "h", "a", "b")) --> 0` + "\tnil"},
	{name: "hlen", build: words("HLEN", "k"), reply: replyNumber,
		sig: `(key: string) -> n: integer?, err: string?`, doc: "How many fields a hash has.",
		example: `print(redis.redis_hlen("default", "h")) --> 0` + "\tnil"},
	{name: "hgetall", build: words("HGETALL", "k"), reply: replyMap,
		sig: `(key: string) -> fields: table<string, string>?, err: string?`, doc: "All fields of a hash; `{}` if it is not there.",
		example: `redis.redis_hset("default", "h", "a", 1)` + "\n" + `print(redis.redis_hgetall("default", "h").a) --> 1`},
	{name: "hmget", build: words("HMGET", "k+"), reply: replyByName(2), inPipeline: replyList,
		sig: `(key: string, ...: string|string[]) -> values: table<string, string>?, err: string?`, doc: "Several fields of a hash, by name; those that are not there are left out.",
		example: `redis.redis_hset("default", "h", "a", 1)` + "\n" + `print(redis.redis_hmget("default", "h", "a", "b").a) --> 1`},
	{name: "hincrby", build: words("HINCRBY", "ktn"), reply: replyNumber,
		sig: `(key: string, field: string, n: integer) -> value: integer?, err: string?`, doc: "Adds to a field; the new value.",
		example: `print(redis.redis_hincrby("default", "h", "n", 2)) --> 2` + "\tnil"},
	{name: "hincrbyfloat", build: words("HINCRBYFLOAT", "ktf"), reply: replyFloat,
		sig: `(key: string, field: string, n: number) -> value: number?, err: string?`, doc: "Adds to a field; the new value.",
		example: `print(redis.redis_hincrbyfloat("default", "h", "x", 0.5)) --> 0.5` + "\tnil"},
	{name: "hexists", build: words("HEXISTS", "kt"), reply: replyBool,
		sig: `(key: string, field: string) -> there: boolean?, err: string?`, doc: "Whether a hash has a field.",
		example: `print(redis.redis_hexists("default", "h", "f")) --> false` + "\tnil"},

	{name: "sadd", build: words("SADD", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> added: integer?, err: string?`, doc: "Adds members to a set; how many were new.",
		example: `print(redis.redis_sadd("default", "s", "a", "b")) --> 2` + "\tnil"},
	{name: "srem", build: words("SREM", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> n: integer?, err: string?`, doc: "Removes members; how many there were.",
		example: `print(redis.redis_srem("default", "s", "a")) --> 0` + "\tnil"},
	{name: "scard", build: words("SCARD", "k"), reply: replyNumber,
		sig: `(key: string) -> n: integer?, err: string?`, doc: "How many members a set has.",
		example: `print(redis.redis_scard("default", "s")) --> 0` + "\tnil"},
	{name: "sismember", build: words("SISMEMBER", "kv"), reply: replyBool,
		sig: `(key: string, member: string) -> there: boolean?, err: string?`, doc: "Whether a set has a member.",
		example: `print(redis.redis_sismember("default", "s", "a")) --> false` + "\tnil"},
	{name: "smembers", build: words("SMEMBERS", "k"), reply: replyList,
		sig: `(key: string) -> members: string[]?, err: string?`, doc: "All members of a set, in no order.",
		example: `print(#redis.redis_smembers("default", "s")) --> 0`},

	{name: "zadd", build: buildScores, reply: replyNumber,
		sig: `(key: string, ...: table<string, number>|string|number) -> added: integer?, err: string?`, doc: "Adds members with scores to a sorted set: `{member = score}` or `member, score, …`; how many were new. In a pipeline it is `key, score, member`.",
		example: `print(redis.redis_zadd("default", "z", {a = 1, b = 2})) --> 2` + "\tnil"},
	{name: "zrem", build: words("ZREM", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> n: integer?, err: string?`, doc: "Removes members; how many there were.",
		example: `print(redis.redis_zrem("default", "z", "a")) --> 0` + "\tnil"},
	{name: "zcount", build: words("ZCOUNT", "kmm"), reply: replyNumber,
		sig: `(key: string, min: number|string, max: number|string) -> n: integer?, err: string?`, doc: "How many members have a score from min to max; `-inf`, `(5` and the like will do.",
		example: `print(redis.redis_zcount("default", "z", "-inf", 5)) --> 0` + "\tnil"},
	{name: "zscore", build: words("ZSCORE", "kt"), reply: replyFloat,
		sig: `(key: string, member: string) -> score: number?, err: string?`, doc: "A member's score; `nil, redis: nil` if it is not there.",
		example: `redis.redis_zadd("default", "z", "a", 1.5)` + "\n" + `print(redis.redis_zscore("default", "z", "a")) --> 1.5` + "\tnil"},
	{name: "zrank", build: words("ZRANK", "kt"), reply: replyNumber,
		sig: `(key: string, member: string) -> rank: integer?, err: string?`, doc: "A member's place, from 0, the lowest score first.",
		example: `print(redis.redis_zrank("default", "z", "a")) --> nil` + "\tredis: nil"},
	{name: "zrevrank", build: words("ZREVRANK", "kt"), reply: replyNumber,
		sig: `(key: string, member: string) -> rank: integer?, err: string?`, doc: "A member's place, from 0, the highest score first.",
		example: `print(redis.redis_zrevrank("default", "z", "a")) --> nil` + "\tredis: nil"},
	{name: "zincrby", build: words("ZINCRBY", "kft"), reply: replyFloat,
		sig: `(key: string, n: number, member: string) -> score: number?, err: string?`, doc: "Adds to a member's score; the new one.",
		example: `print(redis.redis_zincrby("default", "z", 2, "a")) --> 2` + "\tnil"},
	{name: "zremrangebyscore", build: words("ZREMRANGEBYSCORE", "kmm"), reply: replyNumber,
		sig: `(key: string, min: number|string, max: number|string) -> n: integer?, err: string?`, doc: "Removes the members with these scores; how many there were.",
		example: `print(redis.redis_zremrangebyscore("default", "z", 0, 5)) --> 0` + "\tnil"},
	{name: "zremrangebyrank", build: words("ZREMRANGEBYRANK", "knn"), reply: replyNumber,
		sig: `(key: string, from: integer, to: integer) -> n: integer?, err: string?`, doc: "Removes the members at these places; how many there were.",
		example: `print(redis.redis_zremrangebyrank("default", "z", 0, -1)) --> 0` + "\tnil"},
	{name: "zrange", build: words("ZRANGE", "knn"), reply: replyList,
		sig: `(key: string, from: integer, to: integer) -> members: string[]?, err: string?`, doc: "The members at these places, the lowest score first; -1 is the last.",
		example: `redis.redis_zadd("default", "z", {a = 1, b = 2})` + "\n" + `print(redis.redis_zrange("default", "z", 0, -1)[1]) --> a`},
	{name: "zrevrange", build: words("ZREVRANGE", "knn"), reply: replyList,
		sig: `(key: string, from: integer, to: integer) -> members: string[]?, err: string?`, doc: "The same, the highest score first.",
		example: `redis.redis_zadd("default", "z", {a = 1, b = 2})` + "\n" + `print(redis.redis_zrevrange("default", "z", 0, -1)[1]) --> b`},
	{name: "zrangebyscore", build: buildRangeByScore, reply: replyList,
		sig: `(key: string, min: number|string, max: number|string, options?: {offset?: integer, count?: integer}) -> members: string[]?, err: string?`, doc: "The members with these scores.",
		example: `redis.redis_zadd("default", "z", {a = 1, b = 2})` + "\n" + `print(redis.redis_zrangebyscore("default", "z", 2, "+inf")[1]) --> b`},

	{name: "lpush", build: words("LPUSH", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> length: integer?, err: string?`, doc: "Puts values before a list; its length.",
		example: `print(redis.redis_lpush("default", "l", "a", "b")) --> 2` + "\tnil"},
	{name: "rpush", build: words("RPUSH", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> length: integer?, err: string?`, doc: "Puts values behind a list; its length.",
		example: `print(redis.redis_rpush("default", "l", {"a", "b"})) --> 2` + "\tnil"},
	{name: "lpop", build: words("LPOP", "k"), reply: replyText,
		sig: `(key: string) -> value: string?, err: string?`, doc: "Takes the first value of a list.",
		example: `print(redis.redis_lpop("default", "l")) --> nil` + "\tredis: nil"},
	{name: "rpop", build: words("RPOP", "k"), reply: replyText,
		sig: `(key: string) -> value: string?, err: string?`, doc: "Takes the last value of a list.",
		example: `print(redis.redis_rpop("default", "l")) --> nil` + "\tredis: nil"},
	{name: "lrange", build: words("LRANGE", "knn"), reply: replyList,
		sig: `(key: string, from: integer, to: integer) -> values: string[]?, err: string?`, doc: "The values at these places, from 0; -1 is the last.",
		example: `redis.redis_rpush("default", "l", "a", "b")` + "\n" + `print(redis.redis_lrange("default", "l", 0, -1)[2]) --> b`},
	{name: "llen", build: words("LLEN", "k"), reply: replyNumber,
		sig: `(key: string) -> length: integer?, err: string?`, doc: "The length of a list.",
		example: `print(redis.redis_llen("default", "l")) --> 0` + "\tnil"},

	{name: "pfadd", build: words("PFADD", "k+"), reply: replyNumber,
		sig: `(key: string, ...: string|string[]) -> changed: integer?, err: string?`, doc: "Adds to a HyperLogLog; 1 if its estimate changed.",
		example: `print(redis.redis_pfadd("default", "p", "a", "b")) --> 1` + "\tnil"},
	{name: "pfcount", build: words("PFCOUNT", "+"), reply: replyNumber,
		sig: `(...: string) -> n: integer?, err: string?`, doc: "How many different values there are, about.",
		example: `redis.redis_pfadd("default", "p", "a", "b")` + "\n" + `print(redis.redis_pfcount("default", "p")) --> 2` + "\tnil"},
	{name: "pfmerge", build: words("PFMERGE", "k+"), reply: replyText,
		sig: `(to: string, ...: string|string[]) -> ok: string?, err: string?`, doc: "Merges HyperLogLogs into one.",
		example: `redis.redis_pfadd("default", "p", "a")` + "\n" + `print(redis.redis_pfmerge("default", "q", "p")) --> OK` + "\tnil"},
}
