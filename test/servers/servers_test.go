package servers

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// Dovecot refuses every password with a TAB, whatever its passdb says.
var users = Users{
	"alice@example.org": "secret A",
	"bob@example.org":   "p%+ä\x7f ö:\"\\",
}

// Go's HTTP server refuses a header with 0x7f.
var plainUsers = Users{"alice@example.org": users["alice@example.org"]}

// loginWays are the ways in which a client may say its password.
var loginWays = map[string]func(c *Client, user, pass string) string{
	"login":         (*Client).Login,
	"plain":         func(c *Client, user, pass string) string { return c.AuthPlain(user, pass, false) },
	"plain_initial": func(c *Client, user, pass string) string { return c.AuthPlain(user, pass, true) },
}

// checkLogins logs users in at addr in every way and compares where they got.
func checkLogins(t *testing.T, protocol, addr string, users Users, backend string) {
	for way, login := range loginWays {
		for user, pass := range users {
			t.Run(protocol+"/"+way+"/"+user, func(t *testing.T) {
				t.Parallel()
				c := Dial(t, protocol, addr)
				if reply := login(c, user, pass); !c.OK(reply) {
					t.Fatalf("login: %s", reply)
				}
				if got := c.Backend(); got != backend {
					t.Errorf("logged in at %s, want %s", got, backend)
				}
			})
		}
		t.Run(protocol+"/"+way+"/wrong", func(t *testing.T) {
			t.Parallel()
			c := Dial(t, protocol, addr)
			if reply := login(c, "alice@example.org", "wrong"); c.OK(reply) || reply == Closed {
				t.Fatalf("login: %s", reply)
			}
		})
	}
}

func TestDovecotBackend(t *testing.T) {
	t.Parallel()
	d := StartDovecotBackend(t, "127.0.0.2", users, nil)
	for _, protocol := range LoginProtocols {
		checkLogins(t, protocol, d.Addr[protocol], users, "127.0.0.2")
	}
}

func TestDovecotBackend_LMTP(t *testing.T) {
	t.Parallel()
	d := StartDovecotBackend(t, "127.0.0.2", users, nil)
	c := Dial(t, "lmtp", d.Addr["lmtp"])
	replies := c.Deliver("hello", "alice@example.org", "nobody@example.org", "bob@example.org")
	for i, want := range []string{"250 ", "550 ", "250 "} {
		if !strings.HasPrefix(replies[i], want) {
			t.Errorf("recipient %d: %q, want %s", i, replies[i], want)
		}
	}
	for user := range users {
		if got := d.Delivered(t, user); len(got) != 1 || got[0] != "hello" {
			t.Errorf("%s has got %q", user, got)
		}
	}
}

func TestDovecotBackend_STARTTLS(t *testing.T) {
	t.Parallel()
	cert := NewCertificate(t, "127.0.0.2")
	d := StartDovecotBackend(t, "127.0.0.2", users, cert)
	c := Dial(t, "imap", d.Addr["imap"])
	c.Writeln("S STARTTLS")
	c.ExpectPattern(`^S OK`)
	c.StartTLS(cert)
	if reply := c.Login("alice@example.org", users["alice@example.org"]); !c.OK(reply) {
		t.Fatal(reply)
	}
	if got := c.Backend(); got != "127.0.0.2" {
		t.Errorf("logged in at %s", got)
	}
}

// The proxy's socket is served by a stand-in for usher that adds one host.
func TestDovecotProxy(t *testing.T) {
	t.Parallel()
	backend := StartDovecotBackend(t, "127.0.0.3", users, nil)
	proxy := StartDovecotProxy(t, "127.0.0.1", users)
	addHost(t, proxy, backend)
	for _, protocol := range LoginProtocols {
		checkLogins(t, protocol, proxy.Addr[protocol], users, "127.0.0.3")
	}
}

// addHost listens on the proxy's socket, passes everything through to its own
// auth process, and appends the backend to each OK.
func addHost(t *testing.T, proxy *DovecotProxy, backend *Dovecot) {
	t.Helper()
	l, err := net.Listen("unix", proxy.Sock)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(proxy.Sock, 0o666); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		// The connections end with Dovecot.
		proxy.Stop()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", proxy.Upstream)
			if err != nil {
				t.Error(err)
				_ = down.Close()
				return
			}
			var services sync.Map
			wg.Go(func() {
				defer func() { _ = up.Close() }()
				copyLines(up, down, func(f []string) []string {
					if f[0] == "AUTH" {
						_, service, _ := strings.Cut(f[3], "=") // service=, from 2.4 on protocol=
						services.Store(f[1], service)
					}
					return f
				})
			})
			wg.Go(func() {
				defer func() { _ = down.Close() }()
				copyLines(down, up, func(f []string) []string {
					if f[0] != "OK" {
						return f
					}
					service, _ := services.Load(f[1])
					host, port := splitAddr(t, backend.Addr[service.(string)])
					return append(f, "host="+host, "port="+port)
				})
			})
		}
	})
}

func copyLines(dst io.Writer, src io.Reader, edit func(fields []string) []string) {
	for lines := bufio.NewScanner(src); lines.Scan(); {
		f := edit(strings.Split(lines.Text(), "\t"))
		if _, err := fmt.Fprintf(dst, "%s\n", strings.Join(f, "\t")); err != nil {
			return
		}
	}
}

// nginx asks a stand-in for usher that knows one backend and refuses "wrong".
func TestNginx(t *testing.T) {
	t.Parallel()
	backend := StartDovecotBackend(t, "127.0.0.4", users, nil)
	sink := StartSMTPSink(t, "127.0.0.4")
	addr := map[string]string{"imap": backend.Addr["imap"], "pop3": backend.Addr["pop3"], "smtp": sink.Addr}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Key") != "k" || r.Header.Get("Auth-Pass") == "wrong" {
			w.Header().Set("Auth-Status", "refused")
			return
		}
		host, port := splitAddr(t, addr[r.Header.Get("Auth-Protocol")])
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", host)
		w.Header().Set("Auth-Port", port)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
	cert := NewCertificate(t, "127.0.0.1")
	n := StartNginx(t, NginxOptions{AuthHTTP: l.Addr().String() + "/auth", Secret: "k"})
	secure := StartNginx(t, NginxOptions{AuthHTTP: l.Addr().String() + "/auth", Secret: "k", TLS: cert})
	for protocol, addr := range n.Addr {
		checkLogins(t, protocol, addr, plainUsers, "127.0.0.4")
		t.Run(protocol+"/tls", func(t *testing.T) {
			t.Parallel()
			c := DialTLS(t, protocol, secure.Addr[protocol], cert)
			if reply := c.Login("alice@example.org", "secret A"); !c.OK(reply) {
				t.Fatalf("login: %s", reply)
			}
			if got := c.Backend(); got != "127.0.0.4" {
				t.Errorf("logged in at %s", got)
			}
		})
	}
}
