package moves

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/internal/shared"
	"usher/proxy/affinity"
)

// Holds make the logins of a key wait at all nodes while one of them moves it.
type Holds interface {
	// Hold holds a key. An error: it is not held; one that wraps ErrMoving: another
	// node moves it.
	Hold(ctx context.Context, key affinity.Key) error
	// Keep holds keys that were held before a restart.
	Keep(keys []affinity.Key)
	// Release ends a hold. It does not wait.
	Release(key affinity.Key)
	// Held reports whether a node holds the key. It takes no lock.
	Held(key affinity.Key) bool
}

const (
	// holdsEvery is how often holds are compared with the store.
	holdsEvery = time.Second
	// orphaned is how long the holds of a node that is gone are left alone: it may be
	// restarted.
	orphaned = time.Minute
)

// SharedHolds are Holds in a store that nodes share, by the nodes' names.
type SharedHolds struct {
	db    *shared.DB
	table *shared.Table
	node  string
	log   *zap.Logger

	mine atomic.Pointer[map[affinity.Key]bool]
	mu   sync.Mutex // of who changes mine
	wake chan struct{}
}

var _ Holds = (*SharedHolds)(nil)

// NewSharedHolds makes those of a node. Call it before the DB is run; Run does their
// work.
func NewSharedHolds(db *shared.DB, node string, log *zap.Logger) *SharedHolds {
	h := &SharedHolds{db: db, table: db.Table("moving"), node: node, log: log, wake: make(chan struct{}, 1)}
	h.mine.Store(&map[affinity.Key]bool{})
	return h
}

// field is a key as the table has it.
func field(k affinity.Key) string { return k.Name + "\x00" + k.Tag }

func keyOf(field string) affinity.Key {
	name, tag, _ := strings.Cut(field, "\x00")
	return affinity.Key{Tag: tag, Name: name}
}

func (h *SharedHolds) change(f func(mine map[affinity.Key]bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := maps.Clone(*h.mine.Load())
	f(next)
	h.mine.Store(&next)
}

// Hold implements Holds.
func (h *SharedHolds) Hold(ctx context.Context, key affinity.Key) error {
	h.change(func(mine map[affinity.Key]bool) { mine[key] = true })
	err := h.table.Update(ctx, func(rows map[string]string) ([]shared.Row, error) {
		if other, there := rows[field(key)]; there && other != h.node {
			return nil, fmt.Errorf("%s %w, at node %.80s", key.Name, ErrMoving, other)
		}
		return []shared.Row{{Field: field(key), Value: &h.node}}, nil
	})
	if err != nil {
		h.Release(key)
	}
	return err
}

// Keep implements Holds.
func (h *SharedHolds) Keep(keys []affinity.Key) {
	h.change(func(mine map[affinity.Key]bool) {
		for _, k := range keys {
			mine[k] = true
		}
	})
}

// Release implements Holds. The other nodes are told a moment later; while the store
// is away they go on holding.
func (h *SharedHolds) Release(key affinity.Key) {
	h.change(func(mine map[affinity.Key]bool) { delete(mine, key) })
	select {
	case h.wake <- struct{}{}:
	default: // Run has yet to look
	}
}

// Held implements Holds.
func (h *SharedHolds) Held(key affinity.Key) bool {
	if (*h.mine.Load())[key] {
		return true
	}
	rows, _ := h.table.Rows()
	if len(rows) == 0 {
		return false
	}
	node, held := rows[field(key)]
	return held && node != h.node
}

// Run tells the store what is held here and what is not any more, until ctx ends, and
// ends the holds of nodes that are gone for long.
func (h *SharedHolds) Run(ctx context.Context) {
	t := time.NewTicker(holdsEvery)
	defer t.Stop()
	began, seen := time.Now(), map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-h.wake:
		}
		if h.db.Away() {
			began = time.Now() // nobody was seen meanwhile
			continue
		}
		for _, n := range h.db.Nodes() {
			seen[n.Name] = time.Now()
		}
		gone := func(node string) bool {
			last, ok := seen[node]
			if !ok || last.Before(began) {
				last = began
			}
			return time.Since(last) > orphaned
		}
		if err := h.table.Update(ctx, func(rows map[string]string) ([]shared.Row, error) { return h.pending(rows, gone), nil }); err != nil && ctx.Err() == nil {
			h.log.Warn("holds of moves are not told to other nodes yet", zap.Error(err))
		}
	}
}

// pending are the rows that are to be changed.
func (h *SharedHolds) pending(rows map[string]string, gone func(node string) bool) (out []shared.Row) {
	mine := *h.mine.Load()
	for f, node := range rows {
		switch {
		case node == h.node && !mine[keyOf(f)]:
			out = append(out, shared.Row{Field: f})
		case node != h.node && gone(node):
			h.log.Warn("a node that is gone held a user for a move", zap.String("node", node), zap.String("key", keyOf(f).Name))
			out = append(out, shared.Row{Field: f})
		}
	}
	for k := range mine {
		if _, there := rows[field(k)]; !there {
			out = append(out, shared.Row{Field: field(k), Value: &h.node})
		}
	}
	return out
}
