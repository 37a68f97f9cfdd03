package affinity

import (
	"context"
	"errors"
	"hash/maphash"
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
	m map[string]entry
	_ [24]byte // a shard's lock shares its cache line with no other's
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
		m.shard[i].m = map[string]entry{}
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
				delete(s.m, k)
				m.len.Add(-1)
				m.hosts.count(e.host, -1)
			}
		}
		s.Unlock()
		dead = dead[n:]
	}
}
