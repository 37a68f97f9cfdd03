package modules

import (
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// What a Store holds at most. Beyond it something that is there goes.
const (
	maxStored      = 100_000
	maxStoredBytes = 64 << 20
)

// A Store is what policies share on purpose, nauthilus_cache: one a process,
// which reloads leave alone. Values are copies that nobody changes.
type Store struct {
	mu      sync.Mutex
	entries map[string]stored
	bytes   int
	version uint64
}

type stored struct {
	value   lua.LValue
	bytes   int
	end     time.Time // zero: none
	version uint64    // of the last change, so that an update sees whether it was first
}

// NewStore makes an empty one.
func NewStore() *Store { return &Store{entries: map[string]stored{}} }

// clone is a copy for a dry run, which leaves nothing behind.
func (s *Store) clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewStore()
	for key, e := range s.entries {
		c.entries[key] = e
	}
	c.bytes, c.version = s.bytes, s.version
	return c
}

// get returns what is kept under a key and has not ended. The caller holds mu.
func (s *Store) get(key string, now time.Time) (stored, bool) {
	e, ok := s.entries[key]
	if ok && !e.end.IsZero() && !now.Before(e.end) {
		s.remove(key)
		return stored{}, false
	}
	return e, ok
}

// set keeps a value. The caller holds mu.
func (s *Store) set(key string, e stored, now time.Time) {
	s.remove(key)
	s.sweep(now)
	s.makeRoom(e.bytes, now)
	s.version++
	e.version = s.version
	s.entries[key] = e
	s.bytes += e.bytes
}

func (s *Store) remove(key string) {
	s.bytes -= s.entries[key].bytes
	delete(s.entries, key)
}

// sweep looks at a few entries, which Go's maps make random ones, and drops those
// that have ended: so nobody has to look through all, and with each new entry that
// ends a few old ones may go. In the long run a quarter of them have ended, at most.
func (s *Store) sweep(now time.Time) {
	n := 0
	for key, e := range s.entries {
		if !e.end.IsZero() && !now.Before(e.end) {
			s.remove(key)
		}
		if n++; n == 4 {
			return
		}
	}
}

// makeRoom drops entries until there is room for one more: those that it comes
// across first, which Go's maps make random ones. What has ended costs nothing.
func (s *Store) makeRoom(bytes int, now time.Time) {
	full := func() bool { return len(s.entries) >= maxStored || s.bytes+bytes > maxStoredBytes }
	const looked = 100 // entries that are looked at for one that has ended
	for full() && len(s.entries) > 0 {
		victim, n := "", 0
		for key, e := range s.entries {
			ended := !e.end.IsZero() && !now.Before(e.end)
			if victim == "" || ended {
				victim = key
			}
			if n++; ended || n == looked {
				break
			}
		}
		s.remove(victim)
	}
}
