package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/control"
	"usher/proxy"
)

func metricsOf(a *app) string {
	w := httptest.NewRecorder()
	a.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// While requests keep an old configuration alive, the metrics are the new one's
// alone: nothing is counted twice, and of backends that are gone nothing stays.
func TestReload_MetricsAreTheNewOnes(t *testing.T) {
	var backends []net.Listener
	for _, addr := range []string{"127.0.0.2:0", "127.0.0.3:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		backends = append(backends, l)
	}
	dir := shortDir(t)
	site := func(n int) string {
		yaml := fmt.Sprintf(`nginx: {listeners: [{address: "unix:%s"}]}
control: {address: "", http: ""}
state_dir: %s
backend_server_monitoring:
  interval: 20ms
  retry: 20ms
  fall: 1
  backend_servers:
`, filepath.Join(dir, "n.sock"), filepath.Join(dir, "state"))
		for _, l := range backends[:n] {
			a := l.Addr().(*net.TCPAddr)
			yaml += fmt.Sprintf("    - {protocol: imap, host: %s, port: %d}\n", a.IP, a.Port)
		}
		return yaml
	}
	a := runApp(t, dir, site(2))
	old := a.gen.Load()
	if err := old.monitor.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.inFlight.Add(1) // a request that takes long
	defer old.inFlight.Add(-1)
	write(t, a.source, site(1))
	if err := a.Reload(false); err != nil {
		t.Fatal(err)
	}
	if err := backends[0].Close(); err != nil {
		t.Fatal(err)
	}
	series := fmt.Sprintf(`{backend="%s",protocol="imap"}`, backends[0].Addr())
	down := func(g *generation) bool { return g.monitor.View().Entries[0].Health == proxy.Down }
	told := func() bool { return strings.Contains(metricsOf(a), "usher_backend_up"+series+" 0\n") }
	for end := time.Now().Add(10 * time.Second); !down(old) || !down(a.gen.Load()) || !told(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not fall")
		}
	}
	text := metricsOf(a)
	if want := "usher_backend_transitions_total" + series + " 2\n"; !strings.Contains(text, want) {
		t.Errorf("missing: %s", want)
	}
	if strings.Contains(text, backends[1].Addr().String()) {
		t.Error("the backend that is gone stays")
	}
}

// Orders, checks and looks at the status while configurations follow each other.
func TestReload_AmidOrders(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dir := shortDir(t)
	yaml := fmt.Sprintf(`nginx: {listeners: [{address: "unix:%s"}]}
control: {address: "", http: ""}
state_dir: %s
backend_server_monitoring:
  interval: 20ms
  retry: 20ms
  backend_servers:
    - {protocol: imap, host: 127.0.0.2, port: %d}
    - {protocol: pop3, host: 127.0.0.3, port: 1}
`, filepath.Join(dir, "n.sock"), filepath.Join(dir, "state"), l.Addr().(*net.TCPAddr).Port)
	a := runApp(t, dir, yaml)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var work sync.WaitGroup
	often := func(do func(i int) error) {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := do(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	often(func(i int) error {
		write(t, a.source, yaml+fmt.Sprintf("failure_delay: %dms\n", i%1000))
		return a.Reload(false)
	})
	often(func(i int) error {
		state := []string{"down", "drain", "up"}[i%3]
		ans, err := a.Order(t.Context(), control.BackendOrder{Target: "127.0.0.2", State: state, By: "root", DryRun: i%2 == 0})
		if err == nil && (len(ans.Backends) != 1 || ans.Backends[0].Admin != state) {
			t.Errorf("%s: %+v", state, ans)
		}
		return err
	})
	often(func(int) error {
		begin := time.Now()
		_, _ = a.CheckBackend(t.Context(), "127.0.0.3") // the monitor may end meanwhile
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("a check took %s", d)
		}
		return nil
	})
	often(func(int) error {
		if st := a.Status(); len(st.Backends) != 2 {
			t.Errorf("%+v", st.Backends)
		}
		metricsOf(a)
		return nil
	})
	work.Wait()
}
