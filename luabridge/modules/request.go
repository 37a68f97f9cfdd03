package modules

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
)

const emptyText = lua.LString("")

// requestFields make the fields of `request`, of Nauthilus 1.12's types: an
// unknown text is "", never nil; ports are texts.
var requestFields = map[string]func(*Call) lua.LValue{
	"username":          func(c *Call) lua.LValue { return lua.LString(c.Query.Request.User) },
	"password":          password,
	"account":           account,
	"protocol":          func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Protocol) },
	"service":           func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Adapter) },
	"method":            func(c *Call) lua.LValue { return lua.LString(c.Query.Request.Method) },
	"session":           func(c *Call) lua.LValue { return lua.LString(c.Query.ID) },
	"client_ip":         func(c *Call) lua.LValue { return addrText(c.Query.Request.Client) },
	"client_port":       func(c *Call) lua.LValue { return portText(c.Query.Request.Client) },
	"client_hostname":   clientHost,
	"client_host":       clientHost,
	"client_id":         func(c *Call) lua.LValue { return lua.LString(c.Query.Request.ClientID) },
	"local_ip":          func(c *Call) lua.LValue { return addrText(c.Query.Request.Local) },
	"local_port":        func(c *Call) lua.LValue { return portText(c.Query.Request.Local) },
	"authenticated":     func(c *Call) lua.LValue { return lua.LBool(c.Query.Authenticated) },
	"user_found":        func(c *Call) lua.LValue { return lua.LBool(c.Query.Authenticated) },
	"no_auth":           func(c *Call) lua.LValue { return lua.LBool(c.Query.Request.NoAuth) },
	"debug":             func(c *Call) lua.LValue { return lua.LBool(c.Debug) },
	"repeating":         func(*Call) lua.LValue { return lua.LFalse },
	"http_status":       httpStatus,
	"ssl":               func(c *Call) lua.LValue { return onOff(c.Query.Request.TLS.Secured) },
	"ssl_protocol":      func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.Protocol) },
	"ssl_cipher":        func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.Cipher) },
	"ssl_client_verify": func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientVerify) },
	"ssl_client_dn":     func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientDN) },
	"ssl_client_cn":     func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientCN) },
	"ssl_issuer":        func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientIssuer) },
	"ssl_serial":        func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientSerial) },
	"ssl_fingerprint":   func(c *Call) lua.LValue { return lua.LString(c.Query.Request.TLS.ClientFingerprint) },
	"redis_prefix":      func(c *Call) lua.LValue { return lua.LString(c.RedisPrefix) },
	"log_format":        logFormat,
	"log_level":         func(c *Call) lua.LValue { return lua.LString(c.LogLevel) },
	"logging":           logging,

	"brute_force_counter": func(*Call) lua.LValue { return lua.LNumber(0) },
	"latency":             func(c *Call) lua.LValue { return lua.LNumber(time.Since(c.Began).Milliseconds()) },

	// What only Nauthilus knows.
	"account_field": empty, "unique_user_id": empty, "display_name": empty,
	"user_agent": empty, "client_net": empty, "brute_force_bucket": empty,
	"feature": empty, "oidc_cid": empty, "status_message": empty,
	"ssl_session_id": empty, "ssl_client_not_before": empty, "ssl_client_not_after": empty,
	"ssl_subject_dn": empty, "ssl_issuer_dn": empty,
	"ssl_client_subject_dn": empty, "ssl_client_issuer_dn": empty,
}

func empty(*Call) lua.LValue { return emptyText }

// password is shown only to filters whose configuration says needs_password.
func password(c *Call) lua.LValue {
	if !c.ShowPassword {
		return emptyText
	}
	return lua.LString(c.Query.Request.Password.Reveal())
}

// account is never empty: scripts make keys of it, and all users would share
// one.
func account(c *Call) lua.LValue {
	return lua.LString(cmp.Or(c.Query.User, c.Query.Request.User))
}

func clientHost(c *Call) lua.LValue { return lua.LString(c.Query.Request.ClientHost) }

func httpStatus(c *Call) lua.LValue {
	if c.Query.Authenticated {
		return lua.LNumber(200)
	}
	return lua.LNumber(403)
}

func onOff(on bool) lua.LValue {
	if on {
		return lua.LString("on")
	}
	return emptyText
}

func addrText(a netip.AddrPort) lua.LValue {
	if !a.Addr().IsValid() {
		return emptyText
	}
	return lua.LString(a.Addr().String())
}

func portText(a netip.AddrPort) lua.LValue {
	if a.Port() == 0 {
		return emptyText
	}
	return lua.LString(strconv.Itoa(int(a.Port())))
}

func logFormat(c *Call) lua.LValue {
	if c.LogFormat == "json" {
		return lua.LString("json")
	}
	return lua.LString("default")
}

// logging is a table, the same whenever it is asked for.
func logging(c *Call) lua.LValue {
	if c.logging == nil {
		c.logging = &lua.LTable{Metatable: lua.LNil}
		c.logging.RawSetString("log_format", logFormat(c))
		c.logging.RawSetString("log_level", lua.LString(c.LogLevel))
	}
	return c.logging
}

// RequestFields are the names of the fields.
func RequestFields() []string { return slices.Sorted(maps.Keys(requestFields)) }

// NewRequestMeta makes the metatable of request tables: a field is made when it
// is asked for, since a policy reads few of the fifty, each once or twice. A
// script that writes gets them all first.
func NewRequestMeta(L *lua.LState) *lua.LTable {
	mt := Sealed(L, L.NewFunction(func(L *lua.LState) int {
		v := lua.LNil
		if key, ok := L.Get(2).(lua.LString); ok {
			if field := requestFields[string(key)]; field != nil {
				v = field(CallOf(L))
			}
		}
		L.Push(v)
		return 1
	}))
	mt.RawSetString("__newindex", L.NewFunction(func(L *lua.LState) int {
		t := L.CheckTable(1)
		CallOf(L).Fill(L, t)
		budget.Of(L).Store(L, t, -1)
		L.RawSet(t, L.Get(2), L.Get(3))
		return 0
	}))
	return mt
}

// filledBytes is what the fifty fields take.
const filledBytes = 16 << 10

// Fill makes all fields of t, if it is the request's table, and takes the
// metatable off: from here on it is a plain table, for those who walk it,
// compare it, write into it or give it a metatable of their own.
func (c *Call) Fill(L *lua.LState, t *lua.LTable) {
	if t != c.Request || c.filled {
		return
	}
	budget.Of(L).Alloc(L, filledBytes)
	budget.Of(L).Work(L, len(requestFields))
	c.filled = true
	t.Metatable = lua.LNil
	for name, field := range requestFields {
		t.RawSetString(name, field(c))
	}
}
