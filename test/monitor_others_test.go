package test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"usher/test/servers"
)

// Postfix is up in the clear, with STARTTLS and behind a PROXY header, also when
// the check logs in.
func TestMonitor_Postfix(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t)
	ca := servers.NewAuthority(t, "CA of the tests")
	cert := ca.Issue(t, anHour(), "127.0.0.1")
	dovecot := servers.StartDovecotServices(t, []string{"127.0.0.1"}, monitored, cert)
	// Protocol, host and port stand once: a Postfix for each way to speak to it.
	clear := servers.StartPostfix(t, servers.PostfixOptions{SASL: "inet:" + dovecot.Auth})
	secure := servers.StartPostfix(t, servers.PostfixOptions{SASL: "inet:" + dovecot.Auth, TLS: cert})
	const quoted, letters = "quoted@example.org", "letters@example.org"
	tests := map[string]struct {
		addr, more string
		said       []string
	}{
		"plain": {clear.Addr, as(quoted, monitored[quoted]), []string{"S: 220 mx.example.org ESMTP", "C: AUTH PLAIN ****", "S: 235 "}},
		"STARTTLS": {
			secure.Addr, as(letters, monitored[letters]) + ", starttls: true",
			[]string{"C: STARTTLS", "* TLS 1.3, certificate for 127.0.0.1 until ", "C: AUTH PLAIN ****", "S: 235 "},
		},
		"PROXY": {
			clear.Proxied, as(letters, monitored[letters]) + ", haproxy_v2: true",
			[]string{"* PROXY v2 header sent", "S: 220 ", "C: AUTH PLAIN ****", "S: 235 "},
		},
		"PROXY, STARTTLS": {
			secure.Proxied, "deep_check: true, starttls: true, haproxy_v2: true",
			[]string{"* PROXY v2 header sent", "S: 220 ", "C: STARTTLS", "* TLS 1.3, ", "C: EHLO [127.0.0.1]", "C: QUIT", "S: 221 "},
		},
	}
	var entries []string
	for _, tt := range tests {
		entries = append(entries, entryAt(t, "smtp", tt.addr, tt.more))
	}
	w := startWatcher(t, ca.Certificate, once, entries...)
	reports, _ := w.checked(t, "127.0.0.1")
	var shown []string
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if b := w.backend(t, tt.addr); b.Check != "up" {
				t.Errorf("%s: %s", b.Check, b.Error)
			}
			r := reports[tt.addr]
			if !r.OK {
				t.Errorf("checked once more: %s", r.Error)
			}
			shown = append(shown, inOrder(t, r.Lines, tt.said...))
		})
	}
	w.tellsNobody(t, monitored, shown...)
}

// What a web server answers is the verdict.
func TestMonitor_WebServer(t *testing.T) {
	t.Parallel()
	servers.NeedOthers(t)
	const user, pass = "probe", `pass "w\ord {5}`
	ca := servers.NewAuthority(t, "CA of the tests")
	cert := ca.Issue(t, anHour(), "127.0.0.1")
	htpasswd := servers.WriteFile(t, user+":{PLAIN}"+pass+"\n", servers.Dir(t), "htpasswd")
	locations := fmt.Sprintf(`
	location = /well { return 200 "well\n"; }
	location = /gone { return 404; }
	location = /ill { return 503; }
	location = /moved { return 302 http://127.0.0.1/well; }
	location = /teapot { return 418; }
	location = /closed { auth_basic test; auth_basic_user_file %s; try_files /none =204; }
	location = / { return 200 "root\n"; }
`, htpasswd)
	tests := map[string]struct {
		listen, more string // of nginx; of the entry
		why          string // "": up
	}{
		"200":              {"", "request_uri: /well", ""},
		"no path":          {"", "deep_check: true", ""},
		"no path, no deep": {"", "expect_status: 5xx", ""}, // nothing is asked
		"404":              {"", "request_uri: /gone", "status: 404 Not Found, expected 2xx"},
		"503":              {"", "request_uri: /ill", "status: 503 Service Temporarily Unavailable, expected 2xx"},
		"redirect":         {"", "request_uri: /moved", "status: 302 Moved Temporarily, expected 2xx"},
		"expected class":   {"", "request_uri: /moved, expect_status: 3xx", ""},
		"expected number":  {"", "request_uri: /teapot, expect_status: 418", ""},
		"other number":     {"", "request_uri: /well, expect_status: 204", "status: 200 OK, expected 204"},
		"TLS":              {" ssl", "request_uri: /well, tls: true", ""},
		"TLS without":      {" ssl", "request_uri: /well", "status: 400 Bad Request, expected 2xx"},
		"no TLS":           {"", "request_uri: /well, tls: true", "server does not speak TLS"},
		"PROXY":            {" proxy_protocol", "request_uri: /well, haproxy_v2: true", ""},
		"PROXY, TLS":       {" proxy_protocol ssl", "request_uri: /well, haproxy_v2: true, tls: true", ""},
		"PROXY without":    {" proxy_protocol", "request_uri: /well", "connection closed by server (response)"},
		"login":            {"", "request_uri: /closed, expect_status: 204, " + as(user, pass), ""},
		"no login":         {"", "request_uri: /closed", "status: 401 Unauthorized, expected 2xx"},
		"wrong login":      {"", "request_uri: /closed, " + as(user, "wrong"), "status: 401 Unauthorized, expected 2xx"},
	}
	addrs := map[string]string{}
	var blocks, entries []string
	for name, tt := range tests {
		addrs[name] = servers.Addr(t, "127.0.0.1")
		blocks = append(blocks, fmt.Sprintf("listen %s%s; ssl_certificate %s; ssl_certificate_key %s;%s", addrs[name], tt.listen, cert.CertFile, cert.KeyFile, locations))
		entries = append(entries, entryAt(t, "http", addrs[name], tt.more))
	}
	servers.StartWebServer(t, blocks...)
	w := startWatcher(t, ca.Certificate, once, entries...)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := "up"
			if tt.why != "" {
				want = "down"
			}
			if b := w.backend(t, addrs[name]); b.Check != want || b.Error != tt.why {
				t.Errorf("%s (%q), want %s (%q)", b.Check, b.Error, want, tt.why)
			}
		})
	}
	reports, exit := w.checked(t, addrs["login"])
	if exit != 0 {
		t.Errorf("usher backend check: exit status %d", exit)
	}
	shown := inOrder(t, reports[addrs["login"]].Lines, "C: GET /closed HTTP/1.1", "C: Authorization: Basic ****", "S: HTTP/1.1 204 ")
	w.tellsNobody(t, servers.Users{user: pass}, shown)
}

// entryAt is entry for ip:port.
func entryAt(t *testing.T, protocol, addr, more string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return entry(protocol, host, port, more)
}

// inOrder expects these texts, one after the other, in what a check showed, which
// it returns as one.
func inOrder(t *testing.T, lines []string, texts ...string) string {
	t.Helper()
	said := strings.Join(lines, "\n")
	rest := said
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Errorf("%q is not in its place in\n%s", text, said)
			return said
		}
		rest = after
	}
	return said
}
