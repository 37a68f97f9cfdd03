package policytest

import (
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// An expectation is what expect returns; its methods are in expectations.
type expectation struct{ value lua.LValue }

const expectationType = "usher_expectation"

// A check compares what came with the arguments, and says what is wrong, or "".
type check func(s *suite, got lua.LValue, args []lua.LValue) string

// expectations are the methods, and how many arguments they take.
var expectations = map[string]struct {
	least, most int
	check       check
}{
	"to_be":          {1, 1, toBe},
	"not_to_be":      {1, 1, notToBe},
	"to_match":       {1, 1, toMatch},
	"to_contain":     {1, 1, toContain},
	"not_to_contain": {1, 1, notToContain},
	"to_be_one_of":   {1, 1, toBeOneOf},
	"to_raise":       {0, 1, toRaise},
	"to_route_to":    {1, 2, toRouteTo},
	"to_be_held":     {0, 1, toBeHeld},
	"to_be_denied":   {0, 1, toBeDenied},
	"to_tempfail":    {0, 1, toTempfail},
}

func toBe(_ *suite, got lua.LValue, args []lua.LValue) string {
	if equal(args[0], got, 0) {
		return ""
	}
	return differences(args[0], got)
}

func notToBe(_ *suite, got lua.LValue, args []lua.LValue) string {
	if !equal(args[0], got, 0) {
		return ""
	}
	return "expected anything but " + show(args[0])
}

func toMatch(s *suite, got lua.LValue, args []lua.LValue) string {
	text, isText := got.(lua.LString)
	pattern, ok := args[0].(lua.LString)
	if !ok {
		s.L.RaiseError("to_match: expected a Lua pattern, got a %s", args[0].Type())
	}
	if isText && s.find(text, pattern) {
		return ""
	}
	return fmt.Sprintf("expected a text that matches %s\n     got %s", show(pattern), show(got))
}

// contains reports whether a text has a text in it, or a list a value.
func contains(s *suite, got, want lua.LValue) bool {
	switch v := got.(type) {
	case lua.LString:
		text, ok := want.(lua.LString)
		return ok && strings.Contains(string(v), string(text))
	case *lua.LTable:
		found := false
		v.ForEach(func(_, e lua.LValue) { found = found || equal(want, e, 0) })
		return found
	}
	s.L.RaiseError("to_contain: expected a text or a table to look in, got a %s", got.Type())
	return false
}

func toContain(s *suite, got lua.LValue, args []lua.LValue) string {
	if contains(s, got, args[0]) {
		return ""
	}
	return fmt.Sprintf("expected something with %s in it\n     got %s", show(args[0]), show(got))
}

func notToContain(s *suite, got lua.LValue, args []lua.LValue) string {
	if !contains(s, got, args[0]) {
		return ""
	}
	return fmt.Sprintf("expected nothing with %s in it\n     got %s", show(args[0]), show(got))
}

func toBeOneOf(s *suite, got lua.LValue, args []lua.LValue) string {
	list, ok := args[0].(*lua.LTable)
	if !ok {
		s.L.RaiseError("to_be_one_of: expected a list, got a %s", args[0].Type())
	}
	if contains(s, list, got) {
		return ""
	}
	return fmt.Sprintf("expected one of %s\n     got %s", show(list), show(got))
}

func toRaise(s *suite, got lua.LValue, args []lua.LValue) string {
	f, ok := got.(*lua.LFunction)
	if !ok {
		s.L.RaiseError("to_raise: expected a function, got a %s; write expect(function() … end):to_raise()", got.Type())
	}
	err := s.L.CallByParam(lua.P{Fn: f, NRet: 0, Protect: true})
	if err == nil {
		return "expected an error, and there was none"
	}
	text := errorText(err)
	if len(args) == 0 || strings.Contains(text, args[0].String()) || s.find(lua.LString(text), lua.LString(args[0].String())) {
		return ""
	}
	return fmt.Sprintf("expected an error that matches %s\n     got %s", show(args[0]), show(lua.LString(text)))
}

// decided is the decision that an expectation is about.
func decided(s *suite, got lua.LValue) *decision {
	t, ok := got.(*lua.LTable)
	d := s.decisions[t]
	if !ok || d == nil {
		s.L.RaiseError("expected what login, lookup or nginx returned, got %s", show(got))
	}
	return d
}

func notAs(want string, d *decision) string { return "expected " + want + "\n     got " + d.String() }

func toRouteTo(s *suite, got lua.LValue, args []lua.LValue) string {
	d, host := decided(s, got), args[0].String()
	port, want := d.Port, host
	if len(args) > 1 {
		n, ok := args[1].(lua.LNumber)
		if !ok {
			s.L.RaiseError("to_route_to: expected a port, got a %s", args[1].Type())
		}
		port, want = int(n), proxy.HostPort(host, int(n))
	}
	if d.Outcome == proxy.Routed && proxy.CanonicalHost(d.Host) == proxy.CanonicalHost(host) && d.Port == port {
		return ""
	}
	return notAs("routed to "+want, d)
}

func toBeHeld(s *suite, got lua.LValue, args []lua.LValue) string {
	d, want := decided(s, got), "held"
	good := d.Outcome == proxy.Held
	if len(args) > 0 {
		n, ok := args[0].(lua.LNumber)
		if !ok {
			s.L.RaiseError("to_be_held: expected seconds, got a %s", args[0].Type())
		}
		want, good = fmt.Sprintf("held for %s s", n), good && d.Wait == seconds(n)
	}
	if good {
		return ""
	}
	return notAs(want, d)
}

func toBeDenied(s *suite, got lua.LValue, args []lua.LValue) string {
	d, want := decided(s, got), "denied"
	good := d.Outcome == proxy.Denied
	if len(args) > 0 {
		want, good = "denied with the text "+show(args[0]), good && d.Text == args[0].String()
	}
	if good {
		return ""
	}
	return notAs(want, d)
}

func toTempfail(s *suite, got lua.LValue, args []lua.LValue) string {
	d, want := decided(s, got), "tempfail"
	good := d.Outcome == proxy.TempFail
	if len(args) > 0 {
		want, good = "tempfail ("+args[0].String()+")", good && string(d.Reason) == args[0].String()
	}
	if good {
		return ""
	}
	return notAs(want, d)
}
