package affinity

import (
	"context"
	"encoding/json"
	"fmt"

	"usher/internal/shared"
)

// ValkeyOrders keeps the orders of all nodes in a store that they share. What is read
// is this node's copy, a moment old; an order is in the store before it counts, and is
// refused while that is away.
type ValkeyOrders struct{ pins, holds *shared.Table }

var _ Orders = (*ValkeyOrders)(nil)

// NewValkeyOrders makes it. Call it before the DB is run.
func NewValkeyOrders(db *shared.DB) *ValkeyOrders {
	return &ValkeyOrders{pins: db.Table("pins"), holds: db.Table("holds")}
}

// Pin implements Orders.
func (o *ValkeyOrders) Pin(_ context.Context, user string) (string, error) {
	rows, ok := o.pins.Rows()
	if !ok {
		return "", ErrAway
	}
	text, there := rows[user]
	if !there {
		return "", nil
	}
	p, err := rowOf[Pin](user, text)
	return p.Host, err
}

// Held implements Orders.
func (o *ValkeyOrders) Held(_ context.Context, user string) (bool, error) {
	rows, ok := o.holds.Rows()
	if !ok {
		return false, ErrAway
	}
	_, held := rows[user]
	return held, nil
}

// SetPin implements Orders.
func (o *ValkeyOrders) SetPin(ctx context.Context, user string, p Pin) error {
	return setRow(ctx, o.pins, user, p)
}

// Unpin implements Orders.
func (o *ValkeyOrders) Unpin(ctx context.Context, user string) (bool, error) {
	return dropRow(ctx, o.pins, user)
}

// SetHold implements Orders.
func (o *ValkeyOrders) SetHold(ctx context.Context, user string, h Hold) error {
	return setRow(ctx, o.holds, user, h)
}

// Release implements Orders.
func (o *ValkeyOrders) Release(ctx context.Context, user string) (bool, error) {
	return dropRow(ctx, o.holds, user)
}

// Standing implements Orders.
func (o *ValkeyOrders) Standing(context.Context) (map[string]Pin, map[string]Hold, error) {
	pins, err := rowsOf[Pin](o.pins)
	if err != nil {
		return nil, nil, err
	}
	holds, err := rowsOf[Hold](o.holds)
	return pins, holds, err
}

func rowOf[T any](user, text string) (v T, err error) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("the order for %.280q in the shared store: %w", user, err)
	}
	return v, nil
}

func rowsOf[T any](t *shared.Table) (map[string]T, error) {
	rows, ok := t.Rows()
	if !ok {
		return nil, ErrAway
	}
	all := make(map[string]T, len(rows))
	for user, text := range rows {
		var err error
		if all[user], err = rowOf[T](user, text); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func setRow(ctx context.Context, t *shared.Table, user string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text := string(raw)
	err = t.Update(ctx, func(map[string]string) ([]shared.Row, error) { return []shared.Row{{Field: user, Value: &text}}, nil })
	return refused(err)
}

func dropRow(ctx context.Context, t *shared.Table, user string) (found bool, err error) {
	err = t.Update(ctx, func(rows map[string]string) ([]shared.Row, error) {
		if _, found = rows[user]; !found {
			return nil, nil
		}
		return []shared.Row{{Field: user}}, nil
	})
	return found, refused(err)
}

func refused(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the order can't be kept, and is not taken: %w", err)
}
