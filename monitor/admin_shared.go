package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"usher/internal/shared"
)

// A SharedAdmin is the AdminState of nodes that share a store: what is ordered at one
// of them stands at all, a moment later. While the store is away orders are refused,
// and what was last read stands.
type SharedAdmin struct {
	table  *shared.Table
	orders atomic.Pointer[Orders] // never nil
	log    *zap.Logger

	mu       sync.Mutex
	watchers map[*func()]bool
}

var _ AdminState = (*SharedAdmin)(nil)

// NewSharedAdmin makes it. Call it before the DB is run.
func NewSharedAdmin(db *shared.DB, log *zap.Logger) *SharedAdmin {
	a := &SharedAdmin{table: db.Table("backends"), log: log, watchers: map[*func()]bool{}}
	a.orders.Store(&Orders{})
	a.table.Watch(a.take)
	return a
}

// Orders implements AdminState.
func (a *SharedAdmin) Orders() *Orders { return a.orders.Load() }

// take makes what the table has the orders that stand.
func (a *SharedAdmin) take() {
	rows, _ := a.table.Rows()
	orders, err := parseRows(rows)
	if err != nil {
		a.log.Error("orders for backends in the shared store; those before stand", zap.Error(err))
		return
	}
	a.orders.Store(orders)
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.watchers {
		(*f)()
	}
}

func parseRows(rows map[string]string) (*Orders, error) {
	all := make(map[string]Order, len(rows))
	for key, text := range rows {
		var o Order
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			err = o.valid(key)
		}
		if err != nil {
			return nil, fmt.Errorf("order for %.280q: %w", key, err)
		}
		all[key] = o
	}
	return &Orders{all}, nil
}

// Order implements AdminState.
func (a *SharedAdmin) Order(ctx context.Context, c Change) error {
	if err := c.Valid(); err != nil {
		return err
	}
	err := a.table.Update(ctx, func(rows map[string]string) ([]shared.Row, error) {
		old, err := parseRows(rows)
		if err != nil {
			return nil, err
		}
		return rowsBetween(old, old.with(c))
	})
	if err != nil {
		return fmt.Errorf("the order can't be kept, and is not taken: %w", err)
	}
	return nil
}

// rowsBetween are the rows that make one of the other.
func rowsBetween(old, next *Orders) ([]shared.Row, error) {
	var rows []shared.Row
	for key := range maps.Keys(old.byTarget) {
		if _, stays := next.byTarget[key]; !stays {
			rows = append(rows, shared.Row{Field: key})
		}
	}
	for key, o := range next.byTarget {
		if was, there := old.byTarget[key]; there && reflect.DeepEqual(was, o) {
			continue
		}
		raw, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		text := string(raw)
		rows = append(rows, shared.Row{Field: key, Value: &text})
	}
	return rows, nil
}

// Watch implements AdminState. f must not give orders itself.
func (a *SharedAdmin) Watch(f func()) (stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watchers[&f] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, &f)
	}
}
