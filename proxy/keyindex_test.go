package proxy

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/affinity"
)

// A session that goes on keeps the key that the policy made for its user.
func TestRefresh_PolicyKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: 15 * time.Minute, MaxEntries: 100})
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(Options{
			Verifier: fakeVerifier(func(*Request) (Identity, error) { return Identity{Driver: "fake"}, nil }), Director: fakeDirector(func(*Query) (Verdict, error) {
				return Verdict{Selected: true, Host: "127.0.0.2", Port: 143, By: "policy:test", Key: "family"}, nil
			}),
			Backends: fakeBackends{view: NewView(inventory())}, Names: fakeNames{}, Assignments: store, Recorder: &recorder{},
			Affinity: AffinityPolicy, KeyScope: affinity.ByUser, Keys: NewKeyIndex(),
		})
		if err != nil {
			t.Fatal(err)
		}
		r := request()
		if d := p.Handle(t.Context(), r); d.Outcome != Routed {
			t.Fatalf("%+v", d)
		}
		for range 10 {
			time.Sleep(10 * time.Minute)
			if err := p.Refresh(t.Context(), r.User); err != nil {
				t.Fatal(err)
			}
		}
		if host, _ := store.Lookup(t.Context(), affinity.Key{Name: "family"}); host != "127.0.0.2" {
			t.Errorf("family is on %q", host)
		}
		time.Sleep(20 * time.Minute)
		if err := p.Refresh(t.Context(), r.User); err != nil {
			t.Fatal(err)
		}
		if n := p.opt.Keys.n.Load(); n != 0 {
			t.Errorf("%d keys are known of assignments that ended", n)
		}
	})
}

// A store that is away for a moment makes no session's key forgotten.
func TestRefresh_StoreAway(t *testing.T) {
	keys := NewKeyIndex()
	keys.Learn("alice", affinity.Key{Name: "family"})
	p, err := New(Options{
		Verifier: fakeVerifier(nil), Director: fakeDirector(nil), Backends: fakeBackends{}, Names: fakeNames{}, Recorder: &recorder{},
		Assignments: unseen{}, Affinity: AffinityPolicy, KeyScope: affinity.ByUser, Keys: keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(t.Context(), "alice"); err == nil {
		t.Error("the store is away, and nobody is told")
	}
	if _, ok := keys.of("alice"); !ok {
		t.Error("the key of the session is forgotten")
	}
}

// unseen is a store that takes refreshes and can't look up.
type unseen struct{ brokenStore }

func (unseen) Refresh(context.Context, string) error { return nil }

func TestKeyIndex_Bounded(t *testing.T) {
	x := NewKeyIndex()
	for i := range maxIndexed + 1000 {
		x.Learn(fmt.Sprint("user", i), affinity.Key{Name: "family"})
	}
	if n := x.n.Load(); n > maxIndexed {
		t.Errorf("%d are kept", n)
	}
	if _, ok := x.of(fmt.Sprint("user", maxIndexed+999)); !ok {
		t.Error("the newest is forgotten")
	}
}
