package modules

var redisHashFuncs = []Func{
	redisFunc("hget", redisHGet, `(handle: any, key: string, field: string, kind?: "string"|"number"|"bool") -> value: string|number|boolean|nil, err: string?`,
		"The value of a field, as a string unless `kind` says otherwise. Of an empty value nil, without an error.",
		`redis.redis_hset("default", "user:alice", "host", "192.0.2.11")
print(redis.redis_hget("default", "user:alice", "host")) --> 192.0.2.11	nil
print(redis.redis_hget("default", "user:alice", "site")) --> nil	redis: nil`),
	redisFunc("hset", func(a *redisArgs) redisCall {
		return writing(replyNumber, append([]string{"HSET", a.text(0)}, a.pairs(1)...)...)
	}, "(handle: any, key: string, fields: string|table<string,any>, ...: any) -> added: integer?, err: string?",
		"Sets fields: a table, or names and values in turn. Returns how many are new.",
		`print(redis.redis_hset("default", "user:alice", {host = "192.0.2.11", site = "north"})) --> 2	nil`),
	redisFunc("hdel", func(a *redisArgs) redisCall {
		return writing(replyNumber, append([]string{"HDEL", a.text(0)}, a.rest(1)...)...)
	}, "(handle: any, key: string, fields: string|string[], ...: string) -> removed: integer?, err: string?", "Removes fields, and returns how many there were.",
		`redis.redis_hset("default", "h", "a", 1)
print(redis.redis_hdel("default", "h", "a", "b")) --> 1	nil`),
	redisFunc("hlen", func(a *redisArgs) redisCall { return reading(replyNumber, "HLEN", a.text(0)) },
		"(handle: any, key: string) -> n: integer?, err: string?", "How many fields there are.", `print(redis.redis_hlen("default", "nothing")) --> 0	nil`),
	redisFunc("hgetall", func(a *redisArgs) redisCall { return reading(replyMap, "HGETALL", a.text(0)) },
		"(handle: any, key: string) -> fields: table<string,string>?, err: string?", "All fields and their values; an empty table where there is no such key.",
		`redis.redis_hset("default", "h", {a = 1})
print(redis.redis_hgetall("default", "h").a) --> 1`),
	redisFunc("hmget", redisHMGet, "(handle: any, key: string, fields: string|string[], ...: string) -> values: table<string,string>?, err: string?",
		"The values of several fields, by field; those that are not there are not in it.",
		`redis.redis_hset("default", "h", {a = 1, b = 2})
local values = redis.redis_hmget("default", "h", {"a", "c"})
print(values.a, values.c) --> 1	nil`),
	redisFunc("hincrby", func(a *redisArgs) redisCall {
		return writing(replyNumber, "HINCRBY", a.text(0), a.text(1), a.whole(2))
	}, "(handle: any, key: string, field: string, by: integer) -> value: integer?, err: string?", "Adds to a field and returns the sum.",
		`print(redis.redis_hincrby("default", "counts", "logins", 5)) --> 5	nil`),
	redisFunc("hincrbyfloat", func(a *redisArgs) redisCall {
		return writing(replyNumber, "HINCRBYFLOAT", a.text(0), a.text(1), a.number(2))
	}, "(handle: any, key: string, field: string, by: number) -> value: number?, err: string?", "Adds to a field and returns the sum.",
		`print(redis.redis_hincrbyfloat("default", "counts", "load", 0.5)) --> 0.5	nil`),
	redisFunc("hexists", func(a *redisArgs) redisCall { return reading(replyBool, "HEXISTS", a.text(0), a.text(1)) },
		"(handle: any, key: string, field: string) -> there: boolean?, err: string?", "Whether there is such a field.",
		`print(redis.redis_hexists("default", "h", "a")) --> false	nil`),
}

func redisHGet(a *redisArgs) redisCall {
	return reading(a.as(2), "HGET", a.text(0), a.text(1))
}

func redisHMGet(a *redisArgs) redisCall {
	fields := a.rest(1)
	reply := replyByName(fields)
	if a.piped {
		reply = replyDense
	}
	return reading(reply, append([]string{"HMGET", a.text(0)}, fields...)...)
}
