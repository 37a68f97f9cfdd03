package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"usher/config"
	"usher/control"
	"usher/proxy/affinity"
	"usher/proxy/moves"
	"usher/test/servers"
)

// runSite runs usher for hosts 127.0.0.2 and 127.0.0.3, which are up, and
// 127.0.0.4, which is not.
func runSite(t *testing.T, yaml string) *app {
	t.Helper()
	dir := shortDir(t)
	backends := ""
	for i, host := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		ln, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			ln.Close()
		} else {
			t.Cleanup(func() { ln.Close() })
		}
		backends += fmt.Sprintf("    - {protocol: imap, host: %s, port: %d}\n", host, ln.Addr().(*net.TCPAddr).Port)
	}
	a := runApp(t, dir, fmt.Sprintf("state_dir: %s/state\ncontrol: {address: \"\", http: \"\"}\nbackend_server_monitoring:\n  fall: 1\n  backend_servers:\n%s%s", dir, backends, yaml))
	if err := a.gen.Load().monitor.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// ended waits for the end of a move.
func ended(t *testing.T, a *app, id string) moves.Move {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := a.state.moves.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const quick = "affinity: {kick_delay: 0s, move_timeout: 10s}\n"

// Who is pinned and lives elsewhere is pinned by the name that his logins go by;
// undo takes the pin back.
func TestPin_OfOneWhoLivesElsewhere(t *testing.T) {
	a := runSite(t, quick+"dovecot: {master_user_separator: \"*\"}\n")
	ctx := t.Context()
	key := affinity.Key{Name: "alice@example.org"}
	if err := a.store.Set(ctx, key, "127.0.0.2"); err != nil {
		t.Fatal(err)
	}
	ans, err := a.Pin(ctx, control.UserOrder{User: "Alice@Example.org*master", Host: "127.0.0.3", By: "root"})
	if err != nil || ans.Move == nil {
		t.Fatalf("%+v, %v", ans, err)
	}
	if m := ended(t, a, ans.Move.ID); m.State != moves.Done {
		t.Fatalf("%+v", m)
	}
	if pin, err := a.state.orders.Pin(ctx, "alice@example.org"); pin != "127.0.0.3" || err != nil {
		t.Errorf("pinned to %q, %v", pin, err)
	}

	// Moving her would not last.
	if _, err := a.Move(ctx, control.UserOrder{User: "alice@example.org", Host: "127.0.0.2"}); err == nil || !strings.Contains(err.Error(), "is pinned to 127.0.0.3") {
		t.Errorf("%v", err)
	}

	back, err := a.Undo(ctx, ans.Move.ID, control.UserOrder{DryRun: true})
	if err != nil || back.From != "127.0.0.3" || back.To != "127.0.0.2" || !back.DryRun {
		t.Errorf("dry run: %+v, %v", back, err)
	}
	if back, err = a.Undo(ctx, ans.Move.ID, control.UserOrder{}); err != nil {
		t.Fatal(err)
	}
	if m := ended(t, a, back.ID); m.State != moves.Done || m.To != "127.0.0.2" {
		t.Errorf("%+v", m)
	}
	if pin, err := a.state.orders.Pin(ctx, "alice@example.org"); pin != "" || err != nil {
		t.Errorf("still pinned to %q, %v", pin, err)
	}
}

// Undo asks what a move asks before it kicks anybody.
func TestUndo_Refused(t *testing.T) {
	a := runSite(t, quick)
	ctx := t.Context()
	key := affinity.Key{Name: "alice"}
	if err := a.store.Set(ctx, key, "127.0.0.4"); err != nil {
		t.Fatal(err)
	}
	m, err := a.Move(ctx, control.UserOrder{User: "alice", Host: "127.0.0.3"})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, a, m.ID)
	for _, dry := range []bool{true, false} {
		if _, err := a.Undo(ctx, m.ID, control.UserOrder{DryRun: dry}); err == nil || !strings.Contains(err.Error(), "host 127.0.0.4 is down; --force") {
			t.Errorf("dry %t: %v", dry, err)
		}
	}
}

// A dry run stops no flush, and hostile words get nowhere.
func TestStopFlush_DryRun(t *testing.T) {
	a := runSite(t, "affinity: {kick_delay: 20s}\n")
	ctx := t.Context()
	for i := range 10 {
		if err := a.store.Set(ctx, affinity.Key{Name: fmt.Sprint("user", i)}, "127.0.0.4"); err != nil {
			t.Fatal(err)
		}
	}
	f, err := a.Flush(ctx, control.FlushOrder{Host: "127.0.0.4", Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := a.StopFlush(ctx, f.ID, control.UserOrder{DryRun: true}); err != nil || !s.DryRun || s.Done {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := a.StopFlush(ctx, f.ID, control.UserOrder{By: "a\nb"}); err == nil {
		t.Error("control characters were taken")
	}
	if f, err := a.FlushOf(f.ID); err != nil || f.Done {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := a.StopFlush(ctx, strings.Repeat("x", 70<<10), control.UserOrder{}); err == nil || len(err.Error()) > 200 {
		t.Errorf("%.300v", err)
	}
	if _, err := a.Audit(10); err != nil {
		t.Error(err)
	}
	if s, err := a.StopFlush(ctx, f.ID, control.UserOrder{}); err != nil || !s.Done {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRunHook_Hostile(t *testing.T) {
	dir := t.TempDir()
	hook := filepath.Join(dir, "hook")
	for _, tt := range []struct {
		name, script, want string
		most               time.Duration
	}{
		{"leaves a child behind", "sleep 30 & echo done", "", 3 * time.Second},
		{"writes much", "head -c 100000000 /dev/zero | tr '\\0' x; exit 7", "exit status 7", 10 * time.Second},
		{"forks and never ends", "sleep 30 & echo $! >" + dir + "/child; wait; sleep 30", "no end", 5 * time.Second},
	} {
		if err := os.WriteFile(hook, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if tt.want == "exit status 7" {
			ctx = t.Context()
		}
		began := time.Now()
		err := runHook(ctx, hook, moves.Move{User: "alice"})
		cancel()
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2*maxHookOutput) {
			t.Errorf("%s: %.500v", tt.name, err)
		}
		if took := time.Since(began); took > tt.most {
			t.Errorf("%s: took %s", tt.name, took)
		}
		if tt.want == "no end" && lives(t, filepath.Join(dir, "child")) {
			t.Errorf("%s: its child lives", tt.name)
		}
	}
}

// lives reports whether the process lives whose id is in a file.
func lives(t *testing.T, file string) bool {
	t.Helper()
	id, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(id)), "stat"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	} else if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// A backend that is added while a reload is on its way is there afterwards.
func TestAddBackend_DuringReload(t *testing.T) {
	a := runSite(t, "")
	for i := range 30 {
		done := make(chan error, 1)
		go func() { done <- a.Reload(false) }()
		time.Sleep(time.Duration(i%10) * time.Millisecond / 2)
		host := fmt.Sprintf("127.0.1.%d", i+1)
		if _, err := a.AddBackend(t.Context(), control.BackendAdd{Host: host, Protocol: "imap", Port: 1, By: "root"}); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if a.gen.Load().monitor.View().Host(host) == nil {
			t.Errorf("%s was added and is not there", host)
		}
	}
	added := a.state.added.changes.Load()
	if _, err := a.RemoveBackend(t.Context(), control.BackendRemove{Target: "127.0.1.1", DryRun: true}); err != nil || a.state.added.changes.Load() != added {
		t.Errorf("a dry run changed something: %v", err)
	}
}

// A reload lets in whom the new file of client_ca names, and nobody of the old one.
func TestControlTCP_NewAuthority(t *testing.T) {
	cert, one, two := servers.NewCertificate(t, "127.0.0.1"), servers.NewAuthority(t, "one"), servers.NewAuthority(t, "two")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	a := &app{}
	cfg := config.Default()
	cfg.Control = config.Control{TCP: config.ControlTCP{Address: config.Address{Network: "tcp", Addr: "127.0.0.1:0"}, TLSCert: cert.CertFile, TLSKey: cert.KeyFile, ClientCA: ca}}
	settings := func(authority *servers.Authority) any {
		text, err := os.ReadFile(authority.CertFile)
		if err != nil {
			t.Fatal(err)
		}
		write(t, ca, string(text))
		s, err := a.servers(cfg)
		if err != nil || len(s) != 1 {
			t.Fatal(len(s), err)
		}
		return s[0].settings
	}
	if !reflect.DeepEqual(settings(one), settings(one)) {
		t.Error("the same files are another server")
	}
	if reflect.DeepEqual(settings(one), settings(two)) {
		t.Error("another authority is the same server")
	}
}
