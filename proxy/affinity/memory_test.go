package affinity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// What a Cluster's client does some seconds after it was closed, once.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valkey-io/valkey-go.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/valkey-io/valkey-go.(*clusterClient)._refresh.func2"))
}

func newMemory(t testing.TB, most int) *Memory {
	t.Helper()
	m, err := NewMemory(MemoryOptions{Expire: 15 * time.Minute, MaxEntries: most})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func look(t testing.TB, m *Memory, k Key) string {
	t.Helper()
	host, err := m.Lookup(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func claim(t testing.TB, m *Memory, k Key, seen, host string) string {
	t.Helper()
	winner, err := m.Claim(t.Context(), k, seen, host)
	if err != nil {
		t.Fatal(err)
	}
	return winner
}

func TestClaim(t *testing.T) {
	alice := Key{Name: "alice"}
	for _, tc := range []struct {
		name, stands, seen, host string
		winner                   string
	}{
		{"nobody was there", "", "", "a", "a"},
		{"the same again", "a", "a", "a", "a"},
		{"the same, though it was not seen", "a", "", "a", "a"},
		{"a move of what was seen", "a", "a", "b", "b"},
		{"another was quicker", "a", "", "b", "a"},
		{"another moved it", "a", "c", "b", "a"},
		{"what was seen is gone", "", "c", "b", "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMemory(t, 10)
			if tc.stands != "" {
				claim(t, m, alice, "", tc.stands)
			}
			if got := claim(t, m, alice, tc.seen, tc.host); got != tc.winner {
				t.Errorf("winner %q, want %q", got, tc.winner)
			}
			if got := look(t, m, alice); got != tc.winner {
				t.Errorf("stands then: %q, want %q", got, tc.winner)
			}
		})
	}
}

// Of many that claim at once for a user whom nobody knew, one wins and all hear
// of him.
func TestClaimRace(t *testing.T) {
	m := newMemory(t, 1000)
	for i := range 200 {
		k := Key{Name: fmt.Sprint("user", i)}
		winners := make([]string, 8)
		var wg sync.WaitGroup
		for j := range winners {
			wg.Go(func() {
				w, err := m.Claim(context.Background(), k, "", fmt.Sprint("host", j))
				if err != nil {
					t.Error(err)
				}
				winners[j] = w
			})
		}
		wg.Wait()
		for _, w := range winners {
			if w != winners[0] || w != look(t, m, k) {
				t.Fatalf("winners %q, stands %q", winners, look(t, m, k))
			}
		}
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 10)
		plain, tagged, other := Key{Name: "alice"}, Key{Tag: "ssd", Name: "alice"}, Key{Name: "bob"}
		claim(t, m, plain, "", "a")
		claim(t, m, tagged, "", "b")
		claim(t, m, other, "", "c")
		time.Sleep(14 * time.Minute)
		if err := m.Refresh(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if err := m.Refresh(t.Context(), "nobody"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if a, b, c := look(t, m, plain), look(t, m, tagged), look(t, m, other); a != "a" || b != "b" || c != "" {
			t.Errorf("after 16 min: refreshed %q and %q, want a and b; not refreshed %q, want none", a, b, c)
		}
		if got := look(t, m, Key{Name: "nobody"}); got != "" || m.Len() != 3 {
			t.Errorf("a refresh created: %q, %d entries", got, m.Len())
		}

		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { m.Run(ctx) })
		time.Sleep(16 * time.Minute)
		cancel()
		run.Wait()
		if m.Len() != 0 {
			t.Errorf("%d entries are left after all expired and were swept", m.Len())
		}
	})
}

// A full store keeps who is there, and serves new users without recording them.
func TestFull(t *testing.T) {
	m := newMemory(t, 2)
	claim(t, m, Key{Name: "a"}, "", "one")
	claim(t, m, Key{Name: "b"}, "", "one")
	if w := claim(t, m, Key{Name: "c"}, "", "two"); w != "two" || look(t, m, Key{Name: "c"}) != "" || m.Len() != 2 {
		t.Errorf("winner %q, recorded %q, %d entries", w, look(t, m, Key{Name: "c"}), m.Len())
	}
	if w := claim(t, m, Key{Name: "a"}, "one", "two"); w != "two" || look(t, m, Key{Name: "a"}) != "two" {
		t.Errorf("who is there could not be moved: %q", w)
	}
}

func TestKeyName(t *testing.T) {
	for _, tc := range []struct {
		user, sep string
		scope     Scope
		want      string
	}{
		{"Alice@Example.ORG", "", ByUser, "alice@example.org"},
		{"alice*master", "*", ByUser, "alice"},
		{"*master", "*", ByUser, "*master"},
		{"alice@example.org", "", ByLocal, "alice"},
		{"alice@example.org", "", ByDomain, "example.org"},
		{"alice@a@example.org", "", ByDomain, "example.org"},
		{"alice", "", ByDomain, "alice"},
		{"@example.org", "", ByLocal, "@example.org"},
		{"alice@", "", ByDomain, "alice@"},
		{"\xffA", "", ByUser, "\xffa"},
		{"ÄLICE", "", ByUser, "Älice"},
	} {
		if got := KeyName(tc.user, tc.sep, tc.scope); got != tc.want {
			t.Errorf("KeyName(%q, %q, %s) = %q, want %q", tc.user, tc.sep, tc.scope, got, tc.want)
		}
	}
}

// Weights share users out in proportion, and a host that goes moves only its
// own users.
func TestRendezvous(t *testing.T) {
	const users = 100_000
	hosts := []struct {
		name   string
		weight int
	}{{"a", 100}, {"b", 100}, {"c", 200}, {"d", 50}, {"e", 0}}
	pick := func(user string, without int) int {
		best, top := -1, math.Inf(-1)
		for i, h := range hosts {
			if i == without {
				continue
			}
			if s := Score(HashKey(user), HashHost(h.name), h.weight); s > top {
				best, top = i, s
			}
		}
		return best
	}
	count := make([]int, len(hosts))
	for i := range users {
		user := fmt.Sprintf("user%d@example.org", i)
		was, then := pick(user, -1), pick(user, 1)
		count[was]++
		if was != 1 && then != was {
			t.Fatalf("%s moved from %s, which stayed", user, hosts[was].name)
		}
	}
	for i, h := range hosts {
		want := float64(users) * float64(h.weight) / 450
		if math.Abs(float64(count[i])-want) > 0.03*want+1 {
			t.Errorf("host %s with weight %d has %d users, want about %.0f", h.name, h.weight, count[i], want)
		}
	}
}

// The number of entries on each host is exact but for those that expired and wait
// for the sweep.
func TestAssigned(t *testing.T) {
	now := time.Unix(1e9, 0)
	m, err := NewMemory(MemoryOptions{Expire: time.Minute, MaxEntries: 100, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, a, b int) {
		t.Helper()
		if m.Assigned("a") != a || m.Assigned("b") != b || m.Assigned("never there") != 0 {
			t.Errorf("%s: %d on a, %d on b, want %d and %d", when, m.Assigned("a"), m.Assigned("b"), a, b)
		}
	}
	for i := range 100 {
		claim(t, m, Key{Name: fmt.Sprint(i)}, "", "a")
	}
	claim(t, m, Key{Name: "one too many"}, "", "a")
	want("full", 100, 0)
	for i := range 30 {
		claim(t, m, Key{Name: fmt.Sprint(i)}, "a", "b")
	}
	claim(t, m, Key{Name: "40"}, "", "b") // loses
	claim(t, m, Key{Name: "41"}, "", "a") // again
	want("thirty moved", 70, 30)
	now = now.Add(2 * time.Minute)
	claim(t, m, Key{Name: "50"}, "", "b")
	want("expired, one came back elsewhere", 69, 31)
	for i := range m.shard {
		m.sweep(&m.shard[i])
	}
	want("swept", 0, 1)
}

func TestAssigned_Concurrent(t *testing.T) {
	m := newMemory(t, 1000)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				k := Key{Name: fmt.Sprint(i % 50)}
				seen, _ := m.Lookup(context.Background(), k)
				if _, err := m.Claim(context.Background(), k, seen, fmt.Sprint("host", (i+w)%5)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for i := range 5 {
		sum += m.Assigned(fmt.Sprint("host", i))
	}
	if sum != 50 {
		t.Errorf("%d users counted, want 50", sum)
	}
}

func TestMemory_Orders(t *testing.T) {
	m := newMemory(t, 100)
	ctx := t.Context()
	alice, tagged := Key{Name: "alice"}, Key{Tag: "ssd", Name: "alice"}
	if err := m.Set(ctx, alice, "host1"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Set(ctx, tagged, "host2"), m.Set(ctx, alice, "host3")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(m.Remember(ctx, alice, "Alice"), m.Remember(ctx, Key{Name: "nobody"}, "Nobody")); err != nil {
			t.Fatal(err)
		}
	}
	a, err := m.Get(ctx, alice)
	if err != nil || a.Key != alice || a.Host != "host3" || len(a.Users) != 1 || a.Users[0] != "Alice" || !a.Expires.After(time.Now()) {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := m.Get(ctx, Key{Name: "nobody"}); err != nil || a.Host != "" {
		t.Errorf("%+v, %v", a, err)
	}
	count := func(host string) (n int) {
		if err := m.Each(ctx, host, func(Assignment) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if all, one, none := count(""), count("host2"), count("host1"); all != 2 || one != 1 || none != 0 {
		t.Errorf("%d in all, %d on host2, %d on host1", all, one, none)
	}
	if m.Assigned("host1") != 0 || m.Assigned("host3") != 1 || m.Len() != 2 {
		t.Errorf("%d, %d of %d", m.Assigned("host1"), m.Assigned("host3"), m.Len())
	}
	if err := errors.Join(m.Forget(ctx, alice, "host1"), m.Forget(ctx, alice, "host3"), m.Forget(ctx, alice, "host3")); err != nil {
		t.Fatal(err)
	}
	if host, err := m.Lookup(ctx, alice); host != "" || err != nil || m.Len() != 1 || m.Assigned("host3") != 0 {
		t.Errorf("%q, %v, %d", host, err, m.Len())
	}
}

// An assignment lives for expire at least, wherever in a second it was claimed, and
// a second more at most.
func TestExpiry_Seconds(t *testing.T) {
	for _, begin := range []time.Duration{0, 1, 300 * time.Millisecond, time.Second - 1, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, 10)
			time.Sleep(begin)
			claim(t, m, Key{Name: "alice"}, "", "a")
			time.Sleep(15*time.Minute - 1)
			if look(t, m, Key{Name: "alice"}) != "a" {
				t.Errorf("claimed after %s: gone before its time", begin)
			}
			time.Sleep(time.Second + 1)
			if look(t, m, Key{Name: "alice"}) != "" {
				t.Errorf("claimed after %s: lives on", begin)
			}
		})
	}
}
