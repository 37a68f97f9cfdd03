package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"usher/config"
	"usher/protocol/dovecot"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// userOrders are what operators ordered for users. It implements proxy.Orders.
type userOrders struct {
	orders    affinity.Orders
	moves     *moves.Engine
	awaited   *awaited
	separator string
}

// Awaited implements proxy.Orders.
func (o userOrders) Awaited(key affinity.Key) string { return o.awaited.host(key) }

// Held implements proxy.Orders.
func (o userOrders) Held(ctx context.Context, user string) (bool, error) {
	return o.orders.Held(ctx, affinity.OrderName(user, o.separator))
}

// Pin implements proxy.Orders.
func (o userOrders) Pin(ctx context.Context, user string) (string, error) {
	return o.orders.Pin(ctx, affinity.OrderName(user, o.separator))
}

// Moving implements proxy.Orders.
func (o userOrders) Moving(key affinity.Key) bool { return o.moves.Moving(key) }

// kickers makes the doveadm clients of a configuration.
func kickers(cfg *config.Config) ([]moves.Kicker, error) {
	var out []moves.Kicker
	for i := range cfg.Dovecot.Doveadm {
		d := &cfg.Dovecot.Doveadm[i]
		k, err := dovecot.NewDoveadm(dovecot.DoveadmOptions{URL: d.URL, APIKey: d.APIKey, Password: d.Password, Role: moves.Role(d.Role)})
		if err != nil {
			return nil, fmt.Errorf("dovecot.doveadm[%d]: %w", i, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// hostOf is the host that a Kicker's URL names.
func hostOf(k moves.Kicker) string {
	u, err := url.Parse(k.Name())
	if err == nil && u.Host != "" {
		return proxy.CanonicalHost(u.Hostname())
	}
	rest, _ := strings.CutPrefix(k.Name(), "tcp:")
	host, _, _ := strings.Cut(rest, ":")
	if i := strings.LastIndexByte(rest, ':'); strings.HasPrefix(rest, "[") && i > 0 {
		host = strings.Trim(rest[:i], "[]")
	}
	return proxy.CanonicalHost(host)
}

// sightOf returns those who list and end the sessions of users of host, and why
// not all sessions can be seen, "" for they can: Dovecot proxies list those that
// came through them, and what came through nginx shows at the backend alone. Who
// is assigned nowhere, host "", may have sessions at any backend: an assignment
// ends before a session through nginx does.
func (g *generation) sightOf(host string) (seers []moves.Kicker, blind string) {
	proxies := 0
	for _, k := range g.kickers {
		switch {
		case k.Role() == moves.Proxy:
			proxies++
		case host != "" && !g.isHost(host, hostOf(k)):
			continue
		}
		seers = append(seers, k)
	}
	hidden := ""
	for _, h := range g.hostsOf(host) {
		if !slices.ContainsFunc(g.kickers, func(k moves.Kicker) bool { return k.Role() == moves.Backend && g.isHost(h, hostOf(k)) }) {
			hidden = h
			break
		}
	}
	logins := slices.ContainsFunc(g.cfg.Dovecot.Listeners, func(l config.DovecotListener) bool { return l.Kind == "auth" })
	switch {
	case logins && proxies == 0 && (hidden != "" || len(seers) == 0):
		blind = "no Dovecot proxy lists its sessions: dovecot.doveadm has none of role proxy"
	case len(g.cfg.Nginx.Listeners) > 0 && hidden != "":
		blind = fmt.Sprintf("sessions through nginx show at %s alone, and dovecot.doveadm has none of role backend for it", hidden)
	}
	return seers, blind
}

// hostsOf is host, or else all of the inventory.
func (g *generation) hostsOf(host string) []string {
	if host != "" {
		return []string{host}
	}
	var ids []string
	v := g.monitor.View()
	for i := range v.Entries {
		if id := v.Entries[i].Machine().ID; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// isHost reports whether a name or address, canonical, is that of a backend's host.
func (g *generation) isHost(host, name string) bool {
	if host == name {
		return true
	}
	h := g.monitor.View().Host(host)
	return h != nil && slices.ContainsFunc(h.Entries, func(e *proxy.Entry) bool { return e.Addr.IsValid() && e.Addr.String() == name })
}

// endSessions ends the sessions that users have, of whom some are assigned to
// host. It returns nil when all lists were seen and none was left.
func (g *generation) endSessions(ctx context.Context, users []string, host string) error {
	seers, blind := g.sightOf(host)
	if len(seers) > 0 {
		limit := g.cfg.Affinity.MoveTimeout
		if end, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(end))
		}
		gone, left, err := moves.Kick(ctx, seers, users, "", limit)
		if err != nil {
			return err
		}
		if !gone {
			return fmt.Errorf("%d sessions live on, the first of %s at %s: %w", len(left), left[0].User, left[0].At, context.DeadlineExceeded)
		}
	}
	if blind != "" {
		return errors.New(blind)
	}
	return nil
}

// moveSettings are how this generation's moves are made.
func (a *app) moveSettings(g *generation) moves.Settings {
	name := func(user string) string { return affinity.OrderName(user, g.cfg.Dovecot.MasterUserSeparator) }
	s := moves.Settings{
		KickDelay: g.cfg.Affinity.KickDelay, Timeout: g.cfg.Affinity.MoveTimeout, Parallel: g.cfg.Affinity.ParallelMoves,
		End:    g.endSessions,
		Target: func(as affinity.Assignment) (string, bool) { return g.target(as, a.state.orders) },
		Pin: func(ctx context.Context, user string, p affinity.Pin) error {
			return a.state.orders.SetPin(ctx, name(user), p)
		},
		Unpin: func(ctx context.Context, user, host string) error {
			pin, err := a.state.orders.Pin(ctx, name(user))
			if err == nil && pin == host {
				_, err = a.state.orders.Unpin(ctx, name(user))
			}
			return err
		},
		Fit: g.fit,
	}
	if a.cluster != nil {
		s.KickDelay = max(s.KickDelay, spread) // other nodes may log him in until they know
	}
	if hook := g.cfg.Affinity.FlushHook; hook != "" {
		s.Hook = func(ctx context.Context, m moves.Move) error { return runHook(ctx, hook, m) }
	}
	return s
}

// fit returns why a key can't be on the host of its move any more.
func (g *generation) fit(m moves.Move) error {
	v := g.monitor.View()
	h := v.Host(m.To)
	switch {
	case h == nil && len(v.Entries) > 0:
		return fmt.Errorf("host %s is not configured any more", m.To)
	case h != nil && h.Down:
		return fmt.Errorf("host %s is down", m.To)
	}
	return nil
}

// target is where the hash sends a key now, among hosts of the same tag. A key all
// of whose users are pinned stays.
func (g *generation) target(as affinity.Assignment, orders affinity.Orders) (string, bool) {
	free := func(user string) bool {
		pin, err := orders.Pin(context.Background(), affinity.OrderName(user, g.cfg.Dovecot.MasterUserSeparator))
		return err == nil && pin == ""
	}
	if !free(as.Key.Name) || len(as.Users) > 0 && !slices.ContainsFunc(as.Users, free) {
		return "", false
	}
	v := g.monitor.View()
	protocol := g.mailProtocol()
	tag := as.Key.Tag
	if h := v.Host(as.Host); h != nil && len(h.Tags) > 0 {
		tag = h.Tags[0]
	}
	host := hashed(v, protocol, as.Key.Name, tag, v.Candidates(protocol, "", false))
	return host, host != ""
}

// mailProtocol is the one by which users are placed.
func (g *generation) mailProtocol() string {
	if v := g.monitor.View(); !v.Serves("imap") && v.Serves("pop3") {
		return "pop3"
	}
	return "imap"
}

// maxHookOutput bounds what a hook's output adds to an error.
const maxHookOutput = 300

// runHook runs affinity.flush_hook: the program with the user, the old host ("" for
// none) and the new one; its exit status 0 lets the move go on.
func runHook(ctx context.Context, hook string, m moves.Move) error {
	cmd := exec.CommandContext(ctx, hook, m.User, m.From, m.To)
	cmd.Env = append(hookEnv(), "USHER_USER="+m.User, "USHER_KEY="+m.Key.Name, "USHER_TAG="+m.Key.Tag, "USHER_FROM="+m.From, "USHER_TO="+m.To, "USHER_MOVE="+m.ID)
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it started ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	switch {
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("no end: %w", ctx.Err()) // it was killed
	case errors.Is(err, exec.ErrWaitDelay): // it left something in the background
		err = nil
	}
	if err != nil && len(out.b) > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.ToValidUTF8(bytes.Join(bytes.Fields(out.b), []byte(" ")), []byte("?")))
	}
	return err
}

// hookEnv is what a hook has of usher's environment, which may hold secrets.
func hookEnv() (env []string) {
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// A tail keeps the end of what is written to it.
type tail struct{ b []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxHookOutput; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

// keyFor returns the key of a user's assignment: the one that lives, in the tag
// that was asked for, or else of no tag, or else of the host's, to which he goes.
func (a *app) keyFor(ctx context.Context, g *generation, user, tag, host string) (affinity.Key, affinity.Assignment, error) {
	name := affinity.KeyName(user, g.cfg.Dovecot.MasterUserSeparator, affinity.Scope(g.cfg.Affinity.Key))
	tags := []string{tag}
	if tag == "" {
		tags = append(tags, g.tags(host)...)
	}
	for _, t := range tags {
		as, err := a.store.Get(ctx, affinity.Key{Tag: t, Name: name})
		if err != nil || as.Host != "" {
			return as.Key, as, err
		}
	}
	return affinity.Key{Tag: tag, Name: name}, affinity.Assignment{}, nil
}

// tags are the first tags of hosts, that of host before others.
func (g *generation) tags(host string) (tags []string) {
	v := g.monitor.View()
	if h := v.Host(host); h != nil && len(h.Tags) > 0 {
		tags = append(tags, h.Tags[0])
	}
	for i := range v.Entries {
		if t := v.Entries[i].Tag(); t != "" && !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}

// hostNamed finds a host of the inventory by its name or address.
func (g *generation) hostNamed(name string) (string, error) {
	v := g.monitor.View()
	id := proxy.CanonicalHost(name)
	if v.Host(id) != nil {
		return id, nil
	}
	for i := range v.Entries {
		if e := &v.Entries[i]; e.Addr.IsValid() && e.Addr.String() == id {
			return e.Machine().ID, nil
		}
	}
	if len(v.Entries) == 0 && proxy.ValidHost(name) {
		return id, nil // the policy names hosts by itself
	}
	return "", notFound{fmt.Errorf("no such host: %.260s", cmp.Or(name, `""`))}
}
