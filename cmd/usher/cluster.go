package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"

	"usher/config"
	"usher/control"
	"usher/internal/shared"
	"usher/proxy"
	"usher/proxy/affinity"
)

// spread is how long an order takes to be everywhere at most.
const spread = 1500 * time.Millisecond

// firstContact is how long a start waits for the shared store.
const firstContact = 3 * time.Second

// A cluster is what this node has in common with others.
type cluster struct {
	db      *shared.DB
	node    string
	started time.Time
	log     *zap.Logger

	gen    atomic.Pointer[func() *generation] // nil before there can be one
	orders affinity.Orders

	// agreed is the digest of the hosts that all nodes had at the last beat, "" where
	// they differed.
	agreed atomic.Pointer[string]
	seen   atomic.Pointer[viewDigest]
}

// about is what a node says of itself to all.
type about struct {
	Version string    `json:"version"`
	Ready   bool      `json:"ready"`
	Started time.Time `json:"started"`
	Hosts   string    `json:"hosts"` // digest; "": none yet
}

func (c *cluster) generation() *generation {
	if f := c.gen.Load(); f != nil {
		return (*f)()
	}
	return nil
}

// describe is shared.Options.Describe.
func (c *cluster) describe() []byte {
	a := about{Version: version(), Started: c.started}
	if g := c.generation(); g != nil {
		a.Ready, a.Hosts = g.monitor.Ready(), c.digest(g)
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return raw
}

// compare notes after a beat whether all nodes have the same hosts.
func (c *cluster) compare() {
	all, same := "", true
	for i, n := range c.db.Nodes() {
		var a about
		if json.Unmarshal(n.About, &a) != nil || a.Hosts == "" || i > 0 && a.Hosts != all {
			same = false
			break
		}
		all = a.Hosts
	}
	if !same {
		all = ""
	}
	c.agreed.Store(&all)
}

// hashes is affinity.ValkeyOptions.Hash: whether every node would hash the key to the
// host. It is so where all of them had the same hosts when the store was last there,
// and this one still has.
func (c *cluster) hashes(key affinity.Key, host string) bool {
	g, agreed := c.generation(), c.agreed.Load()
	if g == nil || agreed == nil || *agreed == "" || c.digest(g) != *agreed {
		return false
	}
	if host == "" {
		return true
	}
	to, ok := g.target(affinity.Assignment{Key: key}, c.orders)
	return ok && to == host
}

// A viewDigest is the digest of one view under one configuration.
type viewDigest struct {
	view *proxy.View
	cfg  *config.Config
	sum  string
}

func (c *cluster) digest(g *generation) string {
	v := g.monitor.View()
	if d := c.seen.Load(); d != nil && d.view == v && d.cfg == g.cfg {
		return d.sum
	}
	d := &viewDigest{v, g.cfg, digest(g.cfg, v)}
	c.seen.Store(d)
	return d.sum
}

// digest sums up all that decides where the hash sends a user: the backends with
// their weights, tags and states, and how keys are made.
func digest(cfg *config.Config, v *proxy.View) string {
	lines := make([]string, len(v.Entries))
	for i := range v.Entries {
		e := &v.Entries[i]
		lines[i] = fmt.Sprintf("%s %s %d %d %q %s %s %t %t %t", e.Protocol, e.Machine().ID, e.Port, e.Weight, e.Tags, e.Health, e.Admin, e.Standby, e.TLS, e.StartTLS)
	}
	slices.Sort(lines)
	h := xxhash.New()
	for _, l := range lines {
		line(h, l)
	}
	line(h, cfg.Affinity.Mode, cfg.Affinity.Key, cfg.Dovecot.MasterUserSeparator)
	return strconv.FormatUint(h.Sum64(), 16)
}

// line never fails: a hash takes all.
func line(h hash.Hash, words ...string) { _, _ = fmt.Fprintf(h, "%q\n", words) }

// state says of the store, for control: memory where c is nil, here or away.
func (c *cluster) state() string {
	switch {
	case c == nil:
		return "memory"
	case c.db.Away():
		return "away"
	}
	return "here"
}

// nodes lists those that live, for control.
func (c *cluster) nodes() []control.Node {
	out := []control.Node{}
	for _, n := range c.db.Nodes() {
		var a about
		if err := json.Unmarshal(n.About, &a); err != nil {
			c.log.Warn("a node says something strange of itself", zap.String("node", n.Name), zap.Error(err))
		}
		out = append(out, control.Node{Name: n.Name, Version: a.Version, Ready: a.Ready, Self: n.Self, Started: a.Started, Seen: c.db.LastBeat()})
	}
	return out
}

// wait waits for the store at a start, so that the first logins have it.
func (c *cluster) wait(ctx context.Context) {
	t := time.NewTimer(firstContact)
	defer t.Stop()
	select {
	case <-c.db.Reached():
	case <-ctx.Done():
	case <-t.C:
		c.log.Warn("the shared store is away: logins are told to try later until it comes")
	}
}
