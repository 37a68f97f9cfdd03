package dovecot

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// text is how an answer names the host.
func (h *DirectorHost) text() string {
	if len(h.Addrs) > 0 {
		return h.Addrs[0].String()
	}
	return h.Name
}

// hosts returns the hosts as the director sorts them, by address, IPv4 first; last
// those without.
func (c *adminConn) hosts(ctx context.Context) ([]DirectorHost, error) {
	hosts, err := c.opt.Director.Hosts(ctx)
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b DirectorHost) int {
		switch {
		case len(a.Addrs) > 0 && len(b.Addrs) > 0:
			return cmp.Or(a.Addrs[0].Compare(b.Addrs[0]), strings.Compare(a.Name, b.Name))
		case len(a.Addrs) > 0:
			return -1
		case len(b.Addrs) > 0:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return hosts, err
}

// hostList answers `ip\tvhosts\tusers\ttag\tU|D\tCHANGED` for each host, and an
// empty line.
func (c *adminConn) hostList(ctx context.Context) error {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return err
	}
	var b []byte
	for _, h := range hosts {
		if h.Removed {
			continue
		}
		b = append(b, h.text()...)
		b = append(b, '\t')
		b = strconv.AppendInt(b, int64(h.Vhosts), 10)
		b = append(b, '\t')
		b = strconv.AppendInt(b, int64(h.Users), 10)
		b = append(b, '\t')
		b = appendEscaped(b, h.Tag)
		if h.Down {
			b = append(b, "\tD\t"...)
		} else {
			b = append(b, "\tU\t"...)
		}
		b = append(appendUnix(b, h.Changed), '\n')
	}
	return c.say(append(b, '\n'))
}

// hostListRemoved answers the addresses of removed hosts, and an empty line.
func (c *adminConn) hostListRemoved(ctx context.Context) error {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return err
	}
	var b []byte
	for _, h := range hosts {
		if h.Removed {
			b = append(append(b, h.text()...), '\n')
		}
	}
	return c.say(append(b, '\n'))
}

// texts returns how answers name the hosts, by name.
func (c *adminConn) texts(ctx context.Context) (map[string]string, error) {
	hosts, err := c.opt.Director.Hosts(ctx)
	texts := map[string]string{}
	for _, h := range hosts {
		texts[h.Name] = h.text()
	}
	return texts, err
}

// userLookup answers `ip\tEXPIRES\tHASHED\tINITIAL`.
func (c *adminConn) userLookup(ctx context.Context, r *adminRequest) error {
	var u DirectorUser
	texts, err := c.texts(ctx)
	switch {
	case err != nil:
	case r.byHash:
		u, err = c.opt.Director.UserByHash(ctx, r.hash, r.tag)
	default:
		u, err = c.opt.Director.User(ctx, r.user, r.tag)
	}
	if err != nil {
		return err
	}
	if u.Host == "" {
		u.Expires = time.Time{}
	}
	b := append([]byte(nil), cmp.Or(texts[u.Host], u.Host)...)
	b = appendUnix(append(b, '\t'), u.Expires)
	b = append(append(b, '\t'), cmp.Or(texts[u.Hashed], u.Hashed)...)
	b = append(append(b, '\t'), cmp.Or(texts[u.Initial], u.Initial)...)
	return c.say(append(b, '\n'))
}

// userList answers `HASH\tEXPIRES\tip` for each assignment, as fast as the client
// reads, and an empty line.
func (c *adminConn) userList(ctx context.Context, r *adminRequest) error {
	texts, err := c.texts(ctx)
	if err != nil {
		return err
	}
	var b []byte
	err = c.eachOrAll(ctx, r.host, func(ctx context.Context, host string) error {
		var slow error
		err := c.opt.Director.Users(ctx, host, func(hash uint32, expires time.Time, host string) bool {
			b = append(strconv.AppendUint(b, uint64(hash), 10), '\t')
			b = append(appendUnix(b, expires), '\t')
			b = append(append(b, cmp.Or(texts[host], host)...), '\n')
			if len(b) >= adminBatch {
				slow = c.say(b)
				b = b[:0]
			}
			return !c.gone
		})
		if slow != nil {
			return slow
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return c.say(append(b, '\n'))
}

// directorList answers `ip\tport\tTYPE\tFAILED\tSTATUS\tlast` for each node, and an
// empty line. The director has more to say of the nodes that it is connected to;
// doveadm shows what is missing as `-`.
func (c *adminConn) directorList(ctx context.Context) error {
	nodes, err := c.opt.Director.Ring(ctx)
	if err != nil {
		return err
	}
	var b []byte
	for _, n := range nodes {
		b = append(append(b, n.Addr.Addr().String()...), '\t')
		b = append(strconv.AppendUint(b, uint64(n.Addr.Port()), 10), '\t')
		b = append(appendEscaped(b, n.Type), '\t')
		b = append(appendUnix(b, n.Failed), '\t')
		b = append(appendEscaped(b, n.Status), "\t0\n"...)
	}
	return c.say(append(b, '\n'))
}

// appendUnix appends t in seconds, 0 for the zero time. doveadm reads 32 bits.
func appendUnix(b []byte, t time.Time) []byte {
	n := int64(0)
	if !t.IsZero() {
		n = min(max(t.Unix(), 0), math.MaxUint32)
	}
	return strconv.AppendInt(b, n, 10)
}
