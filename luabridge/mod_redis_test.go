package luabridge

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"usher/luabridge/modules"
	"usher/proxy"
)

// withRedis lets policies reach the Redis of o.
func withRedis(t testing.TB, o modules.RedisOptions) func(*Options) {
	t.Helper()
	r, err := modules.NewRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return func(opt *Options) { opt.Deps.Redis, opt.Deps.Network = r, true }
}

// withMini is withRedis of an empty one in memory.
func withMini(t testing.TB) (*miniredis.Miniredis, func(*Options)) {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, withRedis(t, modules.RedisOptions{Addresses: []string{m.Addr()}})
}

// same is a function for policies: are two values equal, tables by what is in them.
const same = `
	local function text(v)
		if type(v) ~= "table" then return type(v) .. ":" .. tostring(v) end
		local out = {}
		for k, x in pairs(v) do out[#out + 1] = tostring(k) .. "=" .. text(x) end
		table.sort(out)
		return "{" .. table.concat(out, " ") .. "}"
	end
	local function is(what, want, wantErr, ...)
		local got, err = ...
		if text(got) ~= text(want) or err ~= wantErr then
			error(what .. ": got " .. text(got) .. ", " .. tostring(err) .. "; want " .. text(want) .. ", " .. tostring(wantErr), 2)
		end
	end
	local r, h = nauthilus_redis, "default"
`

// What the fact sheet says of each function.
func TestRedis(t *testing.T) {
	const none = `"redis: nil"`
	for name, body := range map[string]string{
		"ping": `is("ping", "PONG", nil, r.redis_ping(h))`,
		"get": `is("none", nil, ` + none + `, r.redis_get(h, "k"))
			r.redis_set(h, "k", "12.5") is("text", "12.5", nil, r.redis_get(h, "k")) is("string", "12.5", nil, r.redis_get(h, "k", "string"))
			is("number", 12.5, nil, r.redis_get(h, "k", "number")) is("bool", nil, "redis: the value is no boolean", r.redis_get(h, "k", "bool"))
			r.redis_set(h, "b", true) is("bool", true, nil, r.redis_get(h, "b", "bool"))
			r.redis_set(h, "b", "x") is("no number", nil, "redis: the value is no number", r.redis_get(h, "b", "number"))
			r.redis_set(h, "e", "") is("empty", nil, nil, r.redis_get(h, "e"))`,
		"set": `is("set", "OK", nil, r.redis_set(h, "k", 1000000)) is("plain", "1000000", nil, r.redis_get(h, "k"))
			is("nx", nil, nil, r.redis_set(h, "k", 2, {nx = true})) is("xx", nil, nil, r.redis_set(h, "none", 2, {xx = true}))
			is("xx", "OK", nil, r.redis_set(h, "k", 3, {xx = true, ex = 10})) is("get", "3", nil, r.redis_set(h, "k", 4, {get = true, keepttl = true}))
			is("get none", nil, nil, r.redis_set(h, "new", 4, {get = true}))
			is("seconds", "OK", nil, r.redis_set(h, "k", 5, 60)) is("zero", "OK", nil, r.redis_set(h, "k", 5, 0)) is("fraction", "OK", nil, r.redis_set(h, "k", 5, 0.5))
			is("px", "OK", nil, r.redis_set(h, "k", 5, {px = 5000})) is("pxat", "OK", nil, r.redis_set(h, "k", 5, {pxat = 4102444800000})) is("exat", "OK", nil, r.redis_set(h, "k", 5, {exat = 4102444800}))
			is("float", "OK", nil, r.redis_set(h, "f", 0.1)) is("float", "0.1", nil, r.redis_get(h, "f"))
			is("bytes", "OK", nil, r.redis_set(h, "a\0b\r\nc", "\0\r\n")) is("bytes", "\0\r\n", nil, r.redis_get(h, "a\0b\r\nc"))`,
		"keys": `is("del", 0, nil, r.redis_del(h, "k")) is("exists", 0, nil, r.redis_exists(h, "k")) is("incr", 1, nil, r.redis_incr(h, "k")) is("incr", 2, nil, r.redis_incr(h, "k"))
			is("exists", 1, nil, r.redis_exists(h, "k")) is("expire", true, nil, r.redis_expire(h, "k", 60)) is("expire", false, nil, r.redis_expire(h, "none", 60))
			is("rename", "OK", nil, r.redis_rename(h, "k", "l")) is("keys", {"l"}, nil, r.redis_keys(h, "*")) is("scan", {cursor = 0, keys = {"l"}}, nil, r.redis_scan(h, 0))
			is("scan", {cursor = 0, keys = {}}, nil, r.redis_scan(h, 0, "x*", 100)) is("del", 1, nil, r.redis_del(h, "l"))
			local v, err = r.redis_rename(h, "k", "l") is("rename", nil, "ERR no such key", v, err)`,
		"mget": `is("mset", "OK", nil, r.redis_mset(h, "a", 1, "b", "x")) is("mset", "OK", nil, r.redis_mset(h, {c = true}))
			is("mget", {a = "1", b = "x"}, nil, r.redis_mget(h, "a", "b", "none")) is("table", {a = "1", c = "1"}, nil, r.redis_mget(h, {"a", "c"}))`,
		"hash": `is("hget", nil, ` + none + `, r.redis_hget(h, "u", "host")) is("hgetall", {}, nil, r.redis_hgetall(h, "u")) is("hset", 2, nil, r.redis_hset(h, "u", "host", "x", "n", 5))
			is("hset", 1, nil, r.redis_hset(h, "u", {host = "y", e = ""})) is("hget", "y", nil, r.redis_hget(h, "u", "host")) is("number", 5, nil, r.redis_hget(h, "u", "n", "number"))
			is("empty", nil, nil, r.redis_hget(h, "u", "e")) is("hgetall", {host = "y", n = "5", e = ""}, nil, r.redis_hgetall(h, "u")) is("hlen", 3, nil, r.redis_hlen(h, "u"))
			is("hmget", {host = "y", n = "5"}, nil, r.redis_hmget(h, "u", "host", "n", "none")) is("hexists", true, nil, r.redis_hexists(h, "u", "n")) is("hexists", false, nil, r.redis_hexists(h, "u", "x"))
			is("hincrby", 7, nil, r.redis_hincrby(h, "u", "n", 2)) is("hincrbyfloat", 7.5, nil, r.redis_hincrbyfloat(h, "u", "n", 0.5)) is("hdel", 2, nil, r.redis_hdel(h, "u", {"n", "e", "none"}))`,
		"set type": `is("sadd", 2, nil, r.redis_sadd(h, "s", "a", "b")) is("sadd", 0, nil, r.redis_sadd(h, "s", {"a"})) is("scard", 2, nil, r.redis_scard(h, "s"))
			is("sismember", true, nil, r.redis_sismember(h, "s", "a")) is("sismember", false, nil, r.redis_sismember(h, "s", "x")) is("srem", 1, nil, r.redis_srem(h, "s", "a", "x"))
			is("smembers", {"b"}, nil, r.redis_smembers(h, "s")) is("smembers", {}, nil, r.redis_smembers(h, "none"))`,
		"sorted": `is("zadd", 3, nil, r.redis_zadd(h, "z", {a = 1, b = 2.5, c = 30})) is("zadd", 1, nil, r.redis_zadd(h, "z", "d", 40, "a", 1)) is("zscore", 2.5, nil, r.redis_zscore(h, "z", "b"))
			is("zscore", nil, ` + none + `, r.redis_zscore(h, "z", "x")) is("zrank", 1, nil, r.redis_zrank(h, "z", "b")) is("zrank", nil, ` + none + `, r.redis_zrank(h, "z", "x")) is("zrevrank", 0, nil, r.redis_zrevrank(h, "z", "d"))
			is("zcount", 2, nil, r.redis_zcount(h, "z", 1, "(30")) is("zrange", {"a", "b", "c", "d"}, nil, r.redis_zrange(h, "z", 0, -1)) is("zrevrange", {"d", "c"}, nil, r.redis_zrevrange(h, "z", 0, 1))
			is("zrangebyscore", {"c", "d"}, nil, r.redis_zrangebyscore(h, "z", "(2.5", "+inf")) is("limit", {"b"}, nil, r.redis_zrangebyscore(h, "z", "-inf", "+inf", {offset = 1, count = 1}))
			is("offset", {"d"}, nil, r.redis_zrangebyscore(h, "z", "-inf", "+inf", {offset = 3})) is("zincrby", 4.5, nil, r.redis_zincrby(h, "z", 2, "b")) is("zrem", 1, nil, r.redis_zrem(h, "z", "a", "x"))
			is("zremrangebyscore", 1, nil, r.redis_zremrangebyscore(h, "z", 40, "+inf")) is("zremrangebyrank", 1, nil, r.redis_zremrangebyrank(h, "z", 0, 0)) is("zrange", {"c"}, nil, r.redis_zrange(h, "z", 0, -1))`,
		"list": `is("lpush", 2, nil, r.redis_lpush(h, "l", "b", "a")) is("rpush", 4, nil, r.redis_rpush(h, "l", {"c", ""})) is("llen", 4, nil, r.redis_llen(h, "l")) is("lrange", {"a", "b", "c", ""}, nil, r.redis_lrange(h, "l", 0, -1))
			is("lpop", "a", nil, r.redis_lpop(h, "l")) is("rpop", "", nil, r.redis_rpop(h, "l")) is("none", nil, ` + none + `, r.redis_lpop(h, "none"))`,
		"hyperloglog": `is("pfadd", 1, nil, r.redis_pfadd(h, "p", "a", "b")) is("pfadd", 0, nil, r.redis_pfadd(h, "p", {"a"})) is("pfadd", 1, nil, r.redis_pfadd(h, "q", "c"))
			is("pfcount", 3, nil, r.redis_pfcount(h, "p", "q")) is("pfmerge", "OK", nil, r.redis_pfmerge(h, "m", "p", "q")) is("pfcount", 3, nil, r.redis_pfcount(h, "m"))`,
		"script": `is("eval", "a1", nil, r.redis_run_script(h, "return KEYS[1] .. ARGV[1]", "", {"a"}, {1})) is("args", {"x", "2"}, nil, r.redis_run_script(h, "return ARGV", "", {}, "x", 2))
			is("none", nil, ` + none + `, r.redis_run_script(h, "return nil", "", {}, {})) is("unknown", nil, "no script of that name was uploaded", r.redis_run_script(h, "", "X", {}, {}))
			is("upload", "61636018f4e6b5817b89791bbed242f93fa089e3", nil, r.redis_upload_script(h, "return redis.call('INCR', KEYS[1])", "Count"))
			is("run", 1, nil, r.redis_run_script(h, "", "Count", {"n"}, {})) is("run", 2, nil, r.redis_run_script(h, "ignored", "Count", {"n"}))
			is("nested", {1, {2, "x"}}, nil, r.redis_run_script(h, "return {1, {2, 'x'}}", "", {}, {}))`,
		"pipeline": `is("pipeline", {{ok = true, value = 1}, {ok = true, value = "x"}, {ok = true}, {ok = true, value = true}, {ok = true, value = {"x"}}, {ok = true, value = 1}, {ok = true, value = 2}, {ok = true, value = {f = "x"}}, {ok = true, value = 7}, {ok = true, value = "OK"}}, nil,
				r.redis_pipeline(h, "write", {{"hset", "u", "f", "x"}, {"hget", "u", "f"}, {"hget", "u", "none"}, {"expire", "u", 60}, {"hmget", "u", "none", "f"}, {"zadd", "z", 2, "m"}, {"zscore", "z", "m"}, {"hgetall", "u"}, {"run_script", "return 7", "", {}, {}}, {"set", "k", "v", 60}}))
			is("empty", {}, nil, r.redis_pipeline(h, "read", {})) is("unsupported", nil, "unsupported pipeline command: flushall", r.redis_pipeline(h, "write", {{"flushall"}}))
			r.redis_set(h, "text", "x")
			local v, err = r.redis_pipeline(h, "write", {{"get", "k"}, {"hget", "text", "f"}}) assert(v == nil and err:find("^WRONGTYPE"), err)
			v, err = r.redis_pipeline(h, "write", {{"get", "none"}, {"hget", "text", "f"}}) assert(err == nil and v[1].ok and not v[2].ok and v[2].err:find("^WRONGTYPE"), err)`,
		"handle": `for _, handle in ipairs({"nothing", 7, {}, print, false}) do is("set", "OK", nil, r.redis_set(handle, "k", 1)) end is("nil", "1", nil, r.redis_get(nil, "k"))
			local d = r.get_redis_connection("default") assert(type(d) == "userdata") is("default", "1", nil, r.redis_get(d, "k"))
			is("unknown", nil, 'no pool "x" is registered', r.get_redis_connection("x"))`,
		"empty tables": `is("hset", 0, nil, r.redis_hset(h, "k", {})) is("hdel", 0, nil, r.redis_hdel(h, "k", {})) is("hmget", {}, nil, r.redis_hmget(h, "k", {})) is("mget", {}, nil, r.redis_mget(h, {}))
			is("mset", "OK", nil, r.redis_mset(h, {})) is("pfmerge", "OK", nil, r.redis_pfmerge(h, "k", {})) is("exists", 0, nil, r.redis_exists(h, "k"))
			for _, f in ipairs({"sadd", "srem", "zrem", "zadd", "lpush", "rpush", "pfadd"}) do is(f, 0, nil, r["redis_" .. f](h, "k", {})) end`,
		"nil is an empty text": `is("set", "OK", nil, r.redis_set(h, "k", nil)) is("exists", 1, nil, r.redis_exists(h, "k")) is("hset", 2, nil, r.redis_hset(h, "u", "f", nil, "g", 1)) is("hgetall", {f = "", g = "1"}, nil, r.redis_hgetall(h, "u"))
			is("args", {"", "b"}, nil, r.redis_run_script(h, "return ARGV", "", {}, nil, "b")) is("holes", {"a", "b"}, nil, r.redis_run_script(h, "return ARGV", nil, {}, {"a", nil, "b"}))
			is("pipeline", {{ok = true, value = "OK"}, {ok = true, value = 1}, {ok = true, value = ""}}, nil, r.redis_pipeline(h, "write", {{"set", "p", nil}, {"hset", "v", "f", nil}, {"hget", "v", "f"}}))`,
		"fractions": `is("expire", false, nil, r.redis_expire(h, "none", 90.5)) r.redis_rpush(h, "l", "a", "b") is("lrange", {"a"}, nil, r.redis_lrange(h, "l", 0.5, 0.9)) is("hincrby", 1, nil, r.redis_hincrby(h, "u", "n", 1.9))
			is("set", "OK", nil, r.redis_set(h, "k", 1, {ex = 30.5})) is("no end", "OK", nil, r.redis_set(h, "k", 1, {ex = 0, px = -1}))`,
		"numbers": `r.redis_set(h, "k", 1795820096.25) is("value", "1795820096.25", nil, r.redis_get(h, "k")) is("args", {"1795820096.25", "1e+21"}, nil, r.redis_run_script(h, "return {ARGV[1], KEYS[1]}", "", {1e21}, {1795820096.25}))
			r.redis_hset(h, "u", 1795820096.25, 1e21) is("field as Lua writes it", "1000000000000000000000", nil, r.redis_hget(h, "u", tostring(1795820096.25)))
			r.redis_sadd(h, "s", 0.5, 1e21) is("member", true, nil, r.redis_sismember(h, "s", "1000000000000000000000")) is("ttl as text", "OK", nil, r.redis_set(h, "k", 1, "60"))
			r.redis_zadd(h, "z", "a", 1, "b", 2, "c", 3) is("two numbers", {"b"}, nil, r.redis_zrangebyscore(h, "z", 0, 9, 1, 1))`,
		"upload without a name": `is("upload", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", nil, r.redis_upload_script(h, "return 1")) is("run", 7, nil, r.redis_run_script(h, "return 7", nil, {}, {}))`,
		"all in a pipeline": `is("pipeline", {{ok = true, value = "PONG"}, {ok = true, value = "OK"}, {ok = true, value = {"k"}}, {ok = true, value = {cursor = 0, keys = {"k"}}}, {ok = true, value = ""}}, nil,
			r.redis_pipeline(h, "read", {{"ping"}, {"set", "k", ""}, {"keys", "*"}, {"scan", 0, "*", 10}, {"get", "k"}}))`,
		"wrong type": `r.redis_set(h, "k", 1) local v, err = r.redis_hget(h, "k", "f") assert(v == nil and err:find("^WRONGTYPE"), err)`,
	} {
		t.Run(name, func(t *testing.T) {
			_, with := withMini(t)
			ask(t, same+body, query("alice"), with)
		})
	}
}

func TestRedis_ArgumentErrors(t *testing.T) {
	_, with := withMini(t)
	for statement, want := range map[string]string{
		`nauthilus_redis.redis_get("default")`:                                                                         "bad argument #2 to redis_get (string expected, got no value)",
		`nauthilus_redis.redis_get("default", {})`:                                                                     "bad argument #2 to redis_get (string expected, got table)",
		`nauthilus_redis.redis_get("default", "k", "float")`:                                                           `bad argument #3 to redis_get ("string", "number" or "bool" expected, got string: "float")`,
		`nauthilus_redis.redis_hset("default", "k", "f")`:                                                              "redis_hset: keys and values expected in pairs, got 1 arguments",
		`nauthilus_redis.redis_hset("default", "k", {f = {}})`:                                                         "bad argument #3 to redis_hset (table of strings by string expected, got table)",
		`nauthilus_redis.redis_expire("default", "k", 0/0)`:                                                            "bad argument #3 to redis_expire (whole number expected, got number: NaN)",
		`nauthilus_redis.redis_expire("default", "k", "x")`:                                                            `bad argument #3 to redis_expire (whole number expected, got string: "x")`,
		`nauthilus_redis.redis_set("default", "k", 1, "x")`:                                                            `bad argument #4 to redis_set (number of seconds or table expected, got string: "x")`,
		`nauthilus_redis.redis_set("default", "k", 1, {ex = "x"})`:                                                     "bad argument #4 to redis_set (ex: number expected, got string)",
		`nauthilus_redis.redis_sadd("default", "k")`:                                                                   "bad argument #3 to redis_sadd (string expected, got no value)",
		`nauthilus_redis.redis_pipeline("default", "write", {{"sadd", "k", {}}})`:                                      "bad argument #2 to sadd (table with values expected, got table) in command 1 of redis_pipeline",
		`nauthilus_redis.redis_pipeline("default", "both", {})`:                                                        `bad argument #2 to redis_pipeline ("read" or "write" expected, got string): "both"`,
		`nauthilus_redis.redis_pipeline("default", "read", {{"get"}})`:                                                 "bad argument #1 to get (string expected, got no value) in command 1 of redis_pipeline",
		`nauthilus_redis.redis_pipeline("default", "read", {7})`:                                                       "bad argument #3 to redis_pipeline (table of commands expected, its element 1 is a number)",
		`nauthilus_redis.redis_run_script("default", "return 1", "", "k", {})`:                                         "bad argument #4 to redis_run_script (table of keys expected, got string: \"k\")",
		`nauthilus_redis.register_redis_pool("p", "cluster", {})`:                                                      "bad argument #3 to register_redis_pool (address or addresses expected)",
		`nauthilus_redis.register_redis_pool("p", "memory", {address = "a:1"})`:                                        `bad argument #2 to register_redis_pool (standalone, cluster, sentinel or sentinel_replica expected, got "memory")`,
		`nauthilus_redis.register_redis_pool("p", "sentinel", {address = "a:1"})`:                                      "bad argument #3 to register_redis_pool (master_name expected)",
		`nauthilus_redis.register_redis_pool("p", "standalone", {address = "a"})`:                                      "bad argument #3 to register_redis_pool (an address is host:port or unix:/path)",
		`nauthilus_redis.register_redis_pool("p", "standalone", {address="a:1", db=-1})`:                               "bad argument #3 to register_redis_pool (db: whole number from 0 to 65535 expected, got number)",
		`nauthilus_redis.register_redis_pool("p", "standalone", {addresses={{}, print}})`:                              "bad argument #3 to register_redis_pool (addresses: table of strings expected, got table)",
		`nauthilus_redis.redis_upload_script("default", "", "n")`:                                                      "redis_upload_script: a script of 0 bytes; expected 1 to 262144",
		`local t = {} for i = 1, 1001 do t[i] = {"get", "k"} end nauthilus_redis.redis_pipeline("default", "read", t)`: "redis_pipeline: 1001 commands, at most 1000",
	} {
		if got := luaError(t, statement, with); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

// Without director.network nothing is reached; in a dry run nothing is tried, and
// without addresses the default says so.
func TestRedis_Gates(t *testing.T) {
	for _, call := range []string{`redis_get("default", "k")`, `redis_pipeline("default", "read", {{"get", "k"}})`, `redis_run_script("default", "", "X", {}, {})`, `redis_upload_script("default", "x", "y")`,
		`get_redis_connection("default")`, `register_redis_pool("p", "standalone", {address = "127.0.0.1:1"})`} {
		if got := luaError(t, "nauthilus_redis."+call); !strings.Contains(got, "director.network is false") {
			t.Errorf("%s: %s", call, got)
		}
	}
	with := withRedis(t, modules.RedisOptions{})
	ask(t, same+`is("get", nil, "redis.addresses is empty", r.redis_get(h, "k")) is("handle", nil, "redis.addresses is empty", r.get_redis_connection("default"))`, query("alice"), with)

	m, with := withMini(t)
	d := newDirector(t, inFilter(same+`
		local dry = request.username == "dry"
		local ok, err = r.redis_set(h, request.username, 1)
		assert((ok == nil) == dry, err)
		ok = r.redis_upload_script(h, "return 1", request.username) assert((ok == nil) == dry)
		ok = r.register_redis_pool(request.username, "standalone", {address = "127.0.0.1:1"}) assert((ok == nil) == dry)
		if request.username == "after" then
			is("script", nil, "no script of that name was uploaded", r.redis_run_script(h, "", "dry", {}, {}))
			is("pool", nil, 'no pool "dry" is registered', r.get_redis_connection("dry"))
		end`), with)
	q := query("dry")
	q.DryRun = true
	direct(t, d, q)
	// What an init script would have uploaded or registered no dry run can know.
	for _, call := range []string{`redis_run_script(h, "", "X", {}, {})`, `get_redis_connection("x")`} {
		if err := newDirector(t, inFilter(same+`local v, err = r.`+call+` if err then error(err) end`), with).Probed(); err != nil {
			t.Error(err)
		}
	}
	if err := newDirector(t, inFilter(`assert(nauthilus_redis.get_redis_connection("default"))`), withRedis(t, modules.RedisOptions{})).Probed(); err == nil {
		t.Error("no server is configured, and nobody says so")
	}
	direct(t, d, query("after"))
	if m.Exists("dry") || !m.Exists("after") {
		t.Errorf("keys: %v", m.Keys())
	}
}

func TestRedis_Pools(t *testing.T) {
	other := miniredis.RunT(t)
	other.RequireUserAuth("usher", "hunter2")
	m, with := withMini(t)
	ask(t, same+`
		is("register", "OK", nil, r.register_redis_pool("other", "standalone", {address = "`+other.Addr()+`", username = "usher", password = "hunter2", db = 3, pool_size = 2, min_idle_conns = 1, tls_enabled = false, tls_cert_file = "", tls_key_file = ""}))
		is("again", nil, "a pool of that name is registered already", r.register_redis_pool("other", "standalone", {address = "`+other.Addr()+`"}))
		is("default", nil, "a pool of that name is registered already", r.register_redis_pool("default", "standalone", {address = "`+other.Addr()+`"}))
		local o = r.get_redis_connection("other")
		is("set", "OK", nil, r.redis_set(o, "k", "other")) is("none", nil, "redis: nil", r.redis_get(h, "k")) is("a name is no handle", nil, "redis: nil", r.redis_get("other", "k"))
		is("pipeline", {{ok = true, value = "other"}}, nil, r.redis_pipeline(o, "read", {{"get", "k"}}))
		r.register_redis_pool("wrong", "standalone", {address = "`+other.Addr()+`", username = "usher", password = "nothunter"})
		local v, err = r.redis_ping(r.get_redis_connection("wrong")) assert(v == nil and err:find("WRONGPASS") and not err:find("nothunter"), err)
		v, err = r.register_redis_pool("tls", "standalone", {address = "a:1", tls_enabled = true, tls_cert_file = "/nonexistent", tls_key_file = "/nonexistent"}) assert(v == nil and err:find("no such file"), err)
		for i = 3, 64 do is("more", "OK", nil, r.register_redis_pool("p" .. i, "cluster", {addresses = {"127.0.0.1:1", "unix:/x"}})) end
		is("too many", nil, "64 pools are registered already", r.register_redis_pool("p65", "standalone", {address = "a:1"}))`, query("alice"), with)
	if got, err := other.DB(3).Get("k"); got != "other" {
		t.Error(got, err, m.Keys())
	}
}

// A script's name is kept while the server is away, and a server that has
// forgotten it gets it again.
func TestRedis_ScriptsComeBack(t *testing.T) {
	m, with := withMini(t)
	d := newDirector(t, inFilter(same+`
		if request.username == "upload" then
			local sha, err = r.redis_upload_script(h, "return 'here'", "Here")
			assert(sha == nil and err, err)
		else
			is("run", "here", nil, r.redis_run_script(h, "", "Here", {}, {}))
			is("pipeline", {{ok = true, value = "here"}}, nil, r.redis_pipeline(h, "write", {{"run_script", "", "Here", {}, {}}}))
		end`), with)
	m.Close()
	direct(t, d, query("upload"))
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // for so long an address that failed is left alone
	direct(t, d, query("run"))
	m.FlushAll()
	direct(t, d, query("run"))
}

// A server that is away is no error of the script, and takes no time.
func TestRedis_Away(t *testing.T) {
	m, with := withMini(t)
	d := newDirector(t, inFilter(same+`
		local v, err = r.redis_set(h, "k", 1)
		assert((v == nil) == (request.username == "away"), tostring(err))
		if v == nil then assert(err:find("^redis: "), err) end`), with)
	direct(t, d, query("there"))
	m.Close()
	for range 100 {
		began := time.Now()
		direct(t, d, query("away"))
		if took := time.Since(began); took > time.Second {
			t.Fatalf("took %s", took)
		}
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		if _, err := d.Direct(t.Context(), query("back")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not come back")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A server that takes connections and is silent takes no more than its part of the
// request's time, and then for a while none; closing does not wait for it.
func TestRedis_Silent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := modules.NewRedis(modules.RedisOptions{Addresses: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	d := newDirector(t, inFilter(same+`local v, err = r.redis_get(h, "k") assert(v == nil and err:find("^redis"), err)`),
		func(o *Options) {
			o.Deps.Redis, o.Deps.Network, o.PoolSize, o.Limits.Time = r, true, 20, 400*time.Millisecond
		})
	began := time.Now()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { direct(t, d, query("alice")) })
	}
	all.Wait()
	if took := time.Since(began); took > 390*time.Millisecond {
		t.Errorf("took %s", took)
	}
	time.Sleep(900 * time.Millisecond)
	began = time.Now()
	direct(t, d, query("alice"))
	if took := time.Since(began); took > 200*time.Millisecond {
		t.Errorf("the server is known to be silent, and it took %s", took)
	}
	began = time.Now()
	r.Close()
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("closing took %s", took)
	}
	direct(t, d, query("late"))
}

// Requests at once, with a server that comes and goes: none hangs, none is mixed up
// with another.
func TestRedis_Concurrent(t *testing.T) {
	m, with := withMini(t)
	d := newDirector(t, inFilter(same+`
		local ok, err = r.redis_set(h, request.username, request.username)
		local v
		if ok then v, err = r.redis_get(h, request.username) end
		assert(v == request.username or err and err:find("^redis"), tostring(v) .. " " .. tostring(err))`),
		with, func(o *Options) { o.PoolSize = 16 })
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := d.Direct(t.Context(), query(fmt.Sprint("user", i, "-", n))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		time.Sleep(200 * time.Millisecond)
		m.Close()
		time.Sleep(50 * time.Millisecond)
		if err := m.Restart(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
}

type networkMeter map[string]int

func (m networkMeter) PolicyNetwork(module string, _ time.Duration) { m[module]++ }

func TestRedis_MeterAndTrace(t *testing.T) {
	_, with := withMini(t)
	meter := networkMeter{}
	var steps []string
	q := query("alice")
	q.Trace = func(s string) { steps = append(steps, s) }
	ask(t, `nauthilus_redis.redis_set("default", "key", "value that nobody shall see") nauthilus_redis.redis_get("default", "none")`, q, with, func(o *Options) { o.Deps.Meter = meter })
	if meter["redis"] != 2 {
		t.Error(meter)
	}
	all := strings.Join(steps, "\n")
	if !strings.Contains(all, "nauthilus_redis set key -> \"OK\" (") || !strings.Contains(all, "nauthilus_redis get none: redis: nil") || strings.Contains(all, "nobody shall see") {
		t.Error(all)
	}
}

// A server that repeats what it was sent tells nobody usher's password.
func TestRedis_Secret(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for n, err := c.Read(buf); err == nil; n, err = c.Read(buf) {
					said := strings.NewReplacer("\r", " ", "\n", " ").Replace(string(buf[:n]))
					for range strings.Count(said, "*") {
						fmt.Fprintf(c, "-DENIED unknown command, with args beginning with: %s\r\n", said)
					}
				}
			})
		}
	})
	defer all.Wait()
	defer ln.Close()
	v := ask(t, `local v, err = nauthilus_redis.redis_get("default", "k") nauthilus_builtin.custom_log_add("err", err)`, query("alice"),
		withRedis(t, modules.RedisOptions{Addresses: []string{ln.Addr().String()}, Username: "usher", Password: proxy.NewSecret("rpw1")}))
	if got := v.Logs[0].Value; strings.Contains(got, "rpw1") || !strings.Contains(got, "********") {
		t.Errorf("got %q", got)
	}
}
