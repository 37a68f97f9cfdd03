package proxy

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"usher/proxy/affinity"
)

const (
	indexShards = 64
	// maxIndexed bounds a KeyIndex. Beyond, others are forgotten.
	maxIndexed = 1 << 20
)

// A KeyIndex knows the keys that policies made for users (Verdict.Key): who says
// that a session goes on names the user alone, and a policy's key is none of his
// names. It outlives the pipelines that share it, and is made anew from the store
// at a start (Learn). All methods are safe for concurrent use.
type KeyIndex struct {
	seed  maphash.Seed
	n     atomic.Int64
	shard [indexShards]struct {
		sync.Mutex
		keys map[string]affinity.Key
	}
}

// NewKeyIndex returns an empty one.
func NewKeyIndex() *KeyIndex {
	x := &KeyIndex{seed: maphash.MakeSeed()}
	for i := range x.shard {
		x.shard[i].keys = map[string]affinity.Key{}
	}
	return x
}

// Learn notes that sessions of a user, by his name as orders go by it, keep that
// key.
func (x *KeyIndex) Learn(user string, key affinity.Key) {
	s := &x.shard[maphash.String(x.seed, user)%indexShards]
	s.Lock()
	defer s.Unlock()
	if _, known := s.keys[user]; !known {
		if x.n.Load() >= maxIndexed {
			for other := range s.keys {
				delete(s.keys, other)
				x.n.Add(-1)
				break
			}
		}
		x.n.Add(1)
	}
	s.keys[user] = key
}

// of returns the key that a policy made for a user. Where no policy makes any it
// costs nothing.
func (x *KeyIndex) of(user string) (affinity.Key, bool) {
	if x == nil || x.n.Load() == 0 {
		return affinity.Key{}, false
	}
	s := &x.shard[maphash.String(x.seed, user)%indexShards]
	s.Lock()
	defer s.Unlock()
	key, ok := s.keys[user]
	return key, ok
}

// forget drops what is known of a user.
func (x *KeyIndex) forget(user string) {
	s := &x.shard[maphash.String(x.seed, user)%indexShards]
	s.Lock()
	defer s.Unlock()
	if _, known := s.keys[user]; known {
		delete(s.keys, user)
		x.n.Add(-1)
	}
}
