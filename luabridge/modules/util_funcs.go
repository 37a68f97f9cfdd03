package modules

import (
	"crypto/rand"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// utilGetenv keeps what it found, or the default, in nauthilus_cache until the
// next reload.
func utilGetenv(L *lua.LState) int {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "getenv", "string")
	}
	c := CallOf(L)
	if len(name) > maxKey-len(envPrefix) {
		L.Push(L.Get(2))
		return 1
	}
	key, s, now := envPrefix+string(name), c.store(), c.Now()
	take(L, 10, 2*len(key))
	s.mu.Lock()
	kept, found := s.get(key, now)
	s.mu.Unlock()
	v := L.Get(2)
	text, set := c.LookupEnv(string(name))
	switch {
	case set: // whatever is kept: a script's key may be a user's name, and that env:NAME
		v = lua.LString(text)
	case found:
		pushCopy(L, kept.value)
		return 1
	}
	switch v.(type) {
	case lua.LString, lua.LNumber, lua.LBool, *lua.LTable:
		if found && kept.value == v {
			break
		}
		e := entry(L, key, v)
		s.mu.Lock()
		s.set(strings.Clone(key), e, now)
		s.mu.Unlock()
	}
	L.Push(v)
	return 1
}

const envPrefix = "env:"

// ForgetEnv forgets what getenv keeps: another configuration may name other
// variables.
func (s *Store) ForgetEnv() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.entries {
		if strings.HasPrefix(key, envPrefix) {
			s.remove(key)
		}
	}
}

func utilRedisKey(L *lua.LState) int {
	var key string
	switch v := L.Get(2).(type) {
	case lua.LString:
		key = string(v)
	case lua.LNumber:
		key = number(v)
	default:
		argError(L, 2, "get_redis_key", "string")
	}
	if t, ok := L.Get(1).(*lua.LTable); ok {
		if prefix, ok := L.GetField(t, "redis_prefix").(lua.LString); ok {
			take(L, (len(prefix)+len(key))/64, len(prefix)+len(key))
			key = string(prefix) + key
		}
	}
	L.Push(lua.LString(key))
	return 1
}

// aTable is the table that is the first argument, whole.
func aTable(L *lua.LState, function string) *lua.LTable {
	t, ok := L.Get(1).(*lua.LTable)
	if !ok {
		argError(L, 1, function, "table")
	}
	CallOf(L).Fill(L, t)
	return t
}

func utilExists(L *lua.LState) int {
	t, x, found := aTable(L, "exists_in_table"), L.Get(2), false
	text, isText := x.(lua.LString)
	each(L, t, func(_, v lua.LValue) {
		if s, ok := v.(lua.LString); ok && isText && len(s) == len(text) {
			take(L, len(s)/64, 0) // equally long ones are compared byte by byte
		}
		found = found || v == x
	})
	L.Push(lua.LBool(found))
	return 1
}

func utilLength(L *lua.LState) int {
	n := 0
	each(L, aTable(L, "table_length"), func(_, _ lua.LValue) { n++ })
	L.Push(lua.LNumber(n))
	return 1
}

func isKind(kind lua.LValueType) lua.LGFunction {
	return func(L *lua.LState) int {
		L.Push(lua.LBool(L.Get(1).Type() == kind))
		return 1
	}
}

// maxRandom is the longest text of generate_random_string, in bytes.
const maxRandom = 4096

func utilRandomString(L *lua.LState) int {
	n, ok := L.Get(1).(lua.LNumber)
	if !ok {
		argError(L, 1, "generate_random_string", "number")
	}
	if f := float64(n); math.IsNaN(f) || f > maxRandom {
		L.RaiseError("bad argument #1 to generate_random_string: %s bytes, at most %d", number(n), maxRandom)
	}
	length := max(int(n), 0)
	take(L, length, 2*length)
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, length)
	var random [64]byte
	for len(out) < length {
		_, _ = rand.Read(random[:]) // never fails: crypto/rand
		for _, b := range random {
			// Of 256 values 248 are four times 62: the others would make the first
			// letters likelier.
			if int(b) < 4*len(letters) && len(out) < length {
				out = append(out, letters[int(b)%len(letters)])
			}
		}
	}
	L.Push(lua.LString(out))
	return 1
}

func utilToBoolean(L *lua.LState) int {
	v := L.Get(1)
	if v == lua.LNil {
		argError(L, 1, "toboolean", "string")
	}
	var text string
	switch v := v.(type) {
	case lua.LString:
		text = string(v[:min(len(v), len("false")+1)])
	case lua.LNumber:
		text = number(v)
	case lua.LBool:
		text = v.String()
	default:
		text = "true"
	}
	switch strings.ToLower(text) {
	case "", "0", "false":
		L.Push(lua.LFalse)
	default:
		L.Push(lua.LTrue)
	}
	return 1
}

// utilRaise raises the error as it is, without a position.
func utilRaise(L *lua.LState) int {
	switch v := L.Get(1); v {
	case lua.LNil, lua.LFalse, lua.LString(redisNil), lua.LString("OK"):
	default:
		L.Error(v, 0)
	}
	return 0
}

// redisNil is the error text of nauthilus_redis for what is not there.
const redisNil = "redis: nil"

func utilTimestamp(L *lua.LState) int {
	take(L, 20, 64)
	L.Push(lua.LString(timestamp(CallOf(L))))
	return 1
}

// timestamp is the time in the zone that TZ names, else in UTC.
func timestamp(c *Call) string {
	zone := time.UTC
	if os.Getenv("TZ") != "" {
		zone = time.Local
	}
	return c.Now().In(zone).Format("2006-01-02T15:04:05 -07:00")
}

// unroutable are the networks that is_routable_ip says no to.
var unroutable = func() (list []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"fc00::/7", "fe80::/10", "::/128", "::1/128",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

func utilRoutable(L *lua.LState) int {
	routable := false
	if s, ok := L.Get(1).(lua.LString); ok && len(s) <= maxAddress {
		take(L, 20, 0)
		if a, err := netip.ParseAddr(string(s)); err == nil {
			a = a.Unmap().WithZone("")
			routable = !slices.ContainsFunc(unroutable, func(p netip.Prefix) bool { return p.Contains(a) })
		}
	}
	L.Push(lua.LBool(routable))
	return 1
}

// maxAddress is longer than any address, with a zone, in bytes.
const maxAddress = 64
