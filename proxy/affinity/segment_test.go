package affinity

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// dump returns what Each finds.
func dump(t testing.TB, m *Memory) map[Key]Assignment {
	t.Helper()
	all := map[Key]Assignment{}
	if err := m.Each(t.Context(), "", func(a Assignment) bool {
		if _, twice := all[a.Key]; twice {
			t.Errorf("%+v came twice", a.Key)
		}
		all[a.Key] = a
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A model is what a Memory should hold: a plain map.
type model map[Key]Assignment

// step does one random thing to both, and returns the key that it was done to.
func (md model) step(t testing.TB, m *Memory, r *rand.Rand, keys int) Key {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	n := r.IntN(keys)
	k := Key{Tag: []string{"", "ssd", "tape"}[n%3], Name: fmt.Sprintf("user%d", n/4)}
	host := fmt.Sprint("host", r.IntN(5))
	was, alive := md[k]
	if alive && !was.Expires.After(now) {
		delete(md, k)
		was, alive = Assignment{}, false
	}
	put := func(k Key, host string, users []string) {
		_, expires := m.clock()
		md[k] = Assignment{Key: k, Host: host, Users: users, Expires: m.start.Add(time.Duration(expires) * time.Second)}
	}
	var err error
	switch p := r.IntN(100); {
	case p < 60:
		seen := was.Host
		if r.IntN(4) == 0 {
			seen = "host0"
		}
		winner := claim(t, m, k, seen, host)
		want := host
		if alive && was.Host != host && was.Host != seen {
			want = was.Host
		} else {
			put(k, host, was.Users)
		}
		if winner != want {
			t.Fatalf("claim %v of %q for %q, seen %q: %q won", k, was.Host, host, seen, winner)
		}
	case p < 75:
		err = m.Refresh(ctx, k.Name)
		for _, tag := range []string{"", "ssd", "tape"} {
			k := Key{tag, k.Name}
			if a := md[k]; a.Expires.After(now) {
				put(k, a.Host, a.Users)
			}
		}
	case p < 80:
		err = m.Forget(ctx, k, was.Host)
		delete(md, k)
	case p < 85:
		err = m.Set(ctx, k, host)
		put(k, host, was.Users)
	default:
		user := fmt.Sprint("session", r.IntN(20))
		err = m.Remember(ctx, k, user)
		if alive && !slices.Contains(was.Users, user) {
			was.Users = append(slices.Clone(was.Users), user)
			md[k] = was
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := look(t, m, k); got != md[k].Host {
		t.Fatalf("%v is on %q, want %q", k, got, md[k].Host)
	}
	return k
}

// check compares all.
func (md model) check(t testing.TB, m *Memory) {
	t.Helper()
	now := time.Now()
	maps.DeleteFunc(md, func(_ Key, a Assignment) bool { return !a.Expires.After(now) })
	got := dump(t, m)
	for k, want := range md {
		if a := got[k]; a.Host != want.Host || !a.Expires.Equal(want.Expires) || !slices.Equal(a.Users, want.Users) {
			t.Errorf("%v: %+v, want %+v", k, a, want)
		}
	}
	if len(got) != len(md) {
		t.Errorf("%d assignments, want %d", len(got), len(md))
	}
	onHost := map[string]int{}
	for _, s := range []string{"host0", "host1", "host2", "host3", "host4"} {
		onHost[s] = m.Assigned(s)
	}
	for i := range m.shard {
		for _, g := range m.shard[i].segments() {
			n := 0
			for j := range g.slots {
				if s := &g.slots[j]; s.key != 0 {
					n++
					onHost[m.hosts.name(s.host)]--
				}
			}
			if n != g.n || n == len(g.slots) {
				t.Errorf("%d entries in a segment of %d slots that counts %d", n, len(g.slots), g.n)
			}
		}
	}
	for host, n := range onHost {
		if n != 0 {
			t.Errorf("%s is counted %d too often", host, n)
		}
	}
}

// segments returns each segment once.
func (s *shard) segments() []*segment { return slices.Compact(slices.Clone(s.dir)) }

// A Memory does what a map would, whatever is done to it, while it grows, expires
// and shrinks.
func TestMemory_Model(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			m, md := newMemory(t, 1_000_000), model{}
			for range 25 {
				keys := []int{10, 1000, 30_000}[r.IntN(3)]
				for range 500 {
					md.step(t, m, r, keys)
				}
				time.Sleep(time.Duration(r.IntN(200)) * time.Second)
				if r.IntN(2) == 0 {
					for i := range m.shard {
						m.sweep(&m.shard[i])
					}
					md.check(t, m)
					if m.Len() != len(md) {
						t.Errorf("swept, it counts %d of %d", m.Len(), len(md))
					}
				}
				md.check(t, m)
			}
		})
	}
}

// Many entries in one shard: segments part, Each meets all once while they do, and
// after all expired little is left.
func TestSegments_GrowAndShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 1_000_000)
		one, _ := m.locate("x")
		const n = 8000
		var all []string // of that shard
		for i := 0; len(all) < 2*n+1; i++ {
			if s, _ := m.locate(nth(i)); s == one {
				all = append(all, nth(i))
			}
		}
		name := func(i int) Key { return Key{Name: all[i]} }
		for i := range n {
			claim(t, m, name(i), "", "a")
		}
		segments := len(one.segments())
		if segments < n/splitAt || segments > 4*n/splitAt {
			t.Errorf("%d entries are in %d segments", n, segments)
		}
		for _, g := range one.segments() {
			if g.n > 2*splitAt {
				t.Errorf("a segment has %d entries", g.n)
			}
		}
		seen := map[string]bool{}
		if err := m.Each(t.Context(), "a", func(a Assignment) bool {
			if seen[a.Key.Name] {
				t.Errorf("%s came twice", a.Key.Name)
			}
			seen[a.Key.Name] = true
			claim(t, m, name(n+len(seen)), "", "b")
			return true
		}); err != nil || len(seen) != n {
			t.Errorf("%v; %d of %d", err, len(seen), n)
		}
		time.Sleep(time.Hour)
		m.sweep(one)
		bytes := 0
		for _, g := range one.segments() {
			bytes += 16*len(g.slots) + cap(g.keys)
		}
		if m.Len() != 0 || bytes > 4000*len(one.segments()) {
			t.Errorf("%d entries are left, in %d bytes of %d segments", m.Len(), bytes, len(one.segments()))
		}
	})
}

// One name in thousands of tags has one hash: the segment can't be parted.
func TestSegments_OneHash(t *testing.T) {
	m := newMemory(t, 1_000_000)
	for i := range 3000 {
		claim(t, m, Key{Tag: fmt.Sprint("tag", i), Name: "alice"}, "", fmt.Sprint("host", i%7))
	}
	for i := range 3000 {
		if got := look(t, m, Key{Tag: fmt.Sprint("tag", i), Name: "alice"}); got != fmt.Sprint("host", i%7) {
			t.Fatalf("tag %d: %q", i, got)
		}
	}
	s, _ := m.locate("alice")
	if len(s.dir) != 1 {
		t.Errorf("the directory has %d segments for one hash", len(s.dir))
	}
}

func TestAllocations(t *testing.T) {
	m := newMemory(t, 10)
	ctx := t.Context()
	plain, tagged := Key{Name: "alice"}, Key{Tag: "ssd", Name: "alice"}
	claim(t, m, plain, "", "a")
	claim(t, m, tagged, "", "a")
	for name, f := range map[string]func(){
		"Lookup":  func() { _, _ = m.Lookup(ctx, tagged) },
		"Claim":   func() { _, _ = m.Claim(ctx, tagged, "a", "a") },
		"Refresh": func() { _ = m.Refresh(ctx, "alice") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
