package proxy

import (
	"slices"

	"usher/proxy/affinity"
)

// A View is the inventory and its health at one moment: immutable, shared by
// all readers without a lock. NewView applies the rules of a host: it is down
// when its imap or pop3 entry is, so that one user is never on two machines, or
// when all of its entries are ordered down; then none of its entries is listed.
type View struct {
	Entries []Entry // in the configuration's order

	hosts   map[string]*HostState
	byProto map[string]bool // protocols that have an entry at all
	listed  []*Entry        // for users without an assignment
	noTLS   []*Entry        // the same, for proxies without TLS toward backends
	tagged  bool            // some host has tags

	services map[serviceKey][]*Entry // Candidates for users without an assignment
}

// A serviceKey is a protocol as a proxy can use it.
type serviceKey struct {
	protocol    string // "": one that no entry has
	addressOnly bool
}

// A HostState is one machine: all entries of one host.
type HostState struct {
	ID      string // canonical
	Name    string // as first configured
	Weight  int
	Tags    []string
	Entries []*Entry

	hash     uint64
	home     bool // it has an entry for each of imap and pop3 that the inventory has anywhere
	withheld bool // it has entries that only its own users may see
	Down     bool // by check or by order
	Drained  bool // keeps its users, takes no new ones; also while its health is unknown or stale
}

// NewView builds a View of entries, which it keeps.
func NewView(entries []Entry) *View {
	v := &View{Entries: entries, hosts: map[string]*HostState{}, byProto: map[string]bool{}}
	for i := range entries {
		e := &entries[i]
		id := CanonicalHost(e.Host)
		h := v.hosts[id]
		if h == nil {
			h = &HostState{ID: id, Name: e.Host, Weight: e.Weight, Tags: e.Tags, hash: affinity.HashHost(id)}
			v.hosts[id] = h
		}
		e.host = h
		h.Entries = append(h.Entries, e)
		v.byProto[e.Protocol] = true
		v.tagged = v.tagged || len(e.Tags) > 0
		if mailbox(e.Protocol) && e.isDown() {
			h.Down = true
		}
		if mailbox(e.Protocol) && (e.Admin == AdminDrain || e.Health == Unknown || e.Health == Stale) {
			h.Drained = true
		}
		e.listed = false
	}
	for _, h := range v.hosts {
		h.Down = h.Down || h.orderedDown()
		h.home = v.isHome(h)
	}
	for i := range entries {
		e := &entries[i]
		h := e.host
		if h.Down || e.isDown() {
			continue
		}
		if h.Drained || e.Admin == AdminDrain || e.Health != Up {
			h.withheld = true
			continue
		}
		e.listed = true
		v.listed = append(v.listed, e)
		if plain(e) {
			v.noTLS = append(v.noTLS, e)
		}
	}
	v.services = map[serviceKey][]*Entry{}
	for _, addressOnly := range [...]bool{false, true} {
		v.services[serviceKey{"", addressOnly}] = v.candidates("", "", addressOnly)
		for p := range v.byProto {
			v.services[serviceKey{p, addressOnly}] = v.candidates(p, "", addressOnly)
		}
	}
	return v
}

// orderedDown reports whether an operator took all of the host's entries down: the
// host as a whole, whatever its protocols are.
func (h *HostState) orderedDown() bool {
	return !slices.ContainsFunc(h.Entries, func(e *Entry) bool { return e.Admin != AdminDown })
}

func mailbox(protocol string) bool { return protocol == "imap" || protocol == "pop3" }

func plain(e *Entry) bool { return !e.TLS && !e.StartTLS }

// Listed returns the entries that a request may be shown, in the
// configuration's order: those that are up, and, of hosts that take no new
// users, those of assigned, the host of the request's live assignment ("" for
// none). With addressOnly entries that need TLS are left out. The slice is
// shared: read it only.
func (v *View) Listed(assigned string, addressOnly bool) []*Entry {
	all := v.listed
	if addressOnly {
		all = v.noTLS
	}
	h := v.hosts[assigned]
	if h == nil || !h.withheld {
		return all
	}
	var out []*Entry
	for i := range v.Entries {
		e := &v.Entries[i]
		if addressOnly && !plain(e) {
			continue
		}
		if e.listed || e.host == h && !e.isDown() {
			out = append(out, e)
		}
	}
	return out
}

// Candidates returns one entry a host to choose from for protocol, in the
// configuration's order: of those that Listed shows the first of each host. A
// service that the inventory has no entries for (doveadm) is placed over all
// hosts: then the entry stands for its host alone, and its port means nothing.
// The slice is shared: read it only.
func (v *View) Candidates(protocol, assigned string, addressOnly bool) []*Entry {
	if !v.Serves(protocol) {
		protocol = ""
	}
	if h := v.hosts[assigned]; h == nil || !h.withheld {
		return v.services[serviceKey{protocol, addressOnly}]
	}
	return v.candidates(protocol, assigned, addressOnly)
}

func (v *View) candidates(protocol, assigned string, addressOnly bool) []*Entry {
	listed := v.Listed(assigned, addressOnly)
	seen := make(map[*HostState]bool, len(v.hosts))
	var out []*Entry
	for _, e := range listed {
		if protocol != "" && e.Protocol != protocol || seen[e.host] {
			continue
		}
		seen[e.host] = true
		out = append(out, e)
	}
	return out
}

// Host returns the machine with that canonical name, or nil.
func (v *View) Host(id string) *HostState { return v.hosts[id] }

// Serves reports whether the inventory has an entry for protocol, up or not.
func (v *View) Serves(protocol string) bool { return v.byProto[protocol] }

// Entry returns the host's first entry for protocol, or nil.
func (h *HostState) Entry(protocol string) *Entry {
	for _, e := range h.Entries {
		if e.Protocol == protocol {
			return e
		}
	}
	return nil
}

// Ailing returns the entry for protocol of a host that is up while that entry
// is down: the host's users are to be told to try later then, and not to go to
// another machine. Else it returns nil.
func (v *View) Ailing(id, protocol string, addressOnly bool) *Entry {
	h := v.hosts[id]
	if h == nil || h.Down || !h.usable(protocol, addressOnly) {
		return nil
	}
	if e := h.Entry(protocol); e.isDown() {
		return e
	}
	return nil
}

// usable reports whether the host has an entry for protocol that the proxy can
// use, up or not.
func (h *HostState) usable(protocol string, addressOnly bool) bool {
	e := h.Entry(protocol)
	return e != nil && (!addressOnly || plain(e))
}

// EntryAt returns the host's entry at that port, the one for protocol before
// others, or nil.
func (h *HostState) EntryAt(protocol string, port int) *Entry {
	var found *Entry
	for _, e := range h.Entries {
		if e.Port != port {
			continue
		}
		if e.Protocol == protocol {
			return e
		}
		if found == nil {
			found = e
		}
	}
	return found
}

// Homes returns those of entries that Rendezvous would choose from for protocol:
// the slice itself where that is all of them.
func (v *View) Homes(protocol string, entries []*Entry) []*Entry {
	if !mailbox(protocol) {
		return entries
	}
	homes := 0
	for _, e := range entries {
		if e.host.home {
			homes++
		}
	}
	if homes == 0 || homes == len(entries) {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool { return !e.host.home })
}

func (v *View) isHome(h *HostState) bool {
	for _, p := range [...]string{"imap", "pop3"} {
		if v.byProto[p] && h.Entry(p) == nil {
			return false
		}
	}
	return true
}
