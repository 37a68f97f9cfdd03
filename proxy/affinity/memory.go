package affinity

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const shards = 256

// sweepBatch bounds how long a sweep holds a shard's lock.
const sweepBatch = 2000

// MemoryOptions configure a Memory.
type MemoryOptions struct {
	Expire     time.Duration    // life after the last claim or refresh; at least a second
	MaxEntries int              // at least 1; new keys beyond are not recorded
	Now        func() time.Time // nil: time.Now
}

// Memory is a Store in this process's memory: 256 maps, each under a lock of
// its own. Hosts are interned, so that an entry costs its key and eight bytes.
type Memory struct {
	opt   MemoryOptions
	life  atomic.Int64 // seconds: Expire, rounded up
	most  atomic.Int64 // MaxEntries
	seed  maphash.Seed
	start time.Time
	len   atomic.Int64
	shard [shards]shard
	hosts nameTable
	tags  nameTable // those that ever had an entry
}

type shard struct {
	sync.RWMutex
	m     map[string]entry
	users map[string][]string // of keys whose sessions have other names
	_     [16]byte            // a shard's lock shares its cache line with no other's
}

type entry struct {
	host    uint32 // id in Memory.hosts
	expires uint32 // seconds since Memory.start
}

// NewMemory returns an empty store. Run sweeps it.
func NewMemory(opt MemoryOptions) (*Memory, error) {
	switch {
	case opt.Expire < time.Second:
		return nil, errors.New("affinity: expire is under a second")
	case opt.MaxEntries < 1:
		return nil, errors.New("affinity: max_entries is under 1")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	m := &Memory{opt: opt, seed: maphash.MakeSeed(), start: opt.Now()}
	for i := range m.shard {
		m.shard[i].m, m.shard[i].users = map[string]entry{}, map[string][]string{}
	}
	m.SetLimits(opt.Expire, opt.MaxEntries)
	return m, nil
}

// SetLimits changes life and number of entries; what is there keeps the life
// that it was given until its next claim or refresh.
func (m *Memory) SetLimits(expire time.Duration, maxEntries int) {
	m.life.Store(int64((expire + time.Second - 1) / time.Second))
	m.most.Store(int64(maxEntries))
}

// mapKey puts a tag before the name. Neither holds a NUL: names of users and
// tags with control bytes are refused at the door.
func mapKey(k Key) string {
	if k.Tag == "" {
		return k.Name
	}
	return k.Name + "\x00" + k.Tag
}

// shardOf hashes the name alone, so that Refresh finds all tags in one shard.
func (m *Memory) shardOf(name string) *shard {
	return &m.shard[maphash.String(m.seed, name)%shards]
}

// now is rounded up, so that an entry never lives shorter than Expire.
func (m *Memory) now() uint32 {
	return uint32((m.opt.Now().Sub(m.start) + time.Second - 1) / time.Second)
}

func (m *Memory) expiry(now uint32) uint32 {
	return now + uint32(m.life.Load())
}

// Lookup implements Store.
func (m *Memory) Lookup(_ context.Context, key Key) (string, error) {
	s := m.shardOf(key.Name)
	k := mapKey(key)
	s.RLock()
	e, ok := s.m[k]
	s.RUnlock()
	if !ok || e.expires <= m.now() {
		return "", nil
	}
	return m.hosts.name(e.host), nil
}

// Claim implements Store.
func (m *Memory) Claim(_ context.Context, key Key, seen, host string) (string, error) {
	s := m.shardOf(key.Name)
	k := mapKey(key)
	id := m.hosts.id(host)
	if key.Tag != "" {
		m.tags.id(key.Tag)
	}
	now := m.now()

	s.Lock()
	defer s.Unlock()
	e, there := s.m[k]
	alive := there && e.expires > now
	switch {
	case alive && e.host != id && m.hosts.name(e.host) != seen:
		return m.hosts.name(e.host), nil
	case !there && !m.reserve():
		return host, nil
	}
	// Of an entry that goes on as it was nothing is counted: most logins.
	if !there || e.host != id {
		if there {
			m.hosts.count(e.host, -1)
		}
		m.hosts.count(id, 1)
	}
	s.m[k] = entry{id, m.expiry(now)}
	return host, nil
}

// reserve counts a new entry, unless the store is full.
func (m *Memory) reserve() bool {
	if m.len.Add(1) > m.most.Load() {
		m.len.Add(-1)
		return false
	}
	return true
}

// Refresh implements Store.
func (m *Memory) Refresh(_ context.Context, name string) error {
	s := m.shardOf(name)
	now := m.now()
	s.Lock()
	defer s.Unlock()
	if e, ok := s.m[name]; ok && e.expires > now {
		s.m[name] = entry{e.host, m.expiry(now)}
	}
	for _, tag := range m.tags.all() {
		k := mapKey(Key{tag.name, name})
		if e, ok := s.m[k]; ok && e.expires > now {
			s.m[k] = entry{e.host, m.expiry(now)}
		}
	}
	return nil
}

// Remember implements Store.
func (m *Memory) Remember(_ context.Context, key Key, user string) error {
	s := m.shardOf(key.Name)
	k := mapKey(key)
	s.RLock()
	known := slices.Contains(s.users[k], user)
	s.RUnlock()
	if known {
		return nil
	}
	s.Lock()
	defer s.Unlock()
	list := s.users[k]
	if e, ok := s.m[k]; ok && e.expires > m.now() && len(list) < MaxUsers && !slices.Contains(list, user) {
		s.users[k] = append(list, user)
	}
	return nil
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, key Key) (Assignment, error) {
	s := m.shardOf(key.Name)
	k := mapKey(key)
	s.RLock()
	defer s.RUnlock()
	e, ok := s.m[k]
	if !ok || e.expires <= m.now() {
		return Assignment{}, nil
	}
	return m.assignment(k, e, s.users[k]), nil
}

func (m *Memory) assignment(k string, e entry, users []string) Assignment {
	name, tag, _ := strings.Cut(k, "\x00")
	return Assignment{
		Key: Key{tag, name}, Host: m.hosts.name(e.host), Users: slices.Clone(users),
		Expires: m.start.Add(time.Duration(e.expires) * time.Second),
	}
}

// Set implements Store.
func (m *Memory) Set(ctx context.Context, key Key, host string) error {
	for seen := host; ; {
		winner, err := m.Claim(ctx, key, seen, host)
		if err != nil || winner == host {
			return err
		}
		seen = winner
	}
}

// Forget implements Store.
func (m *Memory) Forget(_ context.Context, key Key) error {
	s := m.shardOf(key.Name)
	s.Lock()
	defer s.Unlock()
	if k := mapKey(key); s.has(k) {
		m.drop(s, k)
	}
	return nil
}

func (s *shard) has(k string) bool { _, ok := s.m[k]; return ok }

// drop deletes what is there. The caller holds the shard's lock.
func (m *Memory) drop(s *shard, k string) {
	m.hosts.count(s.m[k].host, -1)
	m.len.Add(-1)
	delete(s.m, k)
	delete(s.users, k)
}

// Each implements Store. It holds a shard's lock while it copies a part of it.
func (m *Memory) Each(ctx context.Context, host string, yield func(Assignment) bool) error {
	for i := range m.shard {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := &m.shard[i]
		now := m.now()
		var batch []Assignment
		s.RLock()
		for k, e := range s.m {
			if e.expires > now && (host == "" || m.hosts.name(e.host) == host) {
				batch = append(batch, m.assignment(k, e, s.users[k]))
			}
		}
		s.RUnlock()
		for _, a := range batch {
			if !yield(a) {
				return nil
			}
		}
	}
	return nil
}

// Len implements Store.
func (m *Memory) Len() int { return int(m.len.Load()) }

// Assigned implements Store.
func (m *Memory) Assigned(host string) int { return m.hosts.uses(host) }

// Run sweeps expired entries until ctx ends: each shard once a minute, a
// bounded number at a time, so that no login waits for it.
func (m *Memory) Run(ctx context.Context) {
	t := time.NewTicker(time.Minute / shards)
	defer t.Stop()
	for i := 0; ; i = (i + 1) % shards {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.sweep(&m.shard[i])
		}
	}
}

// sweep deletes what has expired. What is claimed between its two passes it
// leaves alone.
func (m *Memory) sweep(s *shard) {
	now := m.now()
	var dead []string
	s.RLock()
	for k, e := range s.m {
		if e.expires <= now {
			dead = append(dead, k)
		}
	}
	s.RUnlock()
	for len(dead) > 0 {
		n := min(len(dead), sweepBatch)
		s.Lock()
		for _, k := range dead[:n] {
			if e, ok := s.m[k]; ok && e.expires <= now {
				m.drop(s, k)
			}
		}
		s.Unlock()
		dead = dead[n:]
	}
}
