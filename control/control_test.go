package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"usher/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeService is an usher whose answers are given.
type fakeService struct {
	ready  bool
	reload error // unless it is forced
	orders []BackendOrder
	users  []string
}

func (f *fakeService) Status() Status {
	return Status{Version: "1", Ready: f.ready, Backends: []Backend{{Protocol: "imap", Backend: "127.0.0.2:143", Check: "up"}}}
}

func (f *fakeService) User(_ context.Context, user string) (UserStatus, error) {
	if user == "nobody" {
		return UserStatus{}, fmt.Errorf("user %s: %w", user, ErrNotFound)
	}
	return UserStatus{User: user, Key: user, Assigned: "127.0.0.2"}, nil
}

func (f *fakeService) Route(_ context.Context, q RouteQuery) (RouteAnswer, error) {
	if q.Protocol == "" {
		return RouteAnswer{}, errors.New("no protocol")
	}
	return RouteAnswer{User: q.User, Outcome: "routed", Backend: "127.0.0.2:143", Steps: []string{"one", "two"}}, nil
}

func (f *fakeService) Reload(force bool) error {
	if force {
		return nil
	}
	return f.reload
}

func (f *fakeService) Order(_ context.Context, o BackendOrder) (BackendAnswer, error) {
	if o.Target == "nowhere" {
		return BackendAnswer{}, fmt.Errorf("no such backend: nowhere: %w", ErrNotFound)
	}
	f.orders = append(f.orders, o)
	return BackendAnswer{Target: o.Target, DryRun: o.DryRun, Users: 7}, nil
}

func (f *fakeService) AddBackend(_ context.Context, o BackendAdd) (BackendAnswer, error) {
	f.users = append(f.users, "add "+o.Host+" "+o.By)
	return BackendAnswer{Target: o.Host}, nil
}

func (f *fakeService) RemoveBackend(_ context.Context, o BackendRemove) (BackendAnswer, error) {
	f.users = append(f.users, "remove "+o.Target+" "+o.By)
	return BackendAnswer{Target: o.Target}, nil
}

func (f *fakeService) CheckBackend(_ context.Context, target string) ([]CheckReport, error) {
	return []CheckReport{{Backend: Backend{Backend: target}, OK: true, Lines: []string{"S: * OK"}}}, nil
}

func (f *fakeService) told(what string, o UserOrder) error {
	if o.User == "nobody" {
		return fmt.Errorf("nobody: %w", ErrNotFound)
	}
	f.users = append(f.users, what+" "+o.User+" "+o.Host+" "+o.By)
	return nil
}

func (f *fakeService) Move(_ context.Context, o UserOrder) (Move, error) {
	return Move{ID: "M1", User: o.User, To: o.Host}, f.told("move", o)
}

func (f *fakeService) Pin(_ context.Context, o UserOrder) (UserAnswer, error) {
	return UserAnswer{User: o.User}, f.told("pin", o)
}

func (f *fakeService) Unpin(_ context.Context, o UserOrder) (UserAnswer, error) {
	return UserAnswer{User: o.User}, f.told("unpin", o)
}

func (f *fakeService) Hold(_ context.Context, o UserOrder) (UserAnswer, error) {
	return UserAnswer{User: o.User}, f.told("hold", o)
}

func (f *fakeService) Release(_ context.Context, o UserOrder) (UserAnswer, error) {
	return UserAnswer{User: o.User}, f.told("release", o)
}

func (f *fakeService) Kick(_ context.Context, o UserOrder) (KickAnswer, error) {
	return KickAnswer{User: o.User}, f.told("kick", o)
}

func (f *fakeService) MoveOf(id string) (Move, error) { return Move{ID: id}, nil }
func (f *fakeService) Moves() []Move                  { return []Move{{ID: "M1"}} }

func (f *fakeService) Undo(_ context.Context, id string, o UserOrder) (Move, error) {
	return Move{ID: id}, f.told("undo "+id, o)
}

func (f *fakeService) Flush(_ context.Context, o FlushOrder) (Flush, error) {
	return Flush{ID: "F1", Host: o.Host, Rate: o.Rate}, nil
}

func (f *fakeService) FlushOf(id string) (Flush, error) { return Flush{ID: id}, nil }

func (f *fakeService) StopFlush(_ context.Context, id string, o UserOrder) (Flush, error) {
	return Flush{ID: id}, f.told("stop "+id, o)
}

func (f *fakeService) Map(_ context.Context, host, tag string, yield func(Assignment) bool) error {
	for i := range 2500 {
		if !yield(Assignment{Key: fmt.Sprint("user", i), Host: host, Tag: tag}) {
			return nil
		}
	}
	if host == "breaks" {
		return errors.New("the store went away")
	}
	return nil
}

func (f *fakeService) Decisions(id, _ string) []DecisionRecord {
	if id == "unknown" {
		return nil
	}
	return []DecisionRecord{{ID: id}}
}

func (f *fakeService) Dump(context.Context) ([]string, error) {
	return []string{"usher hold alice"}, nil
}
func (f *fakeService) Nodes(context.Context) ([]Node, error) { return []Node{{Name: "one"}}, nil }
func (f *fakeService) Audit(most int) ([]AuditRecord, error) { return make([]AuditRecord, most), nil }

func (f *fakeService) Ready() bool { return f.ready }

// serveAPI serves the API on a unix socket and returns a client for it.
func serveAPI(t *testing.T, s Service) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "ush")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, API(s, zap.NewNop())) }()
	c := NewClient(path)
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-done, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestClient(t *testing.T) {
	f := &fakeService{ready: true}
	c := serveAPI(t, f)
	ctx := t.Context()

	st, err := c.Status(ctx)
	if diff := cmp.Diff(f.Status(), st); err != nil || diff != "" {
		t.Errorf("status: %v\n%s", err, diff)
	}
	// A name may hold what a path may not.
	for _, user := range []string{"alice@example.org", "a/b", "a b%?#", "jürgen"} {
		if u, err := c.User(ctx, user); err != nil || u.User != user {
			t.Errorf("user %q: %+v, %v", user, u, err)
		}
	}
	if _, err := c.User(ctx, "nobody"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("an unknown user: %v", err)
	}
	a, err := c.Route(ctx, RouteQuery{User: "alice", Protocol: "imap"})
	if err != nil || a.Outcome != "routed" || len(a.Steps) != 2 {
		t.Errorf("route: %+v, %v", a, err)
	}
	if _, err := c.Route(ctx, RouteQuery{User: "alice"}); err == nil || err.Error() != "no protocol" {
		t.Errorf("a refused route: %v", err)
	}
	if err := c.Reload(ctx, false); err != nil {
		t.Errorf("reload: %v", err)
	}
	f.reload = errors.New("usher.yaml:1: a fault\nusher.yaml:2: another")
	if err := c.Reload(ctx, false); err == nil || err.Error() != f.reload.Error() {
		t.Errorf("a refused reload: %v", err)
	}
	if err := c.Reload(ctx, true); err != nil {
		t.Errorf("a forced reload: %v", err)
	}
}

func TestClient_NobodyThere(t *testing.T) {
	_, err := NewClient(filepath.Join(t.TempDir(), "gone.sock")).Status(t.Context())
	if !errors.Is(err, ErrNoUsher) {
		t.Errorf("error %v", err)
	}
}

func TestAPI_BadRequests(t *testing.T) {
	h := API(&fakeService{}, zap.NewNop())
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"no JSON", "POST", "/v1/route", "user=alice", 422},
		{"an unknown field", "POST", "/v1/route", `{"user":"a","protocol":"imap","nonsense":1}`, 422},
		{"too long", "POST", "/v1/route", `{"user":"` + strings.Repeat("a", maxBody) + `"}`, 422},
		{"wrong method", "GET", "/v1/reload", "", 405},
		{"no such path", "GET", "/v2/status", "", 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			if w.Code != tc.status {
				t.Errorf("status %d, want %d: %s", w.Code, tc.status, w.Body)
			}
		})
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

func TestHTTP(t *testing.T) {
	f := &fakeService{}
	m := NewMetrics("1.2.3", Gauges{Assignments: func() int { return 42 }})
	h := HTTP(f, m)

	if code, _ := get(t, h, "/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	if code, _ := get(t, h, "/readyz"); code != 503 {
		t.Errorf("/readyz before the first checks: %d", code)
	}
	f.ready = true
	if code, _ := get(t, h, "/readyz"); code != 200 {
		t.Errorf("/readyz: %d", code)
	}

	s := &proxy.Server{Protocol: "imap", Host: "::1", Port: 143}
	gone := &proxy.Server{Protocol: "pop3", Host: "127.0.0.9", Port: 110}
	m.SetInventory(inventory(proxy.Entry{Server: s}, proxy.Entry{Server: gone}))
	m.CheckDone(s, time.Millisecond, nil)
	m.Transition(s, proxy.Unknown, proxy.Up)
	m.SetInventory(inventory(proxy.Entry{Server: s, Health: proxy.Up}))
	for _, service := range []string{"imap", "x\"} evil", "user1@example.org"} {
		m.Decided(&proxy.Request{Adapter: "dovecot", Protocol: service, User: "alice"}, &proxy.Decision{Outcome: proxy.Routed, Reason: proxy.Sticky})
	}
	m.SetPolicies([]string{"gone", "kept"})
	m.PolicyFailing("gone", true)
	m.PolicyFailing("kept", true)
	m.SetPolicies([]string{"kept", "other"})
	m.PolicyFailing("gone", true) // a late request's
	m.PolicyFailing("other", true)
	m.PolicySteps(42)
	m.PolicySteps(200000)
	m.PolicyNetwork("dns", 2*time.Millisecond)
	m.PolicyRan(time.Microsecond, true, nil)
	m.PolicyRan(time.Microsecond, false, &proxy.PolicyFault{Kind: proxy.PolicyBudget, Err: errors.New("steps")})

	_, text := get(t, h, "/metrics")
	for _, want := range []string{
		`usher_build_info{version="1.2.3"} 1`,
		`usher_assignments 42`,
		`usher_decisions_total{adapter="dovecot",outcome="routed",protocol="imap",reason="sticky"} 1`,
		`usher_decisions_total{adapter="dovecot",outcome="routed",protocol="other",reason="sticky"} 2`,
		`usher_decision_seconds_count{adapter="dovecot"} 3`,
		`usher_policy_seconds_count 2`,
		`usher_policy_errors_total{kind="budget"} 1`,
		`usher_policy_errors_total{kind="error"} 0`,
		`usher_policy_errors_total{kind="result"} 1`,
		`usher_policy_steps_count 2`,
		`usher_policy_steps_sum 200042`,
		`usher_policy_steps_bucket{le="50"} 1`,
		`usher_policy_network_seconds_count{module="dns"} 1`,
		`usher_policy_failing{policy="kept"} 0`,
		`usher_policy_failing{policy="other"} 1`,
		`usher_backend_up{backend="[::1]:143",protocol="imap"} 1`,
		`usher_backend_check_seconds_count{backend="[::1]:143",protocol="imap"} 1`,
		`usher_backend_transitions_total{backend="[::1]:143",protocol="imap"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	for _, bad := range []string{"evil", "alice", "user1", "127.0.0.9", `policy="gone"`} {
		if strings.Contains(text, bad) {
			t.Errorf("the metrics tell %q", bad)
		}
	}
}
