package luabridge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/budget"
	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/passdb"
)

// A Passdb is the password driver `lua`: a script with Nauthilus 1.12's
// nauthilus_backend_verify_password, and, to list users,
// nauthilus_backend_list_accounts. It implements passdb.Driver and
// passdb.Directory. It works on the Director's states.
type Passdb struct {
	d             *Director
	unit          unit
	lists         bool // the script has nauthilus_backend_list_accounts
	allowIdentity bool
}

// Listing all users may take this many times a request's steps and memory, and
// listTime.
const (
	listSteps  = 100
	listMemory = 16
	listTime   = 30 * time.Second
)

// NewPassdb compiles a password driver's script and tries it as New does.
// allowIdentity is director.allow_identity.
func (d *Director) NewPassdb(script Script, allowIdentity bool) (p *Passdb, raised, err error) {
	u, err := d.newUnit(script, "passdb:lua")
	if err != nil {
		return nil, nil, err
	}
	u.showPassword = true
	raised, err = d.probe(&u, probe{entry: entryPassword})
	if err != nil {
		return nil, nil, err
	}
	return &Passdb{d: d, unit: u, lists: slices.Contains(u.texts, entryAccounts), allowIdentity: allowIdentity}, raised, nil
}

// Name implements passdb.Driver.
func (p *Passdb) Name() string { return "lua" }

// Verifies implements passdb.Driver.
func (p *Passdb) Verifies() bool { return true }

// noBackends is what a password driver sees of them.
var noBackends = proxy.NewView(nil)

// Lookup implements passdb.Driver: the script's answer. What can't be right
// (another result than BACKEND_RESULT_OK, nothing, an account without a name) is
// a temporary failure.
func (p *Passdb) Lookup(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	switch r.Method {
	case "apop", "cram-md5", "external", "digest-md5":
		return proxy.Identity{}, fmt.Errorf("method %s shows no password that a script could compare", r.Method)
	}
	a, err := p.ask(ctx, r)
	switch {
	case err != nil:
		return proxy.Identity{}, err
	case !a.Found:
		return proxy.Identity{}, passdb.ErrUnknownUser
	case a.Account == "" || !a.Authenticated:
		return proxy.Identity{}, &proxy.Denial{By: p.unit.by, Reason: proxy.BadPassword, Text: a.Text}
	}
	return proxy.Identity{User: a.Account, Driver: p.Name(), Verified: true, Fields: p.fields(a)}, nil
}

// Find implements passdb.Directory: the script is asked with request.no_auth.
func (p *Passdb) Find(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	a, err := p.find(ctx, r)
	if err != nil {
		return proxy.Identity{}, err
	}
	return proxy.Identity{User: a.Account, Driver: p.Name(), Fields: p.fields(a)}, nil
}

// User implements passdb.Directory: all attributes.
func (p *Passdb) User(ctx context.Context, r *proxy.Request) ([]proxy.Attr, error) {
	a, err := p.find(ctx, r)
	if err != nil {
		return nil, err
	}
	return append([]proxy.Attr{{Name: "user", Value: a.Account}}, p.fields(a)...), nil
}

func (p *Passdb) find(ctx context.Context, r *proxy.Request) (modules.Account, error) {
	asked := *r
	asked.NoAuth, asked.Password = true, proxy.Secret{}
	a, err := p.ask(ctx, &asked)
	if err == nil && (a.Account == "" || !a.Found) {
		err = passdb.ErrUnknownUser
	}
	return a, err
}

// fields are the attributes that may be sent to Dovecot: those that have one
// value, and that are not usher's own.
func (p *Passdb) fields(a modules.Account) []proxy.Attr {
	return slices.DeleteFunc(a.Attributes, func(f proxy.Attr) bool {
		return !proxy.MaySet(f.Name, p.allowIdentity) || f.Name == a.Field
	})
}

func (p *Passdb) ask(ctx context.Context, r *proxy.Request) (a modules.Account, err error) {
	q := &proxy.Query{Request: r, User: r.User, ID: r.ID, View: noBackends}
	var later error // what the script said besides its result, as an error
	err = p.d.within(ctx, p.d.opt.Limits, q, func(s *state) error {
		said, results, err := s.ask(ctx, &p.unit, q, &proxy.Verdict{Logs: s.notes.logs}, entryPassword)
		if err != nil {
			return err
		}
		s.notes.logs = said.Logs
		if s.notes.text == "" {
			s.notes.text = said.Text
		}
		switch {
		case said.Refused:
			later = &proxy.Denial{By: p.unit.by, Reason: proxy.PolicyRefused, Text: s.notes.text}
			return nil
		case said.TempFail:
			later = fmt.Errorf("%s: %s", p.unit.name, cmp.Or(said.TempFailText, "says to try later"))
			return nil
		case said.Hold > 0:
			return fmt.Errorf("%s: usher.hold is for features and filters, a password driver cannot hold a login", p.unit.name)
		}
		if n, ok := results[0].(lua.LNumber); !ok || n != 0 {
			return fmt.Errorf("%s: %s returned %s; expected nauthilus_builtin.BACKEND_RESULT_OK (0)", p.unit.name, entryPassword, s.call.Shown(results[0].String(), 64))
		}
		if a, err = modules.AccountOf(results[1]); err != nil {
			return fmt.Errorf("%s: %s: %w", p.unit.name, entryPassword, err)
		}
		a.Text = s.notes.text
		return nil
	})
	return a, cmp.Or(err, later)
}

// List implements passdb.Directory.
func (p *Passdb) List(ctx context.Context, mask string, yield func(user string) bool) error {
	if !p.lists {
		return fmt.Errorf("%s has no function %s: %w", p.unit.name, entryAccounts, proxy.ErrNotServed)
	}
	var users []string
	limits := budget.Limits{
		Time: max(listTime, p.d.opt.Limits.Time), Steps: listSteps * p.d.opt.Limits.Steps, Memory: listMemory * p.d.opt.Limits.Memory,
	}
	q := &proxy.Query{Request: &proxy.Request{}, ID: "list", View: noBackends}
	err := p.d.within(ctx, limits, q, func(s *state) error {
		_, results, err := s.ask(ctx, &p.unit, q, &proxy.Verdict{}, entryAccounts)
		if err != nil {
			return err
		}
		list, ok := results[1].(*lua.LTable)
		if n, zero := results[0].(lua.LNumber); !zero || n != 0 || !ok {
			return fmt.Errorf("%s: %s returned %s, a %s; expected nauthilus_builtin.BACKEND_RESULT_OK (0), a table", p.unit.name, entryAccounts,
				s.call.Shown(results[0].String(), 64), results[1].Type())
		}
		for i := 1; i <= list.Len(); i++ {
			user := lua.LVAsString(list.RawGetInt(i)) // or a number: there are such names
			if proxy.ValidUser(user) != nil {
				return fmt.Errorf("%s: %s: element %d is no user name", p.unit.name, entryAccounts, i)
			}
			users = append(users, strings.Clone(user))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, user := range users {
		if (mask == "" || proxy.FitsMask(mask, user)) && !yield(user) {
			return nil
		}
	}
	return nil
}
