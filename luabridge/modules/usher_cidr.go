package modules

import (
	"net/netip"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

// usherCIDR(set, ip) reports whether an address is in a set of networks.
func usherCIDR(L *lua.LState) int {
	text, ok := L.Get(2).(lua.LString)
	if !ok {
		argError(L, 2, "cidr", "string")
	}
	const longest = 64 // of an address, with a zone
	var addr netip.Addr
	if len(text) <= longest {
		bare, _, _ := strings.Cut(string(text), "%")
		addr, _ = netip.ParseAddr(bare) // what is none is in no network
		addr = addr.Unmap()
	}
	in := lua.LString("")
	switch set := L.Get(1).(type) {
	case lua.LString:
		if within(L, set, addr) {
			in = set
		}
	case *lua.LTable:
		length := budget.Of(L).Len(L, set)
		for i := 1; i <= length; i++ {
			network, ok := set.RawGetInt(i).(lua.LString)
			if !ok {
				L.RaiseError("bad argument #1 to cidr (list of strings expected, its element %d is a %s)", i, set.RawGetInt(i).Type())
			}
			if within(L, network, addr) {
				in = network
				break
			}
		}
	default:
		argError(L, 1, "cidr", "string or list of strings")
	}
	if c := CallOf(L); c.tracing() {
		where := "is in none of the networks"
		if in != "" {
			where = "is in " + string(in)
		}
		c.trace("cidr: %s %s", c.Shown(string(text), longest), where)
	}
	L.Push(lua.LBool(in != ""))
	return 1
}

// within reports whether addr, which may be none, is in a network or is the
// address that is given for it. It raises an error for what is neither.
func within(L *lua.LState, network lua.LString, addr netip.Addr) bool {
	take(L, 10, 0)
	p, ok := networkOf(string(network))
	if !ok {
		L.RaiseError("bad argument #1 to cidr: %q is no network and no address; expected 192.0.2.0/24 or the like", CallOf(L).Shown(string(network), 64))
	}
	return addr.IsValid() && p.Contains(addr)
}

func networkOf(s string) (netip.Prefix, bool) {
	if len(s) > 64 {
		return netip.Prefix{}, false
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.WithZone("").Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, false
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, true
}
