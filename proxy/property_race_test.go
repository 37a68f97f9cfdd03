package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// Many logins of a user whom nobody knows, by all protocols at once, while hosts are
// reweighted, drained, and not checked any more: all come to one host.
func TestPlacement_Race(t *testing.T) {
	protocols := []string{"imap", "pop3", "sieve", "lmtp"}
	fleet := func(change func(i int, e *Entry)) *View {
		var entries []Entry
		for i := range 6 {
			for port, p := range protocols {
				entries = append(entries, entry(p, fmt.Sprintf("10.0.0.%d", i+1), port+1, Up, func(e *Entry) { change(i, e) }))
			}
		}
		return NewView(entries)
	}
	views := []*View{
		fleet(func(int, *Entry) {}),
		fleet(func(i int, e *Entry) { e.Weight = 50 + 100*(i%2) }),
		fleet(func(i int, e *Entry) {
			switch i {
			case 0:
				e.Admin = AdminDrain
			case 1:
				e.Weight = 0
			case 2:
				e.Health = Stale
			}
		}),
	}
	for _, mode := range []AffinityMode{AffinityPolicy, AffinityEnforce} {
		t.Run(string(mode), func(t *testing.T) {
			store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: time.Hour, MaxEntries: 10_000})
			if err != nil {
				t.Fatal(err)
			}
			w := &turning{}
			w.view.Store(views[0])
			var director Director = Builtin{}
			if mode == AffinityEnforce {
				director = wild(7)
			}
			pipeline, err := New(Options{
				Verifier: fakeVerifier(func(*Request) (Identity, error) { return Identity{Verified: true}, nil }),
				Director: director, Backends: w, Names: fakeNames{}, Assignments: slowStore{store}, Recorder: nobody{}, Affinity: mode, KeyScope: affinity.ByUser,
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 500 {
				got := make([]Decision, 8)
				var all sync.WaitGroup
				for j := range got {
					all.Go(func() {
						got[j] = pipeline.Handle(t.Context(), request(service(protocols[j%4]), func(r *Request) { r.User = fmt.Sprintf("user%d", i) }))
					})
				}
				all.Go(func() {
					for j := range 12 {
						w.view.Store(views[(i+j)%3])
						runtime.Gosched()
					}
				})
				all.Wait()
				at := ""
				for _, d := range got {
					switch {
					case mode == AffinityEnforce && d.Outcome == TempFail && d.By != "assignment":
						// what such a policy selects may take nobody
					case d.Outcome != Routed || at != "" && d.Host != at:
						t.Fatalf("%s: %s %s %s %s (%v); another login: %s", d.User, d.Outcome, d.By, d.Reason, d.Host, d.Err, at)
					default:
						at = d.Host
					}
				}
			}
		})
	}
}

// A slowStore lets others go first between look-up and claim.
type slowStore struct{ *affinity.Memory }

func (s slowStore) Claim(ctx context.Context, key affinity.Key, seen, host string) (string, error) {
	runtime.Gosched()
	return s.Memory.Claim(ctx, key, seen, host)
}

// turning is backends whose view changes.
type turning struct{ view atomic.Pointer[View] }

// View implements Backends.
func (b *turning) View() *View { return b.view.Load() }

// WaitReady implements Backends.
func (b *turning) WaitReady(context.Context) error { return nil }

// Users log in from several places all the time, while they are moved, and hosts
// fall and come back. Nobody has sessions on two hosts, not for a moment.
func TestPlacement_MovesBesideLogins(t *testing.T) {
	for _, mode := range []AffinityMode{AffinityPolicy, AffinityEnforce} {
		t.Run(string(mode), func(t *testing.T) {
			seed := *worldSeed
			if seed == 0 {
				seed = rand.Uint64N(1e9)
			}
			synctest.Test(t, func(t *testing.T) {
				var director Director
				if mode == AffinityEnforce {
					director = wild(seed)
				}
				w := newWorld(t, seed, mode, director)
				w.saw = map[string]int{}
				defer func() { w.stop() }()
				over, cancel := context.WithTimeout(t.Context(), 90*time.Second)
				defer cancel()
				var all sync.WaitGroup
				for _, p := range w.people {
					for range 3 {
						all.Go(func() {
							for over.Err() == nil {
								w.visit(p)
								time.Sleep(time.Duration(w.intn(4000)) * time.Millisecond)
							}
						})
					}
				}
				for over.Err() == nil {
					switch p := w.anybody(); {
					case w.intn(6) == 0:
						m := w.machines[w.intn(len(w.machines))]
						m.services["imap"].health = []Health{Up, Up, Down}[w.intn(3)]
						w.publish()
						w.note("%s: imap %s", m.host, m.services["imap"].health)
					default:
						if host := w.host(p); host != "" {
							w.begin(moves.Order{User: p.key.Name, Key: p.key, To: host})
						}
					}
					time.Sleep(time.Duration(100+w.intn(900)) * time.Millisecond)
				}
				all.Wait()
				done := 0
				for _, m := range w.engine.Load().Moves() {
					if m.State == moves.Done {
						done++
					}
				}
				t.Logf("%d moves, %v", done, w.saw)
				if done == 0 || w.saw["kicked"] == 0 || w.saw["visit"] == 0 {
					t.Errorf("seed %d: %d moves were made, %v", seed, done, w.saw)
				}
			})
		})
	}
}

// visit is one login, and at times the end of all sessions of that user.
func (w *world) visit(p person) {
	name := p.names[w.intn(len(p.names))]
	protocol := []string{"imap", "pop3"}[w.intn(2)]
	d := w.pipeline.Handle(context.Background(), w.request(p, protocol, name))
	w.note("%s by %s: %s %s %s, %s (%v)", name, protocol, d.Outcome, d.By, d.Reason, d.Host, d.Err)
	if d.Outcome != Routed {
		return
	}
	way := time.Duration(w.intn(int(worldDelay)))
	w.mu.Lock()
	if h := w.View().Host(d.Host); h == nil || h.Down {
		w.mu.Unlock() // it fell meanwhile: nobody gets there
		return
	}
	w.saw["visit"]++
	if w.rng.IntN(10) == 0 {
		delete(w.seats, p.key)
	}
	elsewhere := ""
	for _, s := range w.seats[p.key] {
		if s.host != d.Host {
			elsewhere = s.host
		}
	}
	w.seats[p.key] = append(w.seats[p.key], seat{d.User, d.Host, time.Now().Add(way)})
	w.mu.Unlock()
	if elsewhere != "" {
		w.wrong("%s comes to %s, and has a session on %s", name, d.Host, elsewhere)
	}
}
