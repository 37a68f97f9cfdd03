package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"usher/internal/wholefile"
	"usher/protocol/dovecot"
	"usher/proxy/affinity"
)

const (
	maxAwaitedFile = 64 << 20
	// maxAwaited bounds the orders for users who were not seen yet.
	maxAwaited = 100_000
)

// An awaitedOrder says where a user goes of whom nothing is known but a hash.
type awaitedOrder struct {
	Host  string         `json:"host"`
	Until time.Time      `json:"until"`
	Stamp affinity.Stamp `json:"stamp"`
}

// awaited are the orders of `doveadm director move` for users who were not seen
// yet: the protocol names them by dovecot.DirectorHash alone. Who logs in within
// the life of an assignment begins on that host, as with Dovecot's director. The map
// is immutable.
type awaited struct {
	path   string
	mu     sync.Mutex
	orders atomic.Pointer[map[uint32]awaitedOrder] // never nil
}

type awaitedFile struct {
	Version int                     `json:"version"`
	Orders  map[string]awaitedOrder `json:"orders"` // by hash
}

func openAwaited(path string) (*awaited, error) {
	a := &awaited{path: path}
	a.orders.Store(&map[uint32]awaitedOrder{})
	raw, err := wholefile.Read(path, maxAwaitedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	var file awaitedFile
	if err == nil {
		err = wholefile.Decode(raw, &file)
	}
	if err == nil && file.Version != 1 {
		err = fmt.Errorf("version %d; expected 1", file.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("moves of users not seen yet: %s: %w; mend it, or move it away to forget them", path, err)
	}
	orders := map[uint32]awaitedOrder{}
	for text, o := range file.Orders {
		hash, err := strconv.ParseUint(text, 10, 32)
		if err != nil || o.Host == "" {
			return nil, fmt.Errorf("moves of users not seen yet: %s: %.40q; expected a hash and a host; mend it, or move it away to forget them", path, text)
		}
		orders[uint32(hash)] = o
	}
	a.orders.Store(&orders)
	return a, nil
}

// set keeps an order, and forgets those whose time is over.
func (a *awaited) set(hash uint32, o awaitedOrder) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	next := maps.Clone(*a.orders.Load())
	maps.DeleteFunc(next, func(_ uint32, o awaitedOrder) bool { return now.After(o.Until) })
	next[hash] = o
	if len(next) > maxAwaited {
		return fmt.Errorf("there are %d orders for users who were not seen yet; expected less", maxAwaited)
	}
	file := awaitedFile{1, make(map[string]awaitedOrder, len(next))}
	for h, o := range next {
		file.Orders[strconv.FormatUint(uint64(h), 10)] = o
	}
	raw, err := json.Marshal(file)
	if err == nil {
		err = wholefile.Replace(a.path, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("the order can't be kept, and is not taken: %w", err)
	}
	a.orders.Store(&next)
	return nil
}

// host returns where a key that has no assignment begins, "" for anywhere. Where
// there are no such orders it costs nothing.
func (a *awaited) host(key affinity.Key) string {
	orders := *a.orders.Load()
	if len(orders) == 0 {
		return ""
	}
	o, ok := orders[dovecot.DirectorHash(key.Name)]
	if !ok || time.Now().After(o.Until) {
		return ""
	}
	return o.Host
}
