package shared

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/test/servers"
)

func put(t *testing.T, tab *Table, field, value string) {
	t.Helper()
	if err := tab.Update(t.Context(), func(map[string]string) ([]Row, error) { return []Row{{field, &value}}, nil }); err != nil {
		t.Fatal(err)
	}
}

// A row that one node changes is in the other's copy within a second, whether the
// announcement comes or not.
func TestTable(t *testing.T) {
	r := redis(t)
	var a, b *Table
	node(t, Options{Addresses: []string{r.Addr}, Node: "a"}, func(db *DB) { a = db.Table("pins") })
	other := node(t, Options{Addresses: []string{r.Addr}, Node: "b"}, func(db *DB) { b = db.Table("pins") })
	calls := atomic.Int32{}
	stop := b.Watch(func() { calls.Add(1) })
	defer stop()

	put(t, a, "alice", "mail1")
	if rows, _ := a.Rows(); rows["alice"] != "mail1" {
		t.Errorf("the writer's own copy is %v", rows)
	}
	began := time.Now()
	until(t, "the other has the row", func() bool { rows, _ := b.Rows(); return rows["alice"] == "mail1" })
	if took := time.Since(began); took > time.Second {
		t.Errorf("the row was there after %s", took)
	}
	if calls.Load() == 0 {
		t.Error("the watcher was not called")
	}
	put(t, b, "bob", "mail2")
	until(t, "both rows are there", func() bool {
		rows, _ := a.Rows()
		return maps.Equal(rows, map[string]string{"alice": "mail1", "bob": "mail2"})
	})

	// No announcement: the version says it.
	other.announced(`{"t":"pins","from":"98-x","to":"99-y","rows":[{"f":"mallory","v":"mail1"}]}`)
	if got := r.Ask(t, "HSET", "t:{s}pins", "carol", "mail3"); got != ":1" {
		t.Fatal(got)
	}
	r.Ask(t, "HSET", "t:{s}version", "pins", "3-x")
	until(t, "the beat finds it", func() bool { rows, _ := b.Rows(); return rows["carol"] == "mail3" })
	if rows, _ := b.Rows(); len(rows) != 3 {
		t.Errorf("the rows are %v", rows)
	}
	// After a failover another change has the same number.
	r.Ask(t, "HDEL", "t:{s}pins", "carol")
	r.Ask(t, "HSET", "t:{s}version", "pins", "3-y")
	until(t, "the beat finds that too", func() bool { rows, _ := a.Rows(); return len(rows) == 2 })
}

// Changes of many nodes at a time are all kept.
func TestTable_Concurrent(t *testing.T) {
	r := redis(t)
	var tabs [3]*Table
	for i := range tabs {
		node(t, Options{Addresses: []string{r.Addr}, Node: fmt.Sprint(i), Timeout: 5 * time.Second}, func(db *DB) { tabs[i] = db.Table("x") })
	}
	var wg sync.WaitGroup
	for i, tab := range tabs {
		wg.Go(func() {
			for n := range 20 {
				put(t, tab, fmt.Sprint(i, "-", n), "v")
			}
		})
	}
	wg.Wait()
	for _, tab := range tabs {
		until(t, "all 60 rows", func() bool { rows, _ := tab.Rows(); return len(rows) == 60 })
	}
}

// A name that is no UTF-8 is the same name at other nodes, though announcements are
// JSON.
func TestTable_Bytes(t *testing.T) {
	r := redis(t)
	var a, b *Table
	node(t, Options{Addresses: []string{r.Addr}, Node: "a"}, func(db *DB) { a = db.Table("moving") })
	node(t, Options{Addresses: []string{r.Addr}, Node: "b"}, func(db *DB) { b = db.Table("moving") })
	time.Sleep(beat) // announcements are listened to
	put(t, a, "caf\xe9", "v\xff")
	until(t, "the other has a row", func() bool { rows, _ := b.Rows(); return len(rows) > 0 })
	if rows, _ := b.Rows(); rows["caf\xe9"] != "v\xff" {
		t.Errorf("the other has %q", rows)
	}
	put(t, b, "next", "v")
	until(t, "both have both", func() bool {
		one, _ := a.Rows()
		two, _ := b.Rows()
		return len(one) == 2 && maps.Equal(one, two)
	})
}

// A store that comes back empty gets its tables again, and refuses changes while it
// is away.
func TestTable_StoreLost(t *testing.T) {
	r := redis(t)
	var tab *Table
	db := node(t, Options{Addresses: []string{r.Addr}, Node: "a"}, func(db *DB) { tab = db.Table("pins") })
	put(t, tab, "alice", "mail1")
	r.Kill()
	until(t, "the store is away", db.Away)
	err := tab.Update(t.Context(), func(map[string]string) ([]Row, error) { return []Row{{"bob", new(string)}}, nil })
	if !errors.Is(err, ErrAway) {
		t.Errorf("a change while the store is away: %v", err)
	}
	if rows, ok := tab.Rows(); !ok || rows["alice"] != "mail1" {
		t.Errorf("the copy is %v", rows)
	}
	r.Start(t)
	until(t, "the store is here", func() bool { return !db.Away() })
	if got := r.Ask(t, "HGET", "t:{s}pins", "alice"); got != "mail1" {
		t.Errorf("the store has %q", got)
	}
	if db.Settled() {
		t.Error("an empty store is settled at once")
	}
}

// While the store is silent a call waits once, and the others fail at once.
func TestAway_NobodyWaits(t *testing.T) {
	r := redis(t)
	db := node(t, Options{Addresses: []string{r.Addr}, Node: "a", Timeout: 300 * time.Millisecond}, nil)
	r.Freeze(t)
	until(t, "the store is away", func() bool {
		_, err := db.Eval(t.Context(), NewScript("return 1"), Call{})
		return errors.Is(err, ErrAway)
	})
	began := time.Now()
	for range 1000 {
		if _, err := db.Eval(t.Context(), NewScript("return 1"), Call{}); !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 250*time.Millisecond {
		t.Errorf("1000 calls to a store that is away took %s", took)
	}
	r.Thaw()
	until(t, "the store is here", func() bool { return !db.Away() })
	if _, err := db.Eval(t.Context(), NewScript("return 1"), Call{}); err != nil {
		t.Error(err)
	}
}

// A store that answers, but refuses what is asked of it, is away.
func TestAway_Refused(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{More: "user usher on >right ~t:* &t:* +@all\n"})
	db := node(t, Options{Addresses: []string{r.Addr}, Username: "usher", Password: secret("right"), Node: "a"}, nil)
	r.Ask(t, "ACL", "SETUSER", "usher", "-@scripting")
	until(t, "the store is away", db.Away)
	r.Ask(t, "ACL", "SETUSER", "usher", "+@scripting")
	until(t, "the store is here", func() bool { return !db.Away() })
}

// Who starts just after the store came back empty waits for what other nodes have to
// tell it, whoever was the first to see it.
func TestSettled_Start(t *testing.T) {
	r := redis(t)
	node(t, Options{Addresses: []string{r.Addr}, Node: "a"}, nil)
	if b := node(t, Options{Addresses: []string{r.Addr}, Node: "b"}, nil); b.Settled() {
		t.Error("a store that is new is settled for a node that has just come")
	}
	long := redis(t)
	long.Ask(t, "SET", "t:{s}id", "X-1000")
	if c := node(t, Options{Addresses: []string{long.Addr}, Node: "c"}, nil); !c.Settled() {
		t.Error("a store that is old is not settled")
	}
}

// Of an outage others may tell as long after this node has told all as it may after
// the store came back.
func TestSettled_AfterAll(t *testing.T) {
	r := redis(t)
	db := node(t, Options{Addresses: []string{r.Addr}, Node: "a"}, func(db *DB) {
		db.OnBack(func(context.Context, bool) error { time.Sleep(2 * time.Second); return nil })
	})
	if since := db.since(&db.backAt); since > time.Second {
		t.Errorf("the outage ended %s ago", since)
	}
}

// Nodes are listed with what they say, and forgotten when they are gone.
func TestNodes(t *testing.T) {
	r := redis(t)
	say := func(text string) func() []byte { return func() []byte { return []byte(text) } }
	a := node(t, Options{Addresses: []string{r.Addr}, Node: "a", Describe: say("one")}, nil)
	b, err := Open(Options{Addresses: []string{r.Addr}, Node: "b", Describe: say("two"), Prefix: "t:"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	list := func() string {
		var out []string
		for _, n := range a.Nodes() {
			out = append(out, fmt.Sprint(n.Name, " ", string(n.About), " ", n.Self))
		}
		return strings.Join(out, ", ")
	}
	until(t, "both are listed", func() bool { return list() == "a one true, b two false" })
	cancel()
	<-done
	until(t, "b is forgotten", func() bool { return list() == "a one true" })
}

// Two that call themselves the same are told so.
func TestNamesake(t *testing.T) {
	r := redis(t)
	core, logs := observer.New(zapcore.ErrorLevel)
	for range 2 {
		node(t, Options{Addresses: []string{r.Addr}, Node: "a", Log: zap.New(core)}, nil)
	}
	until(t, "the warning", func() bool { return logs.FilterMessageSnippet("another usher has the name").Len() > 0 })
}

// What changes in the tracked keys is told, and when that could not be seen.
func TestTrack(t *testing.T) {
	r := redis(t)
	var mu sync.Mutex
	var keys []string
	var lost atomic.Int32
	db := node(t, Options{Addresses: []string{r.Addr}, Track: "a:"}, func(db *DB) {
		db.Track(func(key string) { mu.Lock(); keys = append(keys, key); mu.Unlock() }, func() { lost.Add(1) })
	})
	r.Ask(t, "SET", "t:b:1", "x")
	r.Ask(t, "SET", "t:a:{1}alice", "x")
	until(t, "the invalidation", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Equal(keys, []string{"a:{1}alice"}) })
	was := db.Generation()
	r.Ask(t, "CLIENT", "KILL", "TYPE", "normal")
	until(t, "the loss of the connection", func() bool { return lost.Load() > 0 && db.Generation() != was })
	r.Kill()
	until(t, "the store is away", db.Away)
}

// Sentinels, a Cluster, TLS and a unix socket.
func TestKinds(t *testing.T) {
	check := func(t *testing.T, o Options) {
		t.Helper()
		var tab *Table
		o.Node = "a"
		db := node(t, o, func(db *DB) { tab = db.Table("pins") })
		put(t, tab, "alice", "mail1")
		if m, err := db.Eval(t.Context(), NewScript("redis.call('SET', KEYS[1], 'v') return redis.call('GET', KEYS[1])"), Call{Keys: []string{db.Key("k")}}); err != nil {
			t.Error(err)
		} else if s, _ := m.ToString(); s != "v" {
			t.Errorf("got %q", s)
		}
	}
	t.Run("unix", func(t *testing.T) {
		r := servers.StartRedis(t, servers.RedisOptions{Unix: true})
		check(t, Options{Addresses: []string{r.Addr}})
	})
	t.Run("tls", func(t *testing.T) {
		cert := servers.NewCertificate(t, "127.0.0.1")
		r := servers.StartRedis(t, servers.RedisOptions{TLS: cert})
		roots := x509.NewCertPool()
		pem, err := os.ReadFile(cert.CertFile)
		if err != nil || !roots.AppendCertsFromPEM(pem) {
			t.Fatal("no certificate:", err)
		}
		check(t, Options{Addresses: []string{r.Addr}, TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{*cert.Pair()}}})
	})
	t.Run("acl", func(t *testing.T) {
		// As docs/failure-modes.md has it.
		r := servers.StartRedis(t, servers.RedisOptions{More: "user usher on >right ~t:* &t:* -@all +@read +@write +@scripting +@pubsub +@connection +time\n"})
		check(t, Options{Addresses: []string{r.Addr}, Username: "usher", Password: secret("right"), Track: "a:"})
	})
	t.Run("cluster", func(t *testing.T) {
		var o Options
		for _, r := range servers.StartRedisCluster(t) {
			o.Addresses = append(o.Addresses, r.Addr)
		}
		check(t, o)
	})
	t.Run("sentinel", func(t *testing.T) {
		s := servers.StartRedisSentinel(t)
		check(t, Options{Addresses: s.Addrs, SentinelMaster: "usher"})
	})
}

type secret string

func (s secret) Reveal() string { return string(s) }
func (s secret) IsEmpty() bool  { return s == "" }

// A password is in no log, whatever the server says.
func TestSecret(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{More: "requirepass right\n"})
	core, logs := observer.New(zapcore.DebugLevel)
	db, err := Open(Options{Addresses: []string{r.Addr}, Prefix: "t:", Node: "a", Password: secret("wrong horse"), Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	err = db.beatOnce(t.Context())
	if !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "horse") {
		t.Errorf("a wrong password: %v", err)
	}
	for _, e := range logs.All() {
		if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), "horse") {
			t.Errorf("the log says %v", e)
		}
	}
	db.close()
	good, err := Open(Options{Addresses: []string{r.Addr}, Prefix: "t:", Node: "a", Password: secret("right")})
	if err != nil {
		t.Fatal(err)
	}
	if err := good.beatOnce(t.Context()); err != nil {
		t.Error(err)
	}
	good.close()
}

// Of two passwords one may begin with the other.
func TestSecret_Prefix(t *testing.T) {
	db, err := Open(Options{Addresses: []string{"127.0.0.1:1"}, Password: secret("horse"), SentinelMaster: "m", SentinelPassword: secret("horsebattery")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	if got := db.plain(errors.New("with args horsebattery and horse")).Error(); strings.Contains(got, "battery") || strings.Contains(got, "horse") {
		t.Errorf("the error says %q", got)
	}
}

func FuzzAnnounced(f *testing.F) {
	for _, s := range []string{`{"t":"pins","from":"","to":"1-a","rows":[{"f":"a","v":"b"}]}`, "", "{}", `{"t":"pins","from":"","to":"-1-a"}`, `{"t":"pins","rows":[{"f":"a","v":null}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		db, err := Open(Options{Addresses: []string{"127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		tab := db.Table("pins")
		tab.set(&tableCopy{})
		db.announced(s)
		c := tab.copy.Load()
		if again, err := parseVersion(c.version.String()); err != nil || again != c.version {
			t.Errorf("%q leads to version %q", s, c.version)
		}
		db.close()
	})
}
