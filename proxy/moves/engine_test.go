package moves

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/affinity"
)

// A site is a store, sessions that End ends, and what happened, in order.
type site struct {
	mu       sync.Mutex
	store    *affinity.Memory
	sessions map[string]int // by user: how many kicks they survive
	ended    []string
	hooks    []string
	endErr   error
	hookErr  error
	pins     map[string]string
	ids      int
	path     string
	settings Settings
}

func newSite(t *testing.T) *site {
	t.Helper()
	store, err := affinity.NewMemory(affinity.MemoryOptions{Expire: 15 * time.Minute, MaxEntries: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{store: store, sessions: map[string]int{}, pins: map[string]string{}, path: filepath.Join(t.TempDir(), "moves.json")}
	s.settings = Settings{
		KickDelay: 2 * time.Second, Timeout: 30 * time.Second, Parallel: 3, End: s.end,
		Hook: func(_ context.Context, m Move) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.hooks = append(s.hooks, m.User+" "+m.From+" "+m.To)
			return s.hookErr
		},
		Target: func(a affinity.Assignment) (string, bool) { return "mail2", true },
		Pin: func(_ context.Context, user string, p affinity.Pin) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.pins[user] = p.Host
			return nil
		},
		Unpin: func(_ context.Context, user, host string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.pins[user] == host {
				delete(s.pins, user)
			}
			return nil
		},
	}
	return s
}

// end takes a second, and ends sessions that were kicked often enough.
func (s *site) end(ctx context.Context, users []string, _ string) error {
	for {
		s.mu.Lock()
		err := s.endErr
		left := 0
		for _, u := range users {
			s.ended = append(s.ended, u)
			if s.sessions[u] > 0 {
				s.sessions[u]--
				left++
			}
		}
		s.mu.Unlock()
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%d sessions live: %w", left, ctx.Err())
		}
	}
}

func (s *site) open(t *testing.T) *Engine {
	t.Helper()
	e, err := Open(Options{Path: s.path, Store: s.store, NewID: func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ids++
		return fmt.Sprintf("M%06d", s.ids)
	}}, s.settings)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run runs an Engine until stop, which waits.
func run(t *testing.T, e *Engine) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	return func() { cancel(); <-done }
}

func (s *site) put(t *testing.T, user, host string) affinity.Key {
	t.Helper()
	k := affinity.Key{Name: user}
	if err := s.store.Set(t.Context(), k, host); err != nil {
		t.Fatal(err)
	}
	return k
}

func (s *site) at(t *testing.T, k affinity.Key) string {
	t.Helper()
	host, err := s.store.Lookup(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func order(k affinity.Key, to string) Order {
	return Order{User: k.Name, Key: k, To: to, Stamp: affinity.Stamp{By: "root", Reason: "test"}}
}

func TestMove(t *testing.T) {
	tests := []struct {
		name     string
		sessions int
		endErr   error
		hookErr  error
		force    bool
		want     State
		why      string
		at       string
		took     time.Duration
	}{
		{"nobody is logged in", 0, nil, nil, false, Done, "", "mail2", 2 * time.Second},
		{"sessions end at the third kick", 3, nil, nil, false, Done, "", "mail2", 5 * time.Second},
		{"sessions do not end", 1000, nil, nil, false, Failed, "not done within 30s: 1 sessions live", "mail1", 30 * time.Second},
		{"the proxy is away", 0, errors.Join(errors.New("proxy is away"), errors.New("mail1 too")), nil, false, Failed, "proxy is away; mail1 too", "mail1", 0},
		{"the proxy is away, by force", 0, errors.New("proxy is away"), nil, true, Done, "", "mail2", 2 * time.Second},
		{"sessions do not end, by force", 1000, nil, nil, true, Done, "", "mail2", 17 * time.Second},
		{"the hook fails", 0, nil, errors.New("exit status 3"), false, Failed, "flush_hook: exit status 3", "mail1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				alice := s.put(t, "alice", "mail1")
				if err := s.store.Remember(t.Context(), alice, "Alice"); err != nil {
					t.Fatal(err)
				}
				s.sessions["Alice"], s.endErr, s.hookErr = tt.sessions, tt.endErr, tt.hookErr
				e := s.open(t)
				defer run(t, e)()
				o := order(alice, "mail2")
				o.Force = tt.force
				began := time.Now()
				m, err := e.Start(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if tt.took > 0 && !e.Moving(alice) || m.From != "mail1" {
					t.Errorf("moving: %t, %+v", e.Moving(alice), m)
				}
				if tt.took > 0 {
					if _, err := e.Start(t.Context(), o); !errors.Is(err, ErrMoving) {
						t.Errorf("a second move: %v", err)
					}
				}
				if m, err = e.Wait(t.Context(), m.ID); err != nil {
					t.Fatal(err)
				}
				if m.State != tt.want || !strings.Contains(m.Error, tt.why) || tt.why == "" && m.Error != "" {
					t.Errorf("%s: %q, want %s: %q", m.State, m.Error, tt.want, tt.why)
				}
				if d := time.Since(began) - tt.took; d < 0 || d > 100*time.Millisecond {
					t.Errorf("took %s, want %s", time.Since(began), tt.took)
				}
				if e.Moving(alice) || s.at(t, alice) != tt.at {
					t.Errorf("moving: %t, at %s, want %s", e.Moving(alice), s.at(t, alice), tt.at)
				}
				if !slices.Contains(s.ended, "Alice") || !slices.Contains(s.ended, "alice") {
					t.Errorf("kicked: %v", s.ended)
				}
			})
		})
	}
}

func TestMove_Undo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice := s.put(t, "alice", "mail1")
		e := s.open(t)
		defer run(t, e)()
		ctx := t.Context()
		stamp := affinity.Stamp{By: "bob"}
		m, err := e.Start(ctx, order(alice, "mail2"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // settling
		if m, err = e.Undo(ctx, m.ID, false, stamp); err != nil || m.State != Undone || m.Error != "undone by bob" {
			t.Fatalf("%+v, %v", m, err)
		}
		time.Sleep(time.Minute)
		if e.Moving(alice) || s.at(t, alice) != "mail1" {
			t.Errorf("at %s", s.at(t, alice))
		}
		if _, err := e.Undo(ctx, m.ID, false, stamp); err == nil || !strings.Contains(err.Error(), "is undone: there is nothing to undo") {
			t.Errorf("twice: %v", err)
		}
		if _, err := e.Undo(ctx, "nonsense", false, stamp); !errors.Is(err, ErrNoMove) {
			t.Errorf("%v", err)
		}

		// One that is done goes the other way.
		if m, err = e.Start(ctx, order(alice, "mail2")); err != nil {
			t.Fatal(err)
		}
		if m, err = e.Wait(ctx, m.ID); err != nil || m.State != Done {
			t.Fatalf("%+v, %v", m, err)
		}
		back, err := e.Undo(ctx, m.ID, false, stamp)
		if err != nil || back.To != "mail1" || back.From != "mail2" || back.Undoes != m.ID {
			t.Fatalf("%+v, %v", back, err)
		}
		if back, err = e.Wait(ctx, back.ID); err != nil || back.State != Done || s.at(t, alice) != "mail1" {
			t.Errorf("%+v, %v, at %s", back, err, s.at(t, alice))
		}
		if _, err := e.Undo(ctx, m.ID, false, stamp); !errors.Is(err, ErrOverMoved) {
			t.Errorf("an old one: %v", err)
		}
	})
}

// By force a move goes on also when its hook took nearly all the time.
func TestMove_ForceAfterLongHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice := s.put(t, "alice", "mail1")
		s.sessions["alice"] = 1000
		s.settings.Hook = func(context.Context, Move) error {
			time.Sleep(18 * time.Second) // after 7.5 s for sessions, of 30 s
			return nil
		}
		e := s.open(t)
		defer run(t, e)()
		o := order(alice, "mail2")
		o.Force = true
		m, err := e.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done || s.at(t, alice) != "mail2" {
			t.Errorf("%+v, %v, at %s", m, err, s.at(t, alice))
		}
	})
}

// Who was moved to be pinned is not pinned any more when that is undone, unless to
// another host by now.
func TestMove_UndoPin(t *testing.T) {
	for _, later := range []string{"", "mail3"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			alice := s.put(t, "alice", "mail1")
			e := s.open(t)
			defer run(t, e)()
			o := order(alice, "mail2")
			o.Pin = true
			m, err := e.Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done || s.pins["alice"] != "mail2" {
				t.Fatalf("%+v, %v, pins %v", m, err, s.pins)
			}
			if later != "" {
				s.pins["alice"] = later
			}
			back, err := e.Undo(t.Context(), m.ID, false, o.Stamp)
			if err != nil {
				t.Fatal(err)
			}
			if back, err = e.Wait(t.Context(), back.ID); err != nil || back.State != Done || s.at(t, alice) != "mail1" || s.pins["alice"] != later {
				t.Errorf("%+v, %v, at %s, pins %v", back, err, s.at(t, alice), s.pins)
			}
		})
	}
}

// usher ends in the middle: the move goes on, and nobody gets in before. Who was
// behind the key is known by the move alone if assignments are lost.
func TestMove_Restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice, bob := s.put(t, "alice", "mail1"), s.put(t, "bob", "mail1")
		s.sessions["alice"] = 5
		if err := s.store.Remember(t.Context(), alice, "Alice"); err != nil {
			t.Fatal(err)
		}
		e := s.open(t)
		stop := run(t, e)
		m, err := e.Start(t.Context(), Order{User: "alice", Key: alice, To: "mail2", Pin: true})
		if err != nil {
			t.Fatal(err)
		}
		done, err := e.Start(t.Context(), order(bob, "mail3"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		stop()
		s.ended = nil
		if err := s.store.Forget(t.Context(), alice, "mail1"); err != nil {
			t.Fatal(err)
		}

		e = s.open(t)
		if !e.Moving(alice) || e.Moving(bob) {
			t.Errorf("alice %t, bob %t", e.Moving(alice), e.Moving(bob))
		}
		if b, err := e.Get(done.ID); err != nil || b.State != Done {
			t.Errorf("%+v, %v", b, err)
		}
		defer run(t, e)()
		if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done || s.at(t, alice) != "mail2" || s.pins["alice"] != "mail2" {
			t.Errorf("%+v, %v, at %s, pins %v", m, err, s.at(t, alice), s.pins)
		}
		if !slices.Contains(s.ended, "Alice") {
			t.Errorf("kicked: %v", s.ended)
		}
	})
}

// A disk that takes nothing: no move, no hold.
func TestMove_CannotBeKept(t *testing.T) {
	s := newSite(t)
	alice := s.put(t, "alice", "mail1")
	e := s.open(t)
	e.file.path = filepath.Join(s.path, "x")
	if err := os.WriteFile(s.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), order(alice, "mail2")); err == nil || !strings.Contains(err.Error(), "is not made") || e.Moving(alice) || len(e.Moves()) > 0 {
		t.Errorf("%v, moving %t", err, e.Moving(alice))
	}
}

func TestFlush(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			for i := range 100 {
				s.put(t, fmt.Sprint("user", i), "mail1")
			}
			for i := range 10 {
				s.put(t, fmt.Sprint("other", i), "mail3")
			}
			stays := affinity.Key{Name: "user7"}
			s.settings.Target = func(a affinity.Assignment) (string, bool) { return "mail2", a.Key != stays }
			s.settings.Parallel = 10
			s.sessions["user50"] = 1000 // does not move
			e := s.open(t)
			stop := run(t, e)
			if total, moves, err := e.Count(t.Context(), "mail1"); total != 100 || moves != 99 || err != nil {
				t.Errorf("%d of %d, %v", moves, total, err)
			}
			began := time.Now()
			f, err := e.StartFlush(t.Context(), Flush{Host: "mail1", PerSec: 4, Stamp: affinity.Stamp{By: "root"}})
			if err != nil {
				t.Fatal(err)
			}
			if restart {
				time.Sleep(10 * time.Second)
				stop()
				e = s.open(t)
				stop = run(t, e)
			}
			for !f.State.Ended() {
				time.Sleep(time.Second)
				f, _ = e.Flush(f.ID)
			}
			stop()
			if took := time.Since(began); took < 24*time.Second || took > 70*time.Second {
				t.Errorf("took %s, want a fourth of a second a user", took)
			}
			if f.State != Done || f.Moved != 98 || f.Failed != 1 || f.Stays != 1 || !strings.Contains(f.Error, "user50: not done within") {
				t.Errorf("restart %t: %+v", restart, f)
			}
			if n := s.store.Assigned("mail2"); n != 98 {
				t.Errorf("%d on mail2", n)
			}
			if n := s.store.Assigned("mail3"); n != 10 {
				t.Errorf("%d on mail3", n)
			}
		})
	}
}

func TestFlush_Stop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i := range 100 {
			s.put(t, fmt.Sprint("user", i), "mail1")
		}
		e := s.open(t)
		defer run(t, e)()
		f, err := e.StartFlush(t.Context(), Flush{PerSec: 1})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if f, err = e.StopFlush(f.ID, affinity.Stamp{By: "bob"}); err != nil || f.State != Undone {
			t.Fatalf("%+v, %v", f, err)
		}
		time.Sleep(time.Minute)
		n := s.store.Assigned("mail2")
		if n < 5 || n > 13 {
			t.Errorf("%d were moved", n)
		}
		if _, err := e.StopFlush(f.ID, affinity.Stamp{}); !errors.Is(err, ErrNoMove) {
			t.Errorf("%v", err)
		}
	})
}

func TestOpen_Damaged(t *testing.T) {
	for text, want := range map[string]string{
		"":              "line 1: EOF",
		`{"version":3}`: "version 3; expected 1",
		`{"version":1,"moves":[{"id":"a","key":{"Name":"x"},"to":"b","state":"odd"}]}`: `state "odd"`,
		`{"version":1,"moves":[{"id":"a"}]}`:                                           "lacks id, key or host",
		`{"version":1,"moves":[{"id":"a","key":{"Name":"x"},"to":"b","state":"queued"},{"id":"c","key":{"Name":"x"},"to":"b","state":"kicking"}]}`: `two moves of "x"`,
	} {
		s := newSite(t)
		if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Path: s.path, Store: s.store}, s.settings); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"moves":[{"id":"a","user":"x","key":{"Tag":"","Name":"x"},"to":"b","state":"queued"}],"flushes":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := parse(raw)
		if err != nil {
			return
		}
		for _, m := range k.Moves {
			if m.ID == "" || m.To == "" {
				t.Errorf("%+v", m)
			}
		}
	})
}

// A lateStore is one in which a login claims while a move begins.
type lateStore struct {
	*affinity.Memory
	late func()
}

func (s *lateStore) Get(ctx context.Context, key affinity.Key) (affinity.Assignment, error) {
	a, err := s.Memory.Get(ctx, key)
	if s.late != nil {
		s.late()
		s.late = nil
	}
	return a, err
}

// A login that was decided just before the hold took its user to another host than
// the move knew: sessions are ended there, and undoing takes him back there.
func TestMove_LateLogin(t *testing.T) {
	for _, was := range []string{"", "mail1"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			alice := affinity.Key{Name: "alice"}
			if was != "" {
				s.put(t, "alice", was)
			}
			var hosts []string
			s.settings.End = func(_ context.Context, _ []string, host string) error {
				hosts = append(hosts, host)
				return nil
			}
			store := &lateStore{Memory: s.store, late: func() { s.put(t, "alice", "mail3") }}
			e, err := Open(Options{Path: s.path, Store: store, NewID: func() string { return "M1" }}, s.settings)
			if err != nil {
				t.Fatal(err)
			}
			defer run(t, e)()
			m, err := e.Start(t.Context(), order(alice, "mail2"))
			if err != nil {
				t.Fatal(err)
			}
			m, err = e.Wait(t.Context(), m.ID)
			if err != nil || m.State != Done || m.From != "mail3" || !slices.Equal(hosts, []string{"mail3", "mail3"}) {
				t.Errorf("was on %q: %+v, %v; sessions were ended on %q", was, m, err, hosts)
			}
			if want := []string{"alice mail3 mail2"}; !slices.Equal(s.hooks, want) {
				t.Errorf("hooks %q, want %q", s.hooks, want)
			}
		})
	}
}

// A kill in the moment after a switch, which the store's files do not have yet: the
// move is done all the same.
func TestRedo(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			alice, bob := s.put(t, "alice", "mail1"), s.put(t, "bob", "mail1")
			e := s.open(t)
			stop := run(t, e)
			for _, o := range []Order{order(alice, "mail2"), order(bob, "mail2")} {
				m, err := e.Start(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done {
					t.Fatalf("%+v, %v", m, err)
				}
			}
			stop()
			s.put(t, "alice", "mail1") // as the files have it
			s.put(t, "bob", "mail3")   // he went on since
			want := "mail2"
			if late {
				time.Sleep(justDone + time.Second)
				want = "mail1"
			}
			if err := s.open(t).Redo(t.Context()); err != nil {
				t.Fatal(err)
			}
			if at := s.at(t, alice); at != want {
				t.Errorf("late %t: alice is on %s, want %s", late, at, want)
			}
			if at := s.at(t, bob); at != "mail3" {
				t.Errorf("bob is on %s", at)
			}
		})
	}
}

// A flush that was on its way at a restart waits until there are settings.
func TestFlush_RestartBeforeSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice := s.put(t, "alice", "mail1")
		s.sessions["alice"] = 10
		e := s.open(t)
		stop := run(t, e)
		f, err := e.StartFlush(t.Context(), Flush{Host: "mail1"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		stop()
		settings := s.settings
		s.settings = Settings{}
		e = s.open(t)
		defer run(t, e)()
		time.Sleep(time.Second)
		e.Change(settings)
		time.Sleep(time.Minute)
		if f, ok := e.Flush(f.ID); !ok || f.State != Done || s.at(t, alice) != "mail2" {
			t.Errorf("%+v, alice at %s", f, s.at(t, alice))
		}
	})
}
