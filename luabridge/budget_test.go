package luabridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

// Each way to exceed a budget is a fault of the right kind that names script
// and line, throws the state away, and leaves the pool working.
func TestBudgets(t *testing.T) {
	tests := []struct {
		name, body string
		timeout    time.Duration // with steps without end
		kind       proxy.Reason
		line       string
		want       string
	}{
		{name: "endless loop", body: "\nwhile true do end", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "in pcall", body: "\nwhile true do pcall(function() while true do end end) end", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "in pcall, then accept", body: "\npcall(function() while true do end end) return false", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "in xpcall", body: "\nwhile true do xpcall(function() while true do end end, function(e) return e end) end", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "in xpcall's handler", body: "\nxpcall(error, function() while true do end end)", kind: proxy.PolicyBudget, line: "test.lua:", want: "director.steps"},
		{name: "coroutine.create", body: "\nlocal co = coroutine.create(function() while true do end end)\nprint(coroutine.resume(co))", kind: proxy.PolicyBudget, line: "test.lua:3", want: "director.steps"},
		{name: "coroutine.wrap", body: "\ncoroutine.wrap(function() while true do end end)()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "coroutine in a coroutine", body: "\ncoroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "coroutine that yields for ever", body: "\nlocal co = coroutine.wrap(function() while true do coroutine.yield() end end)\nwhile true do co() end", kind: proxy.PolicyBudget, line: "test.lua:", want: "director.steps"},
		{name: "a comparator", body: "\ntable.sort({1, 2}, function() while true do end end)", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "gsub's function", body: "\nlocal x = (\"aa\"):gsub(\"a\", function() while true do end end)", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "a metamethod", body: "\nlocal t = setmetatable({}, {__index = function() while true do end end}) return t.x", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "__tostring in print", body: "\nprint(setmetatable({}, {__tostring = function() while true do end end}))", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},
		{name: "loaded text", body: "\nloadstring('while true do end', 'mine')()", kind: proxy.PolicyBudget, line: "mine:1", want: "director.steps"},
		{name: "tail calls", body: "\nlocal function f() return f() end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},

		{name: "deep recursion", body: "\nlocal function f() return 1 + f() end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},
		{name: "recursion through gsub", body: "\nlocal function f() return (('x'):gsub('x', f)) end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},
		{name: "recursion through pcall", body: "\nlocal function f() local ok, e = pcall(f) if not ok then error(e, 0) end end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},
		{name: "recursion through sort", body: "\nlocal function f() table.sort({1, 2}, f) end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},
		{name: "recursion through __index", body: "\nlocal t = {} setmetatable(t, {__index = function(t, k) return t[k + 1] end})\nprint(t[1])", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},
		{name: "recursion through coroutines", body: "\nlocal function f() coroutine.wrap(f)() end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "coroutines"},
		{name: "many coroutines", body: "\nfor i = 1, 1000 do coroutine.create(function() end) end", kind: proxy.PolicyBudget, line: "test.lua:2", want: "coroutines"},
		{name: "many coroutines in pcall", body: "\nfor i = 1, 1000 do pcall(coroutine.wrap, function() end) end", kind: proxy.PolicyBudget, line: "test.lua:2", want: "coroutines"},
		{name: "too many values", body: "\nreturn unpack({}, 1, 1e6)", kind: proxy.PolicyBudget, line: "test.lua", want: "depth"},
		{name: "too many values of a text", body: "\nlocal n = select('#', (('x'):rep(7e4)):byte(1, -1))", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},

		{name: "too many values in a tail call", body: "\nlocal function f(...) return f('x', ...) end\nf(unpack({}, 1, 40000))", kind: proxy.PolicyBudget, line: "test.lua:2", want: "depth"},
		{name: "growing varargs", body: "\nlocal function f(...) return f('x', ...) end\nf()", kind: proxy.PolicyBudget, line: "test.lua:2", want: "director.steps"},

		{name: "deadline", body: "\nwhile true do end", timeout: 20 * time.Millisecond, kind: proxy.PolicyTimeout, line: "test.lua:2", want: "director.timeout"},
		{name: "deadline in pcall", body: "\nwhile true do pcall(function() while true do end end) end", timeout: 20 * time.Millisecond, kind: proxy.PolicyTimeout, line: "test.lua:2", want: "director.timeout"},
		{name: "deadline in a coroutine", body: "\ncoroutine.wrap(function() while true do end end)()", timeout: 20 * time.Millisecond, kind: proxy.PolicyTimeout, line: "test.lua:2", want: "director.timeout"},

		{name: "an error is no budget", body: "\nerror('boom')", kind: proxy.PolicyError, line: "test.lua:2", want: "boom"},
		{name: "nil called", body: "\nlocal x\nx()", kind: proxy.PolicyError, line: "test.lua:3", want: "attempt to call"},
		{name: "error of a table", body: "\nerror({})", kind: proxy.PolicyError, line: "policy test", want: "table"},
		{name: "error of nil", body: "\nerror(nil)", kind: proxy.PolicyError, line: "policy test", want: "nil"},
		{name: "error in a coroutine", body: "\ncoroutine.wrap(function() error('boom') end)()", kind: proxy.PolicyError, line: "test.lua:2", want: "boom"},
		{name: "yield outside of a coroutine", body: "\ncoroutine.yield()", kind: proxy.PolicyError, line: "test.lua:2", want: "coroutine"},
		{name: "a suspended coroutine left behind", body: "\nco = coroutine.wrap(function() coroutine.yield() end) co()\nerror('boom')", kind: proxy.PolicyError, line: "test.lua:3", want: "boom"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirector(t, inFilter("if request.username == 'alice' then return end "+tt.body), func(o *Options) {
				o.Limits.Steps = 20000
				if tt.timeout > 0 {
					o.Limits.Steps, o.Limits.Time = 1<<62, tt.timeout
				}
			})
			direct(t, d, query("alice"))
			before := <-d.pool
			d.pool <- before
			fault := askFault(t, d, query("mallory"))
			if fault.Kind != tt.kind {
				t.Errorf("kind %s, want %s", fault.Kind, tt.kind)
			}
			if text := fault.Error(); !strings.Contains(text, tt.line) || !strings.Contains(text, tt.want) || !strings.HasPrefix(text, "policy test: ") {
				t.Errorf("error %q, want one with %q and %q", text, tt.line, tt.want)
			}
			after := <-d.pool
			d.pool <- after
			if after == before {
				t.Error("the state is kept")
			}
			direct(t, d, query("alice"))
		})
	}
}

// What deep recursion raises can be caught, like any error of Lua's.
func TestCaughtRecursion(t *testing.T) {
	ask(t, `
		local function f() return 1 + f() end
		local ok, err = pcall(f)
		assert(not ok and err:find("stack overflow"), err)
		local ok, err = pcall(unpack, {}, 1, 1e6)
		assert(not ok and err:find("registry overflow"), err)`, query("alice"))
}

func TestCallersContext(t *testing.T) {
	d := newDirector(t, inFilter(`while true do end`), func(o *Options) { o.Limits.Steps = 1 << 62 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Direct(ctx, query("alice"))
	if f := (*proxy.PolicyFault)(nil); !errors.As(err, &f) || f.Kind != proxy.PolicyTimeout {
		t.Errorf("error: %v", err)
	}
}

func TestBudgetsAreOfAllFilters(t *testing.T) {
	d := newDirector(t, inFilter(`for i = 1, 3000 do end`), func(o *Options) {
		o.Limits.Steps = 10000
		for _, name := range []string{"b", "c", "d"} {
			f := o.Filters[0]
			f.Name = name
			o.Filters = append(o.Filters, f)
		}
	})
	if f := askFault(t, d, query("alice")); f.Kind != proxy.PolicyBudget || !strings.HasPrefix(f.Error(), "policy d: ") {
		t.Errorf("fault %s: %v", f.Kind, f)
	}
}

// With every state busy a request waits for one, then gives up.
func TestPoolExhausted(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	d := newDirector(t, inFilter(`if request.username == "slow" then nauthilus_backend.check_backend_connection("imap", "127.0.0.2", 143) end`),
		func(o *Options) {
			o.Limits.Time = 50 * time.Millisecond
			o.Deps.Checker = checkerFunc(func(context.Context, *proxy.Server) error {
				entered <- struct{}{}
				<-leave
				return nil
			})
		})
	slow := make(chan error)
	go func() {
		_, err := d.Direct(context.Background(), query("slow"))
		slow <- err
	}()
	<-entered
	if f := askFault(t, d, query("alice")); f.Kind != proxy.PolicyTimeout || !strings.Contains(f.Error(), "director.pool_size") {
		t.Errorf("fault %s: %v", f.Kind, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Direct(ctx, query("alice")); err == nil {
		t.Error("no state, a caller who left, and no error")
	}
	waits := make(chan error)
	go func() {
		_, err := d.Direct(context.Background(), query("alice"))
		waits <- err
	}()
	close(leave)
	if err := <-slow; err != nil {
		t.Error(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("a request that waits for a state: %v", err)
	}
}

// A module function that panics is an error of the script.
func TestPanicInAModule(t *testing.T) {
	boom := func(o *Options) {
		o.Deps.Checker = checkerFunc(func(context.Context, *proxy.Server) error { panic("kaboom") })
	}
	const check = `nauthilus_backend.check_backend_connection("imap", "127.0.0.2", 143)`
	for name, body := range map[string]string{
		"plain":             check,
		"coroutine.wrap":    `coroutine.wrap(function() ` + check + ` end)()`,
		"coroutine.resume":  `assert(coroutine.resume(coroutine.create(function() ` + check + ` end)))`,
		"xpcall's handler":  `assert(xpcall(error, function() ` + check + ` end))`,
		"gsub's function":   `return (("x"):gsub("x", function() ` + check + ` end))`,
		"caught and raised": `local ok, err = pcall(function() ` + check + ` end) error(err)`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirector(t, inFilter(`if request.username == "alice" then return end `+body), boom)
			if f := askFault(t, d, query("mallory")); f.Kind != proxy.PolicyError {
				t.Errorf("fault %s: %v", f.Kind, f)
			}
			direct(t, d, query("alice"))
		})
	}
	// One outside of Lua's reach is one too.
	d := newDirector(t, inFilter(``))
	d.filters[0].script = nil
	if f := askFault(t, d, query("alice")); f.Kind != proxy.PolicyError || !strings.Contains(f.Error(), "panic") {
		t.Errorf("fault %s: %v", f.Kind, f)
	}
}
