package luabridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/passdb"
)

// everything is a script that uses every module with what its own user is called,
// and complains of whatever is another's.
const everything = `
local json, yaml, strings, inspect, regexp, base64, crypto, time = require("json"), require("yaml"), require("strings"), require("inspect"),
	require("regexp"), require("base64"), require("glua_crypto"), require("time")
local function use(request)
	local me = request.username
	local function mine(what, got) if got ~= me then error(me .. ": " .. what .. " is " .. tostring(got)) end end
	assert(seen == nil, "a global stayed") seen = me
	mine("context", nauthilus_context.context_get("me") or me)
	nauthilus_context.context_set("me", me)
	nauthilus_context.context_set("table", {me = me})
	nauthilus_cache.cache_set("user:" .. me, {me = me}, 60)
	nauthilus_cache.cache_update("count", function(n) return (n or 0) + 1 end)
	mine("cache", nauthilus_cache.cache_get("user:" .. me).me)
	mine("json", json.decode(json.encode({me = me})).me)
	mine("yaml", yaml.decode(yaml.encode({me = me})).me)
	mine("strings", strings.split("x@" .. me, "@")[2])
	mine("inspect", inspect(me):sub(2, -2))
	mine("regexp", regexp.compile("([a-z]+[0-9]*)$"):find_all_string_submatch("- " .. me)[1][2])
	assert(regexp.match("^" .. me .. "$", me))
	mine("base64", base64.StdEncoding:decode_string(base64.StdEncoding:encode_to_string(me)))
	mine("crypto", crypto.base64_decode(crypto.base64_encode(me)))
	assert(crypto.sha256(me) == crypto.sha256(request.account:match("^[^@]*")), "sha256")
	assert(time.format(0, "2006", "UTC") == "1970")
	mine("otel", nauthilus_opentelemetry.tracer("x"):with_span("y", function() return me end))
	assert(next(nauthilus_opentelemetry.semconv.peer_service(me)) == nil)
	nauthilus_redis.redis_set("default", "user:" .. me, me)
	mine("redis", nauthilus_redis.redis_get("default", "user:" .. me))
	local results = nauthilus_redis.redis_pipeline("default", "read", {{"get", "user:" .. me}, {"get", "nothing"}})
	mine("pipeline", results[1].value)
	mine("script", (nauthilus_redis.redis_run_script("default", "return ARGV[1]", "", {"k"}, {me})))
	mine("header", nauthilus_http_request.get_http_request_header("X-Me")[1])
	nauthilus_http_response.set_http_response_header("X-Me", me)
	nauthilus_prometheus.create_counter_vec("logins", "Logins.", {"n"})
	nauthilus_prometheus.increment_counter("logins", {n = me})
	mine("map", usher.map("m"):get("key", me))
	assert(usher.map("m"):get("alice") == "north")
	for _, s in ipairs(usher.servers()) do assert(s.host and s.weight and #s.tags == 0 and s.assigned == 0) end
	usher.sticky(usher.servers(), "key-" .. me) usher.round_robin(usher.servers()) usher.least_assigned(usher.servers()) usher.random(usher.servers())
	local result = nauthilus_backend_result.new()
	result:attributes({me = me, user_field = me})
	mine("result", result:attributes().me)
	nauthilus_util.log_info(request.logging, {me = me})
	assert(not nauthilus_password.compare_passwords("{PLAIN}" .. me, "x"))
	local dns = nauthilus_dns.resolve(me .. ".")
	nauthilus_builtin.custom_log_add("me", me)
	string.shout = function() return me end
	mine("string", ("x"):shout())
	return result, me
end
function nauthilus_call_feature(request)
	use(request)
	return false, false, 0
end
function nauthilus_backend_verify_password(request)
	local result = use(request)
	result:user_found(true) result:authenticated(request.password == "s3cret") result:account_field("user_field")
	return 0, result
end
function nauthilus_call_filter(request)
	local result, me = use(request)
	nauthilus_backend.apply_backend_result(result)
	nauthilus_backend.select_backend_server(me .. ".example.org", 143)
	assert(nauthilus_context.context_get("table").me == me)
end
`

// Features, a password driver and filters, with all modules, for many users at
// once on few states: nobody sees what is another's.
func TestStress(t *testing.T) {
	const users, rounds = 12, 6
	_, redis := withMini(t)
	script := Script{Name: "all", Path: "all.lua", Text: everything}
	d := newDirector(t, everything, redis, given(t, map[string]string{"m": "alice north\n"}), func(o *Options) {
		o.Features = []Script{script}
		o.PoolSize = 3
		o.Deps.Prom = modules.NewPrometheus(prometheus.NewRegistry())
		o.Deps.Workers, o.Deps.DNS = passdb.NewWorkers(), noDNS{}
	})
	p, _, err := d.NewPassdb(script, false)
	if err != nil {
		t.Fatal(err)
	}
	view := backends(8)
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			me := fmt.Sprintf("user%d", i)
			for range rounds {
				q := query(me)
				q.View, q.User = view, me+"@example.org"
				q.Request.Headers = map[string][]string{"X-Me": {me}}
				if err := passes(t.Context(), d, p, q, me); err != nil {
					t.Errorf("%s: %v", me, err)
				}
			}
		})
	}
	wg.Wait()
}

// passes sends one request through all scripts.
func passes(ctx context.Context, d *Director, p *Passdb, q *proxy.Query, me string) error {
	v, err := d.Before(ctx, q)
	if err != nil || v.Refused || len(v.Header) != 1 || v.Header[0].Value != me {
		return fmt.Errorf("features: %+v, %w", v, err)
	}
	id, err := p.Lookup(ctx, q.Request)
	if err != nil || id.User != me {
		return fmt.Errorf("password: %+v, %w", id, err)
	}
	v, err = d.Direct(ctx, q)
	if err != nil {
		return err
	}
	for _, l := range v.Logs {
		if l.Value != me {
			return fmt.Errorf("another's log: %+v", v.Logs)
		}
	}
	if v.Host != me+".example.org" || v.Key != "key-"+me || len(v.Logs) != 3 || v.Header[0].Value != me || !strings.HasPrefix(v.Changes[0].Value, me) {
		return errors.New("another's verdict: " + fmt.Sprintf("%+v", v))
	}
	return nil
}
