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
	names atomic.Pointer[[]string]
}

func (t *nameTable) name(id uint32) string { return (*t.names.Load())[id] }

// all returns the names by id. Read it only.
func (t *nameTable) all() []string {
	if p := t.names.Load(); p != nil {
		return *p
	}
	return nil
}

func (t *nameTable) id(name string) uint32 {
	if id, ok := t.ids.Load(name); ok {
		return id.(uint32)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids.Load(name); ok {
		return id.(uint32)
	}
	// Appending in place is safe: who holds the older header does not look
	// beyond its length.
	names := append(t.all(), name)
	t.names.Store(&names)
	id := uint32(len(names) - 1)
	t.ids.Store(name, id)
	return id
}
