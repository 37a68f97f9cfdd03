package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/test/servers"
)

// Logins of random users at three nodes at the same time, while the store is stopped,
// killed and comes back empty: a user is never on two hosts.
func TestNodes_OneHost(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	var mu sync.Mutex
	at := map[string]string{}
	var routed, later atomic.Int32
	stop := make(chan struct{})
	var load sync.WaitGroup
	for w := range 6 {
		load.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				// New users come all the time.
				user := fmt.Sprintf("u%d@example.org", r.IntN(50+i/4))
				host := n.login(t, r.IntN(3), user)
				if host == "" {
					later.Add(1)
					continue
				}
				routed.Add(1)
				mu.Lock()
				if was := at[user]; was != "" && was != host {
					t.Errorf("%s was on %s, and is on %s", user, was, host)
				}
				at[user] = host
				mu.Unlock()
			}
		})
	}
	halt := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer halt()
	phase := func(name string, d time.Duration) {
		r, l := routed.Load(), later.Load()
		time.Sleep(d)
		t.Logf("%s: %d logins routed, %d told to try later", name, routed.Load()-r, later.Load()-l)
		if routed.Load() == r {
			t.Errorf("%s: nobody is logged in", name)
		}
	}
	phase("all is well", 2*time.Second)
	// From here on there are users who are not where the hash would send them.
	n.run(t, 1, 0, "backend", "weight", nodeHosts[0], "20")
	phase("another weight", 2*time.Second)
	for range 2 {
		n.redis.Freeze(t)
		phase("the store is silent", 2*time.Second)
		from := n.logs()
		n.redis.Thaw()
		phase("it answers again", 2*time.Second)
		n.says(t, from, "here")
	}
	n.kill(t)
	phase("the store is dead", 3*time.Second)
	n.revive(t)
	phase("the store is empty", 4*time.Second)
	n.dead.Store(true)
	n.ushers[0].Kill()
	n.ushers[0].Restart(t)
	n.dead.Store(false)
	phase("a node is new", 2*time.Second)
	halt()
	for user, host := range at {
		if got := n.oneHost(t, user); got != host {
			t.Errorf("%s was on %s, and is on %s", user, host, got)
		}
	}
}

// What is ordered at one node stands at all within a second, and nodes list each
// other.
func TestNodes_Orders(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	n.eventually(t, "every node knows of all, ready", func() bool {
		var list []struct {
			Name, Version string
			Ready, Self   bool
		}
		if err := json.Unmarshal([]byte(n.run(t, 1, 0, "nodes", "--json")), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, l := range list {
			names = append(names, fmt.Sprintln(l.Name, l.Ready, l.Self))
			if l.Version == "" {
				t.Errorf("node %s has no version", l.Name)
			}
		}
		return slices.Equal(names, []string{"a true false\n", "b true true\n", "c true false\n"})
	})

	within := func(what string, ok func() bool) {
		t.Helper()
		began := time.Now()
		n.eventually(t, what, ok)
		if took := time.Since(began); took > 5*time.Second { // a second, and the time that this takes on a busy machine
			t.Errorf("%s after %s", what, took)
		}
	}
	alice := n.oneHost(t, "alice@example.org")
	for _, host := range nodeHosts {
		if host != alice {
			n.run(t, 0, 0, "backend", "drain", host)
		}
	}
	within("new users go to the one host that is left", func() bool {
		return n.everywhere(t, "new@example.org") == [3]string{alice, alice, alice}
	})
	for _, host := range nodeHosts {
		n.run(t, 1, 0, "backend", "up", host)
	}
	to := n.other(alice)
	n.run(t, 2, 0, "pin", "--force", "bob@example.org", to)
	within("the pin stands", func() bool { return n.everywhere(t, "bob@example.org") == [3]string{to, to, to} })
	n.run(t, 0, 0, "hold", "carol@example.org")
	within("the hold stands", func() bool { return n.everywhere(t, "carol@example.org") == [3]string{} })
	n.run(t, 1, 0, "release", "carol@example.org")
	within("the release stands", func() bool { return n.login(t, 2, "carol@example.org") != "" })

	n.run(t, 0, 0, "move", "--force", "alice@example.org", to)
	within("she is there", func() bool { return n.everywhere(t, "alice@example.org") == [3]string{to, to, to} })
	if dump := n.run(t, 2, 0, "dump"); !strings.Contains(dump, "usher pin bob@example.org "+to) {
		t.Errorf("dump at another node:\n%s", dump)
	}
}

// While one node moves a user he waits at all of them.
func TestNodes_MoveHoldsEverywhere(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	host := n.oneHost(t, "alice@example.org")
	to := n.other(host)
	moved := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(moved)
		n.run(t, 0, 0, "move", "--force", "alice@example.org", to)
	})
	n.eventually(t, "he waits at all nodes", func() bool { return n.everywhere(t, "alice@example.org") == [3]string{} })
	if out := n.run(t, 1, 1, "move", "--force", "alice@example.org", to); !strings.Contains(out, "is being moved already") {
		t.Errorf("a second move, at another node: %s", out)
	}
	<-moved
	wg.Wait()
	n.eventually(t, "he waits no more", func() bool {
		return n.login(t, 1, "alice@example.org") != "" && n.login(t, 2, "alice@example.org") != ""
	})
	if got := n.oneHost(t, "alice@example.org"); got != to {
		t.Errorf("alice was moved to %s and is on %s", to, got)
	}
}

// The store is away: who is known is taken to his host, at each node; orders are
// refused; a new user is hashed as long as the hosts are as all nodes saw them.
func TestNodes_StoreAway(t *testing.T) {
	t.Parallel()
	whole := t
	n := startNodes(t)
	alice := n.oneHost(t, "alice@example.org")
	moved := n.other(n.oneHost(t, "moved@example.org"))
	n.run(t, 0, 0, "move", "--force", "moved@example.org", moved)
	n.run(t, 0, 0, "hold", "held@example.org")
	n.login(t, 0, "seldom@example.org") // the other nodes never saw him
	time.Sleep(time.Second)
	n.kill(t)

	t.Run("known users", func(t *testing.T) {
		if got := n.oneHost(t, "alice@example.org"); got != alice {
			t.Errorf("alice is on %s, was on %s", got, alice)
		}
		if got := n.oneHost(t, "moved@example.org"); got != moved {
			t.Errorf("a moved user is on %s, was on %s", got, moved)
		}
		n.oneHost(t, "seldom@example.org")
	})
	t.Run("orders", func(t *testing.T) {
		for _, args := range [][]string{
			{"backend", "down", nodeHosts[0]}, {"backend", "weight", nodeHosts[0], "5"}, {"pin", "--force", "new@example.org", nodeHosts[0]},
			{"hold", "alice@example.org"}, {"release", "held@example.org"}, {"move", "--force", "alice@example.org", nodeHosts[0]},
		} {
			if out := n.run(t, 1, 1, args...); !strings.Contains(out, "away") {
				t.Errorf("usher %s: %s", strings.Join(args, " "), out)
			}
		}
		n.refused(t, "held@example.org")
	})
	t.Run("new users", func(t *testing.T) {
		for i := range 20 {
			n.oneHost(t, fmt.Sprintf("new%d@example.org", i))
		}
	})
	t.Run("other hosts", func(t *testing.T) {
		from := n.logs()
		down := n.other(alice)
		if err := n.backends[down].Close(); err != nil {
			t.Fatal(err)
		}
		for i, u := range n.ushers {
			u.Logged(t, from[i], "that a backend is down", func(line string) bool { return strings.Contains(line, down) && strings.Contains(line, "down") })
		}
		n.eventually(t, "new users are told to try later", func() bool { return n.everywhere(t, "newer@example.org") == [3]string{} })
		n.refused(t, "newest@example.org")
		if d := n.ushers[0].Decided(t, "192.0.2.9"); d.Adapter == "" {
			t.Errorf("%+v", d)
		}
		n.ushers[0].Logged(t, from[0], "store_unavailable", func(line string) bool {
			return strings.Contains(line, `"store_unavailable"`) && strings.Contains(line, "newest@example.org")
		})
		if got := n.oneHost(t, "alice@example.org"); got != alice {
			t.Errorf("alice is on %s, was on %s", got, alice)
		}
		n.serve(whole, down)
		n.eventually(t, "it is up again", func() bool { return n.everywhere(t, "moved@example.org") == [3]string{moved, moved, moved} })
	})
	t.Run("back", func(t *testing.T) {
		n.revive(t)
		if got := n.oneHost(t, "alice@example.org"); got != alice {
			t.Errorf("alice is on %s, was on %s", got, alice)
		}
		if got := n.oneHost(t, "moved@example.org"); got != moved {
			t.Errorf("a moved user is on %s, was on %s", got, moved)
		}
		n.refused(t, "held@example.org")
		n.eventually(t, "orders are taken", func() bool {
			_, _, status := n.ushers[2].Run(t, "release", "held@example.org")
			return status == 0
		})
		n.eventually(t, "and stand everywhere", func() bool { return !slices.Contains(slices.Collect(hostsOf(n.everywhere(t, "held@example.org"))), "") })
	})
}

func hostsOf(hosts [3]string) func(yield func(string) bool) {
	return func(yield func(string) bool) { slices.Values(hosts[:])(yield) }
}

// A node that starts while the store is away tells all to try later, and serves when
// the store comes.
func TestNodes_StartAlone(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	alice := n.oneHost(t, "alice@example.org")
	time.Sleep(time.Second) // all have read what the others claimed
	n.ushers[2].Stop()
	n.redis.Freeze(t)
	n.ushers[2].Restart(t)
	if host := n.login(t, 2, "alice@example.org"); host != "" {
		t.Errorf("a node that knows nothing takes alice to %s", host)
	}
	if host := n.login(t, 2, "new@example.org"); host != "" {
		t.Errorf("a node that knows nothing takes a new user to %s", host)
	}
	if host := n.login(t, 0, "alice@example.org"); host != alice {
		t.Errorf("alice is on %q, was on %s", host, alice)
	}
	from := n.logs()
	n.redis.Thaw()
	n.says(t, [3]int{0, 0, from[2]}, "here")
	n.eventually(t, "the new node serves", func() bool { return n.login(t, 2, "alice@example.org") == alice })
}

// A node alone can't reach the store: who is known stays where he is, at that node and
// at the others, and so he does when it is back.
func TestNodes_CutOff(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	alice := n.oneHost(t, "alice@example.org")
	time.Sleep(time.Second)
	from := n.logs()
	n.gate.Set(servers.GateSilent)
	n.gate.Cut()
	n.ushers[2].Logged(t, from[2], "that the store is away", func(line string) bool { return strings.Contains(line, `"away"`) })
	n.eventually(t, "the others do without it", func() bool { return strings.Count(n.run(t, 0, 0, "nodes"), " ready ") == 2 })
	var users []string
	hosts := map[string]string{"alice@example.org": alice}
	for i := range 20 {
		users = append(users, fmt.Sprintf("new%d@example.org", i))
	}
	for i, user := range users {
		hosts[user] = n.login(t, 2*(i%2), user) // here, or there
	}
	for user, host := range hosts {
		if got := n.oneHost(t, user); got != host {
			t.Errorf("%s is on %s, was on %q", user, got, host)
		}
	}
	if out := n.run(t, 2, 0, "status"); !strings.Contains(out, "the shared store is AWAY") {
		t.Errorf("status:\n%s", out)
	}
	if metrics := n.ushers[2].Get(t, "/metrics"); !strings.Contains(metrics, "\nusher_store_up 0\n") {
		t.Error("metrics: usher_store_up is not 0")
	}
	n.gate.Set(servers.GateOpen)
	n.gate.Cut()
	n.eventually(t, "it is back", func() bool { return strings.Count(n.run(t, 0, 0, "nodes"), " ready ") == 3 })
	for user, host := range hosts {
		if got := n.oneHost(t, user); got != host {
			t.Errorf("%s is on %s, was on %q", user, got, host)
		}
	}
}

// A change of the store needs a restart.
func TestNodes_Reload(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	for old, next := range map[string]string{"store: valkey": "store: memory", "node: a": "node: z", "redis: {": "redis: {db: 3, "} {
		n.ushers[0].Reconfigure(t, strings.Replace(n.yaml[0], old, next, 1))
		if out := n.run(t, 0, 1, "reload"); !strings.Contains(out, "expected a restart") {
			t.Errorf("%s: %s", next, out)
		}
	}
	n.ushers[0].Reconfigure(t, strings.Replace(n.yaml[0], "expire: 5m", "expire: 6m", 1))
	n.run(t, 0, 0, "reload")
	n.oneHost(t, "alice@example.org")
}
