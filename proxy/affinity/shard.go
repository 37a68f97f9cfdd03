package affinity

import "sync"

// maxDepth is far beyond the billion entries that a store may have.
const maxDepth = 20

// A shard is a part of the entries under a lock of its own: a directory of
// segments (extendible hashing: R. Fagin et al., "Extendible Hashing", 1979). It
// grows a segment at a time, so that nobody waits for a large table to be copied.
type shard struct {
	mu    sync.RWMutex
	depth uint8      // bits of a hash that index dir
	dir   []*segment // a segment of fewer bits stands there several times
	out   outbox
}

// init makes an empty shard for about n entries, whose names have perhaps the
// length of an address.
func (s *shard) init(n int) {
	s.depth = 0
	for n > splitAt*3/4 {
		n /= 2
		s.depth++
	}
	s.dir = make([]*segment, 1<<s.depth)
	for i := range s.dir {
		s.dir[i] = newSegment(s.depth, n, 24*n)
	}
}

// segment returns the segment of a hash. The caller holds the lock.
func (s *shard) segment(hash uint32) *segment { return s.dir[hash>>(32-s.depth)] }

// insert puts an entry of a new key in. The caller holds the lock.
func (s *shard) insert(tag uint32, name string, e slot) {
	g := s.segment(e.hash)
	if g.full() {
		s.grow(g, e.hash)
		g = s.segment(e.hash)
	}
	g.add(tag, name, e)
}

// grow makes room in the segment of a hash.
func (s *shard) grow(g *segment, hash uint32) {
	if g.n >= splitAt {
		if two, ok := g.split(); ok {
			s.part(hash, two)
			return
		}
	}
	*g = *g.rebuilt()
}

// part puts two segments in the place of the one of a hash.
func (s *shard) part(hash uint32, two [2]*segment) {
	depth := two[0].depth
	if depth > s.depth {
		double := make([]*segment, 2*len(s.dir))
		for i := range double {
			double[i] = s.dir[i/2]
		}
		s.dir, s.depth = double, depth
	}
	// All hashes that begin with the same depth-1 bits.
	width := 1 << (s.depth - depth)
	first := int(hash>>(32-s.depth)) &^ (2*width - 1)
	for i := range width {
		s.dir[first+i], s.dir[first+width+i] = two[0], two[1]
	}
}

// A cursor goes through the segments of a shard while it changes: it is where in
// the range of hashes the next one begins. A split behind it or before it neither
// repeats nor misses an entry.
type cursor uint64

const lastCursor cursor = 1 << 32

// next returns the segment at the cursor, and the cursor behind it. The caller
// holds the lock.
func (s *shard) next(at cursor) (*segment, cursor) {
	g := s.segment(uint32(at))
	step := cursor(1) << (32 - g.depth)
	return g, at&^(step-1) + step
}

// copySegment copies the segment at the cursor to another one, and returns where
// the next one is.
func (s *shard) copySegment(at cursor, to *segment) cursor {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g, at := s.next(at)
	g.copyTo(to)
	return at
}
