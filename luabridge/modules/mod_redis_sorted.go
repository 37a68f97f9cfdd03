package modules

import (
	lua "github.com/yuin/gopher-lua"
)

var redisSortedFuncs = []Func{
	redisFunc("zadd", redisZAdd, "(handle: any, key: string, members: string|table<string,number>, ...: any) -> added: integer?, err: string?",
		"Sets the scores of members: a table of scores by member, or members and scores in turn. Returns how many are new.",
		`print(redis.redis_zadd("default", "load", {["192.0.2.11"] = 5, ["192.0.2.12"] = 3})) --> 2	nil`),
	redisFunc("zrem", keyAndRest("ZREM"), "(handle: any, key: string, members: any, ...: any) -> removed: integer?, err: string?",
		"Removes members, and returns how many there were.", `redis.redis_zadd("default", "load", "a", 1)
print(redis.redis_zrem("default", "load", "a", "b")) --> 1	nil`),
	redisFunc("zcount", func(a *redisArgs) redisCall {
		return reading(replyNumber, "ZCOUNT", a.text(0), a.number(1), a.number(2))
	},
		"(handle: any, key: string, min: number|string, max: number|string) -> n: integer?, err: string?",
		"How many members have a score from `min` to `max`; `\"-inf\"`, `\"+inf\"` and `\"(5\"` (without 5) as in Redis.",
		`redis.redis_zadd("default", "load", {a = 1, b = 5})
print(redis.redis_zcount("default", "load", 1, "(5")) --> 1	nil`),
	redisFunc("zscore", func(a *redisArgs) redisCall { return reading(replyNumber, "ZSCORE", a.text(0), a.text(1)) },
		"(handle: any, key: string, member: string) -> score: number?, err: string?", "The score of a member.",
		`redis.redis_zadd("default", "load", {a = 1.5})
print(redis.redis_zscore("default", "load", "a")) --> 1.5	nil`),
	redisFunc("zrank", func(a *redisArgs) redisCall { return reading(replyNumber, "ZRANK", a.text(0), a.text(1)) },
		"(handle: any, key: string, member: string) -> rank: integer?, err: string?", "The place of a member, 0 has the lowest score.",
		`redis.redis_zadd("default", "load", {a = 1, b = 5})
print(redis.redis_zrank("default", "load", "b")) --> 1	nil`),
	redisFunc("zrevrank", func(a *redisArgs) redisCall { return reading(replyNumber, "ZREVRANK", a.text(0), a.text(1)) },
		"(handle: any, key: string, member: string) -> rank: integer?, err: string?", "The place of a member, 0 has the highest score.",
		`redis.redis_zadd("default", "load", {a = 1, b = 5})
print(redis.redis_zrevrank("default", "load", "b")) --> 0	nil`),
	redisFunc("zincrby", func(a *redisArgs) redisCall {
		return writing(replyNumber, "ZINCRBY", a.text(0), a.number(1), a.text(2))
	}, "(handle: any, key: string, by: number, member: string) -> score: number?, err: string?", "Adds to a member's score and returns the sum.",
		`print(redis.redis_zincrby("default", "load", 2, "192.0.2.11")) --> 2	nil`),
	redisFunc("zremrangebyscore", func(a *redisArgs) redisCall {
		return writing(replyNumber, "ZREMRANGEBYSCORE", a.text(0), a.number(1), a.number(2))
	}, "(handle: any, key: string, min: number|string, max: number|string) -> removed: integer?, err: string?",
		"Removes the members with a score from `min` to `max`, and returns how many there were.",
		`redis.redis_zadd("default", "seen", {old = 1, new = 9})
print(redis.redis_zremrangebyscore("default", "seen", "-inf", 5)) --> 1	nil`),
	redisFunc("zremrangebyrank", func(a *redisArgs) redisCall {
		return writing(replyNumber, "ZREMRANGEBYRANK", a.text(0), a.whole(1), a.whole(2))
	}, "(handle: any, key: string, from: integer, to: integer) -> removed: integer?, err: string?",
		"Removes the members at places `from` to `to`; -1 is the last. Returns how many there were.",
		`redis.redis_zadd("default", "seen", {old = 1, new = 9})
print(redis.redis_zremrangebyrank("default", "seen", 0, 0)) --> 1	nil`),
	redisFunc("zrange", func(a *redisArgs) redisCall { return reading(replyAny, "ZRANGE", a.text(0), a.whole(1), a.whole(2)) },
		"(handle: any, key: string, from: integer, to: integer) -> members: string[]?, err: string?",
		"The members at places `from` to `to`, the lowest score first; -1 is the last.",
		`redis.redis_zadd("default", "load", {a = 1, b = 5})
print(table.concat(redis.redis_zrange("default", "load", 0, -1), " ")) --> a b`),
	redisFunc("zrevrange", func(a *redisArgs) redisCall { return reading(replyAny, "ZREVRANGE", a.text(0), a.whole(1), a.whole(2)) },
		"(handle: any, key: string, from: integer, to: integer) -> members: string[]?, err: string?",
		"The members at places `from` to `to`, the highest score first; -1 is the last.",
		`redis.redis_zadd("default", "load", {a = 1, b = 5})
print(table.concat(redis.redis_zrevrange("default", "load", 0, -1), " ")) --> b a`),
	redisFunc("zrangebyscore", redisZRangeByScore, "(handle: any, key: string, min: number|string, max: number|string, limit?: integer|{offset?: integer, count?: integer}, count?: integer) -> members: string[]?, err: string?",
		"The members with a score from `min` to `max`, the lowest first; with `limit` only some of them. Offset and count may be two numbers too.",
		`redis.redis_zadd("default", "load", {a = 1, b = 5, c = 7})
print(table.concat(redis.redis_zrangebyscore("default", "load", 2, "+inf", {offset = 0, count = 1}), " ")) --> b`),
}

// redisZAdd takes members before scores; of pipelines it is the other way round.
func redisZAdd(a *redisArgs) redisCall {
	words := append([]string{"ZADD", a.text(0)}, a.pairs(1)...)
	if !a.piped {
		for i := 2; i+1 < len(words); i += 2 {
			words[i], words[i+1] = words[i+1], words[i]
		}
	}
	return writing(replyNumber, words...)
}

func redisZRangeByScore(a *redisArgs) redisCall {
	call := reading(replyAny, "ZRANGEBYSCORE", a.text(0), a.number(1), a.number(2))
	limit := redisArgs{L: a.L, name: a.name, first: 3 + a.first, where: a.where, values: []lua.LValue{a.at(3), a.at(4)}}
	switch t := a.at(3).(type) {
	case *lua.LNilType:
		return call
	case *lua.LTable:
		limit.values = []lua.LValue{t.RawGetString("offset"), t.RawGetString("count")}
	}
	words := []string{"LIMIT", "0", "-1"}
	for i, v := range limit.values {
		if v != lua.LNil {
			words[i+1] = limit.whole(i)
		}
	}
	call.words = append(call.words, words...)
	return call
}
