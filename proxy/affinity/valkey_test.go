package affinity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"usher/internal/shared"
	"usher/test/servers"
)

// valkeyOptions are what a test says of a node.
type valkeyOptions struct {
	redis   shared.Options // Addresses, at least
	expire  time.Duration  // 0: a minute
	most    int            // 0: many
	hash    func(Key, string) bool
	timeout time.Duration // 0: 5 s, this machine may be slow
}

// valkeyNode runs a node's store until the test ends.
func valkeyNode(t testing.TB, name string, o valkeyOptions) *Valkey {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	o.redis.Node, o.redis.Prefix, o.redis.Track, o.redis.Log = name, "t:", Track, log
	if o.redis.Timeout = o.timeout; o.timeout == 0 {
		o.redis.Timeout = 5 * time.Second
	}
	db, err := shared.Open(o.redis)
	if err != nil {
		t.Fatal(err)
	}
	if o.expire == 0 {
		o.expire = time.Minute
	}
	if o.most == 0 {
		o.most = 100_000
	}
	v, err := NewValkey(ValkeyOptions{DB: db, Expire: o.expire, MaxEntries: o.most, Hash: o.hash, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { v.Run(ctx) })
	work.Go(func() { db.Run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	eventually(t, "the store is here, and copied", func() bool { return !db.Away() && v.copy.Load() })
	return v
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// claimed claims, and fails the test unless host wins.
func claimed(t testing.TB, s Store, name, seen, host, want string) {
	t.Helper()
	got, err := s.Claim(t.Context(), Key{Name: name}, seen, host)
	if err != nil || got != want {
		t.Errorf("claim of %s for %s, seen %q: %q, %v; want %q", host, name, seen, got, err, want)
	}
}

func lookedUp(t testing.TB, s Store, name, want string) {
	t.Helper()
	if got, err := s.Lookup(t.Context(), Key{Name: name}); err != nil || got != want {
		t.Errorf("look-up of %s: %q, %v; want %q", name, got, err, want)
	}
}

// calls returns how many commands the server has served.
func calls(t testing.TB, r *servers.Redis) int {
	t.Helper()
	_, after, _ := strings.Cut(r.Ask(t, "INFO", "commandstats"), "cmdstat_evalsha:calls=")
	text, _, _ := strings.Cut(after, ",")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// oneRedis is a Redis that other nodes have used already.
func oneRedis(t testing.TB) (*servers.Redis, shared.Options) {
	t.Helper()
	r := servers.StartRedis(t, servers.RedisOptions{})
	r.Ask(t, "SET", "t:{s}id", "used")
	return r, shared.Options{Addresses: []string{r.Addr}}
}

func anyHash(Key, string) bool { return true }

// What one node records the other sees, and who comes second takes the winner's.
func TestValkey(t *testing.T) {
	_, o := oneRedis(t)
	a := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	b := valkeyNode(t, "b", valkeyOptions{redis: o, hash: anyHash})
	ctx := t.Context()
	lookedUp(t, a, "alice", "")
	claimed(t, a, "alice", "", "mail1", "mail1")
	claimed(t, b, "alice", "", "mail2", "mail1")
	lookedUp(t, b, "alice", "mail1")
	claimed(t, b, "alice", "mail1", "mail2", "mail2") // the policy moves her
	eventually(t, "a sees it", func() bool {
		h, err := a.Lookup(ctx, Key{Name: "alice"})
		return err == nil && h == "mail2"
	})

	odd := Key{Tag: "t x", Name: "{1} a\"b}"}
	if got, err := a.Claim(ctx, odd, "", "mail3"); err != nil || got != "mail3" {
		t.Fatal(got, err)
	}
	if err := a.Remember(ctx, odd, "carol"); err != nil {
		t.Fatal(err)
	}
	got, err := b.Get(ctx, odd)
	if err != nil || got.Host != "mail3" || !slices.Equal(got.Users, []string{"carol"}) || got.Key != odd {
		t.Errorf("get: %+v, %v", got, err)
	}
	if left := time.Until(got.Expires); left < 55*time.Second || left > 80*time.Second {
		t.Errorf("it lives %s", left)
	}
	if err := b.Set(ctx, odd, "mail4"); err != nil {
		t.Fatal(err)
	}
	if h, err := b.Lookup(ctx, odd); err != nil || h != "mail4" {
		t.Errorf("after set: %q, %v", h, err)
	}
	var list []string
	each := func(s Store, host string) string {
		list = nil
		if err := s.Each(ctx, host, func(a Assignment) bool {
			list = append(list, fmt.Sprint(a.Key.Name, "|", a.Key.Tag, "|", a.Host, "|", a.Users))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	if got, want := each(a, ""), `alice||mail2|[], {1} a"b}|t x|mail4|[carol]`; got != want {
		t.Errorf("all: %s, want %s", got, want)
	}
	if got := each(a, "mail3"); got != "" {
		t.Errorf("on mail3: %s", got)
	}
	if err := a.count(ctx); err != nil || a.Len() != 2 || a.Assigned("mail4") != 1 || a.Assigned("mail1") != 0 {
		t.Errorf("counts: %v, %v", *a.counts.Load(), err)
	}
	if err := errors.Join(a.Forget(ctx, odd, "mail9"), a.Forget(ctx, odd, "mail4")); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(ctx, odd); err != nil || got.Host != "" {
		t.Errorf("after forget: %+v, %v", got, err)
	}
	if got := each(b, "mail4"); got != "" {
		t.Errorf("after forget on mail4: %s", got)
	}
}

// Of many nodes that race for a new user all give the same answer.
func TestValkey_Race(t *testing.T) {
	_, o := oneRedis(t)
	var nodes []*Valkey
	for i := range 3 {
		nodes = append(nodes, valkeyNode(t, fmt.Sprint(i), valkeyOptions{redis: o, hash: anyHash}))
	}
	for n := range 50 {
		name := fmt.Sprint("u", n)
		var won [9]string
		var wg sync.WaitGroup
		for i := range won {
			wg.Go(func() {
				var err error
				if won[i], err = nodes[i%3].Claim(t.Context(), Key{Name: name}, "", fmt.Sprint("mail", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if slices.Sort(won[:]); won[0] != won[8] || won[0] == "" {
			t.Errorf("%s: the answers are %q", name, won)
		}
		for _, v := range nodes {
			lookedUp(t, v, name, won[0])
		}
	}
}

// A user who is known costs no round trip, neither the look-up nor the claim.
func TestValkey_KnownCostsNothing(t *testing.T) {
	r, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	claimed(t, v, "alice", "", "mail1", "mail1")
	eventually(t, "it is known for sure", func() bool {
		k, _, ok := v.near.get(Key{Name: "alice"})
		return ok && v.sure(k)
	})
	before, began := calls(t, r), time.Now()
	for range 1000 {
		lookedUp(t, v, "alice", "mail1")
		claimed(t, v, "alice", "mail1", "mail1", "mail1")
	}
	beats := int(time.Since(began)/(500*time.Millisecond)) + 2
	if n := calls(t, r) - before; n > beats {
		t.Errorf("1000 logins took %d calls, of which at most %d are beats", n, beats)
	}
}

// An assignment lives as long as it is claimed or refreshed, in every tag, and no
// longer.
func TestValkey_Expiry(t *testing.T) {
	_, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash, expire: 2 * time.Second})
	ctx := t.Context()
	tagged := Key{"t", "bob"}
	claimed(t, v, "alice", "", "mail1", "mail1")
	claimed(t, v, "bob", "", "mail1", "mail1")
	claimed(t, v, "carol", "", "mail1", "mail1")
	if _, err := v.Claim(ctx, tagged, "", "mail2"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		time.Sleep(400 * time.Millisecond)
		claimed(t, v, "alice", "mail1", "mail1", "mail1")
		if err := v.Refresh(ctx, "bob"); err != nil {
			t.Fatal(err)
		}
	}
	lookedUp(t, v, "alice", "mail1")
	lookedUp(t, v, "bob", "mail1")
	if h, err := v.Lookup(ctx, tagged); err != nil || h != "mail2" {
		t.Errorf("bob of tag t: %q, %v", h, err)
	}
	lookedUp(t, v, "carol", "")
	time.Sleep(3 * time.Second)
	lookedUp(t, v, "alice", "")
	if h, err := v.Lookup(ctx, tagged); err != nil || h != "" {
		t.Errorf("bob of tag t: %q, %v", h, err)
	}
	claimed(t, v, "alice", "", "mail3", "mail3")
	if err := v.count(ctx); err != nil || v.Len() != 1 {
		t.Errorf("counts: %v, %v", *v.counts.Load(), err)
	}
}

// The store away: who is known goes on; a new user only where the hash is the same
// everywhere; an order is refused. Back again, what was claimed meanwhile is there.
func TestValkey_Away(t *testing.T) {
	r, o := oneRedis(t)
	var same atomic.Bool
	hash := func(_ Key, host string) bool { return same.Load() && (host == "" || host == "hashed") }
	same.Store(true)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: hash, timeout: 250 * time.Millisecond})
	claimed(t, v, "known", "", "hashed", "hashed")
	eventually(t, "it is known for sure", func() bool {
		k, _, ok := v.near.get(Key{Name: "known"})
		return ok && v.sure(k)
	})
	r.Kill()
	eventually(t, "the store is away", v.db.Away)
	ctx := t.Context()

	lookedUp(t, v, "known", "hashed")
	claimed(t, v, "known", "hashed", "hashed", "hashed")
	claimed(t, v, "known", "", "other", "hashed")
	if _, err := v.Claim(ctx, Key{Name: "known"}, "hashed", "other"); !errors.Is(err, ErrAway) {
		t.Errorf("a known user whom the policy moves: %v", err)
	}
	lookedUp(t, v, "new", "")
	claimed(t, v, "new", "", "hashed", "hashed")
	if _, err := v.Claim(ctx, Key{Name: "new2"}, "", "other"); !errors.Is(err, ErrAway) {
		t.Errorf("a new user who is not placed by hash: %v", err)
	}
	same.Store(false)
	if _, err := v.Lookup(ctx, Key{Name: "new3"}); !errors.Is(err, ErrAway) {
		t.Errorf("look-up of a new user: %v", err)
	}
	if _, err := v.Claim(ctx, Key{Name: "new3"}, "", "hashed"); !errors.Is(err, ErrAway) {
		t.Errorf("claim of a new user: %v", err)
	}
	lookedUp(t, v, "new", "hashed")
	if err := v.Set(ctx, Key{Name: "known"}, "other"); !errors.Is(err, ErrAway) {
		t.Errorf("a move: %v", err)
	}
	if got, err := v.Get(ctx, Key{Name: "known"}); err != nil || got.Host != "hashed" {
		t.Errorf("get: %+v, %v", got, err)
	}
	if err := v.Refresh(ctx, "known"); err != nil {
		t.Errorf("refresh: %v", err)
	}
	if err := v.Remember(ctx, Key{Name: "known"}, "x"); err != nil {
		t.Errorf("remember: %v", err)
	}

	r.Start(t)
	eventually(t, "the store is here", func() bool { return !v.db.Away() })
	b := valkeyNode(t, "b", valkeyOptions{redis: o, hash: anyHash})
	lookedUp(t, b, "known", "hashed")
	lookedUp(t, b, "new", "hashed")
	// The store was empty: other nodes may have something to tell yet.
	if _, err := v.Lookup(ctx, Key{Name: "new4"}); !errors.Is(err, ErrAway) {
		t.Errorf("look-up of a new user just after the outage: %v", err)
	}
	if _, err := v.Claim(ctx, Key{Name: "new4"}, "", "other"); !errors.Is(err, ErrAway) {
		t.Errorf("claim of a new user just after the outage: %v", err)
	}
}

// A store that was silent, and had the user on another host by then, wins.
func TestValkey_Reconcile(t *testing.T) {
	r, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash, timeout: 250 * time.Millisecond})
	claimed(t, v, "warm", "", "mail1", "mail1")
	r.Freeze(t)
	eventually(t, "a claim is made alone", func() bool {
		h, err := v.Claim(t.Context(), Key{Name: "alice"}, "", "mail1")
		if err != nil || h != "mail1" {
			t.Fatal(h, err)
		}
		return v.db.Away()
	})
	claimed(t, v, "alice", "", "mail1", "mail1")
	claimed(t, v, "bob", "", "mail1", "mail1")
	r.Thaw()
	// Another node has claimed alice before this one is back.
	e := strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10)
	r.Ask(t, "HSET", "t:a:"+bucketOf("alice")+"alice", "", e+" mail2")
	eventually(t, "the store is here", func() bool { return !v.db.Away() })
	h, err := v.Lookup(t.Context(), Key{Name: "alice"})
	if err != nil || h != "mail1" && h != "mail2" {
		t.Fatal(h, err)
	}
	if stored := r.Ask(t, "HGET", "t:a:"+bucketOf("alice")+"alice", ""); !strings.HasSuffix(stored, " "+h) {
		t.Errorf("the node says %s, the store %s", h, stored)
	}
	lookedUp(t, v, "bob", "mail1")
	if stored := r.Ask(t, "HGET", "t:a:"+bucketOf("bob")+"bob", ""); !strings.HasSuffix(stored, " mail1") {
		t.Errorf("of bob the store has %q", stored)
	}
}

// An order that the store came to after it was given up is not done.
func TestValkey_LateOrder(t *testing.T) {
	r, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash, timeout: 250 * time.Millisecond})
	claimed(t, v, "alice", "", "mail1", "mail1")
	r.Freeze(t)
	if err := v.Set(t.Context(), Key{Name: "alice"}, "mail2"); !errors.Is(err, ErrAway) {
		t.Fatalf("a move: %v", err)
	}
	time.Sleep(300 * time.Millisecond)
	r.Thaw()
	eventually(t, "the store is here", func() bool { return !v.db.Away() })
	time.Sleep(100 * time.Millisecond)
	if got := r.Ask(t, "HGET", "t:a:"+bucketOf("alice")+"alice", ""); !strings.HasSuffix(got, " mail1") {
		t.Errorf("the store has %q", got)
	}
}

// Who was to be forgotten on a host that he is not on any more stays known.
func TestValkey_ForgetElsewhere(t *testing.T) {
	r, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	claimed(t, v, "alice", "", "mail1", "mail1")
	time.Sleep(100 * time.Millisecond) // what was claimed is told
	if err := v.Forget(t.Context(), Key{Name: "alice"}, "mail9"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all changes are read", func() bool { v.mu.Lock(); defer v.mu.Unlock(); return len(v.rereads) == 0 })
	r.Kill()
	eventually(t, "the store is away", v.db.Away)
	lookedUp(t, v, "alice", "mail1")
}

// What the store was not told, because it was away, is not what it has.
func TestValkey_Untold(t *testing.T) {
	r, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	v.near.claim(Key{Name: "alice"}, "mail1", v.near.now()+v.life())
	claimed(t, v, "alice", "", "mail1", "mail1")
	if got := r.Ask(t, "HGET", "t:a:"+bucketOf("alice")+"alice", ""); !strings.HasSuffix(got, " mail1") {
		t.Errorf("the store has %q", got)
	}
}

// The names of a key's users are in the store whatever became of the key or of the
// store meanwhile.
func TestValkey_Names(t *testing.T) {
	r, o := oneRedis(t)
	a := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	b := valkeyNode(t, "b", valkeyOptions{redis: o, hash: anyHash})
	alice := Key{Name: "alice"}
	login := func(user string) {
		t.Helper()
		claimed(t, a, "alice", "", "mail1", "mail1")
		if err := a.Remember(t.Context(), alice, user); err != nil {
			t.Fatal(err)
		}
	}
	names := func(when string, want ...string) {
		t.Helper()
		got, err := a.Get(t.Context(), alice)
		if slices.Sort(got.Users); err != nil || !slices.Equal(got.Users, want) {
			t.Errorf("%s: %q, %v; want %q", when, got.Users, err, want)
		}
	}
	for _, by := range []*Valkey{a, b} {
		login("carol")
		eventually(t, "a is sure", func() bool { k, _, ok := a.near.get(alice); return ok && a.sure(k) })
		if err := by.Forget(t.Context(), alice, "mail1"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a has heard of it", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			_, _, known := a.near.get(alice)
			return !known && len(a.rereads) == 0
		})
		login("carol")
		names("after it was forgotten", "carol")
	}
	r.Kill()
	eventually(t, "the store is away", a.db.Away)
	login("dave")
	r.Start(t)
	eventually(t, "the store is here", func() bool { return !a.db.Away() })
	names("after an outage", "carol", "dave")
}

// One value that nobody understands keeps no other user in doubt.
func TestValkey_Garbage(t *testing.T) {
	r, o := oneRedis(t)
	a := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	claimed(t, a, "alice", "", "mail1", "mail1")
	r.Ask(t, "HSET", "t:a:"+bucketOf("alice")+"alice", "", "garbage")
	claimed(t, a, "bob", "", "mail1", "mail1")
	eventually(t, "bob is known for sure", func() bool { k, _, ok := a.near.get(Key{Name: "bob"}); return ok && a.sure(k) })
	claimed(t, a, "alice", "", "mail2", "mail2")
}

// The node knows no more than it may.
func TestValkey_Bounded(t *testing.T) {
	_, o := oneRedis(t)
	v := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash, most: 512})
	for i := range 2000 {
		claimed(t, v, fmt.Sprint("u", i), "", "mail1", "mail1")
	}
	if n := v.near.len.Load(); n > 512 {
		t.Errorf("it knows %d", n)
	}
	lookedUp(t, v, "u0", "mail1")
	if v.mayHash(Key{Name: "new"}, "mail1") {
		t.Error("who is not in a copy that is not whole is taken for new")
	}
}

// A node knows who was assigned before it was started, and what others assign, and
// goes on with that.
func TestValkey_Copy(t *testing.T) {
	r, o := oneRedis(t)
	nobody := func(Key, string) bool { return false }
	a := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
	for i := range 2000 {
		claimed(t, a, fmt.Sprint("early", i), "", fmt.Sprint("mail", i%3), fmt.Sprint("mail", i%3))
	}
	tagged := Key{"t", "early7"}
	if err := a.Set(t.Context(), tagged, "mail9"); err != nil {
		t.Fatal(err)
	}
	b := valkeyNode(t, "b", valkeyOptions{redis: o, hash: nobody})
	claimed(t, a, "late", "", "mail1", "mail1")
	if err := a.Set(t.Context(), Key{Name: "early1"}, "mail5"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b has read what a did", func() bool {
		_, l, _ := b.near.get(Key{Name: "late"})
		k, e, _ := b.near.get(Key{Name: "early1"})
		return l == "mail1" && e == "mail5" && k.doubt == noDoubt
	})
	r.Kill()
	eventually(t, "the store is away", b.db.Away)
	for i := range 2000 {
		if i != 1 {
			lookedUp(t, b, fmt.Sprint("early", i), fmt.Sprint("mail", i%3))
		}
	}
	lookedUp(t, b, "early1", "mail5")
	lookedUp(t, b, "late", "mail1")
	if h, err := b.Lookup(t.Context(), tagged); err != nil || h != "mail9" {
		t.Errorf("of a tag: %q, %v", h, err)
	}
}

// A Cluster whose master dies, and Sentinels that make another the master.
func TestValkey_Kinds(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		var o shared.Options
		parts := servers.StartRedisCluster(t)
		for _, r := range parts {
			o.Addresses = append(o.Addresses, r.Addr)
		}
		a := valkeyNode(t, "a", valkeyOptions{redis: o, hash: anyHash})
		b := valkeyNode(t, "b", valkeyOptions{redis: o, hash: anyHash})
		for i := range 100 {
			claimed(t, a, fmt.Sprint("u", i), "", "mail1", "mail1")
			claimed(t, b, fmt.Sprint("u", i), "", "mail2", "mail1")
		}
		// A change by one is seen by the other, in every part of the Cluster.
		for i := range 100 {
			if err := a.Set(t.Context(), Key{Name: fmt.Sprint("u", i)}, "mail3"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			eventually(t, "b sees the move", func() bool {
				h, err := b.Lookup(t.Context(), Key{Name: fmt.Sprint("u", i)})
				return err == nil && h == "mail3"
			})
		}
		n := 0
		if err := b.Each(t.Context(), "mail3", func(Assignment) bool { n++; return true }); err != nil || n != 100 {
			t.Errorf("%d are on mail3, %v", n, err)
		}
		// A part of the Cluster dies: nobody who is known notices, whatever the part.
		eventually(t, "all changes are read", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.rereads) == 0 })
		parts[1].Kill()
		for began := time.Now(); time.Since(began) < 4*time.Second; time.Sleep(10 * time.Millisecond) {
			for i := range 100 {
				lookedUp(t, b, fmt.Sprint("u", i), "mail3")
				claimed(t, b, fmt.Sprint("u", i), "mail3", "mail3", "mail3")
			}
		}
	})
	t.Run("sentinel", func(t *testing.T) {
		s := servers.StartRedisSentinel(t)
		v := valkeyNode(t, "a", valkeyOptions{redis: shared.Options{Addresses: s.Addrs, SentinelMaster: "usher"}, hash: anyHash, timeout: time.Second})
		claimed(t, v, "alice", "", "mail1", "mail1")
		s.Master.Kill()
		eventually(t, "the store is away", v.db.Away)
		lookedUp(t, v, "alice", "mail1")
		claimed(t, v, "bob", "", "mail2", "mail2")
		eventually(t, "the replica has taken over", func() bool { return !v.db.Away() })
		lookedUp(t, v, "bob", "mail2")
		if got := s.Replica.Ask(t, "HGET", "t:a:"+bucketOf("bob")+"bob", ""); !strings.HasSuffix(got, " mail2") {
			t.Errorf("the new master has %q", got)
		}
	})
}

func BenchmarkValkey_Known(b *testing.B) {
	_, o := oneRedis(b)
	v := valkeyNode(b, "a", valkeyOptions{redis: o, hash: anyHash})
	claimed(b, v, "alice", "", "mail1", "mail1")
	time.Sleep(100 * time.Millisecond)
	for b.Loop() {
		lookedUp(b, v, "alice", "mail1")
		claimed(b, v, "alice", "mail1", "mail1", "mail1")
	}
}
