package modules

var redisListFuncs = []Func{
	redisFunc("lpush", keyAndRest("LPUSH"), "(handle: any, key: string, values: any, ...: any) -> length: integer?, err: string?",
		"Puts values before a list, one after the other, and returns its length.", `print(redis.redis_lpush("default", "queue", "a", "b")) --> 2	nil`),
	redisFunc("rpush", keyAndRest("RPUSH"), "(handle: any, key: string, values: any, ...: any) -> length: integer?, err: string?",
		"Puts values behind a list, and returns its length.", `print(redis.redis_rpush("default", "queue", {"a", "b"})) --> 2	nil`),
	redisFunc("lpop", func(a *redisArgs) redisCall { return writing(replyText, "LPOP", a.text(0)) },
		"(handle: any, key: string) -> value: string?, err: string?", "Takes the first value of a list.",
		`redis.redis_rpush("default", "queue", "a", "b")
print(redis.redis_lpop("default", "queue")) --> a	nil`),
	redisFunc("rpop", func(a *redisArgs) redisCall { return writing(replyText, "RPOP", a.text(0)) },
		"(handle: any, key: string) -> value: string?, err: string?", "Takes the last value of a list.",
		`redis.redis_rpush("default", "queue", "a", "b")
print(redis.redis_rpop("default", "queue")) --> b	nil`),
	redisFunc("lrange", func(a *redisArgs) redisCall { return reading(replyAny, "LRANGE", a.text(0), a.whole(1), a.whole(2)) },
		"(handle: any, key: string, from: integer, to: integer) -> values: string[]?, err: string?", "The values at places `from` to `to`; 0 is the first, -1 the last.",
		`redis.redis_rpush("default", "queue", "a", "b", "c")
print(table.concat(redis.redis_lrange("default", "queue", 1, -1), " ")) --> b c`),
	redisFunc("llen", func(a *redisArgs) redisCall { return reading(replyNumber, "LLEN", a.text(0)) },
		"(handle: any, key: string) -> length: integer?, err: string?", "The length of a list.", `print(redis.redis_llen("default", "nothing")) --> 0	nil`),
}
