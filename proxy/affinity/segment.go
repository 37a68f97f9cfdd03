package affinity

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
)

// A segment has at most splitAt entries, so that nothing that is done to a whole
// one takes long. Only one whose names hash alike (one name in very many tags)
// grows beyond.
const splitAt = 512

// A segment is a hash table with open addressing (linear probing) of the entries
// whose hashes begin with the same bits. The bytes of their keys stand one after
// the other in one slice. The garbage collector finds no pointers in either.
type segment struct {
	slots []slot
	keys  []byte            // begins with a byte that belongs to no key
	n     int               // entries
	dead  int               // bytes of keys that no entry has any more
	depth uint8             // bits of the hash that all entries share
	users map[uint32][]byte // by slot.key: names, each after its length; nil: none
}

// A slot holds an entry, or none.
type slot struct {
	hash    uint32
	key     uint32 // where its key begins in segment.keys; 0: the slot is free
	host    uint32 // id in Memory.hosts
	expires uint32 // seconds since Memory.start
}

// newSegment returns a segment for n entries with that many bytes of keys, and for
// a fifth more before it grows.
func newSegment(depth uint8, n, keys int) *segment {
	return &segment{
		slots: make([]slot, (n*3/2+8)&^7),
		keys:  append(slices.Grow([]byte(nil), keys+keys/5+1), 0),
		depth: depth,
	}
}

// home is where the search for a hash begins. All bits count, though the entries
// of a segment have the first ones in common.
func (g *segment) home(hash uint32) int {
	return int(uint64(hash*0x9e3779b1) * uint64(len(g.slots)) >> 32)
}

func (g *segment) after(i int) int {
	if i++; i < len(g.slots) {
		return i
	}
	return 0
}

// find returns the slot of a key, -1 for none.
func (g *segment) find(hash, tag uint32, name string) int {
	for i := g.home(hash); g.slots[i].key != 0; i = g.after(i) {
		if g.slots[i].hash == hash {
			if t, n := g.key(&g.slots[i]); t == tag && string(n) == name {
				return i
			}
		}
	}
	return -1
}

// key returns the tag's id and the name of an entry.
func (g *segment) key(s *slot) (tag uint32, name []byte) {
	b := g.keys[s.key:]
	if b[0]|b[1] < 0x80 { // both lengths in a byte: nearly all
		return uint32(b[0]), b[2 : 2+b[1]]
	}
	t, i := binary.Uvarint(b)
	n, j := binary.Uvarint(b[i:])
	return uint32(t), b[i+j : i+j+int(n)]
}

// keyLen is the number of bytes that an entry's key takes of segment.keys.
func keyLen(tag uint32, name int) int {
	return uvarintLen(uint64(tag)) + uvarintLen(uint64(name)) + name
}

func uvarintLen(x uint64) int { return max(1, (bits.Len64(x)+6)/7) }

// full reports that another entry would make searches long.
func (g *segment) full() bool { return (g.n+1)*16 > len(g.slots)*13 }

// add puts an entry of a new key in. The segment is not full.
func (g *segment) add(tag uint32, name string, e slot) {
	g.room(keyLen(tag, len(name)))
	e.key = uint32(len(g.keys))
	g.keys = binary.AppendUvarint(g.keys, uint64(tag))
	g.keys = binary.AppendUvarint(g.keys, uint64(len(name)))
	g.keys = append(g.keys, name...)
	g.put(e)
}

// room makes place for keys. It adds an eighth, where append would double.
func (g *segment) room(need int) {
	if have := len(g.keys); have+need > cap(g.keys) {
		g.keys = append(slices.Grow([]byte(nil), have+need+max(have/8, 256)), g.keys...)
	}
}

func (g *segment) put(e slot) {
	i := g.home(e.hash)
	for g.slots[i].key != 0 {
		i = g.after(i)
	}
	g.slots[i] = e
	g.n++
}

// drop takes an entry out. Those behind it move up, so that no search ends at the
// gap.
func (g *segment) drop(i int) {
	tag, name := g.key(&g.slots[i])
	g.dead += keyLen(tag, len(name))
	delete(g.users, g.slots[i].key)
	g.n--
	for j := g.after(i); g.slots[j].key != 0; j = g.after(j) {
		// The entry at j may move to i unless its home is behind i.
		home := g.home(g.slots[j].hash)
		if (j-home+len(g.slots))%len(g.slots) >= (j-i+len(g.slots))%len(g.slots) {
			g.slots[i] = g.slots[j]
			i = j
		}
	}
	g.slots[i] = slot{}
}

// move copies an entry of another segment into this one, which is not full.
func (g *segment) move(from *segment, s *slot) {
	e := *s
	tag, name := from.key(s)
	n := uint32(keyLen(tag, len(name)))
	g.room(int(n))
	e.key = uint32(len(g.keys))
	g.keys = append(g.keys, from.keys[s.key:s.key+n]...)
	g.put(e)
	if users, ok := from.users[s.key]; ok {
		g.setUsers(e.key, users)
	}
}

func (g *segment) setUsers(key uint32, users []byte) {
	if g.users == nil {
		g.users = map[uint32][]byte{}
	}
	g.users[key] = users
}

// rebuilt returns the segment with room for more entries than it has, and without
// the bytes of dead keys.
func (g *segment) rebuilt() *segment {
	to := newSegment(g.depth, g.n, len(g.keys)-g.dead)
	for i := range g.slots {
		if g.slots[i].key != 0 {
			to.move(g, &g.slots[i])
		}
	}
	return to
}

// split returns two segments with the entries whose next bit of the hash is 0 and
// 1. It returns ok false where that would not part them.
func (g *segment) split() (two [2]*segment, ok bool) {
	if g.depth >= maxDepth {
		return two, false
	}
	bit := func(s *slot) int { return int(s.hash >> (31 - g.depth) & 1) }
	var n [2]int
	for i := range g.slots {
		if g.slots[i].key != 0 {
			n[bit(&g.slots[i])]++
		}
	}
	if min(n[0], n[1]) < g.n/8 {
		return two, false
	}
	for i := range two {
		two[i] = newSegment(g.depth+1, n[i], (len(g.keys)-g.dead)*n[i]/g.n)
	}
	for i := range g.slots {
		if s := &g.slots[i]; s.key != 0 {
			two[bit(s)].move(g, s)
		}
	}
	return two, true
}

// tidy gives memory back where a smaller segment would do.
func (g *segment) tidy() {
	if len(g.slots) > 4*g.n+64 || g.dead > 1024 && 2*g.dead > len(g.keys) {
		*g = *g.rebuilt()
	}
}

// copyTo makes to a copy, in the memory that it has.
func (g *segment) copyTo(to *segment) {
	to.slots = append(to.slots[:0], g.slots...)
	to.keys = append(to.keys[:0], g.keys...)
	to.n, to.depth = g.n, g.depth
	to.users = maps.Clone(g.users) // lists of users are only ever added to
}

// usersOf returns the users behind an entry.
func (g *segment) usersOf(s *slot) (names []string) {
	for b := g.users[s.key]; len(b) > 0; {
		n, i := binary.Uvarint(b)
		names = append(names, string(b[i:i+int(n)]))
		b = b[i+int(n):]
	}
	return names
}

// knows reports whether a user is known behind an entry, and how many are.
func (g *segment) knows(s *slot, user string) (known bool, count int) {
	for b := g.users[s.key]; len(b) > 0; count++ {
		n, i := binary.Uvarint(b)
		if string(b[i:i+int(n)]) == user {
			return true, count
		}
		b = b[i+int(n):]
	}
	return false, count
}

// remember adds a user behind an entry.
func (g *segment) remember(s *slot, user string) {
	list := binary.AppendUvarint(g.users[s.key], uint64(len(user)))
	g.setUsers(s.key, append(list, user...))
}
