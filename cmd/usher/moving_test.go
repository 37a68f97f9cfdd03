package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/control"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/moves"
)

// A doveadm is a Kicker whose users have a session each.
type doveadm struct {
	url   string
	role  moves.Role
	fault error

	mu    sync.Mutex
	users []string
}

func (d *doveadm) Name() string     { return d.url }
func (d *doveadm) Role() moves.Role { return d.role }

func (d *doveadm) Sessions(_ context.Context, users []string) (list []moves.Session, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.users {
		if slices.Contains(users, u) {
			list = append(list, moves.Session{User: u, Service: "imap", At: d.url})
		}
	}
	return list, d.fault
}

func (d *doveadm) Kick(_ context.Context, users []string, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users = slices.DeleteFunc(d.users, func(u string) bool { return slices.Contains(users, u) })
	return d.fault
}

// runMover serves a configuration with two backends and these doveadms; listeners
// are nginx, dovecot or both.
func runMover(t *testing.T, listeners, settings string, doveadms ...*doveadm) *app {
	t.Helper()
	dir := t.TempDir()
	yaml := fmt.Sprintf(`state_dir: %s
control: {address: "", http: ""}
failure_delay: 0s
affinity: {kick_delay: 0s%s}
passdb: [{driver: passthrough}]
backend_server_monitoring:
  backend_servers:
`, dir, settings)
	for _, host := range []string{"127.0.0.2", "127.0.0.3"} {
		l, err := net.Listen("tcp", host+":0") // the kernel accepts, which is up
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		yaml += fmt.Sprintf("    - {protocol: imap, host: %s, port: %d}\n", host, l.Addr().(*net.TCPAddr).Port)
	}
	if strings.Contains(listeners, "nginx") {
		yaml += fmt.Sprintf("nginx: {listeners: [{address: \"unix:%s\", protocols: [imap]}]}\n", filepath.Join(dir, "nginx.sock"))
	}
	if strings.Contains(listeners, "dovecot") {
		yaml += fmt.Sprintf("dovecot: {listeners: [{address: \"unix:%s\"}]}\n", filepath.Join(dir, "auth.sock"))
	}
	a := runApp(t, dir, yaml)
	for _, d := range doveadms { // nobody has asked for one yet
		a.gen.Load().kickers = append(a.gen.Load().kickers, d)
	}
	if err := a.gen.Load().monitor.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

func proxyAt(users ...string) *doveadm {
	return &doveadm{url: "tcp:127.0.0.1:24242", role: moves.Proxy, users: users}
}

func backendAt(host string, users ...string) *doveadm {
	return &doveadm{url: "http://" + host + ":8080", role: moves.Backend, users: users}
}

func put(t *testing.T, a *app, name, host string, users ...string) affinity.Key {
	t.Helper()
	k := affinity.Key{Name: name}
	if err := a.store.Set(t.Context(), k, host); err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		if err := a.store.Remember(t.Context(), k, u); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// moved waits for a move's end.
func moved(t *testing.T, a *app, m control.Move, err error) moves.Move {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	done, err := a.state.moves.Wait(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestSightOf(t *testing.T) {
	const two, three = "127.0.0.2", "127.0.0.3"
	noProxy, hidden2, hidden3 := "has none of role proxy", "show at 127.0.0.2 alone", "show at 127.0.0.3 alone"
	for _, tt := range []struct {
		listeners string
		doveadms  []*doveadm
		host      string
		seers     int
		blind     string
	}{
		{"nginx", nil, two, 0, hidden2},
		{"nginx", nil, "", 0, hidden2},
		{"nginx", []*doveadm{proxyAt()}, two, 1, hidden2},
		{"nginx", []*doveadm{backendAt(two)}, two, 1, ""},
		{"nginx", []*doveadm{backendAt(two)}, three, 0, hidden3},
		{"nginx", []*doveadm{backendAt(two)}, "", 1, hidden3},
		{"nginx", []*doveadm{backendAt(two), backendAt(three)}, "", 2, ""},
		{"dovecot", nil, two, 0, noProxy},
		{"dovecot", nil, "", 0, noProxy},
		{"dovecot", []*doveadm{proxyAt()}, two, 1, ""},
		{"dovecot", []*doveadm{proxyAt()}, "", 1, ""},
		{"dovecot", []*doveadm{backendAt(two)}, two, 1, ""},
		{"dovecot", []*doveadm{backendAt(two)}, "", 1, noProxy},
		{"nginx, dovecot", []*doveadm{proxyAt(), backendAt(two)}, two, 2, ""},
		{"nginx, dovecot", []*doveadm{proxyAt(), backendAt(two)}, three, 1, hidden3},
	} {
		a := runMover(t, tt.listeners, "", tt.doveadms...)
		seers, blind := a.gen.Load().sightOf(tt.host)
		if len(seers) != tt.seers || !strings.Contains(blind, tt.blind) || tt.blind == "" && blind != "" {
			t.Errorf("%s with %d doveadms, host %q: %d see, %q; want %d and %q", tt.listeners, len(tt.doveadms), tt.host, len(seers), blind, tt.seers, tt.blind)
		}
	}
}

// Who is assigned nowhere is looked for at all backends, and a server that does not
// answer keeps no session at another alive.
func TestKick_Everywhere(t *testing.T) {
	const who = "alice@example.org"
	away := &doveadm{url: "tcp:127.0.0.9:24242", role: moves.Proxy, fault: errors.New("127.0.0.9 is away")}
	two, three := backendAt("127.0.0.2", "bob"), backendAt("127.0.0.3", who)
	a := runMover(t, "nginx", "", two, three)
	ans, err := a.Kick(t.Context(), control.UserOrder{User: who})
	if err != nil || len(ans.Sessions) != 1 || len(three.users) != 0 || len(two.users) != 1 {
		t.Errorf("%+v, %v; sessions at %q and %q", ans, err, two.users, three.users)
	}
	three.users = []string{who}
	a = runMover(t, "nginx", "", away, two, three)
	if ans, err = a.Kick(t.Context(), control.UserOrder{User: who}); err == nil || !strings.Contains(err.Error(), "is away") || len(three.users) != 0 {
		t.Errorf("%+v, %v; sessions at %q", ans, err, three.users)
	}
	three.users = []string{who}
	a = runMover(t, "nginx", "", three) // at the other backend nobody looks
	if ans, err = a.Kick(t.Context(), control.UserOrder{User: who}); err == nil || !strings.Contains(err.Error(), "show at 127.0.0.2 alone") || len(three.users) != 0 {
		t.Errorf("%+v, %v; sessions at %q", ans, err, three.users)
	}
}

// A pin that a move makes goes by the user's name as logins look it up, and away
// with the move.
func TestPin_ByMove(t *testing.T) {
	a := runMover(t, "dovecot", "", proxyAt())
	key := put(t, a, "alice@example.org", "127.0.0.2")
	o := control.UserOrder{User: "Alice@Example.ORG", Host: "127.0.0.3", By: "root"}
	ans, err := a.Pin(t.Context(), o)
	if err != nil || ans.Move == nil {
		t.Fatalf("%+v, %v", ans, err)
	}
	pinned := func() string {
		host, err := a.state.orders.Pin(t.Context(), key.Name)
		if err != nil {
			t.Fatal(err)
		}
		return host
	}
	if m := moved(t, a, *ans.Move, nil); m.State != moves.Done || pinned() != o.Host {
		t.Errorf("%+v, pinned to %q", m, pinned())
	}
	o.Host = "127.0.0.2"
	if _, err := a.Move(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is pinned to 127.0.0.3") {
		t.Errorf("a move away from the pin: %v", err)
	}
	back, err := a.Undo(t.Context(), ans.Move.ID, control.UserOrder{By: "root"})
	if m := moved(t, a, back, err); m.State != moves.Done || m.To != "127.0.0.2" || pinned() != "" {
		t.Errorf("%+v, pinned to %q", m, pinned())
	}
}

// A flush leaves keys alone whose users are all pinned, whatever the key is.
func TestTarget_Pinned(t *testing.T) {
	for _, tt := range []struct {
		key, name string
		users     []string
		pin       string
		stays     bool
	}{
		{"user", "alice@example.org", nil, "", false},
		{"user", "alice@example.org", nil, "alice@example.org", true},
		{"user", "alice@example.org", []string{"Alice@example.org"}, "alice@example.org", true},
		{"local", "alice", []string{"alice@example.org"}, "alice@example.org", true},
		{"local", "alice", []string{"alice@example.org", "alice@example.net"}, "alice@example.org", false},
		{"domain", "example.org", []string{"bob@example.org"}, "alice@example.org", false},
	} {
		a := runMover(t, "dovecot", ", key: "+tt.key, proxyAt())
		as, err := a.store.Get(t.Context(), put(t, a, tt.name, "127.0.0.2", tt.users...))
		if err != nil {
			t.Fatal(err)
		}
		if tt.pin != "" {
			if err := a.state.orders.SetPin(t.Context(), tt.pin, affinity.Pin{Host: "127.0.0.2"}); err != nil {
				t.Fatal(err)
			}
		}
		if to, ok := a.gen.Load().target(as, a.state.orders); ok == tt.stays || ok && proxy.CanonicalHost(to) != to {
			t.Errorf("%s %s with %q, %q pinned: target %q, %t", tt.key, tt.name, tt.users, tt.pin, to, ok)
		}
	}
}

func TestRunHook(t *testing.T) {
	t.Setenv("USHER_TEST_SECRET", "geheim")
	m := moves.Move{ID: "M1", User: "Alice", Key: affinity.Key{Name: "alice", Tag: "a"}, From: "mail1", To: "mail2"}
	for script, want := range map[string]string{
		`exit 0`: "",
		`test "$#$1$2$3" = 3Alicemail1mail2 && test "$USHER_USER$USHER_KEY$USHER_TAG$USHER_FROM$USHER_TO$USHER_MOVE" = Alicealiceamail1mail2M1`: "",
		`test -z "$USHER_TEST_SECRET"`:         "",
		`echo the  disk; echo is full; exit 3`: "exit status 3: the disk is full",
		`echo wait; exec sleep 60`:             "no end: context deadline exceeded: wait",
	} {
		hook := filepath.Join(t.TempDir(), "hook")
		if err := os.WriteFile(hook, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		limit := time.Minute
		if strings.Contains(script, "sleep") {
			limit = 500 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := runHook(ctx, hook, m)
		cancel()
		if got := fmt.Sprint(err); got != want && (want != "" || err != nil) {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}
