package modules

import (
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// cacheModule is nauthilus_cache: one map a process, for what requests are
// meant to share. Tables are copied both ways; functions and userdata are not
// kept.
var cacheModule = Module{
	Name: "nauthilus_cache", Global: true,
	Doc: "What requests are meant to share; all else that one leaves behind is gone. One map for the process, kept by a reload and lost by a restart. " +
		"It has 100,000 entries and 64 MiB at most, beyond which old ones go. Tables are copied both ways. A dry run works on a copy.",
	Funcs: []Func{
		{
			Name: "cache_set", Do: cacheSet,
			Sig: `(key: string|number, value: string|number|boolean|table|nil, ttl?: number) -> ok: "OK"`,
			Doc: "Keeps a value under a key, for `ttl` whole seconds; without `ttl`, or with one under 1, for good. Tables are copied; functions and userdata raise an error. A nil is kept too: `cache_exists` says so. Keys have 1024 bytes at most, values 4 MiB.",
			Example: `local cache = require("nauthilus_cache")
print(cache.cache_set("site:alice", {name = "north"}, 300)) --> OK
print(cache.cache_get("site:alice").name) --> north`,
		},
		{
			Name: "cache_get", Do: cacheGet,
			Sig: `(key: string|number) -> value: any`,
			Doc: "Returns the value, of a table a copy; nil if there is none, or none any more.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_set("tries", 3)
print(cache.cache_get("tries"), cache.cache_get("other")) --> 3 nil`,
		},
		{
			Name: "cache_delete", Do: cacheDelete,
			Sig: `(key: string|number) -> deleted: boolean`,
			Doc: "Removes a key. Returns whether there was one.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_set("tries", 3)
print(cache.cache_delete("tries"), cache.cache_delete("tries")) --> true false`,
		},
		{
			Name: "cache_exists", Do: cacheExists,
			Sig: `(key: string|number) -> exists: boolean`,
			Doc: "Returns whether there is such a key; a value may be false or nil.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_set("moved", false)
print(cache.cache_exists("moved"), cache.cache_exists("other")) --> true false`,
		},
		{
			Name: "cache_update", Do: cacheUpdate,
			Sig: `(key: string|number, f: fun(old: any): any) -> value: any`,
			Doc: "Makes `f(old)` the value, and returns it; `old` is nil where there is none. nil removes the key; its end stays. Was another request faster, `f` runs again.",
			Example: `local cache = require("nauthilus_cache")
local function count(old)
  return (old or 0) + 1
end
cache.cache_update("logins", count)
print(cache.cache_update("logins", count)) --> 2`,
		},
		{
			Name: "cache_push", Do: cachePush,
			Sig: `(key: string|number, value: string|number|boolean|table) -> length: integer`,
			Doc: "Appends to the list under a key, and returns its length. What is there and is no list becomes its first element.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_push("recent", "alice")
print(cache.cache_push("recent", "bob")) --> 2`,
		},
		{
			Name: "cache_pop_all", Do: cachePopAll,
			Sig: `(key: string|number) -> list: any[]`,
			Doc: "Takes the list under a key away, and returns it; `{}` if there is none. What is no list comes back as the only element of one.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_push("recent", "alice")
cache.cache_push("recent", "bob")
print(table.concat(cache.cache_pop_all("recent"), " ")) --> alice bob
print(#cache.cache_pop_all("recent")) --> 0`,
		},
		{
			Name: "cache_keys", Do: cacheKeys,
			Sig: `() -> keys: string[]`,
			Doc: "Returns the keys, sorted.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_set("b", 1)
cache.cache_set("a", 1)
print(table.concat(cache.cache_keys(), " ")) --> a b`,
		},
		{
			Name: "cache_size", Do: cacheSize,
			Sig: `() -> n: integer`,
			Doc: "Returns the number of entries.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_set("a", 1)
print(cache.cache_size()) --> 1`,
		},
		{
			Name: "cache_flush", Do: cacheFlush,
			Sig: `()`,
			Doc: "Removes all entries.",
			Example: `local cache = require("nauthilus_cache")
cache.cache_set("a", 1)
cache.cache_flush()
print(cache.cache_size()) --> 0`,
		},
	},
}

// store is the cache as this call sees it: in a dry run a copy.
func (c *Call) store() *Store {
	if !c.Query.DryRun {
		return c.Cache
	}
	if c.dryCache == nil {
		c.dryCache = c.Cache.clone()
	}
	return c.dryCache
}

// entry copies a value for the store.
func entry(L *lua.LState, key string, v lua.LValue) stored {
	switch v.(type) {
	case lua.LString, lua.LNumber, lua.LBool, *lua.LTable, *lua.LNilType:
	default:
		L.RaiseError("bad argument #2 to nauthilus_cache (string, number, boolean or table expected, got %s)", v.Type())
	}
	cp := copier{L: L, own: true}
	e := stored{value: cp.value(v, 0), bytes: 256 + len(key) + 128*cp.copied + cp.bytes}
	if e.bytes > maxStoredBytes/16 {
		L.RaiseError("nauthilus_cache: a value of %d bytes, at most %d", e.bytes, maxStoredBytes/16)
	}
	return e
}

// cacheSet(key, value[, ttl]) keeps a value for ttl seconds; without, or under
// one, for good.
func cacheSet(L *lua.LState) int {
	key := strings.Clone(key(L, "cache_set"))
	e := entry(L, key, L.CheckAny(2))
	now := CallOf(L).Now()
	ttl, ok := numberOf(L.Get(3))
	if !ok && L.Get(3) != lua.LNil {
		argError(L, 3, "cache_set", "number of seconds")
	}
	if ttl >= 1 {
		e.end = now.Add(time.Duration(min(float64(ttl), 1e9)) * time.Second)
	}
	s := CallOf(L).store()
	s.mu.Lock()
	s.set(key, e, now)
	s.mu.Unlock()
	L.Push(lua.LString("OK"))
	return 1
}

// look returns the entry of the key that is the first argument.
func look(L *lua.LState, function string) (stored, bool) {
	key, s := key(L, function), CallOf(L).store()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key, CallOf(L).Now())
}

// pushCopy pushes the script's own copy of a stored value, or nil.
func pushCopy(L *lua.LState, v lua.LValue) {
	if v == nil {
		v = lua.LNil
	}
	cp := copier{L: L}
	L.Push(cp.value(v, 0))
}

func cacheGet(L *lua.LState) int {
	e, _ := look(L, "cache_get")
	pushCopy(L, e.value)
	return 1
}

func cacheExists(L *lua.LState) int {
	_, ok := look(L, "cache_exists")
	L.Push(lua.LBool(ok))
	return 1
}

// cacheDelete reports whether there was something.
func cacheDelete(L *lua.LState) int {
	key, s := key(L, "cache_delete"), CallOf(L).store()
	s.mu.Lock()
	_, ok := s.get(key, CallOf(L).Now())
	s.remove(key)
	s.mu.Unlock()
	L.Push(lua.LBool(ok))
	return 1
}

// cacheUpdate(key, f) makes f(old) the value, nil removes it; the end stays.
// Nothing is locked while f runs: when another was faster it runs again.
func cacheUpdate(L *lua.LState) int {
	const tries = 100
	name := strings.Clone(key(L, "cache_update"))
	f, ok := L.Get(2).(*lua.LFunction)
	if !ok {
		argError(L, 2, "cache_update", "function")
	}
	s := CallOf(L).store()
	for range tries {
		old, _ := look(L, "cache_update")
		L.Push(f)
		pushCopy(L, old.value)
		L.Call(1, 1)
		v := L.Get(-1)
		L.Pop(1)
		var e stored
		if v != lua.LNil {
			e = entry(L, name, v)
		}
		e.end = old.end
		if s.swap(name, old.version, e, CallOf(L).Now()) {
			L.Push(v)
			return 1
		}
	}
	L.RaiseError("cache_update: %d others were faster", tries)
	return 0
}

// swap keeps e, or removes the key where e has no value, unless somebody has
// changed it since that version. 0 is no entry.
func (s *Store) swap(key string, version uint64, e stored, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, _ := s.get(key, now); old.version != version {
		return false
	}
	if e.value == nil {
		s.remove(key)
	} else {
		s.set(key, e, now)
	}
	return true
}

// cachePush(key, value) appends to the list under key and returns its length;
// what is there and no list becomes its first element.
func cachePush(L *lua.LState) int {
	name := strings.Clone(key(L, "cache_push"))
	v := L.CheckAny(2)
	s := CallOf(L).store()
	for {
		old, _ := look(L, "cache_push")
		list := L.CreateTable(1, 0)
		cp := copier{L: L}
		switch was := old.value.(type) {
		case nil, *lua.LNilType:
		case *lua.LTable:
			if copied := cp.value(was, 0).(*lua.LTable); isList(L, copied) {
				list = copied
				break
			}
			list.Append(was)
		default:
			list.Append(was)
		}
		budget.Of(L).Store(L, list, -1)
		list.Append(v)
		e := entry(L, name, list)
		e.end = old.end
		if s.swap(name, old.version, e, CallOf(L).Now()) {
			L.Push(lua.LNumber(list.Len()))
			return 1
		}
	}
}

// isList reports whether a table has no other keys than 1 to its length.
func isList(L *lua.LState, t *lua.LTable) bool {
	n := 0
	each(L, t, func(_, _ lua.LValue) { n++ })
	return n == t.Len()
}

// cachePopAll(key) removes the list under key and returns it; {} when there is
// none.
func cachePopAll(L *lua.LState) int {
	name, s := key(L, "cache_pop_all"), CallOf(L).store()
	s.mu.Lock()
	e, _ := s.get(name, CallOf(L).Now())
	s.remove(name)
	s.mu.Unlock()
	list := L.CreateTable(0, 0)
	if t, ok := e.value.(*lua.LTable); ok && isList(L, t) {
		pushCopy(L, t)
		return 1
	}
	if e.value != nil {
		cp := copier{L: L}
		list.Append(cp.value(e.value, 0))
	}
	L.Push(list)
	return 1
}

// cacheKeys returns the keys, sorted.
func cacheKeys(L *lua.LState) int {
	s, now := CallOf(L).store(), CallOf(L).Now()
	n := s.Len()
	take(L, 6*n, 64*n) // they are sorted
	s.mu.Lock()
	keys := make([]string, 0, len(s.entries))
	for k, e := range s.entries {
		if e.end.IsZero() || now.Before(e.end) {
			keys = append(keys, k)
		}
	}
	s.mu.Unlock()
	slices.Sort(keys)
	t := L.CreateTable(len(keys), 0)
	for _, k := range keys {
		t.Append(lua.LString(k))
	}
	L.Push(t)
	return 1
}

func cacheSize(L *lua.LState) int {
	s, now := CallOf(L).store(), CallOf(L).Now()
	take(L, s.Len(), 0)
	n := 0
	s.mu.Lock()
	for _, e := range s.entries {
		if e.end.IsZero() || now.Before(e.end) {
			n++
		}
	}
	s.mu.Unlock()
	L.Push(lua.LNumber(n))
	return 1
}

// Len is how many entries there are.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

func cacheFlush(L *lua.LState) int {
	s := CallOf(L).store()
	s.mu.Lock()
	s.entries, s.bytes = map[string]stored{}, 0
	s.mu.Unlock()
	return 0
}
