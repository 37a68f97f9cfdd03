package monitor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"

	"usher/proxy"
)

// An authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// issue makes a certificate for names and addresses, valid around now.
func (a *authority) issue(t *testing.T, now time.Time, hosts ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve listens on loopback and gives each connection to handle, which need not
// close it. It returns the port. The test waits for all of it.
func serve(t *testing.T, handle func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// speakTLS answers handshakes with cert and reads until the client leaves.
func speakTLS(cert tls.Certificate) func(net.Conn) {
	return func(conn net.Conn) {
		c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		_, _ = io.Copy(io.Discard, c)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

func newProber(roots *x509.CertPool, timeout time.Duration) *prober {
	return &prober{dial: new(net.Dialer).DialContext, roots: roots, timeout: timeout, log: zap.NewNop()}
}

// check runs one check as a Monitor does.
func (p *prober) checkNow(t *testing.T, s *proxy.Server) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), p.timeout)
	defer cancel()
	return p.run(ctx, s, loopback, nil)
}

func TestCheckConnect_Certificates(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	now := time.Now()
	tests := []struct {
		name string
		cert tls.Certificate
		host string
		skip bool
		want string // prefix of the error's text; "": up
	}{
		{name: "right name", cert: ca.issue(t, now, "imap.example.org"), host: "imap.example.org"},
		{name: "trailing dot", cert: ca.issue(t, now, "imap.example.org"), host: "imap.example.org."},
		{name: "capitals", cert: ca.issue(t, now, "imap.example.org"), host: "IMAP.example.org"},
		{name: "wildcard", cert: ca.issue(t, now, "*.example.org"), host: "imap.example.org"},
		{name: "wrong name", cert: ca.issue(t, now, "www.example.org", "192.0.2.1"), host: "imap.example.org",
			want: "certificate is for www.example.org, 192.0.2.1, not imap.example.org"},
		{name: "many wrong names", cert: ca.issue(t, now, "a", "b", "c", "d", "e"), host: "imap.example.org",
			want: "certificate is for a, b, c, 2 more, not imap.example.org"},
		{name: "no name", cert: ca.issue(t, now), host: "imap.example.org",
			want: "certificate names no host (it has no SAN), not imap.example.org"},
		{name: "address in the certificate", cert: ca.issue(t, now, "127.0.0.1"), host: "127.0.0.1"},
		{name: "ipv6 address in the certificate", cert: ca.issue(t, now, "2001:db8::1"), host: "2001:db8::1"},
		{name: "address not in the certificate", cert: ca.issue(t, now, "imap.example.org"), host: "127.0.0.1",
			want: "certificate is for imap.example.org, not 127.0.0.1"},
		{name: "address as a name", cert: ca.issue(t, now, "localhost"), host: "127.0.0.1",
			want: "certificate is for localhost, not 127.0.0.1"},
		{name: "expired", cert: ca.issue(t, now.Add(-48*time.Hour), "imap.example.org"), host: "imap.example.org",
			want: "certificate expired at "},
		{name: "not yet valid", cert: ca.issue(t, now.Add(48*time.Hour), "imap.example.org"), host: "imap.example.org",
			want: "certificate is not valid before "},
		{name: "unknown authority", cert: stranger.issue(t, now, "imap.example.org"), host: "imap.example.org",
			want: `certificate is not trusted: its issuer "Test Authority" is unknown`},
		{name: "expired, skipped", cert: ca.issue(t, now.Add(-48*time.Hour), "imap.example.org"), host: "imap.example.org", skip: true},
		{name: "stranger with a wrong name, skipped", cert: stranger.issue(t, now, "x"), host: "127.0.0.1", skip: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := server("imap", tt.host, serve(t, speakTLS(tt.cert)))
			s.TLS, s.TLSSkipVerify = true, tt.skip
			err := newProber(ca.pool, 5*time.Second).checkNow(t, s)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("down: %v (%v)", err, errors.Unwrap(err))
			case tt.want != "" && err == nil:
				t.Error("up")
			case tt.want != "" && !strings.HasPrefix(err.Error(), tt.want):
				t.Errorf("%q, want %q", err, tt.want)
			}
		})
	}
}

// A server that has not the name asks for it: SNI is the configured host.
func TestCheckConnect_SNI(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, time.Now(), "imap.example.org")
	names := make(chan string, 1)
	port := serve(t, func(conn net.Conn) {
		c := tls.Server(conn, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			names <- h.ServerName
			return &cert, nil
		}})
		_, _ = io.Copy(io.Discard, c)
	})
	s := server("imap", "imap.example.org.", port)
	s.TLS = true
	if err := newProber(ca.pool, 5*time.Second).checkNow(t, s); err != nil {
		t.Fatal(err)
	}
	if got := <-names; got != "imap.example.org" {
		t.Errorf("SNI %q", got)
	}
}

func TestCheckConnect_Failures(t *testing.T) {
	ca := newAuthority(t)
	closed := func(t *testing.T) int {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().(*net.TCPAddr).Port
	}
	handled := func(h func(net.Conn)) func(*testing.T) int {
		return func(t *testing.T) int { return serve(t, h) }
	}
	tests := []struct {
		name string
		port func(*testing.T) int
		want string // one of them, separated by |
		is   error
	}{
		{"nobody listens", closed, "connection refused", syscall.ECONNREFUSED},
		{"accepts and never answers", handled(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
			"timeout after 300ms (TLS handshake)", context.DeadlineExceeded},
		{"closes at once", handled(func(net.Conn) {}),
			"connection closed by server (TLS handshake)|connection reset by peer (TLS handshake)|broken pipe (TLS handshake)", nil},
		{"closes in the handshake", handled(func(c net.Conn) { _, _ = bufio.NewReaderSize(c, 4096).Peek(5) }),
			"connection closed by server (TLS handshake)|connection reset by peer (TLS handshake)", nil},
		{"resets", handled(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
		}), "connection reset by peer (TLS handshake)", syscall.ECONNRESET},
		{"speaks plain", handled(func(c net.Conn) {
			_, _ = io.WriteString(c, "* OK IMAP4rev1 ready\r\n")
			_, _ = io.Copy(io.Discard, c)
		}), "server does not speak TLS", nil},
		{"speaks one byte at a time, slowly", handled(func(c net.Conn) {
			_, _ = c.Write([]byte{22, 3, 3})
			_, _ = io.Copy(io.Discard, c)
		}), "timeout after 300ms (TLS handshake)", context.DeadlineExceeded},
		{"wants nothing we have", handled(func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return nil, errors.New("none")
			}}).Handshake()
		}), "remote error: tls: internal error (TLS handshake)", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := server("imap", "imap.example.org", tt.port(t))
			s.TLS = true
			begin := time.Now()
			err := newProber(ca.pool, 300*time.Millisecond).checkNow(t, s)
			if d := time.Since(begin); d > 3*time.Second {
				t.Errorf("took %s, the timeout is 300ms", d)
			}
			if err == nil {
				t.Fatal("up")
			}
			ok := false
			for want := range strings.SplitSeq(tt.want, "|") {
				ok = ok || err.Error() == want
			}
			if !ok {
				t.Errorf("%q (%v), want %q", err, errors.Unwrap(err), tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v is not %v", errors.Unwrap(err), tt.is)
			}
		})
	}
}

func TestCheckConnect_ConnectTimeout(t *testing.T) {
	p := newProber(nil, 50*time.Millisecond)
	p.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	err := p.checkNow(t, server("lmtp", "127.0.0.1", 24))
	if err == nil || err.Error() != "timeout after 50ms (connect)" {
		t.Error(err)
	}
}

// Without a deep check, STARTTLS and a path, nothing is said or waited for.
func TestCheckConnect_Plain(t *testing.T) {
	for protocol := range checks {
		s := server(protocol, "127.0.0.1", serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
		if err := newProber(nil, 5*time.Second).checkNow(t, s); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

// What the backend gets first is a LOCAL header, and TLS comes after it.
func TestCheckConnect_ProxyHeader(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, time.Now(), "imap.example.org")
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[secure]
		t.Run(name, func(t *testing.T) {
			type got struct {
				header *proxyproto.Header
				rest   []byte
				err    error
			}
			done := make(chan got, 1)
			port := serve(t, func(conn net.Conn) {
				var g got
				defer func() { done <- g }()
				// Byte for byte (proxy-protocol.txt, section 2.2): signature,
				// version 2 and LOCAL, no family, no length.
				raw := make([]byte, 16)
				if _, g.err = io.ReadFull(conn, raw); g.err != nil {
					return
				}
				want := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
				if !bytes.Equal(raw, want) {
					t.Errorf("%q, want %q", raw, want)
				}
				g.header, g.err = proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
				if secure {
					conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				}
				g.rest, _ = io.ReadAll(conn)
			})
			s := server("imap", "imap.example.org", port)
			s.HAProxyV2, s.TLS = true, secure
			if err := newProber(ca.pool, 5*time.Second).checkNow(t, s); err != nil {
				t.Fatal(err)
			}
			g := <-done
			if g.err != nil {
				t.Fatal(g.err)
			}
			if g.header.Version != 2 || !g.header.Command.IsLocal() {
				t.Errorf("%+v", g.header)
			}
			if len(g.rest) > 0 {
				t.Errorf("more was sent: %q", g.rest)
			}
		})
	}
}

// The whole way with real sockets: a backend dies and comes back.
func TestMonitor_RealBackendDies(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	moved := make(watcher, 16)
	opt := options(server("imap", "127.0.0.1", port))
	opt.Interval, opt.Retry, opt.Timeout, opt.Observer = 20*time.Millisecond, 5*time.Millisecond, time.Second, moved
	m, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, m.Run)()
	if h := <-moved; h != proxy.Up {
		t.Fatalf("%s, want up", h)
	}
	if err := m.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if h := <-moved; h != proxy.Down {
		t.Fatalf("%s, want down", h)
	}
	if e := m.View().Entries[0]; e.LastError != "connection refused" || e.Health != proxy.Down {
		t.Errorf("%s %q", e.Health, e.LastError)
	}
}

// watcher is an Observer that passes on where backends went.
type watcher chan proxy.Health

func (watcher) CheckDone(*proxy.Server, time.Duration, error)                 {}
func (w watcher) Transition(_ *proxy.Server, _ proxy.Health, to proxy.Health) { w <- to }
func (watcher) Panic(string, bool)                                            {}
