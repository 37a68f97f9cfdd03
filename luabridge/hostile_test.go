package luabridge

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/luabridge/budget"
	"usher/proxy"
)

// worst are policies with a pattern that is bad, and the worst user names that we
// know for it: all that may be in a name, and no longer than one.
var worst = []struct{ name, body, user string }{
	{"lazy captures", `return request.username:find("^(.-)(.-)(.-)x$")`, strings.Repeat("a", 255)},
	{"more lazy captures", `return request.username:find("^(.-)(.-)(.-)(.-)(.-)x$")`, strings.Repeat("a", 255)},
	{"greedy captures", `return request.username:match("(.*)(.*)(.*)(.*)x")`, strings.Repeat("a", 255)},
	{"lazy, not anchored", `return request.username:match(".-.-.-.-.-@")`, strings.Repeat("a", 255)},
	{"an address", `return request.username:match("^([%w.]+)+?([%w.]*)%.([%w.]*)%.([%w.]*)%.([%w.]*)@$")`, strings.Repeat("a.", 127)},
	{"the name as pattern", `return ("a"):rep(60):find(request.username)`, strings.Repeat("a?", 64) + strings.Repeat("a", 64)},
	{"the name as pattern of itself", `return request.username:find(request.username)`, strings.Repeat(".-", 120) + "%d"},
	{"the name as pattern, sets", `return ("]"):rep(255):find(request.username)`, strings.Repeat("[^x]-", 50) + "y"},
	{"gsub, lazy captures", `return request.username:gsub("(.-)(.-)(.-)%d", "%1")`, strings.Repeat("a", 255)},
	{"gsub, the name as pattern", `return ("a"):rep(255):gsub(request.username, "")`, strings.Repeat("a*", 100) + "b"},
	{"gmatch, lazy captures", `for a in request.username:gmatch("(.-)(.-)(.-)(.-)x") do end`, strings.Repeat("a", 255)},
	{"balanced", `for i = 1, 1e6 do local _ = request.username:find("%b()x") end`, strings.Repeat("(", 255)},
	{"back references", `return request.username:match("(.-)%1(.-)%2(.-)%3x")`, strings.Repeat("a", 255)},
	{"frontiers", `return request.username:match("%f[%w].-%f[%W].-%f[%w].-%f[%W].-%f[%w].-%f[%W]$x")`, strings.Repeat("a ", 127)},
	{"sets", `return request.username:match("^[%w%p]*[%w%p]*[%w%p]*[%w%p]*$x")`, strings.Repeat("a-", 127)},
}

// Each of them is tempfailed within its budget.
func TestHostileNames(t *testing.T) {
	for _, w := range worst {
		t.Run(w.name, func(t *testing.T) {
			if err := proxy.ValidUser(w.user); err != nil {
				t.Fatal(err)
			}
			d := newDirector(t, inFilter("if request.username == 'alice' then return end "+w.body))
			direct(t, d, query("alice"))
			began, before := time.Now(), allocated()
			fault := askFault(t, d, query(w.user))
			took, grown := time.Since(began), allocated()-before
			if fault.Kind != proxy.PolicyBudget || !strings.Contains(fault.Error(), "test.lua:1: budget of steps used up (director.steps: 200000)") {
				t.Errorf("fault %s: %v", fault.Kind, fault)
			}
			if took > 5*time.Second { // 6 ms, on a machine that does nothing else
				t.Errorf("took %s", took)
			}
			if grown > 1<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
			direct(t, d, query("alice"))
		})
	}
}

// Others are answered meanwhile.
func TestHostileNamesDelayNobody(t *testing.T) {
	var text strings.Builder
	text.WriteString("local bad = {")
	for _, w := range worst {
		fmt.Fprintf(&text, "\n[%q] = function(request) %s end,", w.user, w.body)
	}
	text.WriteString(`}
		function nauthilus_call_filter(request)
			local f = bad[request.username]
			if f then return f(request) end
			usher.select(usher.hash(request.username, usher.servers()))
		end`)
	d := newDirector(t, text.String(), func(o *Options) { o.PoolSize = 0 })

	var attackers, others sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		attackers.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if v, err := d.Direct(t.Context(), query(worst[n%len(worst)].user)); err == nil {
					t.Errorf("%s: %+v", worst[n%len(worst)].name, v)
					return
				}
			}
		})
	}
	before := heap()
	for i := range 4 {
		others.Go(func() {
			user := fmt.Sprintf("user%d@example.org", i)
			for range 200 {
				if v, err := d.Direct(t.Context(), query(user)); err != nil || !v.Selected {
					t.Errorf("%s: %+v, %v", user, v, err)
				}
			}
		})
	}
	others.Wait()
	close(stop)
	attackers.Wait()
	if after := heap(); after > before+64<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Whatever takes long in one instruction or one call, the deadline is kept.
func TestDeadlineIsKept(t *testing.T) {
	for name, body := range map[string]string{
		"find":                      `local s = ("a"):rep(1e5) while true do s:find(".-b") end`,
		"find, plain":               `local s = ("a"):rep(1e6) while true do s:find("b", 1, true) end`,
		"gsub":                      `local s = ("a"):rep(1e5) while true do s:gsub("a", "b") end`,
		"gsub, nothing found":       `local s = ("a"):rep(1e5) while true do s:gsub(".-.-b", "") end`,
		"gmatch":                    `local s = ("a"):rep(1e5) while true do for w in s:gmatch("a-b") do end end`,
		"long sets":                 `local s, p = ("a"):rep(1e4), "[" .. ("b"):rep(1e5) .. "]" while true do s:find(p) end`,
		"comparison":                `local a, b = ("a"):rep(2e6) .. "a", ("a"):rep(2e6) .. "b" while true do local x = a < b end`,
		"comparison, <=":            `local a, b = ("a"):rep(2e6) .. "a", ("a"):rep(2e6) .. "b" while true do local x = a <= b end`,
		"equality":                  `local a, b = ("a"):rep(2e6) .. "a", ("a"):rep(2e6) .. "b" while true do local x = a == b end`,
		"a long key":                `local t, k = {}, ("a"):rep(4e6) while true do local x = t[k] end`,
		"a long key, stored":        `local t, k = {}, ("a"):rep(4e6) while true do t[k] = 1 end`,
		"a long number":             `local s = ("1"):rep(150) while true do local x = tonumber(s) end`,
		"a long number, arithmetic": `local s = "0." .. ("1"):rep(150) while true do local x = s + 1 end`,
		"# of nils":                 `local t = {} for i = 1, 1e5 do t[i] = i end for i = 1e5, 2, -1 do t[i] = nil end while true do local x = #t end`,
		"insert after nils":         `local t = {} for i = 1, 1e5 do t[i] = i end for i = 1e5, 1, -1 do t[i] = nil end while true do table.insert(t, 1) t[1] = nil end`,
		"insert in front":           `local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end`,
		"maxn":                      `local t = {} for i = 1, 1e5 do t[i] = i end for i = 1e5, 1, -1 do t[i] = nil end while true do table.maxn(t) end`,
		"next after nils":           `local t = {} for i = 1, 1e5 do t[i] = i end for i = 1, 1e5 - 1 do t[i] = nil end while true do next(t) end`,
		"next of deleted":           `local t = {} for i = 1, 3e4 do t["k" .. i] = i end for i = 1, 3e4 - 1 do t["k" .. i] = nil end while true do next(t) end`,
		"pairs of deleted":          `local t = {} for i = 1, 3e4 do t["k" .. i] = i end for i = 1, 3e4 do t["k" .. i] = nil end while true do for k in pairs(t) do end end`,
		"sort":                      `local t = {} for i = 1, 1e5 do t[i] = (i * 7919) % 100003 end table.sort(t) table.sort(t) table.sort(t) while true do table.sort(t) end`,
		"sort of long texts":        `local t, s = {}, ("a"):rep(1e5) for i = 1, 100 do t[i] = s .. (i * 37 % 100) end while true do table.sort(t) end`,
		"concat":                    `local t = {} for i = 1, 1e5 do t[i] = "" end while true do table.concat(t) end`,
		"unpack":                    `local t = {} while true do local x = unpack(t, 1, 60000) end`,
		"select":                    `local function f(...) while true do local x = select("#", ...) end end f(unpack({}, 1, 30000))`,
		"varargs":                   `local function f(...) while true do local x = ... local y = {...} end end f(unpack({}, 1, 10000))`,
		"byte":                      `local s = ("a"):rep(6e4) while true do local x = s:byte(1, -1) end`,
		"deep errors":               `local function f(n) if n == 0 then while true do pcall(error) end end f(n - 1) return 1 end f(150)`,
		"tables alike":              `local t = {} for i = 1, 1000 do t["k" .. i] = i end while true do for k, v in pairs(t) do end end`,
		"remove from result":        `local t = {} for i = 1, 1e5 do t[i] = "a" .. i end while true do nauthilus_backend.remove_from_backend_result(t) end`,
		"hash":                      `local s = usher.servers() while true do usher.hash("k", s) end`,
		"os.date":                   `while true do os.date(("%c"):rep(500)) end`,
		"find, long pattern":        `local p = ("x"):rep(7e6) while true do (""):find(p) end`,
		"match, malformed pattern":  `local p = "[" .. ("x"):rep(4e6) while true do pcall(string.match, "x", p) end`,
		"format of %%":              `local f = ("%%"):rep(1e6) while true do string.format(f) end`,
		"%q of zeros":               `local s = ("\0"):rep(1e6) while true do ("%q"):format(s) end`,
		"gsub by a Go function":     `local s = ("x"):rep(1e6) while true do s:gsub(".", type) end`,
		"gsub, nothing often":       `local r = ("%1"):rep(1e6) while true do ("xxxxx"):gsub("(y*)x", r) end`,
		"load of a Go function":     `load(os.time)`,
		"sort by a Go function":     `local t = {} for i = 1, 1e5 do t[i] = i end while true do table.sort(t, rawequal) end`,
		"require of a long name":    `local s = ("a"):rep(3e6) while true do pcall(require, s) end`,
		"a long level":              `local s = ("K"):rep(1e6) while true do nauthilus_util.log(request, s, "x") end`,
		"a long level, logging":     `local t = {log_level = ("K"):rep(1e6)} while true do nauthilus_util.log_debug(t, "x") end`,
		"a long host":               `local s = ("K"):rep(1e6) while true do usher.servers({host = s}) end`,
		"a long filter":             `local t = {[("\0"):rep(1e6)] = 1} while true do pcall(usher.servers, t) end`,
		"attributes of a list":      `local b, t = nauthilus_backend_result.new(), {} for i = 1, 1e5 do t[i] = i end while true do b:attributes(t) end`,
		"a long number, math":       `local s = ("1"):rep(1e6) while true do pcall(math.abs, s) end`,
		"a long number, os.time":    `local t = {year = ("1"):rep(1e6), month = 1, day = 1} while true do pcall(os.time, t) end`,
		"a long number, sub":        `local s = ("1"):rep(1e6) while true do pcall(string.sub, "x", s) end`,
		"a long key, rawget":        `local t, k = {}, ("a"):rep(4e6) while true do rawget(t, k) end`,
		"a long key, next":          `local t, k = {}, ("a"):rep(4e6) while true do next(t, k) end`,
		"a long key, cache":         `local k = ("a"):rep(4e6) while true do pcall(nauthilus_cache.cache_exists, k) end`,
		"a long key, hash":          `local k, s = ("a"):rep(4e6), usher.servers() while true do usher.hash(k, s) end`,
		"coroutines":                `local function f() coroutine.yield() end local co = coroutine.wrap(function() while true do f() end end) while true do co() end`,
		"coroutine in a coroutine":  `coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()`,
		"loadstring of a list":      `local p = {} for i = 1, 19000 do p[i] = i end local s = "return {" .. table.concat(p, ",") .. "}" while true do loadstring(s) end`,
		"many variables kept": `local names = {} for i = 1, 190 do names[i] = "l" .. i end local part = function(a, b) return table.concat(names, ",", a, b) end
			local src = "local function deep(n) local " .. part(1, 190) .. " = 1 local a, b, c = function() return " .. part(1, 59) .. " end, function() return " .. part(60, 118) .. " end, function() return " .. part(119, 177) .. " end if n == 0 then while true do local f = function() return " .. part(119, 177) .. " end end end return (deep(n - 1)) end deep(120)"
			assert(loadstring(src))()`,
		"xpcall":     `while true do xpcall(error, function(e) return e end) end`,
		"loadstring": `local s = ("x = 1 "):rep(1000) while true do loadstring(s) end`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 50 * time.Millisecond
			d := newDirector(t, inFilter("if request.username ~= 'mallory' then return end\n"+body), func(o *Options) {
				o.Limits = budget.Limits{Steps: 1 << 60, Memory: 1 << 40, Time: limit}
			})
			began := time.Now()
			fault := askFault(t, d, query("mallory"))
			took := time.Since(began)
			if fault.Kind != proxy.PolicyTimeout || !strings.Contains(fault.Error(), "director.timeout: 50ms") {
				t.Errorf("fault %s: %v", fault.Kind, fault)
			}
			// Many of these run at once, on a machine that may have other work.
			if took > limit+5*time.Second {
				t.Errorf("took %s", took)
			}
			t.Logf("took %s", took)
		})
	}
}
