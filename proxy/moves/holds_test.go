package moves

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"usher/internal/shared"
	"usher/proxy/affinity"
	"usher/test/servers"
)

func holdsNode(t *testing.T, name, addr string) (*SharedHolds, *shared.DB) {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	db, err := shared.Open(shared.Options{Addresses: []string{addr}, Prefix: "t:", Node: name, Log: log, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	h := NewSharedHolds(db, name, log)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { h.Run(ctx) })
	work.Go(func() { db.Run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	eventually(t, "the store is here", func() bool { return !db.Away() })
	return h, db
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

// A key that one node moves waits at all of them, and no other can move it.
func TestSharedHolds(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	a, _ := holdsNode(t, "a", r.Addr)
	b, _ := holdsNode(t, "b", r.Addr)
	key := affinity.Key{Tag: "t", Name: "alice"}
	if err := a.Hold(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if !a.Held(key) {
		t.Error("a does not hold it")
	}
	eventually(t, "b holds it", func() bool { return b.Held(key) })
	if b.Held(affinity.Key{Name: "alice"}) {
		t.Error("b holds another tag")
	}
	if err := b.Hold(t.Context(), key); !errors.Is(err, ErrMoving) {
		t.Errorf("a hold of b: %v", err)
	}
	a.Release(key)
	if a.Held(key) {
		t.Error("a holds it after its release")
	}
	eventually(t, "b does not hold it", func() bool { return !b.Held(key) })
	if err := b.Hold(t.Context(), key); err != nil {
		t.Errorf("a hold of b: %v", err)
	}
}

// What was held before a restart is held again, what is not held any more is not, and
// what a store lost comes back.
func TestSharedHolds_Restart(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	old, was := affinity.Key{Name: "old"}, affinity.Key{Name: "was"}
	r.Ask(t, "HSET", "t:{s}moving", field(old), "a", field(was), "a")
	r.Ask(t, "HSET", "t:{s}version", "moving", "1-x")
	b, _ := holdsNode(t, "b", r.Addr)
	if !b.Held(old) || !b.Held(was) {
		t.Error("b does not hold what a holds")
	}
	a, db := holdsNode(t, "a", r.Addr)
	a.Keep([]affinity.Key{was})
	eventually(t, "the old one is released", func() bool { return !b.Held(old) })
	if !b.Held(was) {
		t.Error("the other one is released too")
	}
	r.Kill()
	eventually(t, "the store is away", db.Away)
	if !b.Held(was) {
		t.Error("the hold ended with the store")
	}
	if err := a.Hold(t.Context(), old); !errors.Is(err, shared.ErrAway) || a.Held(old) {
		t.Errorf("a hold while the store is away: %v", err)
	}
	a.Release(was)
	if a.Held(was) {
		t.Error("a holds what it released")
	}
	r.Start(t)
	eventually(t, "b does not hold it", func() bool { return !b.Held(was) })
}

// A move is not begun where other nodes are not told, and ends their hold.
func TestEngine_Holds(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	a, db := holdsNode(t, "a", r.Addr)
	b, _ := holdsNode(t, "b", r.Addr)
	s := newSite(t)
	s.settings.KickDelay = 1500 * time.Millisecond
	e, err := Open(Options{Path: filepath.Join(t.TempDir(), "moves.json"), Store: s.store, NewID: func() string { return "M1" }, Holds: a}, s.settings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { e.Run(ctx) })
	defer work.Wait()
	defer cancel()
	key := affinity.Key{Name: "alice"}
	m, err := e.Start(t.Context(), Order{User: "alice", Key: key, To: "mail2"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "b holds it", func() bool { return b.Held(key) })
	if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done {
		t.Fatal(m, err)
	}
	eventually(t, "b does not hold it", func() bool { return !b.Held(key) })
	r.Kill()
	eventually(t, "the store is away", db.Away)
	if _, err := e.Start(t.Context(), Order{User: "alice", Key: key, To: "mail1"}); !errors.Is(err, shared.ErrAway) || e.Moving(key) {
		t.Errorf("a move while the store is away: %v", err)
	}
}

// The holds of a node that is gone for long are ended by those that are there.
func TestSharedHolds_Orphans(t *testing.T) {
	db, err := shared.Open(shared.Options{Addresses: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	h := NewSharedHolds(db, "a", zap.NewNop())
	kept := affinity.Key{Name: "kept"}
	h.Keep([]affinity.Key{kept})
	rows := map[string]string{
		field(kept): "a", field(affinity.Key{Name: "x"}): "gone", field(affinity.Key{Name: "y"}): "there", field(affinity.Key{Name: "z"}): "a",
	}
	got := map[string]bool{}
	for _, r := range h.pending(rows, func(node string) bool { return node == "gone" }) {
		if r.Value != nil {
			t.Errorf("%q becomes %q", r.Field, *r.Value)
		}
		got[keyOf(r.Field).Name] = true
	}
	if len(got) != 2 || !got["x"] || !got["z"] {
		t.Errorf("released are %v, want x of the node that is gone, and z, which is not moved any more", got)
	}
}
