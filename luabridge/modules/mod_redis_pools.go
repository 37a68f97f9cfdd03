package modules

import (
	"fmt"
	"math"
	"net"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
	"usher/proxy"
)

var redisPoolFuncs = []Func{
	{
		Name: "register_redis_pool", Do: registerRedisPool,
		Sig: `(name: string, kind: "standalone"|"cluster"|"sentinel"|"sentinel_replica", options: {address?: string, addresses?: string[], master_name?: string, sentinel_username?: string, sentinel_password?: string, username?: string, password?: string, db?: integer, pool_size?: integer, min_idle_conns?: integer, tls_enabled?: boolean, tls_cert_file?: string, tls_key_file?: string}) -> ok: "OK"?, err: string?`,
		Doc: "Makes another Redis known under a name, which init scripts do; it is connected when it is first asked. `address` and `addresses` are `host:port` or `unix:/path`; `pool_size` is how many connections are kept to each server, 16 at most; `min_idle_conns` means nothing. " +
			"A name that is taken returns nil and an error. At most 64 pools, which live until the next reload.",
		Example: `local redis = require("nauthilus_redis")
local ok = redis.register_redis_pool("sessions", "standalone", {address = "192.0.2.20:6379", db = 2})
print(ok) --> OK
print(redis.register_redis_pool("sessions", "standalone", {address = "192.0.2.21:6379"})) --> nil	a pool of that name is registered already`,
	},
	{
		Name: "get_redis_connection", Do: getRedisConnection,
		Sig: "(name: string) -> handle: nauthilus_redis_connection?, err: string?",
		Doc: "The handle of a pool, for the other functions; `\"default\"` is the configuration's. Nil and a text where no pool of that name is registered.",
		Example: `local redis = require("nauthilus_redis")
local handle, err = redis.get_redis_connection("nothing")
print(handle, err) --> nil	no pool "nothing" is registered`,
	},
	redisFunc("ping", func(*redisArgs) redisCall { return redisCall{words: []string{"PING"}, read: true, reply: replyText} },
		`(handle: any) -> pong: "PONG"?, err: string?`, "Asks the server whether it is there.",
		`print(redis.redis_ping("default")) --> PONG	nil`),
}

func getRedisConnection(L *lua.LState) int {
	c, name := CallOf(L), key(L, "get_redis_connection")
	if !c.Network {
		L.RaiseError("%s: director.network is false, so that policies reach no network", redisName)
	}
	p, err := c.redis().pool(name)
	if err != nil && name != defaultPool && c.Query.DryRun {
		// The init script that registers it may not have run yet.
		_, _, err = c.reach(L, redisName, redisPatience, func() string { return "connection " + clip(name, 64) })
	}
	if err != nil {
		return redisReturn(L, lua.LNil, err)
	}
	take(L, 8, 64)
	return redisReturn(L, newObject(L, redisConnection.Name, p), nil)
}

func registerRedisPool(L *lua.LState) int {
	name := strings.Clone(key(L, "register_redis_pool"))
	kind, ok := L.Get(2).(lua.LString)
	if !ok {
		argError(L, 2, "register_redis_pool", "string")
	}
	t, ok := L.Get(3).(*lua.LTable)
	if !ok {
		argError(L, 3, "register_redis_pool", "table")
	}
	o := poolOptions{L: L, t: t}
	options := o.read(RedisKind(kind))
	if name == "" || len(name) > 64 {
		L.RaiseError("bad argument #1 to register_redis_pool (a name of 1 to 64 bytes expected)")
	}
	c := CallOf(L)
	if c.Redis == nil && c.Network {
		return redisReturn(L, lua.LNil, errNoRedis)
	}
	_, done, err := c.reach(L, redisName, redisPatience, func() string { return "register " + name })
	if err != nil {
		return redisReturn(L, lua.LNil, err)
	}
	take(L, 1000, 4096)
	err = c.Redis.register(name, &options)
	done(err)
	if err != nil {
		return redisReturn(L, lua.LNil, err)
	}
	return redisReturn(L, lua.LString("OK"), nil)
}

// poolOptions reads the options of a pool.
type poolOptions struct {
	L *lua.LState
	t *lua.LTable
}

func (o *poolOptions) bad(name, expected string) {
	o.L.RaiseError("bad argument #3 to register_redis_pool (%s: %s expected, got %s)", name, expected, o.t.RawGetString(name).Type())
}

func (o *poolOptions) text(name string) string {
	switch v := o.t.RawGetString(name).(type) {
	case *lua.LNilType:
		return ""
	case lua.LString:
		if len(v) > 1024 {
			o.L.RaiseError("bad argument #3 to register_redis_pool (%s: longer than 1024 bytes)", name)
		}
		return strings.Clone(string(v))
	}
	o.bad(name, "string")
	return ""
}

func (o *poolOptions) whole(name string, most int) int {
	switch v := o.t.RawGetString(name).(type) {
	case *lua.LNilType:
		return 0
	case lua.LNumber:
		if f := float64(v); f == math.Trunc(f) && f >= 0 && f <= float64(most) {
			return int(f)
		}
	}
	o.bad(name, fmt.Sprintf("whole number from 0 to %d", most))
	return 0
}

func (o *poolOptions) addresses() []string {
	var out []string
	if a := o.text("address"); a != "" {
		out = append(out, a)
	}
	switch list := o.t.RawGetString("addresses").(type) {
	case *lua.LNilType:
	case *lua.LTable:
		n := budget.Of(o.L).Len(o.L, list)
		if n > 64 {
			o.bad("addresses", "at most 64")
		}
		for i := 1; i <= n; i++ {
			s, ok := list.RawGetInt(i).(lua.LString)
			if !ok || len(s) > 1024 {
				o.bad("addresses", "table of strings")
			}
			out = append(out, strings.Clone(string(s)))
		}
	default:
		o.bad("addresses", "table of strings")
	}
	for _, a := range out {
		if path, ok := strings.CutPrefix(a, "unix:"); ok && strings.HasPrefix(path, "/") {
			continue
		}
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			o.L.RaiseError("bad argument #3 to register_redis_pool (an address is host:port or unix:/path)")
		}
	}
	return out
}

func (o *poolOptions) read(kind RedisKind) RedisOptions {
	tls := o.t.RawGetString("tls_enabled")
	if tls != lua.LNil && tls.Type() != lua.LTBool {
		o.bad("tls_enabled", "boolean")
	}
	o.whole("min_idle_conns", 1_000_000)
	r := RedisOptions{
		Kind: kind, Addresses: o.addresses(), DB: o.whole("db", 65535), Connections: o.whole("pool_size", 1_000_000),
		Username: o.text("username"), Password: proxy.NewSecret(o.text("password")),
		TLS: lua.LVAsBool(tls), Cert: o.text("tls_cert_file"), Key: o.text("tls_key_file"),
		SentinelMaster: o.text("master_name"), SentinelUsername: o.text("sentinel_username"), SentinelPassword: proxy.NewSecret(o.text("sentinel_password")),
	}
	sentinel := false
	switch kind {
	case RedisStandalone, RedisCluster:
	case RedisSentinel, RedisSentinelReplica:
		sentinel = true
	default:
		o.L.RaiseError("bad argument #2 to register_redis_pool (standalone, cluster, sentinel or sentinel_replica expected, got %q)", clip(string(kind), 64))
	}
	if len(r.Addresses) == 0 {
		o.L.RaiseError("bad argument #3 to register_redis_pool (address or addresses expected)")
	}
	if sentinel && r.SentinelMaster == "" {
		o.L.RaiseError("bad argument #3 to register_redis_pool (master_name expected)")
	}
	return r
}
