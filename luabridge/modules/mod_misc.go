package modules

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// miscModule is nauthilus_misc.
var miscModule = Module{
	Name: "nauthilus_misc", Global: true,
	Doc: "Odds and ends of Nauthilus.",
	Funcs: []Func{
		{Name: "get_country_name", Do: countryName,
			Sig:     `(code: string) -> name: string`,
			Doc:     "The English name of a country by its two letters (ISO 3166-1), or `Unknown`.",
			Example: "local misc = require(\"nauthilus_misc\")\nprint(misc.get_country_name(\"AT\")) --> Austria"},
		{Name: "wait_random", Do: waitRandom,
			Sig:     `(min: number, max: number) -> waited: integer?, err: string?`,
			Doc:     "Waits a random time of min to less than max milliseconds, which it returns; nil and a text where max is not the greater. The wait ends with the request's time: then it raises an error.",
			Example: "local misc = require(\"nauthilus_misc\")\nprint(misc.wait_random(1, 2)) --> 1"},
		{Name: "scoped_ip", Do: scopedIP,
			Sig:     `(context: string, ip: string) -> ip: string`,
			Forms:   []string{`(ip: string) -> ip: string`},
			Doc:     "The address as it is normally written: usher has no networks by which Nauthilus would group addresses. What is no address comes back as it is.",
			Example: "local misc = require(\"nauthilus_misc\")\nprint(misc.scoped_ip(\"2001:DB8:0::1\")) --> 2001:db8::1"},
	},
}

func countryName(L *lua.LState) int {
	code, ok := L.Get(1).(lua.LString)
	if !ok {
		argError(L, 1, "get_country_name", "string")
	}
	name := "Unknown"
	if len(code) == 2 {
		if known := countries[strings.ToUpper(string(code))]; known != "" {
			name = known
		}
	}
	L.Push(lua.LString(name))
	return 1
}

func waitRandom(L *lua.LState) int {
	var ms [2]float64
	for i := range ms {
		n, ok := numberOf(L.Get(i + 1))
		if !ok {
			argError(L, i+1, "wait_random", "number of milliseconds")
		}
		ms[i] = math.Trunc(float64(n))
	}
	if !(ms[0] >= 0 && ms[0] < ms[1] && ms[1] <= math.MaxInt32) {
		L.Push(lua.LNil)
		L.Push(lua.LString("invalid wait range"))
		return 2
	}
	wait := int64(ms[0]) + rand.Int64N(int64(ms[1])-int64(ms[0]))
	CallOf(L).sleep(L, time.Duration(wait)*time.Millisecond)
	L.Push(lua.LNumber(wait))
	return 1
}

// sleep waits, unless this is a dry run, but no longer than the request's time:
// then it raises an error.
func (c *Call) sleep(L *lua.LState, d time.Duration) {
	take(L, 100, 0)
	if d <= 0 || c.Query.DryRun {
		return
	}
	wait := d
	if left := time.Until(c.End); left < wait {
		wait = left
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		if wait == d {
			return
		}
	case <-c.Ctx.Done():
	}
	b := budget.Of(L)
	b.Exceed(budget.ErrDeadline) // a script that catches the error gets no further
	L.RaiseError("%s while the script slept for %s", b.Fault(), d)
}

func scopedIP(L *lua.LState) int {
	ip, ok := L.Get(L.GetTop()).(lua.LString)
	if !ok || L.GetTop() > 2 {
		argError(L, max(L.GetTop(), 1), "scoped_ip", "string")
	}
	if len(ip) <= maxAddress {
		if a, err := netip.ParseAddr(string(ip)); err == nil {
			ip = lua.LString(a.Unmap().String())
		}
	}
	L.Push(ip)
	return 1
}
