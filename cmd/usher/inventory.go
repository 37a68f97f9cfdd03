package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"usher/internal/wholefile"
	"usher/monitor"
	"usher/proxy"
	"usher/proxy/affinity"
)

// maxBackendsFile bounds what is read.
const maxBackendsFile = 16 << 20

// An added backend is one that an operator named at run time.
type added struct {
	Host string `json:"host"` // as ordered
	// Like names a host of the configuration whose entries it has; else Protocol and
	// Port are those of its one entry.
	Like     string         `json:"like,omitempty"`
	Protocol string         `json:"protocol,omitempty"`
	Port     int            `json:"port,omitempty"`
	TLS      bool           `json:"tls,omitempty"`
	StartTLS bool           `json:"starttls,omitempty"`
	Weight   int            `json:"weight"`
	Tags     []string       `json:"tags,omitempty"`
	Stamp    affinity.Stamp `json:"stamp"`
}

// valid returns what is wrong with it.
func (b *added) valid() error {
	var faults []error
	if !proxy.ValidHost(b.Host) {
		faults = append(faults, fmt.Errorf("%.260q is no host name and no address", b.Host))
	}
	if b.Like == "" && (b.Port < 1 || b.Port > 65535 || !slices.Contains([]string{"imap", "pop3", "smtp", "lmtp", "sieve", "http"}, b.Protocol)) {
		faults = append(faults, fmt.Errorf("%s: expected a protocol with a port, or a host that it is like", b.Host))
	}
	if b.TLS && b.StartTLS {
		faults = append(faults, fmt.Errorf("%s: tls and starttls; expected one of them", b.Host))
	}
	if b.Weight < 0 || b.Weight > monitor.MaxWeight {
		faults = append(faults, fmt.Errorf("%s: weight %d; expected 0 to %d", b.Host, b.Weight, monitor.MaxWeight))
	}
	return errors.Join(faults...)
}

// inventoryChanges are what operators added to the configuration's backends, and
// removed. They are immutable.
type inventoryChanges struct {
	Version int                       `json:"version"`
	Added   []added                   `json:"added"`
	Removed map[string]affinity.Stamp `json:"removed"` // by HOST or HOST:PORT, canonical
}

// An inventoryFile keeps them over restarts.
type inventoryFile struct {
	path    string
	mu      sync.Mutex
	changes atomic.Pointer[inventoryChanges] // never nil
}

func openInventoryFile(path string) (*inventoryFile, error) {
	f := &inventoryFile{path: path}
	f.changes.Store(&inventoryChanges{Version: 1})
	raw, err := wholefile.Read(path, maxBackendsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("added and removed backends: %w", err)
	}
	c, err := parseInventory(raw)
	if err != nil {
		return nil, fmt.Errorf("added and removed backends: %s: %w; mend it, or move it away to begin with the configuration's", path, err)
	}
	f.changes.Store(c)
	return f, nil
}

func parseInventory(raw []byte) (*inventoryChanges, error) {
	c := &inventoryChanges{}
	if err := wholefile.Decode(raw, c); err != nil {
		return nil, err
	}
	if c.Version != 1 {
		return nil, fmt.Errorf("version %d; expected 1", c.Version)
	}
	var faults []error
	for i := range c.Added {
		faults = append(faults, c.Added[i].valid())
	}
	for target := range c.Removed {
		if t, err := monitor.ParseTarget(target); err != nil || t.String() != target {
			faults = append(faults, fmt.Errorf("removed %.280q; expected HOST or HOST:PORT", target))
		}
	}
	return c, errors.Join(faults...)
}

// change writes a changed copy, and lets it count once it is on the disk.
func (f *inventoryFile) change(with func(*inventoryChanges) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.changes.Load()
	next := &inventoryChanges{Version: 1, Added: slices.Clone(old.Added), Removed: maps.Clone(old.Removed)}
	if next.Removed == nil {
		next.Removed = map[string]affinity.Stamp{}
	}
	if err := with(next); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = wholefile.Replace(f.path, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("the order can't be kept, and is not taken: %w", err)
	}
	f.changes.Store(next)
	return nil
}

// add adds a backend, or takes back that the same one was removed.
func (c *inventoryChanges) add(b added) error {
	if err := b.valid(); err != nil {
		return err
	}
	id := proxy.CanonicalHost(b.Host)
	c.restore(id, b.Port)
	c.Added = slices.DeleteFunc(c.Added, func(o added) bool {
		return proxy.CanonicalHost(o.Host) == id && o.Protocol == b.Protocol && o.Port == b.Port && o.Like == b.Like
	})
	c.Added = append(c.Added, b)
	return nil
}

// restore takes back that a host, or with a port its entries there, was removed.
func (c *inventoryChanges) restore(host string, port int) {
	maps.DeleteFunc(c.Removed, func(k string, _ affinity.Stamp) bool {
		t, err := monitor.ParseTarget(k)
		return err == nil && t.Host == host && (t.Port == 0 || port == 0 || t.Port == port)
	})
}

// remove takes out what was added, and what the configuration has.
func (c *inventoryChanges) remove(t monitor.Target, configured bool, s affinity.Stamp) {
	c.Added = slices.DeleteFunc(c.Added, func(o added) bool {
		return proxy.CanonicalHost(o.Host) == t.Host && (t.Port == 0 || o.Port == t.Port)
	})
	if configured {
		c.Removed[t.String()] = s
	}
}

// of returns the inventory: base without what was removed, with what was added. made
// has the servers that earlier calls made, whose pointers stay.
func (c *inventoryChanges) of(base []*proxy.Server, made map[string]*proxy.Server) []*proxy.Server {
	var out []*proxy.Server
	for _, s := range base {
		id := proxy.CanonicalHost(s.Host)
		_, host := c.Removed[id]
		_, entry := c.Removed[monitor.Target{Host: id, Port: s.Port}.String()]
		if s.Host == "" || !host && !entry {
			out = append(out, s)
		}
	}
	has := func(protocol, host string, port int) bool {
		return slices.ContainsFunc(out, func(s *proxy.Server) bool {
			return s.Protocol == protocol && proxy.CanonicalHost(s.Host) == host && s.Port == port
		})
	}
	for i := range c.Added {
		b := &c.Added[i]
		id := proxy.CanonicalHost(b.Host)
		entries := []*proxy.Server{{Protocol: b.Protocol, Port: b.Port, TLS: b.TLS, StartTLS: b.StartTLS}}
		if b.Like != "" {
			entries = entriesOf(base, b.Like)
		}
		for _, like := range entries {
			if has(like.Protocol, id, like.Port) {
				continue
			}
			s := *like
			s.Host, s.Weight, s.Tags = b.Host, b.Weight, b.Tags
			key := fmt.Sprint(s.Protocol, " ", s.Address(), " ", s.Weight, s.Tags, s.TLS, s.StartTLS)
			if made[key] == nil {
				made[key] = &s
			}
			out = append(out, made[key])
		}
	}
	return out
}

// entriesOf returns the entries of a host.
func entriesOf(servers []*proxy.Server, host string) (out []*proxy.Server) {
	for _, s := range servers {
		if s.Host != "" && proxy.CanonicalHost(s.Host) == proxy.CanonicalHost(host) {
			out = append(out, s)
		}
	}
	return out
}
