package proxy

import (
	"context"
	"fmt"
)

// Builtin is the built-in policy, scripts/director.lua, without the Lua: what
// Dovecot's director did. It is a Director.
type Builtin struct{}

// Direct implements Director.
func (Builtin) Direct(_ context.Context, q *Query) (Verdict, error) {
	if !q.Authenticated && !q.Request.NoAuth {
		return Verdict{}, nil
	}
	e, why := q.Sticky(q.Candidates(q.Assigned))
	if e == nil {
		return Verdict{}, nil
	}
	v := Verdict{Selected: true, Host: e.Host, Port: e.Port, Reason: why, By: "policy:director"}
	if e.Protocol != q.Request.Protocol {
		v.Port = 0 // it stands for its host alone
	}
	if q.Trace != nil {
		q.Trace(fmt.Sprintf("director: select %s (%s)", HostPort(v.Host, v.Port), why))
	}
	return v, nil
}

// Sticky returns the one of entries that the user is assigned to, else what
// weighted rendezvous hashing gives for the assignment key; nil for none. Is the
// user's host up, but not its service of this protocol, that is returned all the
// same: who selects it tells the user to try later.
func (q *Query) Sticky(entries []*Entry) (*Entry, Reason) {
	return q.StickyTo(entries, q.Assigned, q.Key.Name)
}

// StickyTo is Sticky for another key, whose live assignment is to the host
// assigned.
func (q *Query) StickyTo(entries []*Entry, assigned, key string) (*Entry, Reason) {
	if h := q.View.Host(assigned); h != nil {
		for _, e := range entries {
			if e.host == h {
				return e, Sticky
			}
		}
	}
	if assigned != "" {
		if e := q.View.Ailing(assigned, q.Request.Protocol, q.Request.AddressOnly); e != nil {
			return e, Sticky
		}
	}
	return Rendezvous(q.Request.Protocol, key, entries), Hashed
}
