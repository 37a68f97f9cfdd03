package affinity

import (
	"context"
	"errors"
	"hash/maphash"
	"sync/atomic"
	"time"
)

const shards = 256

// maxName bounds what is recorded, in bytes: names of users have 255 at most.
const maxName = 4096

// MemoryOptions configure a Memory.
type MemoryOptions struct {
	Expire     time.Duration    // life after the last claim or refresh; at least a second
	MaxEntries int              // at least 1; new keys beyond are not recorded
	Now        func() time.Time // nil: time.Now
}

// Memory is a Store in this process's memory: 256 shards of small hash tables, in
// which the garbage collector finds no pointers. Hosts and tags are interned. An
// entry costs about 35 bytes and its name.
type Memory struct {
	opt   MemoryOptions
	life  atomic.Int64 // seconds: Expire, rounded up
	most  atomic.Int64 // MaxEntries
	seed  maphash.Seed // secret, so that nobody can choose names that hash alike
	start time.Time
	len   atomic.Int64
	shard [shards]shard
	hosts nameTable
	tags  nameTable // those that ever had an entry; 0 is ""
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
		m.shard[i].init(0)
	}
	m.tags.id("")
	m.SetLimits(opt.Expire, opt.MaxEntries)
	return m, nil
}

// SetLimits changes life and number of entries; what is there keeps the life
// that it was given until its next claim or refresh.
func (m *Memory) SetLimits(expire time.Duration, maxEntries int) {
	m.life.Store(int64((expire + time.Second - 1) / time.Second))
	m.most.Store(int64(maxEntries))
}

// locate hashes the name alone, so that Refresh finds all tags in one place. The
// shard and the place in it go by different bits.
func (m *Memory) locate(name string) (*shard, uint32) {
	return m.place(maphash.String(m.seed, name))
}

func (m *Memory) locateBytes(name []byte) (*shard, uint32) {
	return m.place(maphash.Bytes(m.seed, name))
}

func (m *Memory) place(h uint64) (*shard, uint32) {
	return &m.shard[h%shards], uint32(h >> 32)
}

// clock returns the seconds that are over since the start, and when what is claimed
// now expires: rounded up, so that an entry never lives shorter than Expire.
func (m *Memory) clock() (now, expires uint32) {
	d := m.opt.Now().Sub(m.start)
	return uint32(d / time.Second), uint32((d+time.Second-1)/time.Second) + uint32(m.life.Load())
}

func (m *Memory) now() uint32 {
	now, _ := m.clock()
	return now
}

// Lookup implements Store.
func (m *Memory) Lookup(_ context.Context, key Key) (string, error) {
	tag, ok := m.tags.known(key.Tag)
	if !ok {
		return "", nil
	}
	s, hash := m.locate(key.Name)
	var e slot
	s.mu.RLock()
	g := s.segment(hash)
	if i := g.find(hash, tag, key.Name); i >= 0 {
		e = g.slots[i]
	}
	s.mu.RUnlock()
	if e.expires <= m.now() {
		return "", nil
	}
	return m.hosts.name(e.host), nil
}

// Claim implements Store.
func (m *Memory) Claim(_ context.Context, key Key, seen, host string) (string, error) {
	if tooLong(key.Tag, key.Name, host) {
		return host, nil
	}
	s, hash := m.locate(key.Name)
	id, tag := m.hosts.id(host), m.tags.id(key.Tag)
	now, expires := m.clock()

	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segment(hash)
	i := g.find(hash, tag, key.Name)
	if i < 0 {
		if m.reserve() {
			m.hosts.count(id, 1)
			s.insert(tag, key.Name, slot{hash: hash, host: id, expires: expires})
			s.out.put(opNew, tag, id, expires, key.Name)
		}
		return host, nil
	}
	e := &g.slots[i]
	op := opPut
	switch {
	case e.expires <= now:
		op = opNew
		delete(g.users, e.key)
	case e.host != id && m.hosts.name(e.host) != seen:
		return m.hosts.name(e.host), nil
	case e.host == id && e.expires == expires:
		return host, nil // nothing is new of it: many logins of one key
	}
	m.move(e, id)
	e.expires = expires
	s.out.put(op, tag, id, expires, key.Name)
	return host, nil
}

// tooLong reports what no request has: names are checked at the door.
func tooLong(names ...string) bool {
	for _, n := range names {
		if len(n) > maxName {
			return true
		}
	}
	return false
}

// move gives an entry its host. Of one that stays nothing is counted: most logins.
func (m *Memory) move(e *slot, host uint32) {
	if e.host != host {
		m.hosts.count(e.host, -1)
		m.hosts.count(host, 1)
		e.host = host
	}
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
	s, hash := m.locate(name)
	now, expires := m.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segment(hash)
	for i := g.home(hash); g.slots[i].key != 0; i = g.after(i) {
		e := &g.slots[i]
		if e.hash != hash || e.expires <= now || e.expires == expires {
			continue
		}
		if tag, n := g.key(e); string(n) == name {
			e.expires = expires
			s.out.put(opPut, tag, e.host, expires, name)
		}
	}
	return nil
}

// Remember implements Store.
func (m *Memory) Remember(_ context.Context, key Key, user string) error {
	tag, ok := m.tags.known(key.Tag)
	if !ok || tooLong(user) {
		return nil
	}
	s, hash := m.locate(key.Name)
	// news returns the entry that does not know the user yet, or nil.
	news := func() (g *segment, e *slot) {
		g = s.segment(hash)
		i := g.find(hash, tag, key.Name)
		if i < 0 || g.slots[i].expires <= m.now() {
			return nil, nil
		}
		if known, count := g.knows(&g.slots[i], user); known || count >= MaxUsers {
			return nil, nil
		}
		return g, &g.slots[i]
	}
	s.mu.RLock()
	_, e := news()
	s.mu.RUnlock()
	if e == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, e := news(); e != nil {
		g.remember(e, user)
		s.out.user(tag, key.Name, user)
	}
	return nil
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, key Key) (Assignment, error) {
	tag, ok := m.tags.known(key.Tag)
	if !ok {
		return Assignment{}, nil
	}
	s, hash := m.locate(key.Name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.segment(hash)
	i := g.find(hash, tag, key.Name)
	if i < 0 || g.slots[i].expires <= m.now() {
		return Assignment{}, nil
	}
	return m.assignment(g, &g.slots[i]), nil
}

func (m *Memory) assignment(g *segment, e *slot) Assignment {
	tag, name := g.key(e)
	return Assignment{
		Key: Key{m.tags.name(tag), string(name)}, Host: m.hosts.name(e.host), Users: g.usersOf(e),
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
func (m *Memory) Forget(_ context.Context, key Key, host string) error {
	tag, ok := m.tags.known(key.Tag)
	if !ok {
		return nil
	}
	s, hash := m.locate(key.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segment(hash)
	if i := g.find(hash, tag, key.Name); i >= 0 && m.hosts.name(g.slots[i].host) == host {
		s.out.drop(tag, g.slots[i].expires, key.Name)
		m.drop(g, i)
		g.tidy()
	}
	return nil
}

// drop takes an entry out. The caller holds the shard's lock.
func (m *Memory) drop(g *segment, i int) {
	m.hosts.count(g.slots[i].host, -1)
	m.len.Add(-1)
	g.drop(i)
}

// Each implements Store.
func (m *Memory) Each(ctx context.Context, host string, yield func(Assignment) bool) error {
	return m.segments(ctx, func(g *segment) bool {
		now := m.now()
		for i := range g.slots {
			e := &g.slots[i]
			if e.key == 0 || e.expires <= now || host != "" && m.hosts.name(e.host) != host {
				continue
			}
			if !yield(m.assignment(g, e)) {
				return false
			}
		}
		return true
	})
}

// segments calls yield with a copy of each segment until it returns false. It
// holds a lock only while it copies one.
func (m *Memory) segments(ctx context.Context, yield func(*segment) bool) error {
	var g segment
	for i := range m.shard {
		s := &m.shard[i]
		for at := cursor(0); at < lastCursor; {
			if err := ctx.Err(); err != nil {
				return err
			}
			at = s.copySegment(at, &g)
			if !yield(&g) {
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

// Run sweeps expired entries until ctx ends: each shard once a minute.
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

// sweep drops what has expired.
func (m *Memory) sweep(s *shard) {
	now := m.now()
	for at := cursor(0); at < lastCursor; {
		at = m.sweepSegment(s, at, now)
	}
}

// sweepSegment drops what has expired in one segment, and returns where the next
// one is. So no login waits long for the lock.
func (m *Memory) sweepSegment(s *shard, at cursor, now uint32) cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, at := s.next(at)
	for i := 0; i < len(g.slots); {
		if g.slots[i].key != 0 && g.slots[i].expires <= now {
			m.drop(g, i) // which may have put another one here
		} else {
			i++
		}
	}
	g.tidy()
	return at
}
