package proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"usher/proxy/affinity"
)

// lookupTimeout bounds the resolving of a host name that nobody knew before.
const lookupTimeout = 5 * time.Second

// A place is where a request shall go, before and after it was checked.
type place struct {
	host   string
	port   int // 0: the inventory's, else the upstream's
	by     string
	reason Reason

	record bool // claim it as the user's assignment

	entry *Entry
	addr  netip.Addr
}

// route places, checks and claims.
func (n *run) route(ctx context.Context, v *Verdict) Decision {
	pl, d, ok := n.place(ctx, v)
	if !ok {
		return d
	}
	if why, err := n.check(ctx, &pl); err != nil {
		return n.bad(&pl, why, err)
	}
	if n.claims() && pl.record && n.keepsMail(pl.host) && !n.dry {
		host := CanonicalHost(pl.host)
		winner, err := n.opt.Assignments.Claim(ctx, n.q.Key, n.seen, host)
		if err != nil {
			return n.tempfail(StoreUnavailable, err)
		}
		if v.Key != "" && n.opt.Keys != nil {
			n.opt.Keys.Learn(affinity.OrderName(n.sessionName(), n.opt.MasterSeparator), n.q.Key)
		}
		if n.q.User != n.q.Key.Name {
			if err := n.opt.Assignments.Remember(ctx, n.q.Key, n.q.User); err != nil {
				return n.tempfail(StoreUnavailable, err)
			}
		}
		if winner != host {
			port := pl.port
			n.q.Assigned = winner
			if pl, d, ok = n.standing(winner, "assignment", Race); !ok {
				return d
			}
			if n.q.View.Host(winner) == nil {
				pl.port = port // of the inventory there is none
			}
			if why, err := n.check(ctx, &pl); err != nil {
				return n.bad(&pl, why, err)
			}
		}
		// Who was pinned since is asked again; whoever pinned him sees the claim.
		if n.opt.Orders != nil {
			if pin, err := n.opt.Orders.Pin(ctx, n.q.User); err != nil || pin != n.pin {
				return n.wait(ByOperator)
			}
		}
	}
	self := n.isSelf(&pl)
	if self && !n.localLogins() {
		return n.bad(&pl, BadSelection, fmt.Errorf("the backend %s is this very proxy: the login would come back", HostPort(pl.host, pl.port)))
	}
	d = Decision{
		Outcome: Routed, By: pl.by, Reason: pl.reason,
		Host: pl.host, Port: pl.port, Addr: pl.addr, Entry: pl.entry,
	}
	if self {
		d.Outcome, d.By, d.Reason = Passed, pl.by, IsSelf
	}
	return d
}

// sessionName is what a proxy calls the user of a session that goes on.
func (n *run) sessionName() string {
	if u := n.r.Upstream; u != nil && u.DestUser != "" {
		return u.DestUser
	}
	return n.q.User
}

// keepsMail reports whether an assignment to host can be one. The hosts of a
// user whose machine has no entry for the request's protocol, and hosts that
// have none for imap and pop3 where others have (sieve or lmtp on machines of
// their own), are no home: a login there leaves the assignment as it is.
func (n *run) keepsMail(host string) bool {
	view := n.q.View
	if a := view.Host(n.q.Assigned); a != nil && view.Serves(n.r.Protocol) && !a.usable(n.r.Protocol, n.r.AddressOnly) {
		return false
	}
	h := view.Host(CanonicalHost(host))
	if h == nil || !view.Serves("imap") && !view.Serves("pop3") {
		return true
	}
	return h.Entry("imap") != nil || h.Entry("pop3") != nil
}

// trace tells a step to whom a decision is explained.
func (n *run) trace(format string, args ...any) {
	if n.q.Trace != nil {
		n.q.Trace(fmt.Sprintf(format, args...))
	}
}

func (n *run) bad(pl *place, why Reason, err error) Decision {
	d := n.tempfail(why, err)
	d.By, d.Host, d.Port = pl.by, pl.host, pl.port
	return d
}

// claims reports whether this request may record an assignment: imap, pop3 and
// sieve logins always; lmtp where none lives; all others never.
func (n *run) claims() bool {
	if n.opt.Affinity == AffinityOff {
		return false
	}
	switch n.r.Protocol {
	case "imap", "pop3", "sieve":
		return true
	case "lmtp":
		return n.q.Assigned == ""
	}
	return false
}

// place picks: pin, then enforced assignment, then the policy's selection, then
// the host that an attribute names. With ok false the decision stands.
func (n *run) place(ctx context.Context, v *Verdict) (pl place, d Decision, ok bool) {
	if n.opt.Orders != nil {
		pin, err := n.opt.Orders.Pin(ctx, n.q.User)
		if err != nil {
			return pl, n.tempfail(StoreUnavailable, err), false
		}
		n.pin = pin
		if pin != "" {
			n.trace("pinned to %s, whatever the policy selects", pin)
			pl, d, ok = n.standing(pin, "pin", Pinned)
			// Others who share the key are not pinned.
			pl.record = pl.record && n.opt.KeyScope == affinity.ByUser && v.Key == ""
			return pl, d, ok
		}
	}
	if n.opt.Affinity == AffinityEnforce && n.q.Assigned != "" {
		h := n.q.View.Host(n.q.Assigned)
		if h != nil && !h.Down {
			if n.q.Trace != nil {
				n.trace("affinity.mode enforce: the assignment to %s stands before the selection", n.q.Assigned)
			}
			return n.standing(n.q.Assigned, "assignment", Enforced)
		}
		// Without an inventory nobody knows of hosts that are down. With one, a
		// host that left it is no host any more.
		if h == nil && len(n.q.View.Entries) == 0 {
			pl := n.at(n.q.Assigned, "assignment", Enforced)
			pl.port, pl.record = v.Port, true
			return pl, d, true
		}
	}
	if v.Selected {
		return place{host: v.Host, port: v.Port, by: v.By, reason: v.Reason, record: true}, d, true
	}
	if host := n.attributeHost(v.Changes); host != "" {
		if n.q.Trace != nil {
			n.trace("nothing is selected; an attribute of director.host_attributes says %.80q", host)
		}
		pl := n.at(host, "attribute", ByAttribute)
		pl.record = true
		return pl, d, true
	}
	if len(n.q.Candidates(n.q.Assigned)) == 0 {
		return pl, n.tempfail(NoBackend, n.noneUp()), false
	}
	d = n.tempfail(NoSelection, errors.New("the policy selected no backend"))
	if v.By != "" {
		d.By = v.By
	}
	return pl, d, false
}

// standing is a place that stood before the policy spoke. A host that has no
// entry for the request's protocol (a site with separate SMTP relays) leaves it
// aside: then the hash over those that have one decides, and is not recorded.
func (n *run) standing(host, by string, why Reason) (pl place, d Decision, ok bool) {
	view := n.q.View
	h := view.Host(host)
	if h != nil && view.Serves(n.r.Protocol) && !h.usable(n.r.Protocol, n.r.AddressOnly) {
		e := Rendezvous(n.r.Protocol, n.q.Key.Name, n.q.Candidates(""))
		if e == nil {
			return pl, n.tempfail(NoBackend, n.noneUp()), false
		}
		return place{host: e.Host, port: e.Port, by: by, reason: Hashed}, d, true
	}
	pl = n.at(host, by, why)
	pl.record = true
	return pl, d, true
}

// noneUp says what there is no host for.
func (n *run) noneUp() error {
	switch {
	case n.r.Upstream == nil:
		return fmt.Errorf("no backend for %q is up", n.r.Protocol)
	case n.q.Key.Tag != "":
		return fmt.Errorf("no backend for %q with the tag %.80q (director_tag) is up", n.r.Protocol, n.q.Key.Tag)
	}
	for i := range n.q.View.Entries {
		if n.q.View.Entries[i].Tag() != "" {
			return fmt.Errorf("no backend for %q without tags is up, and the auth server gave no director_tag", n.r.Protocol)
		}
	}
	return fmt.Errorf("no backend for %q is up", n.r.Protocol)
}

// at is the place of a host of which only the canonical name is known.
func (n *run) at(host, by string, why Reason) place {
	if h := n.q.View.Host(CanonicalHost(host)); h != nil {
		host = h.Name
	}
	return place{host: host, by: by, reason: why}
}

// attributeHost is the value of the first attribute that names a host.
func (n *run) attributeHost(changes []Change) string {
	host := ""
	for _, c := range changes {
		if !slices.Contains(n.opt.HostAttributes, c.Name) {
			continue
		}
		if host == "" && !c.Remove && !c.Bare {
			host = c.Value
		}
	}
	return host
}

// check makes sure that a place is valid, known, alive and allowed, and fills
// in its port, entry and address. What can't be right is a temporary failure.
func (n *run) check(ctx context.Context, pl *place) (Reason, error) {
	if !ValidHost(pl.host) {
		return BadSelection, fmt.Errorf("selected host %.80q is no host name and no address", pl.host)
	}
	if pl.port < 0 || pl.port > math.MaxUint16 {
		return BadSelection, fmt.Errorf("selected port %d is outside 1-65535", pl.port)
	}
	if why, err := n.checkListed(pl); err != nil {
		return why, err
	}
	if pl.entry != nil && pl.entry.Addr.IsValid() {
		pl.addr = pl.entry.Addr
	} else {
		lctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		addr, err := n.opt.Names.Lookup(lctx, pl.host)
		cancel()
		if err != nil {
			return Unresolved, err
		}
		pl.addr = addr
	}
	if n.r.AddressOnly && pl.port == 0 {
		return NoBackend, fmt.Errorf("%s has no %q entry, and the proxy needs a port", pl.host, n.r.Protocol)
	}
	return "", nil
}

// checkListed compares a place with the inventory.
func (n *run) checkListed(pl *place) (Reason, error) {
	h := n.q.View.Host(CanonicalHost(pl.host))
	if h == nil {
		if n.opt.DenyUnlisted {
			return UnlistedBackend, fmt.Errorf("%s is not configured, and unlisted_backends is deny", HostPort(pl.host, pl.port))
		}
		return "", nil
	}
	if h.Down {
		return BackendDown, fmt.Errorf("host %s is down", pl.host)
	}
	switch {
	case pl.port != 0:
		pl.entry = h.EntryAt(n.r.Protocol, pl.port)
		if pl.entry == nil && n.opt.DenyUnlisted {
			return UnlistedBackend, fmt.Errorf("%s is not configured, and unlisted_backends is deny", HostPort(pl.host, pl.port))
		}
	default:
		pl.entry = h.Entry(n.r.Protocol)
		if pl.entry != nil {
			pl.port = pl.entry.Port
		}
	}
	e := pl.entry
	switch {
	case e == nil:
		return "", nil
	case e.isDown():
		return BackendDown, fmt.Errorf("%s %s is down", e.Protocol, e.Address())
	case e.Health != Up && h.ID != n.q.Assigned:
		return BackendDown, fmt.Errorf("the health of %s %s is %s: it takes no new users", e.Protocol, e.Address(), e.Health)
	case n.r.AddressOnly && !plain(e):
		return BadSelection, fmt.Errorf("%s needs TLS, which this proxy has not toward backends", e.Address())
	}
	return "", nil
}

// localLogins: a login whose target is this very proxy is a local one
// (director_proxy_maybe).
func (n *run) localLogins() bool { return n.r.Upstream != nil && n.r.Upstream.ProxyMaybe }

// isSelf reports whether a place is where the client came in. Where local logins
// are meant, a port that nobody named is no difference.
func (n *run) isSelf(pl *place) bool {
	if !pl.addr.IsValid() || pl.addr != n.r.Local.Addr().Unmap() {
		return false
	}
	port := pl.port
	if port == 0 && n.r.Upstream != nil {
		port = n.r.Upstream.Port
	}
	local := int(n.r.Local.Port())
	if port == 0 || local == 0 {
		return n.localLogins()
	}
	return port == local
}

// Rendezvous returns the entry that weighted rendezvous hashing gives to key
// among entries, or nil. For imap and pop3 only hosts count that have all the
// mailbox protocols configured, unless no such host is there: a user shall be
// on the same host by both.
func Rendezvous(protocol, key string, entries []*Entry) *Entry {
	k := affinity.HashKey(key)
	pick := func(all bool) (best *Entry) {
		top := math.Inf(-1)
		for _, e := range entries {
			if !all && !e.host.home {
				continue
			}
			if s := affinity.Score(k, e.host.hash, e.host.Weight); s > top {
				best, top = e, s
			}
		}
		return best
	}
	if mailbox(protocol) {
		if e := pick(false); e != nil {
			return e
		}
	}
	return pick(true)
}
