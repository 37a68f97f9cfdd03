package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"usher/control"
	"usher/monitor"
	"usher/proxy"
	"usher/proxy/affinity"
)

// AddBackend implements control.Service.
func (a *app) AddBackend(_ context.Context, o control.BackendAdd) (ans control.BackendAnswer, err error) {
	g := a.gen.Load()
	if err := checkWords(o.By, o.Reason); err != nil {
		return ans, err
	}
	b := added{
		Host: o.Host, Like: o.Like, Protocol: o.Protocol, Port: o.Port, TLS: o.TLS, StartTLS: o.StartTLS, Weight: 100,
		Stamp: affinity.Stamp{By: o.By, At: time.Now().UTC().Truncate(time.Second), Reason: o.Reason},
	}
	if o.Tag != "" {
		b.Tags = []string{o.Tag}
	}
	old := g.monitor.View().Host(proxy.CanonicalHost(o.Host))
	if old != nil {
		b.Weight, b.Tags = old.Weight, old.Tags
	}
	if o.Weight != nil {
		b.Weight = *o.Weight
	}
	if b.Like == "" && b.Protocol == "" {
		if b.Like = g.firstLike(o.Tag); b.Like == "" {
			return ans, fmt.Errorf("no host with the tag %q is configured that %s could be like; expected a protocol and a port", o.Tag, o.Host)
		}
	}
	if b.Like != "" && len(entriesOf(g.base, b.Like)) == 0 {
		return ans, notFound{fmt.Errorf("no such host in the configuration: %.260s", b.Like)}
	}
	if b.Like != "" && old != nil {
		return ans, fmt.Errorf("host %s is there already", o.Host)
	}
	if len(entriesOf(g.base, o.Host)) > 0 && b.Like != "" { // of the configuration, and removed
		return a.changeInventory(o.DryRun, monitor.Target{Host: proxy.CanonicalHost(o.Host)}, o.By, o.Reason, command("backend", "add", o.Host), func(c *inventoryChanges) error {
			c.restore(proxy.CanonicalHost(o.Host), 0)
			return nil
		})
	}
	return a.changeInventory(o.DryRun, monitor.Target{Host: proxy.CanonicalHost(o.Host), Port: o.Port}, o.By, o.Reason, b.command(), func(c *inventoryChanges) error { return c.add(b) })
}

// firstLike returns the first configured host of that first tag.
func (g *generation) firstLike(tag string) string {
	for _, s := range g.base {
		if s.Host != "" && s.Tag() == tag {
			return s.Host
		}
	}
	return ""
}

// command is what adds it.
func (b *added) command() string {
	words := []string{"backend", "add"}
	if b.Like != "" {
		words = append(words, b.Host, "--like", b.Like)
	} else {
		words = append(words, proxy.HostPort(b.Host, b.Port), "--protocol", b.Protocol)
	}
	if b.TLS {
		words = append(words, "--tls")
	}
	if b.StartTLS {
		words = append(words, "--starttls")
	}
	words = append(words, "--weight", strconv.Itoa(b.Weight))
	if len(b.Tags) > 0 {
		words = append(words, "--tag", b.Tags[0])
	}
	if b.Stamp.Reason != "" {
		words = append(words, "--reason", b.Stamp.Reason)
	}
	return command(words...)
}

// RemoveBackend implements control.Service.
func (a *app) RemoveBackend(ctx context.Context, o control.BackendRemove) (ans control.BackendAnswer, err error) {
	g := a.gen.Load()
	if err := checkWords(o.By, o.Reason); err != nil {
		return ans, err
	}
	t, named, err := find(g, o.Target)
	if err != nil {
		return ans, err
	}
	whole := t.Port == 0 || len(named) == len(g.monitor.View().Host(t.Host).Entries)
	if n := a.store.Assigned(t.Host); n > 0 && whole && !o.Force {
		return ans, fmt.Errorf("%d users are assigned to %s; usher flush %s moves them, --force forgets where they are", n, t.Host, t.Host)
	}
	configured := false
	for _, s := range entriesOf(g.base, t.Host) {
		configured = configured || t.Port == 0 || s.Port == t.Port
	}
	stamp := affinity.Stamp{By: o.By, At: time.Now().UTC().Truncate(time.Second), Reason: o.Reason}
	ans, err = a.changeInventory(o.DryRun, t, o.By, o.Reason, command("backend", "remove", t.String()), func(c *inventoryChanges) error {
		c.remove(t, configured, stamp)
		return nil
	})
	if err == nil && whole && !o.DryRun {
		_, err = a.forget(ctx, t.Host, control.FlushOrder{By: o.By, Reason: o.Reason})
	}
	return ans, err
}

// changeInventory changes the inventory for good, and lets it count.
func (a *app) changeInventory(dry bool, t monitor.Target, by, reason, action string, with func(*inventoryChanges) error) (ans control.BackendAnswer, err error) {
	ans = control.BackendAnswer{Target: t.String(), DryRun: dry, Users: a.store.Assigned(t.Host)}
	if dry {
		c := a.state.added.changes.Load()
		trial := &inventoryChanges{Added: append([]added{}, c.Added...), Removed: map[string]affinity.Stamp{}}
		return ans, with(trial)
	}
	a.mu.Lock() // a reload that has read the changes stands before, or reads these
	defer a.mu.Unlock()
	if a.closing {
		return ans, errors.New("usher is ending")
	}
	g := a.gen.Load()
	err = a.state.added.change(with)
	if err == nil {
		err = g.reinventory(a.state.added.changes.Load())
	}
	a.audit(by, reason, action, "", err)
	if err != nil {
		return ans, err
	}
	a.log.Info("order", zap.String("action", action), zap.String("by", by), zap.String("reason", reason))
	entries := g.monitor.Status()
	for _, b := range a.backends(g, entries) {
		if proxy.CanonicalHost(b.Host) == t.Host && (t.Port == 0 || b.Port == t.Port) {
			ans.Backends = append(ans.Backends, b)
		}
	}
	return ans, nil
}

// dumpInventory are the commands that make the changes to the configuration.
func (a *app) dumpInventory() (lines []string) {
	c := a.state.added.changes.Load()
	for _, target := range slices.Sorted(maps.Keys(c.Removed)) {
		s := c.Removed[target]
		words := []string{"backend", "remove", target, "--force"}
		if s.Reason != "" {
			words = append(words, "--reason", s.Reason)
		}
		lines = append(lines, command(words...))
	}
	for i := range c.Added {
		lines = append(lines, c.Added[i].command())
	}
	return lines
}
