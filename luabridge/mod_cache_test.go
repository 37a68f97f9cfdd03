package luabridge

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/luabridge/modules"
)

// One map a request, for all its scripts.
func TestContext(t *testing.T) {
	second := func(body string) func(*Options) {
		return func(o *Options) {
			o.Filters = append(o.Filters, Filter{Name: "second", Path: "second.lua", Text: inFilter(body), WhenAuthenticated: true})
		}
	}
	ask(t, `
		local c = require("nauthilus_context")
		assert(c == nauthilus_context and c.context_get("nothing") == nil)
		local t = {1, 2, list = {a = true}, [3.5] = "x", f = print, [{}] = "dropped"}
		c.context_set("table", t)
		t[1] = "changed"
		c.context_set("text", "x")
		c.context_set("number", 1.5)
		c.context_set("no", false)
		c.context_set("function", print)
		c.context_set("gone", 1)
		c.context_delete("gone")
		c.context_delete("never there")
		c.context_set("unset", 1)
		c.context_set("unset", nil)
		c.context_set(7, "seven")`, query("alice"), second(`
		local c = nauthilus_context
		local t = c.context_get("table")
		assert(t[1] == 1 and t[2] == 2 and t.list.a == true and t[3.5] == "x" and type(t.f) == "string")
		local n = 0 for k in pairs(t) do n = n + 1 end assert(n == 5)
		t[1] = "changed"
		assert(c.context_get("table")[1] == 1)
		assert(c.context_get("text") == "x" and c.context_get("number") == 1.5 and c.context_get("no") == false)
		assert(type(c.context_get("function")) == "string" and c.context_get("gone") == nil and c.context_get("unset") == nil)
		assert(c.context_get("7") == "seven")`))
	for statement, want := range map[string]string{
		`nauthilus_context.context_set()`:                                                             "bad argument #1 to context_set (string expected, got no value)",
		`nauthilus_context.context_set("k")`:                                                          "bad argument #2 to context_set (value expected)",
		`nauthilus_context.context_get({})`:                                                           "bad argument #1 to context_get (string expected, got table)",
		`local t = {} t.t = t nauthilus_context.context_set("k", t)`:                                  "a table is nested over 16 deep",
		`for i = 1, 2000 do nauthilus_context.context_set("k" .. i, 1) end`:                           "context_set: a request keeps 1000 values at most",
		`local t = {} for i = 1, 5000 do t[i] = i end nauthilus_context.context_set("k", t)`:          "a table has over 4096 values",
		`nauthilus_context.context_set("k", 1) nauthilus_context.context_delete(nil)`:                 "bad argument #1 to context_delete (string expected, got nil)",
		`for i = 1, 3000 do nauthilus_context.context_set("k" .. i % 10, i) end error("all went", 0)`: "all went",
	} {
		if got := luaError(t, statement); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

func TestCache(t *testing.T) {
	d := newDirector(t, inFilter(`
		local c = require("nauthilus_cache")
		if request.username == "first" then
			assert(c == nauthilus_cache and c.cache_get("k") == nil and not c.cache_exists("k") and c.cache_size() == 0)
			assert(c.cache_set("k", {1, {2}, x = "y"}) == "OK")
			assert(c.cache_set("text", "x") == "OK" and c.cache_set("no", false) == "OK" and c.cache_set("n", 5) == "OK")
			assert(c.cache_push("list", "a") == 1 and c.cache_push("list", "b") == 2)
			assert(c.cache_push("text", "z") == 2)
			c.cache_set("map", {a = 1})
			assert(c.cache_push("map", 2) == 2)
			assert(c.cache_update("n", function(old) return old + 1 end) == 6)
			assert(c.cache_update("new", function(old) assert(old == nil) return {7} end)[1] == 7)
			assert(c.cache_update("n", function() return nil end) == nil and not c.cache_exists("n"))
			c.cache_update("n", function() c.cache_set("other", 1) return c.cache_get("other") end)
			assert(not pcall(c.cache_update, "n", function() error("x") end) and c.cache_get("n") == 1)
			assert(not pcall(c.cache_set, "f", print) and not pcall(c.cache_set, "f") and not pcall(c.cache_set, "f", 1, "soon"))
			assert(c.cache_set("nil", nil, 30) == "OK" and c.cache_get("nil") == nil and c.cache_exists("nil") and c.cache_push("nil", 1) == 1 and c.cache_delete("nil"))
			c.cache_set("empty", {})
			assert(c.cache_push("empty", "a") == 1 and c.cache_delete("empty"))
			c.cache_set("empty", {})
			assert(#c.cache_pop_all("empty") == 0 and not c.cache_exists("empty"))
		else
			local k = c.cache_get("k")
			assert(k[1] == 1 and k[2][1] == 2 and k.x == "y" and c.cache_get("no") == false and c.cache_exists("no"))
			local list = c.cache_pop_all("list")
			assert(#list == 2 and list[1] == "a" and list[2] == "b" and not c.cache_exists("list") and #c.cache_pop_all("list") == 0)
			local text, map = c.cache_pop_all("text"), c.cache_pop_all("map")
			assert(#text == 2 and text[1] == "x" and text[2] == "z" and map[1].a == 1 and map[2] == 2)
			assert(c.cache_get("new")[1] == 7 and c.cache_pop_all("n")[1] == 1)
			assert(table.concat(c.cache_keys(), " ") == "k new no other", table.concat(c.cache_keys(), " "))
			assert(c.cache_size() == 4 and c.cache_delete("k") and not c.cache_delete("k"))
			c.cache_flush()
			assert(c.cache_size() == 0 and #c.cache_keys() == 0)
		end`))
	direct(t, d, query("first"))
	direct(t, d, query("second"))
}

func TestCache_End(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirector(t, inFilter(`
			local c = nauthilus_cache
			if request.username == "first" then
				c.cache_set("short", 1, "2") c.cache_set("half", 1, 0.5) c.cache_set("none", 1, 0) c.cache_set("negative", 1, -1) c.cache_set("nil", 1, nil) c.cache_set("long", 1, 1e300)
				c.cache_set("kept", 1, 2) c.cache_update("kept", function(n) return n + 1 end) c.cache_push("kept", 3)
			elseif request.username == "before" then
				assert(c.cache_get("short") == 1 and c.cache_get("kept")[1] == 2)
			else
				assert(c.cache_size() == 5)
				assert(c.cache_get("short") == nil and not c.cache_exists("kept") and c.cache_pop_all("kept")[1] == nil)
				assert(c.cache_get("half") and c.cache_get("none") and c.cache_get("negative") and c.cache_get("nil") and c.cache_get("long"))
				assert(table.concat(c.cache_keys(), " ") == "half long negative nil none")
			end`))
		direct(t, d, query("first"))
		time.Sleep(1900 * time.Millisecond)
		direct(t, d, query("before"))
		time.Sleep(200 * time.Millisecond)
		direct(t, d, query("after"))
	})
}

// A dry run sees what is there and leaves nothing behind.
func TestCache_DryRun(t *testing.T) {
	d := newDirector(t, inFilter(`
		local c = nauthilus_cache
		if request.username == "dry" then
			assert(c.cache_get("k") == "real")
			c.cache_set("k", "dry") c.cache_set("more", 1) c.cache_push("list", 1)
			assert(c.cache_get("k") == "dry" and c.cache_size() == 3)
			c.cache_flush()
		elseif c.cache_get("k") then
			assert(c.cache_get("k") == "real" and c.cache_size() == 1)
		else
			c.cache_set("k", "real")
		end`))
	direct(t, d, query("alice"))
	q := query("dry")
	q.DryRun = true
	direct(t, d, q)
	direct(t, d, query("alice"))
}

// Updates of many requests at once: none is lost.
func TestCache_Concurrent(t *testing.T) {
	const workers, rounds = 8, 200
	d := newDirector(t, inFilter(`
		nauthilus_cache.cache_update("n", function(n) return (n or 0) + 1 end)
		if nauthilus_cache.cache_push("list", request.username) > 100 then nauthilus_cache.cache_pop_all("list") end
		nauthilus_cache.cache_get("list")
		if request.username == "last" then usher.log(nauthilus_cache.cache_get("n")) nauthilus_builtin.custom_log_add("n", nauthilus_cache.cache_get("n")) end`),
		func(o *Options) { o.PoolSize = 0; o.Limits.Steps = 10_000_000 })
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for range rounds {
				if _, err := d.Direct(t.Context(), query(fmt.Sprint("user", i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	v := direct(t, d, query("last"))
	if want := fmt.Sprint(workers*rounds + 1); v.Logs[0].Value != want {
		t.Errorf("%s updates, want %s", v.Logs[0].Value, want)
	}
}

// The cache is bounded, in entries and in bytes, and what has ended goes first.
func TestCache_Bounds(t *testing.T) {
	store := modules.NewStore()
	d := newDirector(t, inFilter(`
		for i = 1, 60 do nauthilus_cache.cache_set(request.username .. i, ("x"):rep(2e6)) end`), func(o *Options) {
		o.Deps.Cache, o.Limits.Memory, o.Limits.Steps = store, 1<<30, 1<<40
	})
	direct(t, d, query("alice"))
	if n := store.Len(); n < 20 || n > 33 {
		t.Errorf("%d entries of 2 MB in 64 MiB", n)
	}
	if got := luaError(t, `nauthilus_cache.cache_set("k", ("x"):rep(5e6))`); !strings.HasPrefix(got, "nauthilus_cache: a value of 50") {
		t.Errorf("a value that is too large: %s", got)
	}
	store = modules.NewStore()
	d = newDirector(t, inFilter(`
		for i = 1, 110000 do nauthilus_cache.cache_set(i, i) end`), func(o *Options) {
		o.Deps.Cache, o.Limits.Memory, o.Limits.Steps, o.Limits.Time = store, 1<<30, 1<<40, time.Minute
	})
	direct(t, d, query("alice"))
	if n := store.Len(); n != 100000 {
		t.Errorf("%d entries", n)
	}
}
