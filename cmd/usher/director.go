package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"usher/control"
	"usher/protocol/dovecot"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// byDoveadm is who gives the orders of `doveadm director`: the socket lets root,
// usher's user and those that the listener names in, and says no more of them.
const byDoveadm = "doveadm director"

// A director answers `doveadm director`. It implements dovecot.DirectorAdmin.
type director struct{ *app }

var _ dovecot.DirectorAdmin = director{}

// refused makes an error of the service one of the protocol.
func refused(err error) error {
	switch {
	case errors.Is(err, control.ErrNotFound):
		return dovecot.ErrNotFound
	case errors.Is(err, moves.ErrMoving):
		return dovecot.ErrTryAgain
	}
	return err
}

// Hosts implements dovecot.DirectorAdmin.
func (d director) Hosts(context.Context) ([]dovecot.DirectorHost, error) {
	g := d.gen.Load()
	var out []dovecot.DirectorHost
	seen := map[string]bool{}
	v := g.monitor.View()
	for i := range v.Entries {
		h := v.Entries[i].Machine()
		if seen[h.ID] {
			continue
		}
		seen[h.ID] = true
		host := dovecot.DirectorHost{Name: h.ID, Tag: v.Entries[i].Tag(), Vhosts: h.Weight, Users: d.store.Assigned(h.ID), Down: h.Down}
		for _, e := range h.Entries {
			if e.Addr.IsValid() && !slices.Contains(host.Addrs, e.Addr) {
				host.Addrs = append(host.Addrs, e.Addr)
			}
			if host.Down && !e.Since.IsZero() && e.Since.After(host.Changed) {
				host.Changed = e.Since
			}
		}
		if o := d.state.admin.Orders().For(h.ID, 0); o.StateStamp != nil && o.StateStamp.At.After(host.Changed) {
			host.Changed = o.StateStamp.At
		}
		out = append(out, host)
	}
	for target := range d.state.added.changes.Load().Removed {
		if a, err := netip.ParseAddr(target); err == nil && !seen[target] {
			out = append(out, dovecot.DirectorHost{Name: target, Addrs: []netip.Addr{a}, Removed: true})
		}
	}
	return out, nil
}

// User implements dovecot.DirectorAdmin.
func (d director) User(ctx context.Context, user, tag string) (dovecot.DirectorUser, error) {
	g := d.gen.Load()
	return d.user(ctx, g, affinity.KeyName(user, g.cfg.Dovecot.MasterUserSeparator, affinity.Scope(g.cfg.Affinity.Key)), tag)
}

func (d director) user(ctx context.Context, g *generation, key, tag string) (dovecot.DirectorUser, error) {
	a, err := d.store.Get(ctx, affinity.Key{Tag: tag, Name: key})
	if err != nil {
		return dovecot.DirectorUser{}, err
	}
	v := g.monitor.View()
	everybody := make([]*proxy.Entry, len(v.Entries))
	for i := range v.Entries {
		everybody[i] = &v.Entries[i]
	}
	protocol := g.mailProtocol()
	return dovecot.DirectorUser{
		Host: a.Host, Expires: a.Expires,
		Hashed:  hashed(v, protocol, key, tag, v.Candidates(protocol, "", false)),
		Initial: hashed(v, protocol, key, tag, everybody),
	}, nil
}

// hashed is where the hash sends a key among entries of that first tag.
func hashed(v *proxy.View, protocol, key, tag string, entries []*proxy.Entry) string {
	list := slices.DeleteFunc(slices.Clone(entries), func(e *proxy.Entry) bool {
		return e.Tag() != tag || v.Serves(protocol) && e.Protocol != protocol
	})
	if e := proxy.Rendezvous(protocol, key, list); e != nil {
		return e.Machine().ID
	}
	return ""
}

// UserByHash implements dovecot.DirectorAdmin.
func (d director) UserByHash(ctx context.Context, hash uint32, tag string) (dovecot.DirectorUser, error) {
	a, err := d.byHash(ctx, hash, tag)
	if err != nil || a.Host == "" {
		return dovecot.DirectorUser{}, cmp.Or(err, dovecot.ErrNotFound)
	}
	return d.user(ctx, d.gen.Load(), a.Key.Name, a.Key.Tag)
}

// byHash looks through all assignments for one, of that tag, "" for any.
func (d director) byHash(ctx context.Context, hash uint32, tag string) (found affinity.Assignment, err error) {
	err = d.store.Each(ctx, "", func(a affinity.Assignment) bool {
		if (tag == "" || a.Key.Tag == tag) && dovecot.DirectorHash(a.Key.Name) == hash {
			found = a
			return false
		}
		return true
	})
	return found, err
}

// Users implements dovecot.DirectorAdmin.
func (d director) Users(ctx context.Context, host string, yield func(hash uint32, expires time.Time, host string) bool) error {
	return d.store.Each(ctx, host, func(a affinity.Assignment) bool {
		return yield(dovecot.DirectorHash(a.Key.Name), a.Expires, a.Host)
	})
}

// SetHost implements dovecot.DirectorAdmin.
func (d director) SetHost(ctx context.Context, host, tag string, vhosts *int) error {
	if h := d.gen.Load().monitor.View().Host(proxy.CanonicalHost(host)); h != nil {
		if tag != "" && h.Entries[0].Tag() != tag {
			return dovecot.ErrTagFixed
		}
		if vhosts == nil {
			return nil
		}
		return d.UpdateHost(ctx, host, tag, *vhosts)
	}
	_, err := d.AddBackend(ctx, control.BackendAdd{Host: host, Tag: tag, Weight: vhosts, By: byDoveadm})
	return refused(err)
}

// UpdateHost implements dovecot.DirectorAdmin.
func (d director) UpdateHost(ctx context.Context, host, _ string, vhosts int) error {
	_, err := d.Order(ctx, control.BackendOrder{Target: host, Weight: &vhosts, By: byDoveadm})
	return refused(err)
}

// HostUp implements dovecot.DirectorAdmin.
func (d director) HostUp(ctx context.Context, host string) error {
	_, err := d.Order(ctx, control.BackendOrder{Target: host, State: "up", By: byDoveadm})
	return refused(err)
}

// HostDown implements dovecot.DirectorAdmin.
func (d director) HostDown(ctx context.Context, host string) error {
	_, err := d.Order(ctx, control.BackendOrder{Target: host, State: "down", By: byDoveadm})
	return refused(err)
}

// RemoveHost implements dovecot.DirectorAdmin.
func (d director) RemoveHost(ctx context.Context, host string) error {
	_, err := d.RemoveBackend(ctx, control.BackendRemove{Target: host, Force: true, By: byDoveadm})
	return refused(err)
}

// Flush implements dovecot.DirectorAdmin. How many are moved at a time is
// affinity.parallel_moves, for all moves.
func (d director) Flush(ctx context.Context, host string, _ int) error {
	f, err := d.app.Flush(ctx, control.FlushOrder{Host: cmp.Or(host, "all"), By: byDoveadm})
	for err == nil && !f.Done {
		if err = pause(ctx, pollEvery); err == nil {
			f, err = d.FlushOf(f.ID)
		}
	}
	if err == nil && f.Failed > 0 {
		err = dovecot.Refusal(fmt.Sprintf("%d of %d users were not moved, the last of them: %s", f.Failed, f.Total-f.Stays, f.Error))
	}
	return refused(err)
}

// Forget implements dovecot.DirectorAdmin.
func (d director) Forget(ctx context.Context, host string) error {
	_, err := d.app.Flush(ctx, control.FlushOrder{Host: cmp.Or(host, "all"), Forget: true, By: byDoveadm})
	return refused(err)
}

// Move implements dovecot.DirectorAdmin.
func (d director) Move(ctx context.Context, hash uint32, host string) error {
	a, err := d.byHash(ctx, hash, "")
	if err != nil {
		return err
	}
	if a.Host == "" {
		cfg := d.gen.Load().cfg
		now := time.Now().UTC().Truncate(time.Second)
		err := d.state.awaited.set(hash, awaitedOrder{Host: host, Until: now.Add(cfg.Affinity.Expire), Stamp: affinity.Stamp{By: byDoveadm, At: now}})
		d.audit(byDoveadm, "", fmt.Sprintf("doveadm director move %d %s", hash, host), "the user is not known yet", err)
		return err
	}
	_, err = d.app.Move(ctx, control.UserOrder{User: a.Key.Name, Host: host, Tag: a.Key.Tag, By: byDoveadm})
	return refused(err)
}

// Kick implements dovecot.DirectorAdmin.
func (d director) Kick(ctx context.Context, user string, _ bool) error {
	_, err := d.app.Kick(ctx, control.UserOrder{User: user, By: byDoveadm})
	return refused(err)
}

// KickAlt implements dovecot.DirectorAdmin.
func (director) KickAlt(context.Context, string, string) error {
	return dovecot.Refusal("usher kicks by user name alone")
}

// Ring implements dovecot.DirectorAdmin.
func (director) Ring(context.Context) ([]dovecot.DirectorNode, error) {
	return []dovecot.DirectorNode{{Addr: netip.MustParseAddrPort("127.0.0.1:9090"), Type: "self", Status: "ring synced"}}, nil
}
