package moves

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"usher/internal/shared"
	"usher/proxy/affinity"
)

// A login that was decided just before the hold records its host after it: its
// sessions are looked for there.
func TestMove_LoginBeforeTheHold(t *testing.T) {
	for _, at := range []string{"queued", "settling"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			alice := affinity.Key{Name: "alice"}
			var hosts []string
			s.settings.End = func(_ context.Context, _ []string, host string) error {
				hosts = append(hosts, host)
				return nil
			}
			e := s.open(t)
			m, err := e.Start(t.Context(), order(alice, "mail2"))
			if err != nil {
				t.Fatal(err)
			}
			if at == "settling" {
				defer run(t, e)()
				time.Sleep(time.Second)
			}
			if winner, err := s.store.Claim(t.Context(), alice, "", "mail1"); winner != "mail1" || err != nil {
				t.Fatal(winner, err)
			}
			if at == "queued" {
				defer run(t, e)()
			}
			if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done || m.From != "mail1" {
				t.Errorf("%s: %+v, %v", at, m, err)
			}
			if last := hosts[len(hosts)-1]; last != "mail1" {
				t.Errorf("%s: sessions were ended at %q, want mail1 in the end", at, hosts)
			}
		})
	}
}

// Of a key with more users than are remembered not all sessions can be ended.
func TestMove_UsersNotKnown(t *testing.T) {
	for _, force := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			domain := s.put(t, "example.org", "mail1")
			for i := range affinity.MaxUsers + 1 {
				if err := s.store.Remember(t.Context(), domain, fmt.Sprintf("user%d@example.org", i)); err != nil {
					t.Fatal(err)
				}
			}
			e := s.open(t)
			defer run(t, e)()
			o := order(domain, "mail2")
			o.Force = force
			m, err := e.Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if m, err = e.Wait(t.Context(), m.ID); err != nil || (m.State == Done) != force || !force && !strings.Contains(m.Error, "1000 users") {
				t.Errorf("force %t: %s %q, %v", force, m.State, m.Error, err)
			}
		})
	}
}

// A Dovecot that never answers: by force the move goes on.
func TestMove_ForcePastWhoHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice := s.put(t, "alice", "mail1")
		s.settings.End = func(ctx context.Context, _ []string, _ string) error {
			<-ctx.Done()
			return fmt.Errorf("proxy1 does not answer: %w", ctx.Err())
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
			t.Errorf("%+v, %v", m, err)
		}
	})
}

// A reload in the middle: what comes next is done by the new settings.
func TestMove_Reload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice := s.put(t, "alice", "mail1")
		e := s.open(t)
		defer run(t, e)()
		m, err := e.Start(t.Context(), order(alice, "mail2"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // settling
		next := s.settings
		next.End = func(context.Context, []string, string) error { return errors.New("asked by the new settings") }
		e.Change(next)
		if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Failed || m.Error != "asked by the new settings" {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

// Who is on the host already is left alone.
func TestMove_ThereAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		alice := s.put(t, "alice", "mail2")
		s.sessions["alice"] = 1
		e := s.open(t)
		defer run(t, e)()
		o := order(alice, "mail2")
		o.Pin = true
		m, err := e.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done || len(s.ended)+len(s.hooks) > 0 || s.pins["alice"] != "mail2" {
			t.Errorf("%+v, %v: kicked %v, hooks %v, pins %v", m, err, s.ended, s.hooks, s.pins)
		}
	})
}

// The rate is a bound, for a flush that fell behind too.
func TestFlush_Rate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i := range 12 {
			s.put(t, fmt.Sprint("user", i), "mail1")
		}
		began := time.Now()
		s.settings.End = func(context.Context, []string, string) error { // the first four hang for a minute
			time.Sleep(time.Until(began.Add(time.Minute)))
			return nil
		}
		s.settings.Timeout, s.settings.KickDelay, s.settings.Hook, s.settings.Parallel = 2*time.Minute, 0, nil, 4
		e := s.open(t)
		defer run(t, e)()
		f, err := e.StartFlush(t.Context(), Flush{Host: "mail1", PerSec: 1})
		if err != nil {
			t.Fatal(err)
		}
		for !f.State.Ended() {
			time.Sleep(time.Second)
			f, _ = e.Flush(f.ID)
		}
		if took := time.Since(began); took < 67*time.Second {
			t.Errorf("12 users took %s, eight of them after a minute", took)
		}
	})
}

// A rate whose pause no Duration holds.
func TestFlush_LowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i := range 12 {
			s.put(t, fmt.Sprint("user", i), "mail1")
		}
		e := s.open(t)
		defer run(t, e)()
		if _, err := e.StartFlush(t.Context(), Flush{Host: "mail1", PerSec: 1e-12}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if n := s.store.Assigned("mail2"); n != 1 {
			t.Errorf("%d users were moved", n)
		}
	})
}

// Names that are no UTF-8 come back as they were: two of them never become one.
func TestMove_RestartWithBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		keys := []affinity.Key{s.put(t, "a\xff", "mail1"), s.put(t, "a\xfe", "mail1"), s.put(t, "a\ufffd", "mail1")}
		e := s.open(t)
		for _, k := range keys {
			if _, err := e.Start(t.Context(), Order{User: k.Name, Key: k, To: "mail2"}); err != nil {
				t.Fatal(err)
			}
		}
		e = s.open(t)
		defer run(t, e)()
		for _, k := range keys {
			if m, ok := e.Of(k); !ok || m.User != k.Name {
				t.Errorf("%q: %+v", k.Name, m)
			}
		}
		time.Sleep(time.Minute)
		for _, k := range keys {
			if at := s.at(t, k); at != "mail2" {
				t.Errorf("%q at %s", k.Name, at)
			}
		}
	})
}

// willingHolds hold without a store.
type willingHolds struct{ *SharedHolds }

func (h *willingHolds) Hold(_ context.Context, key affinity.Key) error {
	h.Keep([]affinity.Key{key})
	return nil
}

// What the next start would refuse to read is not taken.
func TestMove_TooMany(t *testing.T) {
	s := newSite(t)
	e := s.open(t)
	e.mu.Lock()
	for i := range maxWaiting {
		e.byKey[affinity.Key{Name: fmt.Sprint("user", i)}] = "x"
	}
	e.mu.Unlock()
	db, err := shared.Open(shared.Options{Addresses: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	holds := &willingHolds{NewSharedHolds(db, "a", zap.NewNop())}
	e.opt.Holds = holds
	alice := affinity.Key{Name: "alice"}
	if _, err := e.Start(t.Context(), order(alice, "mail2")); err == nil || !strings.Contains(err.Error(), "wait") {
		t.Error(err)
	}
	if e.Moving(alice) {
		t.Error("alice is held for a move that is not made")
	}
}

func TestOpen_DamagedFlush(t *testing.T) {
	for text, want := range map[string]string{
		`{"version":1,"flushes":[{"id":"a","state":"odd"}]}`:                  `flush "a": state "odd"`,
		`{"version":1,"flushes":[{"state":"kicking"}]}`:                       `flush "" lacks an id`,
		`{"version":1,"flushes":[{"id":"a","state":"kicking","per_sec":-1}]}`: `flush "a": -1 users a second`,
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What a pin moved is moved back with the pin that stood before.
func TestUndo_Pin(t *testing.T) {
	for _, before := range []string{"", "mail1"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			alice := s.put(t, "alice", "mail1")
			s.settings.Unpin = func(_ context.Context, user, host string) error {
				if s.pins[user] == host {
					delete(s.pins, user)
				}
				return nil
			}
			e := s.open(t)
			defer run(t, e)()
			o := order(alice, "mail2")
			o.Pin, o.Pinned = true, before
			m, err := e.Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"mail2", before, "mail2"}
			for i, pin := range want {
				if i > 0 {
					if m, err = e.Undo(t.Context(), m.ID, false, affinity.Stamp{}); err != nil {
						t.Fatal(err)
					}
				}
				if m, err = e.Wait(t.Context(), m.ID); err != nil || m.State != Done || s.pins["alice"] != pin {
					t.Errorf("before %q, step %d: %+v, %v, pins %v", before, i, m, err, s.pins)
				}
			}
		})
	}
}

// The new host falls while sessions end: he stays where he is.
func TestMove_HostFalls(t *testing.T) {
	for _, force := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			alice := s.put(t, "alice", "mail1")
			s.settings.Fit = func(m Move) error { return fmt.Errorf("host %s is down", m.To) }
			e := s.open(t)
			defer run(t, e)()
			o := order(alice, "mail2")
			o.Force = force
			m, err := e.Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			want := "mail1"
			if force {
				want = "mail2"
			}
			if m, err = e.Wait(t.Context(), m.ID); err != nil || s.at(t, alice) != want || !force && m.Error != "host mail2 is down" {
				t.Errorf("force %t: %+v, %v, at %s", force, m, err, s.at(t, alice))
			}
		})
	}
}

// usher ends with a thousand moves that wait: none is lost, and the end is quick.
func TestMove_RestartWithMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.settings.Parallel, s.settings.Hook = 10, func(ctx context.Context, _ Move) error {
			<-ctx.Done()
			return ctx.Err()
		}
		e := s.open(t)
		stop := run(t, e)
		for i := range 1000 {
			if _, err := e.Start(t.Context(), order(s.put(t, fmt.Sprint("user", i), "mail1"), "mail2")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the end took %s", took)
		}
		s.settings.Hook, s.settings.KickDelay = nil, 0
		e = s.open(t)
		held := 0
		for i := range 1000 {
			if e.Moving(affinity.Key{Name: fmt.Sprint("user", i)}) {
				held++
			}
		}
		defer run(t, e)()
		time.Sleep(time.Minute)
		if n := s.store.Assigned("mail2"); held != 1000 || n != 1000 {
			t.Errorf("%d held, %d moved", held, n)
		}
	})
}
