package affinity

import (
	"sync"
	"sync/atomic"
)

// A nameTable interns names: ids are small, rise from 0 and are never reused.
// Readers take no lock.
type nameTable struct {
	ids   sync.Map // string -> uint32
	mu    sync.Mutex
	names atomic.Pointer[[]interned]
}

// An interned name, and how many entries have it.
type interned struct {
	name string
	uses *atomic.Int64
}

func (t *nameTable) name(id uint32) string { return (*t.names.Load())[id].name }

// count adds n to the number of entries that have the name.
func (t *nameTable) count(id uint32, n int64) { (*t.names.Load())[id].uses.Add(n) }

// uses returns how many entries have a name, 0 for one that is not interned.
func (t *nameTable) uses(name string) int {
	id, ok := t.known(name)
	if !ok {
		return 0
	}
	return int((*t.names.Load())[id].uses.Load())
}

// all returns the names by id. Read it only.
func (t *nameTable) all() []interned {
	if p := t.names.Load(); p != nil {
		return *p
	}
	return nil
}

// known returns the id of a name, if it has one.
func (t *nameTable) known(name string) (id uint32, ok bool) {
	if name == "" && len(t.all()) > 0 && t.name(0) == "" {
		return 0, true // the tag of nearly all
	}
	v, ok := t.ids.Load(name)
	if !ok {
		return 0, false
	}
	return v.(uint32), true
}

// id interns a name.
func (t *nameTable) id(name string) uint32 {
	if id, ok := t.known(name); ok {
		return id
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.known(name); ok {
		return id
	}
	// Appending in place is safe: who holds the older header does not look
	// beyond its length.
	names := append(t.all(), interned{name, new(atomic.Int64)})
	t.names.Store(&names)
	id := uint32(len(names) - 1)
	t.ids.Store(name, id)
	return id
}
