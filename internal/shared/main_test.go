package shared

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"usher/test/servers"
)

func TestMain(m *testing.M) {
	// What a Cluster's client does some seconds after it was closed, once.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valkey-io/valkey-go.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/valkey-io/valkey-go.(*clusterClient)._refresh.func2"))
}

// node opens the store as a node, runs it until the test ends, and waits until it is
// reached. prepare is called before.
func node(t *testing.T, o Options, prepare func(db *DB)) *DB {
	t.Helper()
	if o.Log == nil {
		o.Log = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	}
	if o.Prefix == "" {
		o.Prefix = "t:"
	}
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(db)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); db.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	until(t, "the store is here", func() bool { return !db.Away() })
	return db
}

// until waits for something that takes a moment.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func redis(t *testing.T) *servers.Redis { return servers.StartRedis(t, servers.RedisOptions{}) }
