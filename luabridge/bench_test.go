package luabridge

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/lualib"
	"usher/luabridge/modules"
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

// typicalFilter reads six fields, loops over eight servers, chooses by a hash of
// its own, and selects: 160 steps.
const typicalFilter = `
local backend = require("nauthilus_backend")
function nauthilus_call_filter(request)
  if not request.authenticated or request.no_auth then
    return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
  end
  local key = request.account .. request.client_ip .. request.service
  local candidates, n = {}, 0
  for _, server in ipairs(backend.get_backend_servers()) do
    if server.protocol == request.protocol then
      n = n + 1
      candidates[n] = server
    end
  end
  local hash = 0
  for i = 1, 8 do
    hash = (hash * 31 + key:byte(i)) % 65521
  end
  local server = candidates[hash % n + 1]
  backend.select_backend_server(server.host, server.port)
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end`

// eight is a query with eight servers.
func eight() *proxy.Query {
	q := query("alice@example.org")
	var es []proxy.Entry
	for i := range 8 {
		host := fmt.Sprintf("127.0.0.%d", i+2)
		es = append(es, proxy.Entry{
			Server: &proxy.Server{Protocol: "imap", Host: host, Port: 143, Weight: 100},
			Health: proxy.Up, Addr: netip.MustParseAddr(host),
		})
	}
	q.View = proxy.NewView(es)
	return q
}

func BenchmarkPolicy(b *testing.B) {
	for _, p := range []struct{ name, text string }{
		{"empty", inFilter("")}, {"builtin", scripts.Director}, {"typical", typicalFilter}, {"longer", typical},
	} {
		b.Run("policy="+p.name, func(b *testing.B) { benchmark(b, p.text, eight()) })
	}
	b.Run("policy=naive", func(b *testing.B) { benchmarkNaive(b, typicalFilter) })
}

// benchmarkNaive is what one would write first: a state from a pool, the chunk
// run in it, every field of the request set, a Go function as the servers'
// __index; no budget, no deadline, and whatever a script leaves behind stays.
func benchmarkNaive(b *testing.B, text string) {
	L := lua.NewState()
	defer L.Close()
	q := eight()
	c := &modules.Call{Deps: &modules.Deps{LogLevel: "info"}, Query: q, Began: time.Now()}
	mt := L.NewTable()
	mt.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
		s := L.CheckUserData(1).Value.(*proxy.Server)
		switch L.CheckString(2) {
		case "protocol":
			L.Push(lua.LString(s.Protocol))
		case "host":
			L.Push(lua.LString(s.Host))
		case "port":
			L.Push(lua.LNumber(s.Port))
		default:
			L.Push(lua.LNil)
		}
		return 1
	}))
	selected := ""
	L.PreloadModule("nauthilus_backend", func(L *lua.LState) int {
		L.Push(L.SetFuncs(L.NewTable(), map[string]lua.LGFunction{
			"get_backend_servers": func(L *lua.LState) int {
				t := L.NewTable()
				for i := range q.View.Entries {
					ud := L.NewUserData()
					ud.Value = q.View.Entries[i].Server
					ud.Metatable = mt
					t.Append(ud)
				}
				L.Push(t)
				return 1
			},
			"select_backend_server": func(L *lua.LState) int {
				selected = L.CheckString(1)
				L.CheckInt(2)
				return 0
			},
		}))
		return 1
	})
	builtin := L.NewTable()
	builtin.RawSetString("FILTER_ACCEPT", lua.LFalse)
	builtin.RawSetString("FILTER_RESULT_OK", lua.LNumber(0))
	L.SetGlobal("nauthilus_builtin", builtin)
	proto, err := lualib.Compile("test.lua", text)
	if err != nil {
		b.Fatal(err)
	}
	names := modules.RequestFields()
	b.ReportAllocs()
	for b.Loop() {
		L.Push(L.NewFunctionFromProto(proto))
		if err := L.PCall(0, 0, nil); err != nil {
			b.Fatal(err)
		}
		request := L.NewTable()
		for _, name := range names {
			request.RawSetString(name, modules.RequestField(c, name))
		}
		L.Push(L.GetGlobal(entryFilter))
		L.Push(request)
		if err := L.PCall(1, 2, nil); err != nil {
			b.Fatal(err)
		}
		L.SetTop(0)
	}
	if selected == "" {
		b.Error("nothing selected")
	}
}

// BenchmarkFunction is what a hundred calls of one function cost, policy run
// and loop included (call=nothing).
func BenchmarkFunction(b *testing.B) {
	for _, f := range []struct{ name, before, call string }{
		{"nothing", "", ""},
		{"nauthilus_backend.get_backend_servers", "local f = nauthilus_backend.get_backend_servers", "f()"},
		{"server_fields", "local s = nauthilus_backend.get_backend_servers()[1]", "local _ = s.host, s.port, s.protocol"},
		{"nauthilus_backend.select_backend_server", "local f = nauthilus_backend.select_backend_server", "f('127.0.0.2', 143)"},
		{"nauthilus_backend.check_backend_connection", "local f = nauthilus_backend.check_backend_connection", "f('imap', '127.0.0.2', 143, false, false, false)"},
		{"nauthilus_backend.apply_backend_result", "local f, r = nauthilus_backend.apply_backend_result, nauthilus_backend_result.new() r:attributes({a = '1', b = '2'})", "f(r)"},
		{"nauthilus_backend.remove_from_backend_result", "local f, t = nauthilus_backend.remove_from_backend_result, {'a', 'b'}", "f(t)"},
		{"nauthilus_backend_result.new", "local f = nauthilus_backend_result.new", "f()"},
		{"nauthilus_backend_result:attributes", "local r, t = nauthilus_backend_result.new(), {a = '1', b = '2'}", "r:attributes(t)"},
		{"nauthilus_builtin.status_message_set", "local f = nauthilus_builtin.status_message_set", "f('no')"},
		{"nauthilus_builtin.custom_log_add", "local f = nauthilus_builtin.custom_log_add", "f('key', 'value')"},
		{"nauthilus_util.log_debug, dropped", "local f = nauthilus_util.log_debug", "f('hello')"},
		{"nauthilus_context.context_set", "local f = nauthilus_context.context_set", "f('key', 'value')"},
		{"nauthilus_context.context_get", "local f = nauthilus_context.context_get nauthilus_context.context_set('key', 'value')", "f('key')"},
		{"nauthilus_cache.cache_set", "local f = nauthilus_cache.cache_set", "f('key', 'value', 60)"},
		{"nauthilus_cache.cache_get", "local f = nauthilus_cache.cache_get nauthilus_cache.cache_set('key', 'value')", "f('key')"},
		{"nauthilus_cache.cache_update", "local f, g = nauthilus_cache.cache_update, function(n) return (n or 0) + 1 end", "f('n', g)"},
		{"request_field", "", "local _ = request.username"},
		{"request_pairs", "", "for k in pairs(request) do end"},
		{"usher.servers", "local f = usher.servers", "f()"},
		{"usher.hash", "local f, t = usher.hash, usher.servers()", "f('key', t)"},
		{"usher.first", "local f, t = usher.first, usher.servers()", "f(t)"},
		{"usher.random", "local f, t = usher.random, usher.servers()", "f(t)"},
		{"usher.round_robin", "local f, t = usher.round_robin, usher.servers()", "f(t)"},
		{"usher.least_assigned", "local f, t = usher.least_assigned, usher.servers()", "f(t)"},
		{"usher.cidr", "local f, ip = usher.cidr, request.client_ip", "f('192.0.2.0/24', ip)"},
		{"usher.map", "local f = usher.map", "f('m')"},
		{"usher.map:get", "local m = usher.map('m')", "m:get('alice@example.org')"},
		{"server_weight", "local s = usher.servers()[1]", "local _ = s.weight"},
		{"usher.sticky", "local f, t = usher.sticky, usher.servers()", "f(t)"},
		{"usher.select", "local f, s = usher.select, usher.servers()[1]", "f(s)"},
		{"usher.assigned", "local f = usher.assigned", "f()"},
		{"require", "", "require('usher')"},
		{"string:byte", "local s = 'abc'", "local _ = s:byte(1)"},
		{"string:lower", "local s = 'Alice@Example.ORG'", "local _ = s:lower()"},
		{"string:sub", "local s = 'alice@example.org'", "local _ = s:sub(1, 5)"},
		{"string:match", "local s = 'alice@example.org'", "local _ = s:match('^([^@]*)@(.*)$')"},
		{"string:find, plain", "local s = 'alice@example.org'", "local _ = s:find('@', 1, true)"},
		{"string:gsub", "local s = 'alice@example.org'", "local _ = s:gsub('%.', '-')"},
		{"string.format", "local f = string.format", "local _ = f('%s:%d', 'host', 143)"},
		{"concat", "local s = 'alice'", "local _ = s .. '@' .. 'example.org'"},
		{"table.insert", "local f, t = table.insert, {}", "f(t, i)"},
		{"table.concat", "local f, t = table.concat, {'a', 'b', 'c'}", "f(t, ',')"},
		{"t[#t+1]", "local t = {}", "t[#t + 1] = i"},
		{"math.random", "local f = math.random", "f(100)"},
		{"pcall", "local f, g = pcall, function() end", "f(g)"},
		{"coroutine.wrap", "local f, g = coroutine.wrap, function() end", "if i <= 50 then f(g) end"},
	} {
		b.Run("call="+f.name, func(b *testing.B) {
			benchmark(b, inFilter(f.before+" for i = 1, 100 do "+f.call+" end"), eight(), given(b, map[string]string{"m": "alice@example.org north\n"}))
		})
	}
}

func BenchmarkParallel(b *testing.B) {
	d := newDirector(b, typicalFilter, func(o *Options) { o.PoolSize = 0 })
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		q := eight()
		for pb.Next() {
			if _, err := d.Direct(context.Background(), q); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkBadClient is how long others wait, at the 99th percentile, with one
// client in ten whose name makes a bad pattern use its whole budget (bad=1), and
// with none (bad=0). Ten clients ask, each as soon as it is answered and has
// rested as long as a hundred answers take.
func BenchmarkBadClient(b *testing.B) {
	const clients = 10
	text := inFilter(`
		if request.client_id == "bad" then return request.username:find("^(.-)(.-)(.-)x$") end
		usher.select(usher.hash(request.username, usher.servers()))`)
	for _, bad := range []int{0, 1} {
		b.Run(fmt.Sprintf("bad=%d", bad), func(b *testing.B) {
			d := newDirector(b, text, func(o *Options) { o.PoolSize = 0 })
			took := make([][]time.Duration, clients)
			var all, good sync.WaitGroup
			stop := make(chan struct{})
			for i := range clients {
				q := eight()
				if i < bad {
					q.Request.ClientID, q.Request.User = "bad", worst[0].user
					all.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								if _, err := d.Direct(context.Background(), q); err == nil {
									b.Error("a bad client was answered")
									return
								}
								time.Sleep(time.Millisecond)
							}
						}
					})
					continue
				}
				good.Go(func() {
					for range max(b.N/(clients-bad), 1) {
						began := time.Now()
						if _, err := d.Direct(context.Background(), q); err != nil {
							b.Error(err)
							return
						}
						took[i] = append(took[i], time.Since(began))
						time.Sleep(time.Millisecond)
					}
				})
			}
			good.Wait()
			close(stop)
			all.Wait()
			sorted := slices.Sorted(slices.Values(slices.Concat(took...)))
			b.ReportMetric(float64(sorted[len(sorted)/2].Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(sorted[len(sorted)*99/100].Nanoseconds())/1e3, "p99-µs")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkHostile is how long the worst user names take until they are refused.
func BenchmarkHostile(b *testing.B) {
	for _, w := range worst {
		b.Run("name="+w.name, func(b *testing.B) {
			d := newDirector(b, inFilter(w.body))
			q := query(w.user)
			for b.Loop() {
				if _, err := d.Direct(context.Background(), q); err == nil {
					b.Fatal("no fault")
				}
			}
		})
	}
}

// BenchmarkNewState is what a request costs more whose predecessor failed.
func BenchmarkNewState(b *testing.B) {
	d := newDirector(b, inFilter(""))
	b.ReportAllocs()
	for b.Loop() {
		newState(d).L.Close()
	}
}

// What a policy allocates stays within bounds.
func TestAllocations(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		most float64
	}{"empty": {inFilter(""), 15}, "builtin": {scripts.Director, 33}, "typical": {typicalFilter, 60}} {
		d, q := newDirector(t, tt.text), eight()
		direct(t, d, q)
		n := testing.AllocsPerRun(100, func() { direct(t, d, q) })
		if n > tt.most {
			t.Errorf("%s: %v allocations, at most %v", name, n, tt.most)
		}
		t.Logf("%s: %v allocations, %d steps", name, n, stepsOf(t, tt.text, q))
	}
}

func stepsOf(t *testing.T, text string, q *proxy.Query) int {
	obs := &observed{}
	direct(t, newDirector(t, text, func(o *Options) { o.Observer = obs }), q)
	return obs.steps[0]
}
