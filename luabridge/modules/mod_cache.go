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
	Funcs: []Func{
		{Name: "cache_set", Do: cacheSet},
		{Name: "cache_get", Do: cacheGet},
		{Name: "cache_delete", Do: cacheDelete},
		{Name: "cache_exists", Do: cacheExists},
		{Name: "cache_update", Do: cacheUpdate},
		{Name: "cache_push", Do: cachePush},
		{Name: "cache_pop_all", Do: cachePopAll},
		{Name: "cache_keys", Do: cacheKeys},
		{Name: "cache_size", Do: cacheSize},
		{Name: "cache_flush", Do: cacheFlush},
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
	case lua.LString, lua.LNumber, lua.LBool, *lua.LTable:
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
	if ttl := L.OptNumber(3, 0); ttl >= 1 {
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
		case nil:
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
	return n > 0 && n == t.Len()
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
	take(L, n, 64*n)
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
	L.Push(lua.LNumber(CallOf(L).store().Len()))
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
