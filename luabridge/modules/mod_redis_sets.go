package modules

// redisSetFuncs are sets, and what estimates how many different values there were.
var redisSetFuncs = []Func{
	redisFunc("sadd", keyAndRest("SADD"), "(handle: any, key: string, members: any, ...: any) -> added: integer?, err: string?",
		"Adds members to a set, and returns how many are new.", `print(redis.redis_sadd("default", "users", "alice", "bob")) --> 2	nil`),
	redisFunc("srem", keyAndRest("SREM"), "(handle: any, key: string, members: any, ...: any) -> removed: integer?, err: string?",
		"Removes members, and returns how many there were.", `redis.redis_sadd("default", "users", "alice")
print(redis.redis_srem("default", "users", {"alice", "bob"})) --> 1	nil`),
	redisFunc("scard", func(a *redisArgs) redisCall { return reading(replyNumber, "SCARD", a.text(0)) },
		"(handle: any, key: string) -> n: integer?, err: string?", "How many members a set has.", `print(redis.redis_scard("default", "nothing")) --> 0	nil`),
	redisFunc("sismember", func(a *redisArgs) redisCall { return reading(replyBool, "SISMEMBER", a.text(0), a.value(1)) },
		"(handle: any, key: string, member: any) -> there: boolean?, err: string?", "Whether a set has a member.",
		`redis.redis_sadd("default", "moved", request.account)
print(redis.redis_sismember("default", "moved", "alice@example.org")) --> true	nil`),
	redisFunc("smembers", func(a *redisArgs) redisCall { return reading(replyAny, "SMEMBERS", a.text(0)) },
		"(handle: any, key: string) -> members: string[]?, err: string?", "All members, in no order.",
		`redis.redis_sadd("default", "users", "alice")
print(#redis.redis_smembers("default", "users")) --> 1`),
	redisFunc("pfadd", keyAndRest("PFADD"), "(handle: any, key: string, values: any, ...: any) -> changed: integer?, err: string?",
		"Counts values in a HyperLogLog. 1 where that changed the estimate, else 0.", `print(redis.redis_pfadd("default", "clients", request.client_ip)) --> 1	nil`),
	redisFunc("pfcount", keysCall("PFCOUNT", true), "(handle: any, keys: string|string[], ...: string) -> n: integer?, err: string?",
		"About how many different values were counted.", `redis.redis_pfadd("default", "clients", "192.0.2.7", "192.0.2.8")
print(redis.redis_pfcount("default", "clients")) --> 2	nil`),
	redisFunc("pfmerge", func(a *redisArgs) redisCall {
		return writing(replyText, append([]string{"PFMERGE", a.text(0)}, a.rest(1)...)...)
	}, `(handle: any, into: string, keys: string|string[], ...: string) -> ok: "OK"?, err: string?`, "Makes one HyperLogLog of several.",
		`redis.redis_pfadd("default", "monday", "192.0.2.7")
print(redis.redis_pfmerge("default", "week", "monday", "tuesday")) --> OK	nil`),
}

// keyAndRest is a command of a key and values, which counts.
func keyAndRest(command string) redisBuild {
	return func(a *redisArgs) redisCall {
		return writing(replyNumber, append([]string{command, a.text(0)}, a.restValues(1)...)...)
	}
}
