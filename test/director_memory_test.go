package test

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/protocol/dovecot"
)

// A memoryDirector is a dovecot.DirectorAdmin as Dovecot's director would be with
// at most one host of each tag that users hash to: up, and with vhosts.
type memoryDirector struct {
	mu    sync.Mutex
	hosts []*memoryHost // as configured first; by name, which is the address
	users []*memoryUser // by their last move
}

type memoryHost struct {
	dovecot.DirectorHost
	initial bool // the configuration has it, and users hash to it
}

type memoryUser struct {
	hash   uint32
	host   *memoryHost
	moving bool
}

func newMemoryDirector(tagOf map[string]string) *memoryDirector {
	d := &memoryDirector{}
	for ip, tag := range tagOf {
		d.hosts = append(d.hosts, &memoryHost{newMemoryHost(ip, tag), true})
	}
	return d
}

func newMemoryHost(ip, tag string) dovecot.DirectorHost {
	return dovecot.DirectorHost{Name: ip, Addrs: []netip.Addr{netip.MustParseAddr(ip)}, Tag: tag, Vhosts: 100}
}

// settle ends all moves.
func (d *memoryDirector) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.users {
		u.moving = false
	}
}

// host runs with mu held. It returns nil for one that is not there.
func (d *memoryDirector) host(name string) *memoryHost {
	i := slices.IndexFunc(d.hosts, func(h *memoryHost) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return d.hosts[i]
}

// hashed runs with mu held. It returns nil if there is none.
func (d *memoryDirector) hashed(tag string) *memoryHost {
	i := slices.IndexFunc(d.hosts, func(h *memoryHost) bool { return h.Tag == tag && h.Vhosts > 0 && !h.Down && !h.Removed })
	if i < 0 {
		return nil
	}
	return d.hosts[i]
}

// change runs do with a host that is there.
func (d *memoryDirector) change(name string, do func(h *memoryHost)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.host(name)
	if h == nil || h.Removed {
		return dovecot.ErrNotFound
	}
	do(h)
	return nil
}

func (d *memoryDirector) Hosts(context.Context) (hosts []dovecot.DirectorHost, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.hosts {
		row := h.DirectorHost
		for _, u := range d.users {
			if u.host == h {
				row.Users++
			}
		}
		hosts = append(hosts, row)
	}
	return hosts, nil
}

func (d *memoryDirector) User(ctx context.Context, user, tag string) (dovecot.DirectorUser, error) {
	return d.UserByHash(ctx, dovecot.DirectorHash(user), tag)
}

func (d *memoryDirector) UserByHash(_ context.Context, hash uint32, tag string) (out dovecot.DirectorUser, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.users {
		if u.hash == hash && u.host.Tag == tag {
			out.Host, out.Expires = u.host.Name, time.Now().Add(15*time.Minute)
		}
	}
	if h := d.hashed(tag); h != nil {
		out.Hashed = h.Name
	}
	for _, h := range d.hosts {
		if h.initial && h.Tag == tag {
			out.Initial = h.Name
		}
	}
	return out, nil
}

func (d *memoryDirector) Users(_ context.Context, host string, yield func(uint32, time.Time, string) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	byTag := slices.SortedStableFunc(slices.Values(d.users), func(a, b *memoryUser) int { return strings.Compare(a.host.Tag, b.host.Tag) })
	for _, u := range byTag {
		if (host == "" || host == u.host.Name) && !yield(u.hash, time.Now().Add(15*time.Minute), u.host.Name) {
			break
		}
	}
	return nil
}

func (d *memoryDirector) SetHost(_ context.Context, host, tag string, vhosts *int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.host(host)
	switch {
	case h == nil:
		h = &memoryHost{newMemoryHost(host, tag), false}
		d.hosts = append(d.hosts, h)
	case h.Removed:
		h.DirectorHost = newMemoryHost(host, tag)
	case tag != "" && tag != h.Tag:
		return dovecot.ErrTagFixed
	}
	if vhosts != nil {
		h.Vhosts = *vhosts
	}
	return nil
}

func (d *memoryDirector) UpdateHost(ctx context.Context, host, tag string, vhosts int) error {
	return d.SetHost(ctx, host, tag, &vhosts)
}

func (d *memoryDirector) HostUp(_ context.Context, host string) error { return d.setDown(host, false) }

func (d *memoryDirector) HostDown(_ context.Context, host string) error { return d.setDown(host, true) }

func (d *memoryDirector) setDown(host string, down bool) error {
	return d.change(host, func(h *memoryHost) {
		if h.Down != down {
			h.Down, h.Changed = down, time.Now()
		}
	})
}

func (d *memoryDirector) RemoveHost(_ context.Context, host string) error {
	return d.change(host, func(h *memoryHost) {
		h.Removed = true
		if !h.initial {
			d.hosts = slices.DeleteFunc(d.hosts, func(x *memoryHost) bool { return x == h })
		}
		d.users = slices.DeleteFunc(d.users, func(u *memoryUser) bool { return u.host == h })
	})
}

func (d *memoryDirector) Flush(_ context.Context, host string, _ int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.users {
		if host == "" || host == u.host.Name {
			u.host = cmp.Or(d.hashed(u.host.Tag), u.host)
		}
	}
	return nil
}

func (d *memoryDirector) Forget(_ context.Context, host string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users = slices.DeleteFunc(d.users, func(u *memoryUser) bool { return host == "" || host == u.host.Name })
	return nil
}

func (d *memoryDirector) Move(_ context.Context, hash uint32, host string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	to := d.host(host)
	u := &memoryUser{hash: hash}
	if i := slices.IndexFunc(d.users, func(u *memoryUser) bool { return u.hash == hash && u.host.Tag == to.Tag }); i >= 0 {
		u = d.users[i]
		if u.moving {
			return dovecot.ErrTryAgain
		}
		d.users = slices.Delete(d.users, i, i+1)
	}
	u.moving = u.host != to
	u.host = to
	d.users = append(d.users, u)
	return nil
}

func (d *memoryDirector) Kick(context.Context, string, bool) error { return nil }

func (d *memoryDirector) KickAlt(context.Context, string, string) error { return nil }

func (d *memoryDirector) Ring(context.Context) ([]dovecot.DirectorNode, error) {
	return []dovecot.DirectorNode{{Addr: netip.MustParseAddrPort("127.0.0.1:24242"), Type: "self", Status: "ring synced"}}, nil
}
