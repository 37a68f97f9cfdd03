package monitor

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"usher/internal/shared"
	"usher/test/servers"
)

func sharedAdmin(t *testing.T, name, addr string) (*SharedAdmin, *shared.DB) {
	t.Helper()
	db, err := shared.Open(shared.Options{Addresses: []string{addr}, Prefix: "t:", Node: name, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a := NewSharedAdmin(db, zap.NewNop())
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { db.Run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	eventually(t, "the store is here", func() bool { return !db.Away() })
	return a, db
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Orders of one node stand at the other as if they had been given there, and are
// refused while the store is away.
func TestSharedAdmin(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	a, _ := sharedAdmin(t, "a", r.Addr)
	b, db := sharedAdmin(t, "b", r.Addr)
	var calls atomic.Int32
	defer b.Watch(func() { calls.Add(1) })()

	script := "down mail1:110\n50 mail1\ndrain mail2\nup mail1\ndown mail1:143\n"
	want := memoryAdmin(t)
	give(t, want, script)
	give(t, a, script)
	same := func(got *Orders) bool { return cmp.Equal(got.byTarget, want.Orders().byTarget) }
	if !same(a.Orders()) {
		t.Errorf("a has %v", a.Orders().byTarget)
	}
	began := time.Now()
	eventually(t, "b has them", func() bool { return same(b.Orders()) })
	if took := time.Since(began); took > time.Second {
		t.Errorf("b had them after %s", took)
	}
	if calls.Load() == 0 {
		t.Error("the watcher of b was not called")
	}

	r.Kill()
	eventually(t, "the store is away", db.Away)
	if err := b.Order(t.Context(), changeOf(t, "down mail3")); err == nil || !same(b.Orders()) {
		t.Errorf("an order while the store is away: %v, and then %v", err, b.Orders().byTarget)
	}
	r.Start(t)
	eventually(t, "the store is here", func() bool { return !db.Away() })
	c, _ := sharedAdmin(t, "c", r.Addr)
	if !same(c.Orders()) {
		t.Errorf("a node that came later has %v", c.Orders().byTarget)
	}
}

// Rows that no usher wrote leave what stood.
func TestSharedAdmin_Damaged(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	a, _ := sharedAdmin(t, "a", r.Addr)
	give(t, a, "down mail1\n")
	r.Ask(t, "HSET", "t:{s}backends", "mail2", `{"state":"sideways"}`)
	r.Ask(t, "HSET", "t:{s}version", "backends", "9-x")
	eventually(t, "an order is refused", func() bool { return a.Order(t.Context(), changeOf(t, "up mail3")) != nil })
	if o := a.Orders().For("mail1", 143); o.State != "down" {
		t.Errorf("mail1 is %q", o.State)
	}
}
