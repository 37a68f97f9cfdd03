package test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"usher/control"
	"usher/test/servers"
)

// A watcher is an usher whose monitor is what a test looks at.
type watcher struct {
	*servers.Usher
	authHTTP string // of its listener for nginx
	api      *control.Client
	http     http.Client
	asked    int // newcomers, by newUsers
}

// newcomers are the users of a watcher, who are new until they log in.
var newcomers = func() servers.Users {
	u := servers.Users{}
	for n := range 8000 {
		u[newcomer(n)] = password
	}
	return u
}()

func newcomer(n int) string { return fmt.Sprintf("newcomer-%d@example.org", n) }

// startWatcher runs usher with these entries of backend_servers, each a line of
// YAML, and these lines of backend_server_monitoring. roots, if not nil, are
// the system's only ones. Newcomers may log in.
func startWatcher(t *testing.T, roots *servers.Certificate, settings string, entries ...string) *watcher {
	t.Helper()
	return startWatcherWith(t, nil, roots, settings, entries...)
}

// startWatcherWith is startWatcher with a DNS that usher asks.
func startWatcherWith(t *testing.T, dns *servers.DNS, roots *servers.Certificate, settings string, entries ...string) *watcher {
	t.Helper()
	w := &watcher{authHTTP: servers.Addr(t, "127.0.0.1")}
	t.Cleanup(w.http.CloseIdleConnections)
	o := servers.UsherOptions{DNS: dns}
	if roots != nil {
		o.Env = append(o.Env, "SSL_CERT_FILE="+roots.CertFile, "SSL_CERT_DIR=/nonexistent")
	}
	var yaml strings.Builder
	fmt.Fprintf(&yaml, `failure_delay: 0s
nginx:
  listeners:
    - {address: %q, path: /auth, protocols: [imap, pop3]}
passdb:
  - {driver: passwd_file, path: %q}
backend_server_monitoring:
%s  backend_servers:
`, w.authHTTP, newcomers.Passwd(t, servers.Dir(t), "passwd"), settings)
	for _, e := range entries {
		yaml.WriteString("    - " + e + "\n")
	}
	w.Usher = servers.StartUsherWith(t, o, yaml.String())
	w.api = control.NewClient(strings.TrimPrefix(w.Control, "unix:"))
	return w
}

// entry is a line for startWatcher; more follows the comma.
func entry(protocol, host string, port any, more ...string) string {
	return fmt.Sprintf("{%s}", strings.Join(append([]string{
		"protocol: " + protocol, "host: " + host, fmt.Sprintf("port: %v", port),
	}, more...), ", "))
}

// as has a check log in.
func as(user, pass string) string {
	return fmt.Sprintf("deep_check: true, test_username: %s, test_password: '%s'", user, pass)
}

// status is what `usher status --json` shows.
func (w *watcher) status(t *testing.T) (s control.Status) {
	t.Helper()
	out, errs, status := w.Run(t, "status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil || status != 0 {
		t.Fatalf("usher status: exit status %d, %v: %s", status, err, errs)
	}
	return s
}

// backend is what status shows of HOST:PORT.
func (w *watcher) backend(t *testing.T, address string) control.Backend {
	t.Helper()
	s, err := w.api.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range s.Backends {
		if b.Backend == address {
			return b
		}
	}
	t.Fatalf("usher shows no %s", address)
	return control.Backend{}
}

// checked is what `usher backend check --json` shows of a target, by address.
func (w *watcher) checked(t *testing.T, target string) (reports map[string]control.CheckReport, exit int) {
	t.Helper()
	out, errs, exit := w.Run(t, "backend", "check", target, "--json")
	var list []control.CheckReport
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("usher backend check %s: exit status %d, %v: %s", target, exit, err, errs)
	}
	reports = map[string]control.CheckReport{}
	for _, r := range list {
		reports[r.Backend.Backend] = r
	}
	return reports, exit
}

// allUp waits until every backend is.
func (w *watcher) allUp(t *testing.T) {
	t.Helper()
	for _, b := range w.status(t).Backends {
		w.becomes(t, 0, b.Backend, "up")
	}
}

// login asks where to take a newcomer, and returns ip:port.
func (w *watcher) login(t *testing.T, user string) string {
	t.Helper()
	at, status := w.tryLogin(t, user)
	if status != "OK" {
		t.Fatalf("login of %s: %s", user, status)
	}
	return at
}

// tryLogin asks, as nginx does for an IMAP login, where to take a newcomer. It
// returns ip:port, or another status than OK.
func (w *watcher) tryLogin(t *testing.T, user string) (at, status string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.authHTTP+"/auth", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Auth-Method": "plain", "Auth-User": user, "Auth-Pass": url.PathEscape(password), "Auth-Protocol": "imap",
		"Auth-Login-Attempt": "1", "Client-IP": "192.0.2.7",
	} {
		req.Header.Set(name, value)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return net.JoinHostPort(resp.Header.Get("Auth-Server"), resp.Header.Get("Auth-Port")), resp.Header.Get("Auth-Status")
}

// newUsers returns as many newcomers who would be taken to that backend if they logged
// in now, and did not yet.
func (w *watcher) newUsers(t *testing.T, address string, count int) []string {
	t.Helper()
	var users []string
	for len(users) < count {
		if w.asked == len(newcomers) {
			t.Fatalf("only %d of %d newcomers would go to %s", len(users), w.asked, address)
		}
		user := newcomer(w.asked)
		w.asked++
		a, err := w.api.Route(t.Context(), control.RouteQuery{User: user, Protocol: "imap"})
		if err != nil {
			t.Fatal(err)
		}
		if a.Backend == address {
			users = append(users, user)
		}
	}
	return users
}

// becomes waits for the log's word that a backend's health changes, from line
// number from on.
func (w *watcher) becomes(t *testing.T, from int, address, health string) {
	t.Helper()
	w.Logged(t, from, address+" "+health, func(line string) bool {
		var l struct{ Msg, Backend, To string }
		return json.Unmarshal([]byte(line), &l) == nil && l.Msg == "backend health" && l.Backend == address && l.To == health
	})
}

// tellsNobody looks for passwords, as they are and in the forms that protocols
// and texts give them, in all that usher shows or writes, and in texts.
func (w *watcher) tellsNobody(t *testing.T, users servers.Users, texts ...string) {
	t.Helper()
	out, _, _ := w.Run(t, "status", "--json")
	human, _, _ := w.Run(t, "status")
	texts = append(texts, out, human, w.Get(t, "/metrics"), strings.Join(w.Log.Lines(0), "\n"))
	for user, pass := range users {
		asJSON, err := json.Marshal(pass)
		if err != nil {
			t.Fatal(err)
		}
		forms := []string{pass, string(asJSON), fmt.Sprintf("%q", pass), fmt.Sprintf("%+q", pass)}
		for _, s := range []string{pass, "\x00" + user + "\x00" + pass, user + "\x00" + user + "\x00" + pass, user + ":" + pass} {
			forms = append(forms, base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)))
		}
		for i, form := range forms {
			form = strings.Trim(form, `"`)
			for _, text := range texts {
				if at := strings.Index(text, form); at >= 0 {
					t.Errorf("the password of %s is shown, in form %d, after %q", user, i, text[max(0, at-60):at])
				}
			}
		}
	}
}

// Settings of backend_server_monitoring. The timeouts are for a busy machine.
const (
	// soon has backends die soon. patient and steady wait longer for those that are slow.
	soon    = "  interval: 1s\n  retry: 200ms\n  timeout: 1s\n  fall: 2\n"
	patient = "  interval: 1s\n  retry: 200ms\n  timeout: 3s\n  fall: 2\n"
	steady  = "  interval: 1s\n  retry: 200ms\n  timeout: 15s\n  fall: 2\n"
	// once is for tests that look at a single check of each backend.
	once = "  interval: 10m\n  retry: 10m\n  timeout: 15s\n  fall: 1\n"
)

// anHour is how long certificates of the tests are good.
func anHour() time.Time { return time.Now().Add(time.Hour) }
