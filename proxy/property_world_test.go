package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// What the worlds of property tests live by.
const (
	worldExpire = time.Minute
	worldDelay  = 2 * time.Second // of moves; a login that was decided comes through before
)

// A machine is a host as the model knows it. tag never changes.
type machine struct {
	host, tag string
	weight    int
	present   bool
	services  map[string]*condition // by protocol
}

type condition struct {
	health Health
	admin  Admin
}

func (c *condition) down() bool { return c.health == Down || c.admin == AdminDown }

// up reports whether the machine can have users: it is in the inventory, neither
// its imap nor its pop3 is down, and not all of it is ordered down.
func (m *machine) up() bool {
	all := true
	for _, c := range m.services {
		all = all && c.admin == AdminDown
	}
	return m.present && !m.services["imap"].down() && !m.services["pop3"].down() && !all
}

// taking is the weight that the machine has for new users of a service; "": of one
// that the inventory has nowhere.
func (m *machine) taking(protocol string) int {
	if !m.up() {
		return 0
	}
	for _, p := range []string{"imap", "pop3", protocol} {
		if c := m.services[p]; p != "" && (c == nil || c.health != Up || c.admin != AdminUp) {
			return 0
		}
	}
	return m.weight
}

// A person has one assignment, and names that differ in writing.
type person struct {
	key   affinity.Key
	names []string
}

// A seat is a session that lives, or, before from, a login that is on its way to
// the host.
type seat struct {
	user, host string
	from       time.Time
}

// A home is an assignment: where, and when it was last claimed or refreshed.
type home struct {
	host string
	at   time.Time
}

// A world is machines, people and a pipeline, and a model of what is right. It
// implements what the pipeline asks of others. Its clock is a synctest bubble's.
type world struct {
	t        *testing.T
	seed     uint64
	opt      Options
	tagged   bool
	refresh  bool // proxies refresh what lives
	machines []*machine
	people   []person
	path     string
	store    *affinity.Memory
	pipeline *Pipeline
	view     atomic.Pointer[View]
	engine   atomic.Pointer[moves.Engine]
	stop     func()

	mu    sync.Mutex // of all that follows: moves run beside
	rng   *rand.Rand
	ids   int
	seats map[affinity.Key][]seat
	homes map[affinity.Key]home
	pins  map[string]string
	holds map[string]bool
	seen  map[string]bool // moves that the model knows to be done
	trail []string
	saw   map[string]int // how often it came to what
}

// newWorld makes a world. director nil is the built-in policy.
func newWorld(t *testing.T, seed uint64, mode AffinityMode, director Director) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), path: filepath.Join(t.TempDir(), "moves.json"),
		seats: map[affinity.Key][]seat{}, homes: map[affinity.Key]home{}, pins: map[string]string{}, holds: map[string]bool{}, seen: map[string]bool{},
	}
	w.tagged, w.refresh = w.intn(3) == 0, w.intn(2) == 0
	for i := range 6 {
		m := &machine{host: fmt.Sprintf("10.0.0.%d", i+1), weight: 100, present: true, services: map[string]*condition{}}
		for _, p := range []string{"imap", "pop3", "sieve", "lmtp"} {
			if p == "imap" || p == "pop3" || w.intn(6) > 0 {
				m.services[p] = &condition{Up, AdminUp}
			}
		}
		if w.tagged && i%2 == 1 {
			m.tag = "ssd"
		}
		w.machines = append(w.machines, m)
	}
	for i := range 8 {
		name := fmt.Sprintf("user%d@example.org", i)
		p := person{affinity.Key{Name: name}, []string{name, "U" + name[1:], name + "*admin"}}
		if w.tagged && i%2 == 1 {
			p.key.Tag = "ssd"
		}
		w.people = append(w.people, p)
	}
	w.publish()

	var err error
	if w.store, err = affinity.NewMemory(affinity.MemoryOptions{Expire: worldExpire, MaxEntries: 1000}); err != nil {
		t.Fatal(err)
	}
	if director == nil {
		director = Builtin{}
	}
	verify := fakeVerifier(func(*Request) (Identity, error) { return Identity{Driver: "fake", Verified: true}, nil })
	w.opt = Options{
		Verifier: verify, Director: director, Backends: w, Names: fakeNames{}, Assignments: w.store, Orders: w, Recorder: nobody{},
		Affinity: mode, KeyScope: affinity.ByUser, MasterSeparator: "*", DenyUnlisted: w.intn(2) == 0,
	}
	if w.pipeline, err = New(w.opt); err != nil {
		t.Fatal(err)
	}
	w.start()
	return w
}

// start begins moves, or goes on with them as after a restart.
func (w *world) start() {
	e, err := moves.Open(moves.Options{Path: w.path, Store: w.store, NewID: func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ids++
		return fmt.Sprintf("M%06d", w.ids)
	}}, moves.Settings{
		KickDelay: worldDelay, Timeout: 20 * time.Second, Parallel: 3, End: w.end, Target: w.target,
		Pin: func(_ context.Context, user string, p affinity.Pin) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.pins[affinity.OrderName(user, "*")] = p.Host
			return nil
		},
		Unpin: func(_ context.Context, user, host string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if name := affinity.OrderName(user, "*"); w.pins[name] == host {
				delete(w.pins, name)
			}
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine.Store(e)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
}

type nobody struct{}

func (nobody) Decided(*Request, *Decision)          {}
func (nobody) PolicyRan(time.Duration, bool, error) {}

// View implements Backends.
func (w *world) View() *View { return w.view.Load() }

// WaitReady implements Backends.
func (w *world) WaitReady(context.Context) error { return nil }

// Held implements Orders.
func (w *world) Held(_ context.Context, user string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holds[affinity.OrderName(user, "*")], nil
}

// Pin implements Orders.
func (w *world) Pin(_ context.Context, user string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pins[affinity.OrderName(user, "*")], nil
}

// Moving implements Orders.
func (w *world) Moving(key affinity.Key) bool { return w.engine.Load().Moving(key) }

// Awaited implements Orders.
func (w *world) Awaited(affinity.Key) string { return "" }

func (w *world) intn(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// note leaves a step in the trail, which a failure shows.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trail = append(w.trail, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
	if over := len(w.trail) - 40; over > 0 {
		w.trail = w.trail[over:]
	}
}

// wrong fails the test, with what led there.
func (w *world) wrong(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Errorf("seed %d: "+format, append([]any{w.seed}, args...)...)
	for _, step := range w.trail {
		w.t.Log(step)
	}
	w.trail = nil
}

func (w *world) machine(host string) *machine {
	i := slices.IndexFunc(w.machines, func(m *machine) bool { return m.host == host })
	if i < 0 {
		return nil
	}
	return w.machines[i]
}

// publish makes the View of the machines, and ends what lives on those that are not
// up.
func (w *world) publish() {
	var entries []Entry
	for _, m := range w.machines {
		for i, p := range []string{"imap", "pop3", "sieve", "lmtp"} {
			if c := m.services[p]; c != nil && m.present {
				s := &Server{Protocol: p, Host: m.host, Port: 1000 + i, Weight: m.weight}
				if m.tag != "" {
					s.Tags = []string{m.tag}
				}
				entries = append(entries, Entry{Server: s, Health: c.health, Admin: c.admin, Addr: netip.MustParseAddr(m.host)})
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view.Store(NewView(entries))
	for key, seats := range w.seats {
		w.seats[key] = slices.DeleteFunc(seats, func(s seat) bool { return !w.machine(s.host).up() })
	}
}

// target is where a flush takes a key.
func (w *world) target(a affinity.Assignment) (string, bool) {
	if pin, _ := w.Pin(context.Background(), a.Key.Name); pin != "" {
		return "", false
	}
	e := w.hashed(w.View(), a.Key, "imap")
	if e == nil {
		return "", false
	}
	return e.Host, true
}

// hashed is where the hash sends a key that has no assignment.
func (w *world) hashed(v *View, key affinity.Key, protocol string) *Entry {
	q := Query{Request: w.request(person{key: key, names: []string{key.Name}}, protocol, key.Name), Key: key, View: v}
	return Rendezvous(protocol, key.Name, q.Candidates(""))
}

// request is a login, or a look-up for lmtp and doveadm.
func (w *world) request(p person, protocol, name string) *Request {
	r := request(service(protocol), func(r *Request) { r.User = name })
	if protocol == "lmtp" || protocol == "doveadm" {
		lookup(protocol)(r)
	}
	if w.tagged {
		r.Upstream = &Upstream{User: name, Tag: p.key.Tag}
	}
	return r
}

// end ends the sessions of a move, as a site would: it takes a while, and at times
// does not work. It must be told whose they are and where.
func (w *world) end(ctx context.Context, users []string, host string) error {
	select {
	case <-time.After(time.Duration(w.intn(1500)) * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.intn(10) == 0 {
		return errors.New("the proxy is away")
	}
	var lives []string
	w.mu.Lock()
	for _, p := range w.people {
		if !slices.Contains(users, p.key.Name) {
			continue
		}
		m, _ := w.engine.Load().Of(p.key)
		w.seats[p.key] = slices.DeleteFunc(w.seats[p.key], func(s seat) bool {
			if s.from.After(time.Now()) || s.host == m.To && host != m.To {
				return false // not there yet; or where the move takes him, of a login just before it began
			}
			if !slices.Contains(users, s.user) || s.host != host {
				lives = append(lives, s.user+" on "+s.host)
				return false
			}
			w.saw["kicked"]++
			return true
		})
	}
	w.mu.Unlock()
	if lives != nil {
		w.wrong("a move ends the sessions of %q on %q; there live %q", users, host, lives)
	}
	return nil
}

// live is the host of a key's live assignment, which must be the model's.
func (w *world) live(key affinity.Key) string {
	w.t.Helper()
	host, err := w.store.Lookup(context.Background(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	h := w.homes[key]
	w.mu.Unlock()
	age := time.Since(h.at)
	switch {
	case h.host != "" && age < worldExpire && host != h.host:
		w.wrong("%v is assigned to %q; was taken to %s %s ago", key, host, h.host, age)
	case age > worldExpire+2*time.Second && host != "":
		w.wrong("%v is still assigned to %s after %s", key, host, age)
	case host != "" && host != h.host:
		w.wrong("%v is assigned to %s; nothing took it there", key, host)
	}
	return host
}

// settle brings the model up to date: moves that were made, assignments that ended
// with their sessions. Then it looks at everybody.
func (w *world) settle() {
	w.t.Helper()
	synctest.Wait()
	for _, m := range w.engine.Load().Moves() {
		if m.State == moves.Done && !w.seen[m.ID] {
			w.seen[m.ID] = true
			w.note("move %s of %s to %s is done", m.ID, m.Key.Name, m.To)
			w.mu.Lock()
			w.homes[m.Key] = home{m.To, m.Changed}
			w.saw["moved"]++
			w.mu.Unlock()
		}
	}
	for _, p := range w.people {
		host := w.live(p.key)
		w.mu.Lock()
		if host == "" && w.homes[p.key].host != "" {
			w.saw["expired"]++
			delete(w.seats, p.key)
			delete(w.homes, p.key)
		}
		seats := slices.Clone(w.seats[p.key])
		w.mu.Unlock()
		for _, s := range seats {
			if s.host != host {
				w.wrong("%s is assigned to %q, and has a session on %s", p.key.Name, host, s.host)
			}
		}
	}
}
