package affinity

// A restore puts what the files say into a Memory, expired assignments too: a later
// record may prolong them. It implements recordHandler.
type restore struct {
	m *Memory
	// offset added to a file's seconds gives the Memory's.
	offset int64
	now    uint32 // by the Memory's seconds
	most   int64  // the latest expiry: what is claimed now has it
	bytes  int64  // of the file
	// merge: the Memory has served meanwhile. The later expiry holds.
	merge bool

	hosts, tags []interning // of the file, by its numbers
}

// An interning is a name of a file. Of those that no assignment has any more none
// is interned.
type interning struct {
	name string
	id   uint32
	done bool
}

func (n *interning) in(t *nameTable) uint32 {
	if !n.done {
		n.id, n.done = t.id(n.name), true
	}
	return n.id
}

// file begins another file.
func (r *restore) file(offset, bytes int64) {
	r.bytes = bytes
	r.offset, r.hosts, r.tags = offset, nil, nil
	now, most := r.m.clock()
	r.now, r.most = now, int64(most)
}

// size makes room at once. A file has nothing in fewer than eight bytes.
func (r *restore) size(count uint32) {
	n := int(min(int64(count), r.bytes/8))
	for i := range r.m.shard {
		s := &r.m.shard[i]
		s.mu.Lock()
		if len(s.dir) == 1 && s.dir[0].n == 0 {
			s.init(n / shards)
		}
		s.mu.Unlock()
	}
}

func (r *restore) host(name string) { r.hosts = append(r.hosts, interning{name: name}) }
func (r *restore) tag(name string)  { r.tags = append(r.tags, interning{name: name}) }

// expiry turns the file's seconds into the Memory's; 0: it is over. A clock that
// was set back lets nothing live longer than from now on.
func (r *restore) expiry(expires uint32) uint32 {
	e := min(int64(expires)+r.offset, r.most)
	if e <= int64(r.now) {
		return 0
	}
	return uint32(e)
}

func (r *restore) put(fresh bool, tag, host, expires uint32, name []byte) {
	m := r.m
	s, hash := m.locateBytes(name)
	expires = r.expiry(expires)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segment(hash)
	i := r.find(g, hash, tag, name)
	switch {
	case i < 0:
		id := r.hosts[host].in(&m.hosts)
		m.hosts.count(id, 1)
		m.len.Add(1) // more than max_entries may have been recorded
		s.insert(r.tags[tag].in(&m.tags), string(name), slot{hash: hash, host: id, expires: expires})
	case r.merge && g.slots[i].expires > expires:
	default:
		e := &g.slots[i]
		if fresh {
			delete(g.users, e.key)
		}
		m.move(e, r.hosts[host].in(&m.hosts))
		e.expires = expires
	}
}

func (r *restore) drop(tag, expires uint32, name []byte) {
	s, hash := r.m.locateBytes(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segment(hash)
	i := r.find(g, hash, tag, name)
	if i < 0 || r.merge && g.slots[i].expires > r.expiry(expires) {
		return
	}
	r.m.drop(g, i)
	g.tidy()
}

func (r *restore) user(tag uint32, name, user []byte) {
	s, hash := r.m.locateBytes(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segment(hash)
	i := r.find(g, hash, tag, name)
	if i < 0 {
		return
	}
	if known, count := g.knows(&g.slots[i], string(user)); !known && count < MaxUsers {
		g.remember(&g.slots[i], string(user))
	}
}

// find returns the slot of a key, -1 for none.
func (r *restore) find(g *segment, hash, tag uint32, name []byte) int {
	t := &r.tags[tag]
	if !t.done {
		id, ok := r.m.tags.known(t.name)
		if !ok {
			return -1
		}
		t.id, t.done = id, true
	}
	return g.find(hash, t.id, string(name))
}
