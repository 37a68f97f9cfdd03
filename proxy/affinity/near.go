package affinity

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// near is a node's copy of the assignments in a shared store, each until it expires.
// It is bounded: where a shard is full another assignment of it makes room.
type near struct {
	most  atomic.Int64 // of all
	len   atomic.Int64
	seed  maphash.Seed
	start time.Time
	shard [shards]nearShard
	hosts nameTable
	tags  nameTable
	full  atomic.Bool // something had to make room
}

type nearShard struct {
	sync.RWMutex
	m      map[string]known
	told   uint64            // changes that were told of its names
	recent map[string]uint64 // told as of the last change of a name
	floor  uint64            // told as recent was emptied
}

// maxRecent bounds nearShard.recent.
const maxRecent = 256

// A known assignment.
type known struct {
	host    uint32
	doubt   doubt
	dirty   bool   // the store does not have it like this
	gen     uint64 // of the connection that changes are told by
	expires int64  // ms since near.start
	echo    int64  // until then, ms since near.start, one change is this node's own
}

// A doubt is whether somebody has changed what is known since it was read.
type doubt uint8

const (
	noDoubt doubt = iota
	echoed        // this node itself, as far as can be told: the store tells that too
	doubted
)

// echoTime is how long after a write, in ms, its echo may come.
const echoTime = 250

func newNear(most int) *near {
	n := &near{seed: maphash.MakeSeed(), start: time.Now()}
	n.most.Store(int64(most))
	for i := range n.shard {
		n.shard[i].m, n.shard[i].recent = map[string]known{}, map[string]uint64{}
	}
	return n
}

func (n *near) shardOf(name string) *nearShard {
	return &n.shard[maphash.String(n.seed, name)%shards]
}

// now is in ms since start.
func (n *near) now() int64 { return time.Since(n.start).Milliseconds() }

// get returns what is known, if it lives.
func (n *near) get(key Key) (k known, host string, ok bool) {
	s := n.shardOf(key.Name)
	s.RLock()
	k, ok = s.m[mapKey(key)]
	s.RUnlock()
	if !ok || k.expires <= n.now() {
		return known{}, "", false
	}
	return k, n.hosts.name(k.host), true
}

// told returns a number that nearShard.changed compares with what is told later.
func (n *near) told(name string) uint64 {
	s := n.shardOf(name)
	s.RLock()
	defer s.RUnlock()
	return s.told
}

// tell notes that somebody has changed what is known of a name.
func (n *near) tell(name string) {
	s := n.shardOf(name)
	s.Lock()
	defer s.Unlock()
	s.told++
	if len(s.recent) >= maxRecent {
		clear(s.recent)
		s.floor = s.told
	}
	s.recent[name] = s.told
	n.each(name, func(key string) {
		if k, ok := s.m[key]; ok {
			if k.doubt != doubted && k.echo > n.now() {
				k.doubt, k.echo = echoed, 0
			} else {
				k.doubt = doubted
			}
			s.m[key] = k
		}
	})
}

// changed reports whether somebody may have changed what is known of a name since told
// was that. The caller holds s.
func (s *nearShard) changed(name string, told uint64) bool {
	return s.floor > told || s.recent[name] > told
}

// each calls f with the map keys that a name may have.
func (n *near) each(name string, f func(key string)) {
	f(name)
	for _, tag := range n.tags.all() {
		f(mapKey(Key{tag.name, name}))
	}
}

// take makes live what is known of a name, as it was read when told and gen were
// these. What is dirty and was not found stays. It reports whether that is in doubt,
// and whether somebody has forgotten what should live.
func (n *near) take(name string, live []Assignment, expires []int64, told, gen uint64) (again, forgotten bool) {
	s := n.shardOf(name)
	for _, a := range live {
		if a.Key.Tag != "" {
			n.tags.id(a.Key.Tag)
		}
	}
	s.Lock()
	defer s.Unlock()
	was := noDoubt
	if s.changed(name, told) {
		was = doubted
	}
	var had []string
	n.each(name, func(key string) {
		if k, ok := s.m[key]; ok && !k.dirty {
			if k.expires > n.now() {
				had = append(had, key)
			}
			n.drop(s, key)
		}
	})
	for i, a := range live {
		n.put(s, mapKey(a.Key), known{host: n.hosts.id(a.Host), doubt: was, gen: gen, expires: expires[i]})
	}
	return was != noDoubt, slices.ContainsFunc(had, func(key string) bool { return !s.has(key) })
}

// claim makes host what is known of a key, for the store to be told.
func (n *near) claim(key Key, host string, expires int64) {
	if key.Tag != "" {
		n.tags.id(key.Tag)
	}
	id := n.hosts.id(host)
	s := n.shardOf(key.Name)
	s.Lock()
	defer s.Unlock()
	k := s.m[mapKey(key)]
	if k.expires <= n.now() {
		k = known{}
	}
	k.host, k.dirty, k.expires = id, true, expires
	n.put(s, mapKey(key), k)
}

// wrote makes host what is known of a key after this node has written it; told and gen
// were these before. It reports whether it has to be read again.
func (n *near) wrote(key Key, host string, expires int64, told, gen uint64) (again bool) {
	k := known{gen: gen, expires: expires, echo: n.now() + echoTime}
	if key.Tag != "" {
		n.tags.id(key.Tag)
	}
	k.host = n.hosts.id(host)
	s := n.shardOf(key.Name)
	s.Lock()
	defer s.Unlock()
	if s.changed(key.Name, told) {
		k.doubt, k.echo = echoed, 0
	}
	n.put(s, mapKey(key), k)
	return k.doubt != noDoubt
}

// expect says that this node is about to write what is known of a name.
func (n *near) expect(name string) {
	s := n.shardOf(name)
	s.Lock()
	defer s.Unlock()
	n.each(name, func(key string) {
		if k, ok := s.m[key]; ok && k.doubt != doubted {
			k.echo = n.now() + echoTime
			s.m[key] = k
		}
	})
}

// put needs s locked.
func (n *near) put(s *nearShard, key string, k known) {
	if _, there := s.m[key]; !there {
		if int64(len(s.m))*shards >= max(n.most.Load(), shards) {
			n.evict(s)
		}
		n.len.Add(1)
	}
	s.m[key] = k
}

// evict makes room: one that has expired, else any that the store has too.
func (n *near) evict(s *nearShard) {
	victim, tries := "", 0
	for key, k := range s.m {
		if tries++; k.expires <= n.now() || tries > 16 && victim != "" {
			if k.expires <= n.now() {
				victim = key
			}
			break
		}
		if !k.dirty {
			victim = key
		}
	}
	if victim != "" {
		n.full.Store(n.full.Load() || s.m[victim].expires > n.now())
		n.drop(s, victim)
	}
}

// drop needs s locked.
func (n *near) drop(s *nearShard, key string) {
	delete(s.m, key)
	n.len.Add(-1)
}

// forget drops what is known of a key, and was when told was that. It reports false
// where somebody may have changed it since.
func (n *near) forget(key Key, told uint64) bool {
	s := n.shardOf(key.Name)
	s.Lock()
	defer s.Unlock()
	if s.changed(key.Name, told) {
		return false
	}
	if k := mapKey(key); s.has(k) {
		n.drop(s, k)
	}
	return true
}

func (s *nearShard) has(key string) bool { _, ok := s.m[key]; return ok }

// prolong makes what lives of a name expire later, in every tag, for the store to be
// told. only, if not "", is the host that it must be on.
func (n *near) prolong(name, only string, expires int64) {
	s := n.shardOf(name)
	s.Lock()
	defer s.Unlock()
	n.each(name, func(key string) {
		k, ok := s.m[key]
		if ok && k.expires > n.now() && (only == "" || n.hosts.name(k.host) == only) {
			k.dirty, k.expires = true, max(k.expires, expires)
			s.m[key] = k
		}
	})
}

// tolds returns what told would of all names, by shard.
func (n *near) tolds() (all [shards]uint64) {
	for i := range all {
		n.shard[i].RLock()
		all[i] = n.shard[i].told
		n.shard[i].RUnlock()
	}
	return all
}

// learn takes in what a listing of the store says, if it is news; tolds and gen were
// these before. It reports false where that may have changed since.
func (n *near) learn(a Assignment, expires int64, tolds *[shards]uint64, gen uint64) bool {
	if a.Key.Tag != "" {
		n.tags.id(a.Key.Tag)
	}
	i := maphash.String(n.seed, a.Key.Name) % shards
	s, key := &n.shard[i], mapKey(a.Key)
	s.Lock()
	defer s.Unlock()
	if s.changed(a.Key.Name, tolds[i]) {
		return false
	}
	if k, ok := s.m[key]; !ok || k.gen != gen {
		n.put(s, key, known{host: n.hosts.id(a.Host), gen: gen, expires: expires})
	}
	return true
}

// snapshot returns what lives of a shard and is not in doubt; only what is dirty unless all.
func (n *near) snapshot(i int, all bool) (keys []string, list []known) {
	s := &n.shard[i]
	now := n.now()
	s.RLock()
	defer s.RUnlock()
	for key, k := range s.m {
		if k.expires > now && k.doubt != doubted && (all || k.dirty) {
			keys, list = append(keys, key), append(list, k)
		}
	}
	return keys, list
}

// sweep drops what has expired of a shard.
func (n *near) sweep(i int) {
	s := &n.shard[i]
	now := n.now()
	s.Lock()
	defer s.Unlock()
	for key, k := range s.m {
		if k.expires <= now {
			n.drop(s, key)
		}
	}
}

// mapKey puts a tag behind the name. Neither holds a NUL: names of users and tags
// with control bytes are refused at the door.
func mapKey(k Key) string {
	if k.Tag == "" {
		return k.Name
	}
	return k.Name + "\x00" + k.Tag
}
