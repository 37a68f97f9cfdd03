package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/config"
)

// runApp serves the configuration in dir/u.yaml until the test ends.
func runApp(t *testing.T, dir, yaml string, change ...func(*app)) *app {
	t.Helper()
	path := filepath.Join(dir, "u.yaml")
	write(t, path, yaml)
	load := func() (*config.Config, error) {
		cfg, err := config.Load(path)
		if err == nil && cfg.StateDir == config.Default().StateDir { // which is the system's
			cfg.StateDir = filepath.Join(dir, "state")
		}
		return cfg, err
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	logs := newLogging(io.Discard, cfg.Log)
	a, err := newApp(cfg, path, load, logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.Run(ctx, cfg, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		logs.close()
	})
	return a
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// authHTTP asks as nginx does and returns Auth-Status.
func authHTTP(sock string) (string, error) { return askHTTP(sock, "Auth-Status") }

// authServer asks as nginx does and returns Auth-Server.
func authServer(sock string) (string, error) { return askHTTP(sock, "Auth-Server") }

func askHTTP(sock, header string) (string, error) {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", sock)
		},
	}}
	req, err := http.NewRequest("GET", "http://usher/auth", nil)
	if err != nil {
		return "", err
	}
	for k, v := range map[string]string{
		"Auth-Method": "plain", "Auth-User": "alice", "Auth-Pass": "secret", "Auth-Protocol": "imap", "Auth-Login-Attempt": "1",
	} {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	return resp.Header.Get(header), nil
}

// A login that waits for the first checks is answered though a reload replaces
// what it waits for.
func TestReload_LosesNoWaitingLogin(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.2:0") // accepts, and never speaks TLS
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	good, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	dir := shortDir(t)
	sock := filepath.Join(dir, "n.sock")
	port := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
	yaml := fmt.Sprintf(`nginx: {listeners: [{address: "unix:%s"}]}
control: {address: "", http: ""}
backend_server_monitoring:
  timeout: 2s
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: %d, tls: true}
    - {protocol: imap, host: 127.0.0.3, port: %d}
`, sock, port(mute), port(good))
	a := runApp(t, dir, yaml)
	type answer struct {
		status string
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		s, err := authHTTP(sock)
		got <- answer{s, err}
	}()
	for a.gen.Load().inFlight.Load() == 0 {
		<-time.After(time.Millisecond)
	}
	write(t, a.source, yaml+"failure_delay: 1s\n")
	if err := a.Reload(false); err != nil {
		t.Fatal(err)
	}
	if w := <-got; w.err != nil || w.status != "OK" {
		t.Errorf("the login that waited: %q, %v", w.status, w.err)
	}
	if status, err := authHTTP(sock); err != nil || status != "OK" {
		t.Errorf("the login after the reload: %q, %v", status, err)
	}
}

// A login that the old script works on is answered by the old script, while new
// ones get the new.
func TestReload_FinishesOnTheOldScript(t *testing.T) {
	slow, err := net.Listen("tcp", "127.0.0.9:0") // accepts, and never speaks TLS
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	dir := shortDir(t)
	sock, script := filepath.Join(dir, "n.sock"), filepath.Join(dir, "route.lua")
	write(t, script, fmt.Sprintf(`function nauthilus_call_filter(request)
		nauthilus_backend.check_backend_connection("imap", "127.0.0.9", %d, true, true, false)
		nauthilus_backend.select_backend_server("192.0.2.1", 143)
	end`, slow.Addr().(*net.TCPAddr).Port))
	a := runApp(t, dir, fmt.Sprintf(`nginx: {listeners: [{address: "unix:%s"}]}
control: {address: "", http: ""}
director: {script: "%s", timeout: 20s}
affinity: {mode: "off"} # else who comes second takes the first one's host
`, sock, script))
	old := make(chan string, 1)
	go func() {
		host, err := authServer(sock)
		old <- fmt.Sprint(host, err)
	}()
	conn, err := slow.Accept() // the script waits
	if err != nil {
		t.Fatal(err)
	}
	write(t, script, `function nauthilus_call_filter(request) nauthilus_backend.select_backend_server("192.0.2.2", 143) end`)
	if err := a.Reload(false); err != nil {
		t.Fatal(err)
	}
	if host, err := authServer(sock); err != nil || host != "192.0.2.2" {
		t.Errorf("a new login: %q, %v", host, err)
	}
	write(t, script, `function nauthilus_call_filter(`)
	if err := a.Reload(false); err == nil || !strings.Contains(err.Error(), "route.lua:1:") {
		t.Errorf("a broken script: %v", err)
	}
	if host, err := authServer(sock); err != nil || host != "192.0.2.2" {
		t.Errorf("after the broken script: %q, %v", host, err)
	}
	conn.Close()
	if got := <-old; got != "192.0.2.1<nil>" {
		t.Errorf("the old login: %s", got)
	}
}

// A reload changes what it can of a socket, refuses what it can't, and takes
// listeners away.
func TestReload_Sockets(t *testing.T) {
	dir := shortDir(t)
	one, two := filepath.Join(dir, "1.sock"), filepath.Join(dir, "2.sock")
	conf := func(listeners string) string {
		return "nginx: {listeners: [" + listeners + "]}\ncontrol: {address: \"\", http: \"\"}\naffinity: {expire: 1h}\n"
	}
	a := runApp(t, dir, conf(fmt.Sprintf(`{address: "unix:%s", mode: "0600"}, {address: "unix:%s"}`, one, two)))
	mode := func() os.FileMode {
		info, err := os.Stat(one)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	reload := func(yaml string) error {
		write(t, a.source, yaml)
		return a.Reload(false)
	}
	if err := reload(conf(fmt.Sprintf(`{address: "unix:%s", mode: "0666", path: /other}`, one))); err != nil {
		t.Fatal(err)
	}
	if mode() != 0o666 {
		t.Errorf("mode %o after the reload, want 0666", mode())
	}
	if _, err := net.Dial("unix", two); err == nil {
		t.Error("a listener that was taken away still answers")
	}
	if status, err := authHTTP(one); err != nil || !strings.HasPrefix(status, "[UNAVAILABLE]") {
		t.Errorf("at the old path: %q, %v", status, err)
	}
	err := reload(conf(fmt.Sprintf(`{address: "unix:%s", owner: no-such-user-here}`, one)))
	if err == nil || !strings.Contains(err.Error(), "no-such-user-here") {
		t.Errorf("an unknown owner: %v", err)
	}
	if mode() != 0o666 {
		t.Errorf("a refused reload changed the mode to %o", mode())
	}
}

// A reload that comes while usher ends is refused at once, also when the end is
// long in coming: the process would wait for it.
func TestReload_WhileEnding(t *testing.T) {
	cfg := &config.Config{}
	logs := newLogging(io.Discard, cfg.Log)
	defer logs.close()
	cfg.Affinity.Expire, cfg.Affinity.MaxEntries = time.Minute, 10
	a, err := newApp(cfg, "", nil, logs)
	if err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	a.draining.Go(func() { <-stuck })
	ended := make(chan error, 1)
	go func() { ended <- a.end() }()
	time.Sleep(20 * time.Millisecond)
	refused := make(chan error, 1)
	go func() { refused <- a.apply(cfg, false) }()
	select {
	case err := <-refused:
		if err == nil {
			t.Error("the reload was done")
		}
	case <-time.After(5 * time.Second):
		t.Error("the reload waits")
	}
	close(stuck)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
