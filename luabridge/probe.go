package luabridge

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	lua "github.com/yuin/gopher-lua"

	"usher/luabridge/modules"
	"usher/proxy"
)

// The probe request: a login that could be, of a user who is not.
const (
	probeUser     = "usher-probe@example.org"
	probePassword = "usher-probe"
)

// A probe is how a script is tried.
type probe struct {
	entry         string
	chunkOnly     bool // the function is not run, only looked for
	noAuth        bool
	authenticated bool
}

// probe runs a script's chunk, so that a module that is missing stops the start
// and not the first login, looks for the entry function, and runs it with the
// probe request. Nothing is logged, recorded or sent meanwhile. raised is what
// the entry function raised, unless it wanted to reach the network: what it does
// without says little.
func (d *Director) probe(u *unit, p probe) (raised, err error) {
	for {
		raised, loading, err := d.tryProbe(u, p)
		if loading == nil {
			return raised, err
		}
		<-loading // a start waits for its maps, however long they are
	}
}

// tryProbe is one try. With loading it is void: a map was not read in time.
func (d *Director) tryProbe(u *unit, p probe) (raised error, loading <-chan struct{}, err error) {
	s := newState(d)
	defer s.L.Close()
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.Limits.Time)
	defer cancel()
	now := time.Now()
	s.budget.Start(ctx, d.opt.Limits, now)
	q := d.probeQuery(p)
	call := func() *modules.Call {
		return &modules.Call{
			Deps: d.opt.Deps, Query: q, Script: u.name, ShowPassword: u.showPassword, Quiet: true,
			Ctx: ctx, Began: now, End: s.budget.End(), Context: &s.notes.context,
		}
	}
	c := call()
	if _, err := s.run(u.script, c, ""); err != nil {
		return nil, c.Loading, err
	}
	if _, ok := c.Env.RawGetString(p.entry).(*lua.LFunction); !ok {
		return nil, nil, fmt.Errorf("%s: defines no function %s", u.path, p.entry)
	}
	if p.chunkOnly {
		return nil, nil, nil
	}
	c = call()
	if _, err := s.run(u.script, c, p.entry); err != nil && !c.Offline {
		if c.Loading != nil {
			return nil, c.Loading, nil
		}
		return fmt.Errorf("policy %s: %w (asked with a probe request, %s for %s)", u.name, err, q.Request.Protocol, probeUser), nil, nil
	}
	return nil, nil, nil
}

// probeQuery is a request for a protocol that there are backends of.
func (d *Director) probeQuery(p probe) *proxy.Query {
	view, protocol := d.opt.Probe, "imap"
	if view == nil {
		view = proxy.NewView(nil)
	}
	for i := range view.Entries {
		if i == 0 {
			protocol = view.Entries[i].Protocol
		}
		if view.Entries[i].Protocol == "imap" {
			protocol = "imap"
		}
	}
	r := &proxy.Request{
		Adapter: "dovecot", Service: protocol, Protocol: protocol, Method: "plain", Session: "probe",
		User: probeUser, Password: proxy.NewSecret(probePassword), NoAuth: p.noAuth,
		Client: netip.MustParseAddrPort("192.0.2.1:49152"), Local: netip.MustParseAddrPort("198.51.100.1:143"),
	}
	q := &proxy.Query{
		Request: r, User: probeUser, ID: "probe", View: view, DryRun: true,
		Authenticated: p.authenticated,
	}
	q.Key.Name = probeUser
	return q
}
