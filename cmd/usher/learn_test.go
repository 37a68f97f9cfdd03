package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"usher/config"
	"usher/internal/shared"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/test/servers"
)

// A lister has one assignment, whose key a policy made, and is away when it is asked
// for the first time. It notes what is refreshed.
type lister struct {
	store
	asked     int
	refreshed []string
}

func (l *lister) Each(_ context.Context, _ string, yield func(affinity.Assignment) bool) error {
	if l.asked++; l.asked == 1 {
		return affinity.ErrAway
	}
	yield(affinity.Assignment{Key: affinity.Key{Name: "family"}, Host: "mail1", Users: []string{"alice"}})
	return nil
}

func (l *lister) Lookup(context.Context, affinity.Key) (string, error) { return "mail1", nil }

func (l *lister) Refresh(_ context.Context, name string) error {
	l.refreshed = append(l.refreshed, name)
	return nil
}

// The keys that policies made are learned from a store that comes after usher.
func TestLearnKeys_StoreComesLater(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	db, err := shared.Open(shared.Options{Addresses: []string{r.Addr}, Prefix: "t:"})
	if err != nil {
		t.Fatal(err)
	}
	l := &lister{}
	a := &app{parts: parts{log: zaptest.NewLogger(t), store: l, cluster: &cluster{db: db}, keys: proxy.NewKeyIndex()}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := config.Default()
	learned := make(chan struct{})
	go func() { defer close(learned); a.learnKeys(ctx, cfg) }()
	time.Sleep(50 * time.Millisecond)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { db.Run(ctx) })
	defer cancel()
	select {
	case <-learned:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is learned")
	}
	p, err := proxy.New(proxy.Options{
		Verifier: struct{ proxy.Verifier }{}, Director: struct{ proxy.Director }{}, Backends: struct{ proxy.Backends }{},
		Names: struct{ proxy.Names }{}, Recorder: struct{ proxy.Recorder }{}, Assignments: l, Keys: a.keys,
		Affinity: proxy.AffinityPolicy, KeyScope: affinity.ByUser,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(t.Context(), "alice"); err != nil || !slices.Contains(l.refreshed, "family") {
		t.Errorf("refreshed are %q, %v; want family too", l.refreshed, err)
	}
}
