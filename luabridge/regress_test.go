package luabridge

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/luabridge/budget"
	"usher/luabridge/lualib"
	"usher/luabridge/modules"
	"usher/proxy"
)

// Ways out of the budgets that were found once.
func TestWaysOut(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		kind proxy.Reason // "": none
	}{
		"coroutines that resume each other": {body: `
			local a, b
			a = coroutine.create(function() return coroutine.resume(b) end)
			b = coroutine.create(function() return coroutine.resume(a) end)
			assert(coroutine.resume(a))`},
		"coroutines that call each other": {body: `
			local a, b
			a = coroutine.wrap(function() b() end)
			b = coroutine.wrap(function() a() end)
			local ok, err = pcall(a)
			assert(not ok and err:find("cannot resume normal coroutine"), err)`},
		"a coroutine made where the stack is full": {body: `
			local function h(...) coroutine.create(h, ...) end
			coroutine.wrap(function() for n = 6150, 6000, -1 do
				xpcall(function() pcall(h, unpack({}, 1, n)) local x = 1 end, function() while true do end end)
			end end)()
			while true do end`, kind: proxy.PolicyBudget},
		"a long name of a chunk": {body: `
			loadstring("local function f(n) if n == 0 then error() end f(n - 1) return 1 end return f", ("n"):rep(6e6))()(180)`, kind: proxy.PolicyError},
		"a long name of a function": {body: `
			local name = ("f"):rep(4000)
			local f = loadstring("local function " .. name .. "(n) if n == 0 then error() end " .. name .. "(n - 1) return 1 end return " .. name)()
			while true do pcall(f, 150) end`, kind: proxy.PolicyBudget},
		"a long name that is not there": {body: `
			local k = ("x"):rep(4000)
			loadstring("local t = ... t." .. k .. "()")({[k .. "y"] = 1})`, kind: proxy.PolicyError},
		"many names that are not there": {body: `
			local t = {} for i = 1, 900 do t[("k"):rep(30) .. i] = i end
			while true do pcall(function() t.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk() end) end`, kind: proxy.PolicyBudget},
		"nested operators":      {body: `assert(loadstring("return " .. ("#"):rep(5000) .. "x"))`, kind: proxy.PolicyError},
		"nested concatenations": {body: `assert(loadstring("return " .. ("a.."):rep(5000) .. "a"))`, kind: proxy.PolicyError},
		"nested elseifs":        {body: `assert(loadstring("if a then " .. ("elseif a then "):rep(2000) .. "end"))`, kind: proxy.PolicyError},
		"tail calls in a trace": {body: `
			local function f(n) if n == 0 then while true do pcall(error) end end return f(n - 1) end
			f(10000)`, kind: proxy.PolicyBudget},
		"a tail call where the stack is full": {body: `
			local names = {} for i = 1, 150 do names[i] = "a" .. i end
			local g = loadstring("local " .. table.concat(names, ",") .. " = ... return a1")
			local function f(...) return g(1) end
			f(unpack({}, 1, 65440))`, kind: proxy.PolicyBudget},
		"errors where the stack is full": {body: `
			local function u(...) for i = 1, 1700 do pcall(unpack, {}, 1, 1200) end end
			u(unpack({}, 1, 65000))`},
		"__concat, joined": {body: `
			local big = ("x"):rep(1e6)
			local t = setmetatable({}, {__concat = function() return big end})
			while true do local x = "a" .. "b" .. t end`, kind: proxy.PolicyBudget},
		"%1 of nothing, often":       {body: `local s = ("x"):rep(30):gsub("(y*)x", ("%1"):rep(1e5))`, kind: proxy.PolicyBudget},
		"gsub with a Go function":    {body: `local s = ("x"):rep(3e5) s:gsub(".", type)`, kind: proxy.PolicyBudget},
		"an entry function of Go's":  {body: `end nauthilus_call_filter = pcall function x()`, kind: proxy.PolicyError},
		"a text that is no overflow": {body: `error("x: stack overflow")`, kind: proxy.PolicyError},
	} {
		t.Run(name, func(t *testing.T) {
			text := inFilter("if request.session ~= 'probe' then " + tt.body + " end")
			if strings.HasPrefix(tt.body, "end") {
				text = inFilter(tt.body)
			}
			d := newDirector(t, text)
			began, before := time.Now(), allocated()
			_, err := d.Direct(t.Context(), query("alice"))
			took, grown := time.Since(began), allocated()-before
			if (err == nil) != (tt.kind == "") {
				t.Errorf("error %v", err)
			}
			if err != nil {
				if f := err.(*proxy.PolicyFault); f.Kind != tt.kind || len(f.Error()) > 1100 || strings.Contains(f.Error(), "panic") { //nolint:errorlint // Direct returns it as it is
					t.Errorf("%s: %.300v", f.Kind, f)
				}
			}
			if took > 5*time.Second || grown > 80<<20 {
				t.Errorf("took %s and %d bytes", took, grown)
			}
			t.Logf("%s, %d KiB, %.200v", took, grown>>10, err)
			runtime.GC()
		})
	}
}

// A pcall that finds the stack full raises that, and is not counted as one that
// runs: the pcall around it catches, and variables are closed as ever.
func TestProtectedCallsAtAFullStack(t *testing.T) {
	d := newDirector(t, inFilter(`
		local n = 0
		local function f(...) pcall(function() end, ...) end
		for size = 65300, 65480 do
			local ok, err = pcall(f, unpack({}, 1, size / 3)) n = n + 1
			ok, err = pcall(function() f(unpack({}, 1, size)) end) n = n + 1
		end
		local kept pcall(function() local x = "mine" kept = function() return x end error("e") end)
		local a, b, c = "other", "others", "more"
		assert(n == 362 and kept() == "mine", n)`), func(o *Options) { o.Limits = budget.Limits{Steps: 1 << 40, Memory: 1 << 30, Time: time.Minute} })
	for range 2 { // the second on the same state
		direct(t, d, query("alice"))
	}
}

// A policy's file may not nest without end either.
func TestNesting(t *testing.T) {
	for name, text := range map[string]string{
		"lengths":      "local a = " + strings.Repeat("#", 1<<20-100) + "x",
		"tables":       "local a = " + strings.Repeat("{", 50000) + strings.Repeat("}", 50000),
		"functions":    strings.Repeat("return function() ", 30000) + strings.Repeat("end ", 30000),
		"blocks":       "\n" + strings.Repeat("do ", 50000) + strings.Repeat("end ", 50000),
		"calls":        "f" + strings.Repeat("()", 50000),
		"fields":       "x = a" + strings.Repeat(".b", 50000),
		"sums":         "x = 1" + strings.Repeat("+1", 50000),
		"an elseif":    "if a then " + strings.Repeat("elseif a then ", 20000) + "end",
		"methods":      "a" + strings.Repeat(":b()", 50000),
		"powers":       "x = 1" + strings.Repeat("^1", 50000),
		"and and or":   "x = 1" + strings.Repeat(" and 1 or 1", 20000),
		"index":        "x = a" + strings.Repeat("[a", 50000) + strings.Repeat("]", 50000),
		"comparisons":  "x = 1" + strings.Repeat("<1", 50000),
		"for loops":    strings.Repeat("for i=1,2 do ", 50000) + strings.Repeat("end ", 50000),
		"while, until": strings.Repeat("while x do repeat ", 30000) + strings.Repeat("until x end ", 30000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lualib.Compile("x.lua", text)
			if err == nil || !strings.HasPrefix(err.Error(), "x.lua:") || len(err.Error()) > 200 {
				t.Errorf("error %.300v", err)
			}
		})
	}
	// As deep as anybody writes it.
	deep := "x = 1" + strings.Repeat("+1", 500) + strings.Repeat(" if x then", 100) + strings.Repeat(" end", 100) + " y = " + strings.Repeat("{", 90) + strings.Repeat("}", 90)
	if _, err := lualib.Compile("x.lua", deep); err != nil {
		t.Error(err)
	}
}

// A part of a text that is kept keeps only that part.
func TestCache_KeepsNoMoreThanItSays(t *testing.T) {
	d := newDirector(t, inFilter(`
		local big = (request.username .. "-"):rep(5e5)
		nauthilus_cache.cache_set(big:sub(1, 6), {[big:sub(1, 3)] = big:sub(1, 4)})
		nauthilus_cache.cache_push(big:sub(1, 5), big:sub(1, 5))`))
	before := heap()
	for _, user := range []string{"alice", "bobby", "carol", "dave1", "erin2", "frank"} {
		direct(t, d, query(user))
	}
	runtime.GC()
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d bytes are kept", after-before)
	}
}

// Secrets that overlap, or are a part of another, are all starred.
func TestRedact(t *testing.T) {
	deps := &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore()}
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{{
		Server: &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143, TestPassword: proxy.NewSecret("back-monitor-Zq")}, Health: proxy.Up,
	}})
	d := newDirector(t, inFilter(`
		local s = nauthilus_backend.get_backend_servers()[1]
		if s then nauthilus_builtin.custom_log_add("x", request.username:gsub("T", s.test_password)) end`), func(o *Options) {
		o.Deps, o.Filters[0].NeedsPassword = deps, true
	})
	for pass, tests := range map[string]map[string]string{
		"back":  {"a T b": "a ******** b", "TT": "****************", "backT": "****************", "bac": "bac"},
		"Zq-ab": {"T-abc": "********c", "Zq-Zq-ab": "Zq-********"},
		"aa":    {"aaaaa": "********", "a": "a"},
		"":      {"T.": "********."},
	} {
		for in, want := range tests {
			q.Request.User, q.Request.Password = in, proxy.NewSecret(pass)
			if got := direct(t, d, q).Logs[0].Value; got != want {
				t.Errorf("password %q: %q is shown as %q, want %q", pass, in, got, want)
			}
		}
	}
	// Where a text ends an error's position, what it hides is starred first.
	d = newDirector(t, inFilter(`if request.session ~= "probe" then loadstring("while true do end", request.password)() end`), func(o *Options) { o.Filters[0].NeedsPassword = true })
	q = query("alice")
	q.Request.Password = proxy.NewSecret("s3cre: t-1:2: x")
	if f := askFault(t, d, q); strings.Contains(f.Error(), "s3cre") {
		t.Errorf("shown: %v", f)
	}
	// A long one is not cut before it is starred.
	long := "s3cre_" + strings.Repeat("x", 80)
	for _, body := range []string{
		`loadstring("error('x')", request.password)()`,
		`loadstring("local t = {} t." .. request.password .. "()")()`,
		`loadstring("local " .. request.password .. " " .. request.password .. ".x = 1")()`,
		`loadstring(request.password .. "()")()`,
		`loadstring("local t = {} function t." .. request.password .. "() error('x', 1) end t." .. request.password .. "()")()`,
		`local t = {} t[request.password].x = 1`,
	} {
		d = newDirector(t, inFilter(`if request.session ~= "probe" then `+body+` end`), func(o *Options) { o.Filters[0].NeedsPassword = true })
		q.Request.Password = proxy.NewSecret(long)
		if f := askFault(t, d, q); strings.Contains(f.Error(), long[:6]) {
			t.Errorf("%s shows: %v", body, f)
		}
	}
	// A host that is none is shown in the decision's error.
	d = newDirector(t, inFilter(`nauthilus_backend.select_backend_server(request.password .. "!", 143)`), func(o *Options) { o.Filters[0].NeedsPassword = true })
	q.Request.Password = proxy.NewSecret("s3cret pass")
	if v := direct(t, d, q); v.Host != "********!" {
		t.Errorf("host %q", v.Host)
	}
}

// A module whose file raises an error is no module the second time either.
func TestBrokenModuleStaysBroken(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "raises.lua", "error('boom')")
	ask(t, `
		assert(not pcall(require, "raises"))
		local ok, err = pcall(require, "raises")
		assert(not ok and err:find("boom"), err)`, query("alice"), func(o *Options) { o.PackagePath = dir })
}

// What one run logs is bounded.
func TestLoggedBytes(t *testing.T) {
	logs, to := logTo(zap.DebugLevel)
	d := newDirector(t, inFilter(`
		local t = {} for i = 1, 64 do t["k" .. i] = ("x"):rep(5000) end
		for i = 1, 90 do nauthilus_util.log_info(t) print(("y"):rep(1e5)) end`), to, func(o *Options) {
		o.Limits = budget.Limits{Steps: 1 << 30, Memory: 1 << 30, Time: time.Minute}
	})
	direct(t, d, query("alice"))
	if n := len(logText(logs)); n > 300<<10 {
		t.Errorf("%d bytes were logged", n)
	}
}
