package modules

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"usher/proxy"
)

// An Account is what a password driver's script found.
type Account struct {
	Account       string // final user name; "": none
	Found         bool   // the user is known
	Authenticated bool
	Field         string // the attribute that named the account
	Attributes    []proxy.Attr
	Text          string // status_message_set
}

// AccountOf reads the nauthilus_backend_result that a password driver's script
// returned: the account is the attribute that account_field names. Attributes
// with several values, and those whose names or values no answer can carry, are
// left out.
func AccountOf(v lua.LValue) (Account, error) {
	ud, ok := v.(*lua.LUserData)
	var res *backendResult
	if ok {
		res, ok = ud.Value.(*backendResult)
	}
	if !ok {
		return Account{}, fmt.Errorf("its second result is a %s; expected a nauthilus_backend_result", v.Type())
	}
	a := Account{Authenticated: res.flags[0], Found: res.flags[1], Field: strings.Clone(res.texts[0])}
	for _, at := range res.attributes {
		ch := changeOf(at)
		if at.name == a.Field && a.Field != "" {
			if t, list := at.value.(*lua.LTable); list && t.Len() == 1 {
				ch = changeOf(attribute{at.name, t.RawGetInt(1)})
			}
			a.Account = strings.Clone(ch.Value)
		}
		if ch.Remove || ch.List || !proxy.ValidAttr(ch.Attr) {
			continue
		}
		a.Attributes = append(a.Attributes, proxy.Attr{Name: strings.Clone(ch.Name), Value: strings.Clone(ch.Value), Bare: ch.Bare})
	}
	if a.Authenticated && a.Field != "" && a.Account == "" {
		return Account{}, errors.New("the attribute that account_field names is missing or has several values")
	}
	return a, nil
}
