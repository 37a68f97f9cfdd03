package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/test/servers"
)

// An nginxRig is nginx, usher and one backend, for what nginx alone can do.
type nginxRig struct {
	usher    *servers.Usher
	nginx    *servers.Nginx
	authHTTP string // usher's listener as nginx names it
}

type nginxRigOptions struct {
	users        servers.Users
	listen       string // usher's address; "": a free port
	yaml         string // more of usher's listener
	failureDelay string
	servers.NginxOptions
}

func newNginxRig(t *testing.T, o nginxRigOptions) *nginxRig {
	t.Helper()
	if o.listen == "" {
		o.listen = servers.Addr(t, "127.0.0.1")
	}
	if o.AuthHTTP == "" {
		o.AuthHTTP = o.listen + "/auth"
	}
	if o.users == nil {
		o.users = servers.Users{user("two", 0): password}
	}
	if o.failureDelay == "" {
		o.failureDelay = "0s"
	}
	addr := servers.StartDovecotBackend(t, "127.0.0.2", o.users, nil).Addr
	addr["smtp"] = servers.StartSMTPSink(t, "127.0.0.2").Addr
	var inventory strings.Builder
	for _, protocol := range mailProtocols {
		_, port, err := net.SplitHostPort(addr[protocol])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&inventory, "    - {protocol: %s, host: 127.0.0.2, port: %s}\n", protocol, port)
	}
	return &nginxRig{
		usher: servers.StartUsher(t, fmt.Sprintf(`failure_delay: %s
nginx:
  listeners:
    - address: %q
      path: /auth
      protocols: [imap, pop3, smtp]
%spassdb:
  - {driver: passwd_file, path: %q}
backend_server_monitoring:
  interval: 1s
  backend_servers:
%s`, o.failureDelay, o.listen, o.yaml, o.users.Passwd(t, servers.Dir(t), "passwd"), inventory.String())),
		nginx:    servers.StartNginx(t, o.NginxOptions),
		authHTTP: o.AuthHTTP,
	}
}

// Passwords go through nginx's percent-encoding and a header of HTTP.
func TestNginx_Passwords(t *testing.T) {
	t.Parallel()
	passwords := map[string]string{
		"percent":       "100%25%",
		"plus":          "a+b",
		"space":         " a b ",
		"utf8":          "pässwörd€",
		"latin1":        "p\xe4ssword",
		"del":           "a\x7fb",
		"colon":         "a:b:",
		"quote":         `a"b\c'`,
		"header_like":   "x, Auth-User: root",
		"percent_7f":    "%7F",
		"tab":           "a\tb",
		"control":       "a\x02\x1fb",
		"long":          strings.Repeat("x", 300),
		"utf8_and_more": "ü +%\x7f ",
	}
	users := servers.Users{}
	for name, pass := range passwords {
		users[name+"@example.org"] = pass
	}
	r := newNginxRig(t, nginxRigOptions{users: users})
	for name, pass := range passwords {
		for protocol, addr := range r.nginx.Addr {
			if name == "tab" && protocol != "smtp" {
				continue // no Dovecot backend takes one
			}
			if name == "long" && protocol == "pop3" {
				continue // nginx has 128 bytes for a POP3 line
			}
			t.Run(name+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				c := servers.Dial(t, protocol, addr)
				if reply := c.AuthPlain(name+"@example.org", pass, true); !c.OK(reply) {
					t.Fatal(reply)
				}
				if got := c.Backend(); got != "127.0.0.2" {
					t.Errorf("logged in at %q", got)
				}
			})
			t.Run(name+"/"+protocol+"/not_quite", func(t *testing.T) {
				t.Parallel()
				c := servers.Dial(t, protocol, addr)
				expect(t, protocol, c.AuthPlain(name+"@example.org", pass+"x", true), wrongPassword)
			})
		}
	}
}

func TestNginx_UnixSocket(t *testing.T) {
	t.Parallel()
	sock := "unix:" + filepath.Join(servers.Dir(t), "auth_http.sock")
	r := newNginxRig(t, nginxRigOptions{
		listen:       sock,
		yaml:         "      group: www-data\n", // nginx's workers
		NginxOptions: servers.NginxOptions{AuthHTTP: sock + ":/auth"},
	})
	for protocol, addr := range r.nginx.Addr {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), "127.0.0.2")
		})
	}
}

func TestNginx_SharedSecret(t *testing.T) {
	t.Parallel()
	r := newNginxRig(t, nginxRigOptions{
		yaml:         "      shared_secret: sesame\n",
		NginxOptions: servers.NginxOptions{Secret: "sesame"},
	})
	for name, secret := range map[string]string{"missing": "", "wrong": "sesam"} {
		other := servers.StartNginx(t, servers.NginxOptions{AuthHTTP: r.authHTTP, Secret: secret})
		for protocol, addr := range other.Addr {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				expect(t, protocol, servers.Dial(t, protocol, addr).Login(user("two", 0), password), internalError)
			})
		}
	}
	for protocol, addr := range r.nginx.Addr {
		t.Run("right/"+protocol, func(t *testing.T) {
			t.Parallel()
			expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), "127.0.0.2")
		})
	}
	t.Run("status", func(t *testing.T) {
		t.Parallel()
		req, err := http.NewRequest(http.MethodGet, "http://"+r.authHTTP, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Key", "sesam")
		client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("status %s, want 403", resp.Status)
		}
		for name := range resp.Header {
			if strings.HasPrefix(name, "Auth-") {
				t.Errorf("header %s in an answer without the secret", name)
			}
		}
	})
}

// A wrong password is answered late, and the client may try again.
func TestNginx_FailureDelay(t *testing.T) {
	t.Parallel()
	r := newNginxRig(t, nginxRigOptions{failureDelay: "1s"})
	for protocol, addr := range r.nginx.Addr {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c := servers.Dial(t, protocol, addr)
			begin := time.Now()
			expect(t, protocol, c.Login(user("two", 0), "wrong"), wrongPassword)
			if took := time.Since(begin); took < 900*time.Millisecond {
				t.Errorf("refused after %s, want 1s", took)
			}
			expectBackend(t, c, user("two", 0), "127.0.0.2")
		})
	}
}

func TestNginx_TLS(t *testing.T) {
	t.Parallel()
	cert := servers.NewCertificate(t, "127.0.0.1")
	r := newNginxRig(t, nginxRigOptions{NginxOptions: servers.NginxOptions{TLS: cert}})
	for protocol, addr := range r.nginx.Addr {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c := servers.DialTLS(t, protocol, addr, cert)
			expectBackend(t, c, user("two", 0), "127.0.0.2")
			if d := r.usher.Decided(t, c.IP); !d.TLS {
				t.Errorf("the decision does not know of TLS: %+v", d)
			}
		})
	}
}

// nginx behind a balancer: the client's address is the one of the PROXY header.
func TestNginx_ProxyProtocol(t *testing.T) {
	t.Parallel()
	r := newNginxRig(t, nginxRigOptions{NginxOptions: servers.NginxOptions{ProxyProtocol: true}})
	for n, protocol := range mailProtocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			rip := fmt.Sprintf("192.0.2.%d", n+1)
			c := servers.DialProxied(t, protocol, r.nginx.Addr[protocol], rip)
			expectBackend(t, c, user("two", 0), "127.0.0.2")
			if d := r.usher.Decided(t, rip); d.Outcome != "routed" {
				t.Errorf("decision: %+v", d)
			}
		})
	}
}

// nginx does not log in to SMTP backends: without a password driver that
// verifies, whoever comes could send.
func TestNginx_SMTPNeedsVerifier(t *testing.T) {
	t.Parallel()
	out, status := servers.Check(t, fmt.Sprintf(`nginx:
  listeners:
    - {address: %q, protocols: [imap, smtp]}
passdb:
  - {driver: passthrough}
`, servers.Addr(t, "127.0.0.1")))
	if status != 1 || !strings.Contains(out, "smtp") {
		t.Errorf("usher check: status %d, want 1 and a word on smtp:\n%s", status, out)
	}
}

// What a policy sets of the answer's headers never costs nginx usher's own.
func TestNginx_PolicyHeaders(t *testing.T) {
	t.Parallel()
	script := filepath.Join(servers.Dir(t), "headers.lua")
	text := `function nauthilus_call_filter(request)
  local response = nauthilus_http_response
  for i = 1, 20 do response.set_http_response_header("X-Site-" .. i, ("x"):rep(200)) end
  assert(not pcall(response.set_http_response_header, "Auth-Server", "127.0.0.9"))
  for _, s in ipairs(nauthilus_backend.get_backend_servers()) do
    if s.protocol == request.protocol then nauthilus_backend.select_backend_server(s.host, s.port) end
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end`
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newNginxRig(t, nginxRigOptions{yaml: fmt.Sprintf("director:\n  script: %q\n", script)})
	for protocol, addr := range r.nginx.Addr {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			expectBackend(t, servers.Dial(t, protocol, addr), user("two", 0), "127.0.0.2")
		})
	}
}
