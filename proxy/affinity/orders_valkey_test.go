package affinity

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"usher/internal/shared"
)

func ordersNode(t *testing.T, name string, o shared.Options) (*ValkeyOrders, *shared.DB) {
	t.Helper()
	o.Node, o.Prefix, o.Log = name, "t:", zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	db, err := shared.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	orders := NewValkeyOrders(db)
	if _, err := orders.Held(t.Context(), "alice"); !errors.Is(err, ErrAway) {
		t.Errorf("a hold before the store was ever asked: %v", err)
	}
	if _, err := orders.Pin(t.Context(), "alice"); !errors.Is(err, ErrAway) {
		t.Errorf("a pin before the store was ever asked: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { db.Run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	eventually(t, "the store is here", func() bool { return !db.Away() })
	return orders, db
}

// Pins and holds of one node are the other's within a second, outlive an outage in
// which the store loses them, and are refused during it.
func TestValkeyOrders(t *testing.T) {
	r, o := oneRedis(t)
	a, _ := ordersNode(t, "a", o)
	b, db := ordersNode(t, "b", o)
	ctx := t.Context()
	stamp := Stamp{By: "root", At: time.Unix(1e9, 0).UTC(), Reason: "disk"}
	if err := a.SetPin(ctx, "alice", Pin{"mail1", stamp}); err != nil {
		t.Fatal(err)
	}
	if err := a.SetHold(ctx, "bob", Hold{stamp}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "b has both", func() bool {
		pin, err1 := b.Pin(ctx, "alice")
		held, err2 := b.Held(ctx, "bob")
		return err1 == nil && err2 == nil && pin == "mail1" && held
	})
	if took := time.Since(began); took > time.Second {
		t.Errorf("b had both after %s", took)
	}
	pins, holds, err := b.Standing(ctx)
	if err != nil || pins["alice"] != (Pin{"mail1", stamp}) || holds["bob"] != (Hold{stamp}) || len(pins)+len(holds) != 2 {
		t.Errorf("standing: %v, %v, %v", pins, holds, err)
	}
	if found, err := b.Unpin(ctx, "nobody"); err != nil || found {
		t.Errorf("unpin of nobody: %v, %v", found, err)
	}

	r.Kill()
	eventually(t, "the store is away", db.Away)
	if err := b.SetPin(ctx, "carol", Pin{"mail1", stamp}); !errors.Is(err, ErrAway) {
		t.Errorf("a pin while the store is away: %v", err)
	}
	if _, err := b.Release(ctx, "bob"); !errors.Is(err, ErrAway) {
		t.Errorf("a release while the store is away: %v", err)
	}
	if held, err := b.Held(ctx, "bob"); err != nil || !held {
		t.Errorf("the hold while the store is away: %v, %v", held, err)
	}
	r.Start(t)
	eventually(t, "the store is here", func() bool { return !db.Away() })
	c, _ := ordersNode(t, "c", o)
	if pin, err := c.Pin(ctx, "alice"); err != nil || pin != "mail1" {
		t.Errorf("of a node that came later: %q, %v", pin, err)
	}
	if found, err := c.Release(ctx, "bob"); err != nil || !found {
		t.Errorf("release: %v, %v", found, err)
	}
	eventually(t, "the release is seen", func() bool { held, err := a.Held(ctx, "bob"); return err == nil && !held })
}
