package moves

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A stub is a Kicker whose sessions end some time after a kick.
type stub struct {
	name     string
	takes    time.Duration // from a kick to the end; 0: at once; less: never
	deaf     int           // so many kicks end nothing
	listErr  error
	kickErr  error
	silent   bool // lists only when ctx ends
	doubtful string

	mu       sync.Mutex
	sessions []Session
	ends     map[string]time.Time // by user
	kicks    []string             // users, with commas, and the host
	at       []time.Time          // of the kicks
}

func (s *stub) Name() string { return s.name }
func (s *stub) Role() Role   { return Proxy }

func (s *stub) Sessions(ctx context.Context, users []string) ([]Session, error) {
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, errors.New(s.name + ": timeout")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Session
	for _, x := range s.sessions {
		if end, ok := s.ends[x.User]; ok && !time.Now().Before(end) {
			continue
		}
		if slices.Contains(users, x.User) {
			out = append(out, x)
		}
	}
	return out, s.listErr
}

func (s *stub) Kick(_ context.Context, users []string, host string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kicks = append(s.kicks, strings.Join(users, ",")+"@"+host)
	s.at = append(s.at, time.Now())
	if s.kickErr != nil || s.takes < 0 || len(s.kicks) <= s.deaf {
		return s.kickErr
	}
	if s.ends == nil {
		s.ends = map[string]time.Time{}
	}
	for _, u := range users {
		s.ends[u] = time.Now().Add(s.takes)
	}
	return nil
}

func (s *stub) Doubt() string { return s.doubtful }

func at(host string, users ...string) []Session {
	var out []Session
	for _, u := range users {
		out = append(out, Session{User: u, Service: "imap", Host: host})
	}
	return out
}

const hostA, hostB = "192.0.2.1", "192.0.2.2"

func TestKick_Gone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := &stub{name: "quick", sessions: at(hostA, "alice", "alice", "bob", "carol")}
		slow := &stub{name: "slow", takes: 300 * time.Millisecond, sessions: at("", "bob")}
		idle := &stub{name: "idle", sessions: at(hostA, "carol")}
		began := time.Now()
		gone, left, err := Kick(t.Context(), []Kicker{quick, slow, idle}, []string{"alice", "bob"}, "", 10*time.Second)
		if !gone || len(left) != 0 || err != nil {
			t.Errorf("gone %v, left %v, error %v", gone, left, err)
		}
		if d := time.Since(began); d != 350*time.Millisecond {
			t.Errorf("took %s", d)
		}
		for s, want := range map[*stub][]string{quick: {"alice,bob@"}, slow: {"alice,bob@"}, idle: {"alice,bob@"}} {
			if !slices.Equal(s.kicks, want) {
				t.Errorf("%s: kicks %q, want %q", s.name, s.kicks, want)
			}
		}
	})
}

// Who lives on is kicked again each second, until the time is up.
func TestKick_Again(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := &stub{name: "deaf", deaf: 2, sessions: at(hostA, "alice")}
		began := time.Now()
		gone, _, err := Kick(t.Context(), []Kicker{deaf}, []string{"alice"}, "", 10*time.Second)
		if !gone || err != nil || len(deaf.kicks) != 3 {
			t.Errorf("gone %v, error %v, kicks %q", gone, err, deaf.kicks)
		}
		for i, x := range deaf.at {
			if d := x.Sub(began); d != time.Duration(i)*time.Second {
				t.Errorf("kick %d after %s", i, d)
			}
		}

		dead := &stub{name: "dead", takes: -1, sessions: at(hostA, "alice")}
		quick := &stub{name: "quick", sessions: at(hostA, "alice")}
		began = time.Now()
		gone, left, err := Kick(t.Context(), []Kicker{quick, dead}, []string{"alice"}, "", 3500*time.Millisecond)
		if gone || len(left) != 1 || err != nil || len(dead.kicks) != 4 {
			t.Errorf("gone %v, left %v, error %v, kicks %q", gone, left, err, dead.kicks)
		}
		if d := time.Since(began); d != 3500*time.Millisecond {
			t.Errorf("took %s", d)
		}

		dead.doubtful = "dead counts kicks and ends no session"
		if gone, left, err = Kick(t.Context(), []Kicker{dead}, []string{"alice"}, "", time.Second); gone || len(left) != 1 || err == nil || !strings.Contains(err.Error(), dead.doubtful) {
			t.Errorf("gone %v, left %v, error %v", gone, left, err)
		}
	})
}

// A fault that may pass is not the end, and not believed either: a list may be empty
// because of it.
func TestKick_FaultsThatPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := fmt.Errorf("busy: %w", ErrAgain)
		s := &stub{name: "kick", sessions: at(hostB, "alice"), kickErr: busy}
		time.AfterFunc(1500*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.kickErr = nil
		})
		began := time.Now()
		gone, left, err := Kick(t.Context(), []Kicker{s}, []string{"alice", "bob"}, hostA, 10*time.Second)
		if d := time.Since(began); !gone || len(left) > 0 || err != nil || d != 2*time.Second || len(s.kicks) != 3 {
			t.Errorf("gone %v, left %v, error %v after %s, kicks %q", gone, left, err, d, s.kicks)
		}

		s = &stub{name: "list", sessions: at(hostA, "alice", "bob"), deaf: 1, listErr: busy}
		time.AfterFunc(500*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.listErr = nil
		})
		gone, left, err = Kick(t.Context(), []Kicker{s}, []string{"alice", "bob", "carol"}, "", 10*time.Second)
		if want := []string{"alice,bob,carol@", "alice,bob@"}; !gone || len(left) > 0 || err != nil || !slices.Equal(s.kicks, want) {
			t.Errorf("gone %v, left %v, error %v, kicks %q, want %q", gone, left, err, s.kicks, want)
		}

		s = &stub{name: "always", kickErr: busy}
		gone, left, err = Kick(t.Context(), []Kicker{s}, []string{"alice"}, "", 3*time.Second)
		if gone || len(left) > 0 || !errors.Is(err, ErrAgain) {
			t.Errorf("gone %v, left %v, error %v", gone, left, err)
		}
	})
}

// Who logs in while others are kicked is seen, and kicked too.
func TestKick_Newcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{name: "proxy", sessions: at(hostA, "alice"), takes: 2500 * time.Millisecond}
		time.AfterFunc(1200*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sessions, s.takes = append(s.sessions, at(hostA, "bob")...), 0
		})
		gone, left, err := Kick(t.Context(), []Kicker{s}, []string{"alice", "bob"}, "", 10*time.Second)
		if want := []string{"alice,bob@", "alice@", "alice,bob@"}; !gone || len(left) > 0 || err != nil || !slices.Equal(s.kicks, want) {
			t.Errorf("gone %v, left %v, error %v, kicks %q, want %q", gone, left, err, s.kicks, want)
		}
	})
}

// An empty list of a server that took no kick is not believed, whatever comes when
// the time is over.
func TestKick_LateFaults(t *testing.T) {
	for _, when := range []time.Duration{500 * time.Millisecond, 900 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := &stub{name: "proxy", kickErr: fmt.Errorf("busy: %w", ErrAgain)}
			time.AfterFunc(when, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.silent, s.kickErr = true, nil
			})
			if gone, left, err := Kick(t.Context(), []Kicker{s}, []string{"alice"}, "", 3*time.Second); gone || len(left) > 0 || err == nil {
				t.Errorf("gone %v, left %v, error %v", gone, left, err)
			}
		})
	}
}

// Sessions that are proxied elsewhere are no matter; where it is unknown, they are.
func TestKick_Host(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{name: "proxy", sessions: slices.Concat(at(hostA, "alice"), at(hostB, "alice", "bob"), at("", "carol"))}
		users := []string{"alice", "bob", "carol"}
		gone, left, err := Kick(t.Context(), []Kicker{s}, users, "::ffff:"+hostA, time.Second)
		if !gone || len(left) != 0 || err != nil || !slices.Equal(s.kicks, []string{"alice,bob,carol@" + hostA}) {
			t.Errorf("gone %v, left %v, error %v, kicks %q", gone, left, err, s.kicks)
		}
		if gone, _, err = Kick(t.Context(), []Kicker{s}, users, "mail1.example.org", time.Second); gone || err == nil {
			t.Errorf("a name: gone %v, error %v", gone, err)
		}
	})
}

// One server that can't be asked is named; the others are asked all the same.
func TestKick_Faults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := &stub{name: "away", listErr: errors.New("away: connection refused")}
		silent := &stub{name: "silent", silent: true}
		refuses := &stub{name: "refuses", kickErr: errors.New("refuses: not so"), sessions: at(hostA, "alice")}
		quick := &stub{name: "quick", sessions: at(hostA, "alice")}
		gone, left, err := Kick(t.Context(), []Kicker{away, silent, refuses, quick}, []string{"alice"}, "", 5*time.Second)
		if gone || len(left) != 1 || err == nil {
			t.Fatalf("gone %v, left %v, error %v", gone, left, err)
		}
		for _, want := range []string{"away: connection refused", "silent: timeout", "refuses: not so"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("no %q in %v", want, err)
			}
		}
		if len(quick.kicks) != 1 {
			t.Errorf("quick was kicked %q", quick.kicks)
		}

		// No session seen because no server was looked at, or nobody was named.
		for _, kickers := range [][]Kicker{nil, {quick}} {
			if gone, _, err := Kick(t.Context(), kickers, nil, "", time.Second); gone || err == nil {
				t.Errorf("nobody: gone %v, error %v", gone, err)
			}
		}
		if gone, _, err := Kick(t.Context(), nil, []string{"alice"}, "", time.Second); gone || err == nil {
			t.Errorf("nowhere: gone %v, error %v", gone, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if gone, _, err := Kick(ctx, []Kicker{quick}, []string{"bob"}, "", time.Second); gone || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: gone %v, error %v", gone, err)
		}
	})
}
