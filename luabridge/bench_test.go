package luabridge

import (
	"context"
	"testing"

	"usher/proxy"
	"usher/scripts"
)

func benchmark(b *testing.B, text string, q *proxy.Query, change ...func(*Options)) {
	b.Helper()
	d := newDirector(b, text, change...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Direct(context.Background(), q); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPolicy(b *testing.B) {
	for _, p := range []struct{ name, text string }{{"empty", inFilter("")}, {"builtin", scripts.Director}, {"typical", typical}} {
		b.Run("policy="+p.name, func(b *testing.B) { benchmark(b, p.text, query("alice@example.org")) })
	}
}

// BenchmarkFunction is what a hundred calls of one function cost, policy run
// and loop included (call=nothing).
func BenchmarkFunction(b *testing.B) {
	for _, f := range []struct{ name, before, call string }{
		{"nothing", "", ""},
		{"get_backend_servers", "local f = nauthilus_backend.get_backend_servers", "f()"},
		{"server_fields", "local s = nauthilus_backend.get_backend_servers()[1]", "local _ = s.host, s.port, s.protocol"},
		{"select_backend_server", "local f = nauthilus_backend.select_backend_server", "f('127.0.0.2', 143)"},
		{"check_backend_connection", "local f = nauthilus_backend.check_backend_connection", "f('imap', '127.0.0.2', 143, false, false, false)"},
		{"apply_backend_result", "local f, r = nauthilus_backend.apply_backend_result, nauthilus_backend_result.new() r:attributes({a = '1', b = '2'})", "f(r)"},
		{"remove_from_backend_result", "local f, t = nauthilus_backend.remove_from_backend_result, {'a', 'b'}", "f(t)"},
		{"backend_result.new", "local f = nauthilus_backend_result.new", "f()"},
		{"backend_result.attributes", "local r, t = nauthilus_backend_result.new(), {a = '1', b = '2'}", "r:attributes(t)"},
		{"status_message_set", "local f = nauthilus_builtin.status_message_set", "f('no')"},
		{"log_debug_dropped", "local f = nauthilus_util.log_debug", "f('hello')"},
		{"request_field", "", "local _ = request.username"},
		{"request_pairs", "", "for k in pairs(request) do end"},
		{"usher.servers", "local f = usher.servers", "f()"},
		{"usher.hash", "local f, t = usher.hash, usher.servers()", "f('key', t)"},
		{"usher.sticky", "local f, t = usher.sticky, usher.servers()", "f(t)"},
		{"usher.select", "local f, s = usher.select, usher.servers()[1]", "f(s)"},
		{"require", "", "require('usher')"},
		{"string_method", "local s = 'abc'", "local _ = s:byte(1)"},
		{"math.random", "local f = math.random", "f(100)"},
		{"coroutine", "local f = coroutine.wrap", "if i <= 50 then f(print) end"},
	} {
		b.Run("call="+f.name, func(b *testing.B) {
			benchmark(b, inFilter(f.before+" for i = 1, 100 do "+f.call+" end"), query("alice@example.org"))
		})
	}
}

func BenchmarkParallel(b *testing.B) {
	d := newDirector(b, typical, func(o *Options) { o.PoolSize = 0 })
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		q := query("alice@example.org")
		for pb.Next() {
			if _, err := d.Direct(context.Background(), q); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkNewState is what a request costs more whose predecessor failed.
func BenchmarkNewState(b *testing.B) {
	d := newDirector(b, inFilter(""))
	b.ReportAllocs()
	for b.Loop() {
		newState(d).L.Close()
	}
}

// An idle policy stays cheap: what it allocates is its environment.
func TestAllocations(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		most float64
	}{"empty": {inFilter(""), 15}, "builtin": {scripts.Director, 33}} {
		d, q := newDirector(t, tt.text), query("alice@example.org")
		direct(t, d, q)
		if n := testing.AllocsPerRun(100, func() { direct(t, d, q) }); n > tt.most {
			t.Errorf("%s: %v allocations, at most %v", name, n, tt.most)
		}
	}
}
