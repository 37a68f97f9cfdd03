package luabridge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One request tries to leave something behind, in every way that Lua has; the
// next one, on the same state, must see none of it. An attack may fail; a probe
// returns nil or false where all is clean.
func TestPoisoning(t *testing.T) {
	tests := []struct{ name, chunk, attack, probe string }{
		{name: "global", attack: `leak = 1`, probe: `return leak`},
		{name: "global by _G", attack: `_G.leak = 1`, probe: `return leak`},
		{name: "global by rawset", attack: `rawset(_G, "leak", 1)`, probe: `return rawget(_G, "leak") or leak`},
		{name: "global of a global table", attack: `nest = nest or {} nest.leak = 1`, probe: `return nest`},
		{name: "a chunk's global", chunk: `count = (count or 0) + 1`, attack: ``, probe: `return count ~= 1`},
		{name: "a chunk's local", chunk: `local count = 0`, attack: `count = count + 1`, probe: `return count ~= 0`},
		{name: "upvalue of a closure", chunk: `local n = 0 local function inc() n = n + 1 return n end`, attack: `inc() inc()`, probe: `return inc() ~= 1`},
		{name: "upvalue table", chunk: `local cache = {}`, attack: `cache.leak = request.username`, probe: `return cache.leak`},
		{name: "entry function replaced", attack: `nauthilus_call_filter = function() return true end`, probe: `return false`},
		{name: "base function replaced", attack: `tostring = function() return "leak" end`, probe: `return tostring(1) == "leak"`},
		{name: "base function by rawset", attack: `rawset(_G, "pairs", 1)`, probe: `return pairs == 1`},
		{name: "base function removed", attack: `pcall = nil type = nil`, probe: `return not pcall or not type`},
		{name: "_G replaced", attack: `_G = {leak = 1}`, probe: `return _G.leak`},
		{name: "metatable of _G", attack: `setmetatable(_G, {__index = {leak = 1}})`, probe: `return leak`},
		{name: "newindex of _G", attack: `setmetatable(_G, {__newindex = function() end})`, probe: `x = 1 return x ~= 1`},
		{name: "string library", attack: `string.leak = 1`, probe: `return string.leak`},
		{name: "string function replaced", attack: `string.upper = function() return "leak" end`, probe: `return ("a"):upper() == "leak" or string.upper("a") == "leak"`},
		{name: "method of texts", attack: `function string.leak() return 1 end assert(("x"):leak())`, probe: `return ("x").leak`},
		{name: "string by rawset", attack: `rawset(string, "leak", 1)`, probe: `return string.leak or ("x").leak`},
		{name: "string by table.insert", attack: `table.insert(string, 1, "leak")`, probe: `return string[1]`},
		{name: "string metatable's index", attack: `getmetatable("").__index.leak = 1`, probe: `return ("x").leak`},
		{name: "string metatable", attack: `getmetatable("").__add = function() return "leak" end`, probe: `return pcall(function() return "x" + "y" end)`},
		{name: "setmetatable of a text", attack: `setmetatable("", {__index = {leak = 1}})`, probe: `return ("x").leak`},
		{name: "indexing a text", attack: `("").leak = 1`, probe: `return ("").leak or string.leak`},
		{name: "string.__index", attack: `string.__index.leak = 1`, probe: `return string.leak`},
		{name: "setmetatable of numbers", attack: `setmetatable(0, {__index = {leak = 1}})`, probe: `return pcall(function() return (1).leak end)`},
		{name: "setmetatable of booleans", attack: `setmetatable(true, {__call = function() return 1 end})`, probe: `return pcall(function() return (false)() end)`},
		{name: "setmetatable of functions", attack: `setmetatable(print, {__index = {leak = 1}})`, probe: `return pcall(function() return tostring.leak end)`},
		{name: "setmetatable of coroutines", attack: `setmetatable(coroutine.create(print), {__index = {leak = 1}})`, probe: `return pcall(function() return coroutine.create(print).leak end)`},
		{name: "setmetatable of nil", attack: `setmetatable(nil, {__index = {leak = 1}})`, probe: `return pcall(function() return (nil).leak end)`},
		{name: "setmetatable of a library", attack: `setmetatable(math, {__index = {leak = 1}})`, probe: `return math.leak or not math.floor`},
		{name: "setmetatable of string", attack: `setmetatable(string, {__index = {leak = 1}})`, probe: `return ("x").leak or string.leak or not ("x").rep`},
		{name: "metatable of a library", attack: `getmetatable(math).__index.leak = 1`, probe: `return math.leak`},
		{name: "table library", attack: `table.insert = nil table.leak = 1`, probe: `return table.leak or not table.insert`},
		{name: "math library", attack: `math.huge = 1 math.floor = nil`, probe: `return math.huge == 1 or not math.floor`},
		{name: "os library", attack: `os.time = function() return 0 end`, probe: `return os.time() == 0`},
		{name: "coroutine library", attack: `coroutine.wrap = print`, probe: `return coroutine.wrap == print`},
		{name: "library walked, then written", attack: `for k in pairs(math) do math[k] = "leak" end`, probe: `return math.pi == "leak"`},
		{name: "library removed", attack: `math = nil string = false`, probe: `return not math or not string`},
		{name: "random seed", attack: `math.randomseed(1) first = math.random(2^40)`, probe: `local a = math.random(2^40) math.randomseed(1) return a == math.random(2^40)`},
		{name: "module's table", attack: `nauthilus_backend.leak = 1`, probe: `return nauthilus_backend.leak`},
		{name: "module's function", attack: `require("nauthilus_backend").select_backend_server = print`, probe: `return require("nauthilus_backend").select_backend_server == print`},
		{name: "module by table.insert", attack: `table.insert(require("usher"), "leak")`, probe: `return require("usher")[1]`},
		{name: "module by rawset", attack: `rawset(nauthilus_util, "log_info", print)`, probe: `return nauthilus_util.log_info == print`},
		{name: "constants", attack: `nauthilus_builtin.FILTER_ACCEPT = true`, probe: `return nauthilus_builtin.FILTER_ACCEPT`},
		{name: "constants, walked", attack: `for k in pairs(nauthilus_builtin) do nauthilus_builtin[k] = 7 end`, probe: `return nauthilus_builtin.FILTER_RESULT_OK == 7`},
		{name: "module's metatable", attack: `getmetatable(nauthilus_builtin).__index.leak = 1`, probe: `return nauthilus_builtin.leak`},
		{name: "setmetatable of a module", attack: `setmetatable(usher, {__index = function() return 1 end})`, probe: `return usher.leak or not usher.select`},
		{name: "module replaced", attack: `usher = {leak = 1}`, probe: `return usher.leak or require("usher").leak`},
		{name: "package.loaded", attack: `package.loaded.usher = {leak = 1}`, probe: `return package or require("usher").leak`},
		{name: "file module's table", attack: `require("kept").leak = 1`, probe: `return require("kept").leak`},
		{name: "file module's local", attack: `require("kept").inc()`, probe: `return require("kept").inc() ~= 1`},
		{name: "file module's global", attack: `require("kept") assert(from_module)`, probe: `return from_module`},
		{name: "file module's chunk runs afresh", attack: `from_module = "leak" require("kept")`, probe: `require("kept") return from_module ~= 1`},
		{name: "metatable of a server", attack: `getmetatable(nauthilus_backend.get_backend_servers()[1]).__index.host = "leak"`, probe: `return nauthilus_backend.get_backend_servers()[1].host == "leak"`},
		{name: "setmetatable of a server", attack: `setmetatable(nauthilus_backend.get_backend_servers()[1], {__index = {host = "leak"}})`, probe: `return nauthilus_backend.get_backend_servers()[1].host == "leak"`},
		{name: "field of a server", attack: `nauthilus_backend.get_backend_servers()[1].host = "leak"`, probe: `return nauthilus_backend.get_backend_servers()[1].host == "leak"`},
		{name: "list of servers", attack: `local t = nauthilus_backend.get_backend_servers() for i = #t, 1, -1 do t[i] = nil end`, probe: `return #nauthilus_backend.get_backend_servers() ~= 16`},
		{name: "usher.servers", attack: `table.remove(usher.servers(), 1)`, probe: `return #usher.servers() ~= 8`},
		{name: "metatable of a result", attack: `getmetatable(nauthilus_backend_result.new()).__index.leak = 1`, probe: `return nauthilus_backend_result.new().leak`},
		{name: "method of a result", attack: `nauthilus_backend_result.new().attributes = print`, probe: `return nauthilus_backend_result.new().attributes == print`},
		{name: "attributes of a result", attack: `keep = nauthilus_backend_result.new() keep:attributes({leak = 1})`, probe: `return keep or nauthilus_backend_result.new():attributes().leak`},
		{name: "applied attributes", attack: `local b = nauthilus_backend_result.new() b:attributes({leak = "1"}) nauthilus_backend.apply_backend_result(b)`, probe: `return false`},
		{name: "selection", attack: `nauthilus_backend.select_backend_server("leak", 1)`, probe: `return false`},
		{name: "text and log fields", attack: `nauthilus_builtin.status_message_set("leak") nauthilus_builtin.custom_log_add("leak", 1)`, probe: `return false`},
		{name: "denial and hold", attack: `usher.deny("leak") usher.hold(1)`, probe: `return false`},
		{name: "request", attack: `request.leak = 1 request.username = "leak"`, probe: `return request.leak or request.username ~= "bob"`},
		{name: "request, walked", attack: `for k in pairs(request) do request[k] = "leak" end`, probe: `for k, v in pairs(request) do if v == "leak" then return k end end`},
		{name: "metatable of request", attack: `setmetatable(request, {__index = {leak = 1}})`, probe: `return request.leak`},
		{name: "metatable of request, sealed", attack: `getmetatable(request).__index = function() return "leak" end`, probe: `return request.leak`},
		{name: "request.logging", attack: `request.logging.log_level = "leak"`, probe: `return request.logging.log_level == "leak"`},
		{name: "request kept", attack: `kept = request`, probe: `return kept`},
		{name: "load", attack: `load(function() local s = src src = nil return s end)() src = "leak = 1" load(function() local s = src src = nil return s end)()`, probe: `return leak`},
		{name: "loadstring", attack: `loadstring("leak = 1 function helper() end")()`, probe: `return leak or helper`},
		{name: "loadstring and rawset", attack: `loadstring("rawset(_G, 'leak', 1) string.leak = 2")()`, probe: `return leak or string.leak`},
		{name: "loadstring in a coroutine", attack: `coroutine.wrap(function() loadstring("leak = 1")() end)()`, probe: `return leak or loadstring("return leak")()`},
		{name: "suspended coroutine", attack: `co = coroutine.wrap(function() while true do leak = (leak or 0) + 1 coroutine.yield() end end) co() co()`, probe: `return co or leak`},
		{name: "coroutine that failed", attack: `pcall(coroutine.wrap(function() leak = 1 error("x") end))`, probe: `return leak or coroutine.running()`},
		{name: "coroutine that yields in pcall", attack: `local co = coroutine.create(function() pcall(coroutine.yield, 1) leak = 1 end) coroutine.resume(co) coroutine.resume(co)`, probe: `return leak or coroutine.running()`},
		{name: "coroutine that yields in a sort", attack: `local co = coroutine.wrap(function() table.sort({3, 2, 1}, function(a, b) coroutine.yield() return a < b end) end) co() pcall(co)`, probe: `local t = {3, 1, 2} table.sort(t) return t[1] ~= 1`},
		{name: "coroutine that yields in gsub", attack: `local co = coroutine.wrap(function() return (("abc"):gsub(".", function(c) coroutine.yield(c) return "x" end)) end) co() pcall(co)`, probe: `return (("abc"):gsub(".", "x")) ~= "xxx"`},
		{name: "yield outside", attack: `coroutine.yield("leak")`, probe: `return coroutine.running()`},
		{name: "error in xpcall's handler", attack: `xpcall(error, function() error("again") end)`, probe: `local ok, e = xpcall(function() error("x", 0) end, function(m) return m .. "y" end) return e ~= "xy"`},
		{name: "caught deep recursion", attack: `local function f() return 1 + f() end pcall(f)`, probe: `local function g(n) if n == 0 then return 0 end return 1 + g(n - 1) end return g(100) ~= 100`},
		{name: "caught overflow of the stack of values", attack: `pcall(unpack, {}, 1, 1e6)`, probe: `return select("#", unpack({}, 1, 1000)) ~= 1000`},
		{name: "many values into a coroutine", attack: `pcall(function() coroutine.wrap(function(...) return select("#", ...) end)(unpack({}, 1, 60000)) end)`, probe: `return select("#", unpack({}, 1, 1000)) ~= 1000`},
		{name: "a name of a library as a global", attack: `nauthilus_context = {leak = 1} io = {leak = 1}`, probe: `return nauthilus_context.leak or not nauthilus_context.context_get or io`},
		{name: "nauthilus_context", attack: `nauthilus_context.context_set("leak", {1})`, probe: `return nauthilus_context.context_get("leak")`},
		{name: "nauthilus_context, a table kept", attack: `kept = {} nauthilus_context.context_set("leak", kept) kept.leak = nauthilus_context.context_get("leak")`, probe: `return kept or nauthilus_context.context_get("leak")`},
		{name: "nauthilus_cache, a table changed after", attack: `local t = {1} nauthilus_cache.cache_set("t", t) t[1] = "leak"`, probe: `local t = nauthilus_cache.cache_get("t") return t and t[1] ~= 1`},
		{name: "nauthilus_cache, a table changed when had", attack: `nauthilus_cache.cache_set("t", {1}) nauthilus_cache.cache_get("t")[1] = "leak"`, probe: `local t = nauthilus_cache.cache_get("t") return t and t[1] ~= 1`},
		{name: "nauthilus_cache, a function", attack: `local n = 0 pcall(nauthilus_cache.cache_set, "f", function() n = n + 1 return n end) nauthilus_cache.cache_set("t", {f = function() n = n + 1 return n end})`, probe: `local t = nauthilus_cache.cache_get("t") return nauthilus_cache.cache_get("f") or t and t.f`},
		{name: "nauthilus_cache, a table as key", attack: `local k = {} nauthilus_cache.cache_set("t", {[k] = 1})`, probe: `local t = nauthilus_cache.cache_get("t") return t and next(t)`},
		{name: "nauthilus_cache, a metatable", attack: `nauthilus_cache.cache_set("t", setmetatable({}, {__index = {leak = 1}}))`, probe: `local t = nauthilus_cache.cache_get("t") return t and (t.leak or getmetatable(t))`},
		{name: "upvalue of gmatch", attack: `iter = string.gmatch("a b", "%a") iter()`, probe: `return iter or string.gmatch("a b", "%a")() ~= "a"`},
		{name: "open upvalue after a caught panic", chunk: `local n = 0`, attack: `local ok = pcall(function() local x = {} local f = function() x.leak = 1 end table.sort({1, 2, 3}, function() f() error("x") end) end)`, probe: `local x = {} local f = function() return x.leak end return f()`},
		{name: "a global of the entry function's name in a coroutine", attack: `coroutine.wrap(function() nauthilus_call_filter = nil leak = 1 end)()`, probe: `return leak`},
		{name: "metatable of a coroutine's function", attack: `setmetatable(coroutine, {__index = {leak = 1}})`, probe: `return coroutine.leak or not coroutine.wrap`},
		{name: "_VERSION and next", attack: `_VERSION = "leak" next = nil select = nil`, probe: `return _VERSION == "leak" or not next or not select`},
		{name: "os.date's table", attack: `local t = os.date("*t") t.leak = 1 os.date = t`, probe: `return type(os.date) ~= "function" or os.date("*t").leak`},
		{name: "environment", attack: `os.setenv("USHER_LEAK", "1")`, probe: `return os.getenv("USHER_LEAK")`},
		{name: "error object", attack: `local e = {} setmetatable(e, {__tostring = function() leak = 1 return "x" end}) pcall(error, e) tostring(e)`, probe: `return leak`},
	}
	dir := t.TempDir()
	write(t, dir, "kept.lua", `local n = 0 from_module = 1 return {inc = function() n = n + 1 return n end}`)

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirector(t, tt.chunk+`
				function nauthilus_call_filter(request)
					if request.username == "mallory" then
						pcall(function() `+tt.attack+` end)
					else
						local dirty = (function() `+tt.probe+` end)()
						if dirty then error("dirty: " .. tostring(dirty)) end
					end
				end`, func(o *Options) { o.PackagePath = dir })
			clean := direct(t, d, query("bob")) // the probe is right where nothing was attacked
			if _, err := d.Direct(t.Context(), query("mallory")); err != nil {
				t.Fatalf("the attack got out of pcall: %v", err)
			}
			got := direct(t, d, query("bob"))
			if got.Selected || got.Refused || got.Hold != 0 || got.Text != "" || got.Changes != nil || got.Logs != nil || clean.Selected {
				t.Errorf("the verdict of the next request: %+v", got)
			}
		})
	}
	if len(tests) < 30 {
		t.Errorf("only %d ways", len(tests))
	}
}

// Two filters of one request see nothing of each other either.
func TestFiltersAreApart(t *testing.T) {
	d := newDirector(t, `leak = 1 string.leak = 1 usher.leak = 1 function nauthilus_call_filter(request) request.leak = 1 end`, func(o *Options) {
		second := o.Filters[0]
		second.Name, second.Path = "second", "second.lua"
		second.Text = inFilter(`assert(not leak and not string.leak and not ("x").leak and not usher.leak and not request.leak)`)
		o.Filters = append(o.Filters, second)
	})
	direct(t, d, query("alice"))
}

func TestSandbox(t *testing.T) {
	ask(t, `
		for _, name in ipairs({"io", "debug", "package", "channel", "dofile", "loadfile", "collectgarbage", "newproxy", "setfenv", "getfenv",
			"module", "_printregs", "_GOPHER_LUA_VERSION"}) do
			assert(_G[name] == nil and rawget(_G, name) == nil and loadstring("return " .. name)() == nil, name)
		end
		for _, name in ipairs({"execute", "exit", "remove", "rename", "setenv", "setlocale", "tmpname"}) do
			assert(os[name] == nil and rawget(os, name) == nil, "os." .. name)
		end
		assert(string.dump == nil and string.__index == nil and rawget(string, "dump") == nil)
		assert(type(os.time()) == "number" and type(os.date()) == "string" and type(os.clock()) == "number" and os.difftime(2, 1) == 1)
		assert(getmetatable("") == nil and getmetatable(_G) == nil and getmetatable(string) == nil and getmetatable(request) == nil)
		assert(dynamic_loader("nauthilus_util") == nil)
		-- bytecode, of Lua 5.1 and of LuaJIT
		for _, code in ipairs({"\027Lua\081\000\001\004\008\004\008\000", "\027LJ\002\000"}) do
			local f, err = loadstring(code)
			assert(f == nil and type(err) == "string")
			f, err = load(function() local c = code code = nil return c end)
			assert(f == nil and type(err) == "string")
		end`, query("alice"))
}

func TestGetenv(t *testing.T) {
	t.Setenv("USHER_SHOWN", "yes")
	t.Setenv("USHER_HIDDEN", "no")
	ask(t, `
		assert(os.getenv("USHER_SHOWN") == "yes" and os.getenv("USHER_HIDDEN") == nil and os.getenv("USHER_UNSET") == nil and os.getenv("PATH") == nil)`,
		query("alice"), func(o *Options) { o.Deps.Env = []string{"USHER_SHOWN", "USHER_UNSET"} })
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPackagePath(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "lib/util.lua", `return {name = ...}`)
	write(t, dir, "lib/deep/er.lua", `return "deeper"`)
	write(t, dir, "lib/nothing.lua", ``)
	write(t, dir, "lib/a.lua", `local b = require("b") return "a"`)
	write(t, dir, "lib/b.lua", `assert(require("a") == true) return "b"`)
	write(t, dir, "lib/broken.lua", "local x =\nreturn )")
	write(t, dir, "lib/raises.lua", "\nerror('boom')")
	write(t, dir, "lib/usher.lua", `return "not ours"`)
	write(t, dir, "more/x_mod.lua", `return "more"`)
	write(t, dir, "secret.lua", `return "secret"`)
	path := func(o *Options) {
		o.PackagePath = filepath.Join(dir, "lib") + ";;" + filepath.Join(dir, "more", "?_mod.lua")
	}
	ask(t, `
		assert(require("util").name == "util" and require("util") == require("util"))
		assert(require("deep.er") == "deeper" and require("nothing") == true and require("x") == "more")
		assert(require("a") == "a" and require("b") == "b")
		assert(require("usher") == usher)`, query("alice"), path)

	for _, name := range []string{
		"secret", "../secret", "..secret", "...secret", "deep/er", "deep..er", "/etc/passwd", ".util", "util.", "", "lib\x00", "?",
		"deep\\er", "util.lua", dir + "/secret", "util;secret",
	} {
		got := luaError(t, `require("`+strings.ReplaceAll(name, `\`, `\\`)+`")`, path)
		if !strings.Contains(got, "not found") {
			t.Errorf("require(%q): %s", name, got)
		}
	}
	if got := luaError(t, `require("broken")`, path); !strings.Contains(got, filepath.Join(dir, "lib/broken.lua")+":2") {
		t.Errorf("a broken module: %s", got)
	}
	if got := luaError(t, `require("raises")`, path); !strings.Contains(got, "raises.lua:2: boom") {
		t.Errorf("a module that raises: %s", got)
	}
	if got := luaError(t, `require({})`, path); !strings.Contains(got, "string expected, got table") {
		t.Errorf("a table as name: %s", got)
	}
	// Names that are not there are remembered, but not without end.
	ask(t, `
		for i = 1, 3000 do assert(not pcall(require, "nothing" .. i)) end
		assert(require("util").name == "util" and require("x") == "more")`, query("alice"), path, func(o *Options) { o.Limits.Steps = 1 << 30 })
	// Without a path there is nothing to be had.
	if got := luaError(t, `require("util")`); !strings.Contains(got, "not found") {
		t.Errorf("no path: %s", got)
	}
}

// A state that failed is thrown away; one that worked waits without anything of
// the request.
func TestStateKeepsNothing(t *testing.T) {
	d := newDirector(t, inFilter(`if request.username == "mallory" then error("x") end`))
	look := func() *state {
		s := <-d.pool
		d.pool <- s
		return s
	}
	direct(t, d, query("alice"))
	first := look()
	if _, err := d.Direct(t.Context(), query("mallory")); err == nil {
		t.Fatal("no error")
	}
	if look() == first {
		t.Error("a state that failed is kept")
	}
	second := look()
	direct(t, d, query("alice"))
	s := <-d.pool
	if s != second {
		t.Fatal("a state that worked is thrown away")
	}
	if s.call != nil || s.budget.Owner != nil {
		t.Error("the state keeps the request")
	}
	d.pool <- s
}
