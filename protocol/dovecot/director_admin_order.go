package dovecot

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// maxVhosts is the highest weight (MAX_VALID_VHOST_COUNT).
const maxVhosts = 1000

// Refusals of the director and of usher.
const (
	vhostsTooLarge = Refusal("vhost count too large")
	nodesFixed     = Refusal("usher has no ring: its nodes are those that share affinity.store")
)

// order carries out what is no question. Its error is an answer, but for
// errAdminParams.
func (c *adminConn) order(ctx context.Context, r *adminRequest) error {
	d := c.opt.Director
	if r.vhosts != nil && *r.vhosts > maxVhosts {
		return vhostsTooLarge
	}
	switch r.verb {
	case "HOST-SET":
		return c.setHost(ctx, r)
	case "HOST-UPDATE":
		return c.each(ctx, r.host, func(ctx context.Context, host string) error {
			return d.UpdateHost(ctx, host, r.tag, *r.vhosts)
		})
	case "HOST-UP":
		return c.each(ctx, r.host, d.HostUp)
	case "HOST-DOWN":
		return c.each(ctx, r.host, d.HostDown)
	case "HOST-REMOVE":
		return c.each(ctx, r.host, d.RemoveHost)
	case "HOST-FLUSH":
		return c.eachOrAll(ctx, r.host, d.Forget)
	case "HOST-RESET-USERS":
		return c.eachOrAll(ctx, r.host, func(ctx context.Context, host string) error {
			return d.Flush(ctx, host, r.parallel)
		})
	case "USER-MOVE":
		return c.move(ctx, r)
	case "USER-KICK":
		return d.Kick(ctx, r.user, r.nowait)
	case "USER-KICK-ALT":
		return d.KickAlt(ctx, r.field, r.user)
	}
	return nodesFixed // DIRECTOR-ADD, DIRECTOR-REMOVE
}

// outcome is the line that answers an order which ended with err.
func (c *adminConn) outcome(r *adminRequest, err error) string {
	refusal, refused := errors.AsType[Refusal](err)
	switch {
	case err == nil:
		return "OK"
	case errors.Is(err, ErrNotFound):
		return "NOTFOUND"
	case errors.Is(err, ErrTryAgain):
		return "TRYAGAIN"
	case refused:
		return oneLine(string(refusal))
	case errors.Is(err, context.Canceled):
		return "usher is ending - try again later"
	}
	c.log.Warn("director-admin", zap.String("command", r.verb), zap.Error(err))
	return oneLine("usher: " + err.Error())
}

// find returns the hosts that a request means, by name: several may have one
// address. There is none: ErrNotFound for an address, errAdminParams for what is
// none, as the director says it. removed: removed ones too.
func (c *adminConn) find(ctx context.Context, host string, removed bool) ([]DirectorHost, error) {
	all, err := c.opt.Director.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	addr, notAddr := netip.ParseAddr(host)
	var found []DirectorHost
	for _, h := range all {
		if (removed || !h.Removed) && (slices.Contains(h.Addrs, addr) || strings.EqualFold(h.Name, host)) {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b DirectorHost) int { return strings.Compare(a.Name, b.Name) })
	switch {
	case len(found) > 0:
		return found, nil
	case notAddr != nil:
		return nil, errAdminParams
	}
	return nil, ErrNotFound
}

// each calls do for the hosts that are meant, and stops at the first error.
func (c *adminConn) each(ctx context.Context, host string, do func(ctx context.Context, host string) error) error {
	hosts, err := c.find(ctx, host, false)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if err := do(ctx, h.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *adminConn) eachOrAll(ctx context.Context, host string, do func(ctx context.Context, host string) error) error {
	if host == "" {
		return do(ctx, "")
	}
	return c.each(ctx, host, do)
}

func (c *adminConn) setHost(ctx context.Context, r *adminRequest) error {
	hosts, err := c.find(ctx, r.host, true)
	if errors.Is(err, ErrNotFound) {
		hosts, err = []DirectorHost{{Name: r.host}}, nil
	}
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if err := c.opt.Director.SetHost(ctx, h.Name, r.tag, r.vhosts); err != nil {
			return err
		}
	}
	return nil
}

func (c *adminConn) move(ctx context.Context, r *adminRequest) error {
	hosts, err := c.find(ctx, r.host, false)
	if err != nil {
		return err
	}
	hash := r.hash
	if !r.byHash {
		hash = DirectorHash(r.user)
	}
	return c.opt.Director.Move(ctx, hash, hosts[0].Name)
}
