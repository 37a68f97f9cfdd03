package luabridge

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"usher/luabridge/budget"
	"usher/proxy"
)

// The ways to take memory without end: each stops at director.memory, with steps
// and time to spare, and the process never has much more than that.
func TestMemory(t *testing.T) {
	const limit = 1 << 20
	for name, body := range map[string]string{
		"doubling":                "local s = 'x' while true do s = s .. s end",
		"doubling in three":       "local s = 'x' while true do s = s .. s .. s end",
		"concat grows":            "local s = '' while true do s = s .. 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' end",
		"texts in pcall":          "local s = 'x' while true do pcall(function() s = s .. s end) end",
		"string.rep":              "local s = ('x'):rep(1e9)",
		"string.rep, huge":        "local s = ('x'):rep(1e300)",
		"string.rep, of much":     "local s = ('x'):rep(1e5):rep(1e5)",
		"string.rep in a loop":    "local t = {} for i = 1, 1e6 do t[i % 10] = ('x'):rep(1e5) end",
		"string.format":           "local s = 'x' while true do s = ('%s%s'):format(s, s) end",
		"string.format, width":    "while true do local s = ('%99d'):format(1) end",
		"string.format, %q":       "local s = '\\0' while true do s = ('%q'):format(s) end",
		"gsub doubles":            "local s = 'x' while true do s = s:gsub('x', 'xx') end",
		"gsub, %0":                "local s = ('x'):rep(1000) while true do s = s:gsub('.+', '%0%0') end",
		"gsub with a table":       "local s = 'x' while true do s = s:gsub('.', {x = 'xx'}) end",
		"gsub with a function":    "local s = 'x' while true do s = s:gsub('x', function() return 'xxxxxxxxxxxxxxxx' end) end",
		"gmatch":                  "local t, s = {}, ('x'):rep(1e5) for c in s:gmatch('.') do t[#t + 1] = c end",
		"upper":                   "local s = ('x'):rep(1e5) while true do s = s:upper():lower() end",
		"reverse":                 "local s = ('x'):rep(1e5) while true do s = s:reverse() end",
		"string.char":             "local t = {} while true do t[#t + 1] = string.char(65, 66, 67) end",
		"table.concat":            "local s = 'x' while true do s = table.concat({s, s}) end",
		"table.concat, separator": "local s = ('x'):rep(1e6) local t = {1, 2, 3, 4, 5, 6, 7, 8} while true do local x = table.concat(t, s) end",
		"t[#t+1]":                 "local t = {} while true do t[#t + 1] = true end",
		"t[i], numbers":           "local t = {} for i = 1, 1e9 do t[i] = i end",
		"t[-i]":                   "local t = {} for i = 1, 1e9 do t[-i] = i end",
		"t[i / 2]":                "local t = {} for i = 1, 1e9 do t[i / 2] = i end",
		"t[text]":                 "local t = {} for i = 1, 1e9 do t['k' .. i] = true end",
		"t[table]":                "local t = {} while true do t[{}] = true end",
		"t[function]":             "local t = {} while true do t[function() end] = true end",
		"t.x of many":             "local t = {} while true do t = {} t.x = t end",
		"a list of lists":         "local t = {} while true do t = {t} end",
		"t[67000000]":             "local t = {} t[67000000] = 1",
		"t[67000000] = nil":       "local t = {} t[67000000] = nil",
		"t[1000000] of many":      "while true do local t = {} t[100000] = 1 end",
		"rawset":                  "local t = {} for i = 1, 1e9 do rawset(t, i, i) end",
		"rawset, far":             "rawset({}, 67000000, 1)",
		"rawset, texts":           "local t = {} for i = 1, 1e9 do rawset(t, 'k' .. i, i) end",
		"table.insert":            "local t = {} while true do table.insert(t, true) end",
		"table.insert, in front":  "local t = {} while true do table.insert(t, 1, true) end",
		"table.insert, far":       "table.insert({}, 67000000, 1)",
		"__newindex":              "local b = {} local a = setmetatable({}, {__newindex = b}) for i = 1, 1e9 do a[i] = i end",
		"__newindex, two":         "local b = {} local m = setmetatable({}, {__newindex = b}) local a = setmetatable({}, {__newindex = m}) for i = 1, 1e9 do a[i] = i end",
		"__newindex, function":    "local b = {} local a = setmetatable({}, {__newindex = function(t, k, v) rawset(t, k, v) end}) for i = 1, 1e9 do a[i] = i end",
		"globals":                 "for i = 1, 1e9 do _G['g' .. i] = true end",
		"request":                 "for i = 1, 1e9 do request['g' .. i] = true end",
		"string's table":          "for i = 1, 1e9 do string['g' .. i] = tostring end",
		"a module's table":        "for i = 1, 1e9 do usher['g' .. i] = true end",
		"constructors":            "local t = {} while true do t = {1, 2, 3, 4, t} end",
		"constructors, keys":      "local t while true do t = {a = 1, b = 2, c = 3, d = t} end",
		"constructors, varargs":   "local function f(...) return {...} end local t = {} while true do t[#t + 1] = f(unpack({}, 1, 1000)) end",
		"closures":                "local f while true do local g = f f = function() return g end end",
		"closures in a list":      "local t = {} while true do t[#t + 1] = function() end end",
		"coroutines":              "local t = {} for i = 1, 20 do t[i] = coroutine.create(function() end) end",
		"unpack in coroutines":    "local t = {} for i = 1, 90 do t[i] = coroutine.wrap(function(...) coroutine.yield() end) t[i](unpack({}, 1, 5000)) end",
		"error texts":             "local s = ('x'):rep(1e6) while true do pcall(error, s) end",
		"assert texts":            "local s = ('x'):rep(1e6) while true do pcall(assert, false, s) end",
		"errors":                  "while true do pcall(error, 'x') end",
		"loadstring":              "local s = 'local x = 1 ' while true do loadstring(s) s = s .. s end",
		"loadstring, nested":      "loadstring('return ' .. ('('):rep(1e5) .. '1' .. (')'):rep(1e5))",
		"loadstring, unary":       "loadstring('return ' .. ('- '):rep(1e5) .. '1')",
		"load in pieces":          "load(function() return ('x'):rep(1e5) end)",
		"servers":                 "local t = {} while true do t[#t + 1] = nauthilus_backend.get_backend_servers() end",
		"usher.servers":           "local t = {} while true do t[#t + 1] = usher.servers() end",
		"backend_results":         "local t, a = {}, {} for i = 1, 100 do a['k' .. i] = i end while true do local b = nauthilus_backend_result.new() b:attributes(a) t[#t + 1] = b end",
		"context":                 "for i = 1, 900 do nauthilus_context.context_set('k' .. i, ('x'):rep(1e4)) end",
		"os.date":                 "while true do os.date(('%c'):rep(500)) end",
		"errors, deep":            "local function f(n) if n == 0 then while true do pcall(error) end end f(n - 1) return 1 end f(150)",
		"errors in xpcall, deep":  "local function f(n) if n == 0 then while true do xpcall(error, error) end end f(n - 1) return 1 end f(150)",
		"assertions, deep":        "local function f(n) if n == 0 then while true do pcall(assert, false, 'x') end end f(n - 1) return 1 end f(150)",
		"tonumber":                "local s = ('1'):rep(1e5) while true do tonumber(s .. '') end",
		"select, a long text":     "local s = ('x'):rep(1e5) while true do pcall(select, s) end",
		"a long key of a server":  "local s, k = usher.servers()[1], ('x'):rep(1e5) while true do pcall(function() s[k] = 1 end) end",
		"a long key of a text":    "local k = ('x'):rep(1e5) while true do pcall(function() (''):x()[k] = 1 end) end",
		"loadstring of nothing":   "while true do loadstring('') end",
		"loadstring, functions":   "local s = ('function f() end '):rep(300) while true do loadstring(s) end",
		"unpack":                  "while true do local x = {unpack({}, 1, 60000)} end",
		"unpack, at a full stack": "local function u(...) while true do pcall(unpack, {}, 1, 1200) end end u(unpack({}, 1, 60000))",
		"deny":                    "local s = ('x'):rep(1e5) while true do usher.deny(s) end",
		"status_message_set":      "local s = ('x'):rep(1e5) while true do nauthilus_builtin.status_message_set(s) end",
		"__concat":                "local big = ('x'):rep(1e5) local t = setmetatable({}, {__concat = function() return big end}) while true do local x = 'a' .. 'b' .. t end",
		"print":                   "local s = ('x'):rep(1e6) while true do print(s) end",
		"tostring":                "local t = {} for i = 1, 1e9 do t[i] = tostring(i) end",
		"sort":                    "local t = {} for i = 1, 5000 do t[i] = -i end while true do table.sort(t) end",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t, inFilter("if request.username ~= 'mallory' then return end\n"+body), func(o *Options) {
				o.Limits = budget.Limits{Steps: 1 << 40, Memory: limit, Time: time.Minute}
			})
			direct(t, d, query("alice"))
			before := allocated()
			fault := askFault(t, d, query("mallory"))
			grown := allocated() - before
			if fault.Kind != proxy.PolicyBudget || !errors.Is(fault, budget.ErrMemory) && !strings.Contains(fault.Error(), "depth") {
				t.Errorf("fault %s: %v", fault.Kind, fault)
			}
			if !strings.Contains(fault.Error(), "policy test: ") || len(fault.Error()) > 400 {
				t.Errorf("the text: %v", fault)
			}
			// All that was allocated, garbage and our own bookkeeping included.
			if most := uint64(4*limit) + 1<<20; grown > most {
				t.Errorf("%d bytes were allocated, at most %d", grown, most)
			}
			t.Logf("%.1f times the limit: %v", float64(grown)/limit, fault)
			direct(t, d, query("alice"))
		})
	}
}

// allocated is how much was ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// What is dropped is not given back, but a policy may loop for long over what it
// has: steps without memory.
func TestMemoryIsNotTakenByWork(t *testing.T) {
	ask(t, `
		local servers, n = usher.servers(), 0
		for i = 1, 10000 do
			for _, s in ipairs(servers) do
				if s.host == request.local_ip then n = n + 1 end
				n = (n * 31 + i) % 65536
			end
		end
		local t = {}
		for i = 1, 10000 do t[i % 100 + 1] = n t.x = i t.x = nil end`, query("alice"), func(o *Options) {
		o.Limits = budget.Limits{Steps: 1 << 30, Memory: 256 << 10, Time: time.Minute}
	})
}

// The same run takes the same, whatever ran before it on that state.
func TestUseIsTheSame(t *testing.T) {
	d := newDirector(t, typical)
	use := map[string]bool{}
	for range 5 {
		direct(t, d, query("alice@example.org"))
		s := <-d.pool
		d.pool <- s
		obs := &observed{}
		d.opt.Observer = obs
		direct(t, d, query("alice@example.org"))
		use[fmt.Sprint(obs.steps)] = true
	}
	if len(use) != 1 {
		t.Errorf("steps: %v", use)
	}
}

type observed struct {
	steps   []int
	failing []string
}

func (o *observed) PolicySteps(n int) { o.steps = append(o.steps, n) }

func (o *observed) PolicyFailing(policy string, failing bool) {
	o.failing = append(o.failing, fmt.Sprint(policy, " ", failing))
}
