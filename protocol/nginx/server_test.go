package nginx

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

// ask sends a request and returns all that comes until usher closes.
func ask(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}

// nginx reads about 1 KiB: status line and headers together.
func TestReplySize(t *testing.T) {
	addr, _ := serve(t, testOptions(newOracle()), "tcp")
	for _, user := range []string{"long", "toolong", "longtext", "badtext", "told"} {
		for _, protocol := range []string{"imap", "pop3", "smtp"} {
			reply := ask(t, dial(t, addr), asNginx(user+"@example.org", "s3cret", protocol))
			if len(reply) > 1024 || !strings.Contains(reply, "\r\nAuth-Status: ") {
				t.Errorf("%s, %s: %d bytes: %q", user, protocol, len(reply), reply)
			}
		}
	}
}

func TestUnixSocket(t *testing.T) {
	opt := testOptions(newOracle())
	opt.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // means nothing here
	addr, _ := serve(t, opt, "unix")
	if reply := ask(t, dial(t, addr), asNginx("alice", "s3cret", "imap")); !strings.Contains(reply, "Auth-Server: 127.0.0.2\r\n") {
		t.Errorf("%q", reply)
	}
}

func TestProxyProtocol(t *testing.T) {
	const v1 = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 9080\r\n"
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x23\x78"
	tests := []struct {
		name   string
		from   string // proxy_protocol_from; "": none
		header string
		served bool
	}{
		{"listed, version 1", "127.0.0.0/8", v1, true},
		{"listed, version 2", "127.0.0.0/8", v2, true},
		{"listed, without a header", "127.0.0.0/8", "", true},
		{"not listed, version 1", "192.0.2.0/24", v1, false},
		{"not listed, version 2", "192.0.2.0/24", v2, false},
		{"not listed, without a header", "192.0.2.0/24", "", true},
		{"nobody listed, version 1", "", v1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opt := testOptions(newOracle())
			if tt.from != "" {
				opt.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix(tt.from)}
			}
			addr, _ := serve(t, opt, "tcp")
			c := dial(t, addr)
			if _, err := io.WriteString(c, tt.header+asNginx("alice", "s3cret", "imap")); err != nil {
				t.Fatal(err)
			}
			reply, err := io.ReadAll(c)
			if got := strings.Contains(string(reply), "Auth-Status: OK\r\n"); got != tt.served {
				t.Errorf("served %v: %q, %v", got, reply, err)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	o := newOracle()
	addr, stop := serve(t, testOptions(o), "tcp")
	idle := dial(t, addr) // kept alive, between two requests
	if _, err := io.WriteString(idle, strings.Replace(asNginx("alice", "s3cret", "imap"), "HTTP/1.0", "HTTP/1.1", 1)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(idle)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, addr)
	if _, err := io.WriteString(c, asNginx("slow", "s3cret", "imap")); err != nil {
		t.Fatal(err)
	}
	<-o.reached
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection: %v", err)
	}
	select {
	case <-stopped:
		t.Error("Serve did not wait for the request in flight")
	default:
	}
	close(o.release)
	reply, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(reply), "Auth-Status: OK\r\n") {
		t.Errorf("%q, %v", reply, err)
	}
	<-stopped
}

// request asks the handler without a network.
func request(t *testing.T, s *Server, user string) http.Header {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(asNginx(user, "s3cret", "imap"))))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}
	return w.Header()
}

// Ten refusals on a connection are told to wait; then the reply itself is late.
func TestFailureDelay(t *testing.T) {
	tests := []struct {
		name    string
		user    string
		attempt string
		late    time.Duration
		wait    string
	}{
		{"first", "wrong", "1", 0, "2"},
		{"tenth", "wrong", "10", 0, "2"},
		{"eleventh", "wrong", "11", 2 * time.Second, ""},
		{"no attempt", "wrong", "-1", 0, "2"},
		{"has waited", "waited", "1", 0, ""},
		{"eleventh, has waited", "waited", "11", 0, ""},
		{"a good one", "alice", "11", 0, ""},
		{"our fault", "broken", "11", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := New(testOptions(newOracle()))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(
					strings.Replace(asNginx(tt.user, "x", "imap"), "Attempt: 1", "Attempt: "+tt.attempt, 1))))
				if err != nil {
					t.Fatal(err)
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if d := time.Since(start); d != tt.late {
					t.Errorf("answered after %v, want %v", d, tt.late)
				}
				if got := w.Header().Get("Auth-Wait"); got != tt.wait {
					t.Errorf("Auth-Wait %q, want %q", got, tt.wait)
				}
			})
		})
	}
}

// A hold ends after HoldLimit in all, over all the connections that ask.
func TestHoldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOracle()
		s, err := New(testOptions(o))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for {
			h := request(t, s, "held@example.org")
			if h.Get("Auth-Status") != "WAIT" {
				if got, want := h.Get("Auth-Status"), texts["imap"].temp; got != want {
					t.Errorf("Auth-Status %q, want %q", got, want)
				}
				break
			}
			wait, err := time.ParseDuration(h.Get("Auth-Wait") + "s")
			if err != nil || wait < time.Second {
				t.Fatalf("Auth-Wait %q", h.Get("Auth-Wait"))
			}
			<-time.After(wait)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("held for %v, want 1m", d)
		}
		last := o.recorded[len(o.recorded)-1]
		if last.Outcome != proxy.TempFail || last.Reason != proxy.HoldExpired || last.User != "held@example.org" {
			t.Errorf("recorded %+v", last)
		}
		if n := len(s.holds.since); n != 0 {
			t.Errorf("%d holds are remembered", n)
		}
	})
}

func TestHolds(t *testing.T) {
	now := time.Unix(1000, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	h := holds{limit: time.Minute, since: map[holdKey]time.Time{}}
	steps := []struct {
		name   string
		client netip.Addr
		after  time.Duration
		left   time.Duration
		ok     bool
	}{
		{"begins", a, 0, time.Minute, true},
		{"goes on", a, 40 * time.Second, 20 * time.Second, true},
		{"another client", b, 50 * time.Second, time.Minute, true},
		{"ends", a, time.Minute, 0, false},
		{"begins anew", a, 61 * time.Second, time.Minute, true},
		{"nobody came back", b, 200 * time.Second, time.Minute, true},
	}
	for _, st := range steps {
		if left, ok := h.begin("alice", st.client, now.Add(st.after)); left != st.left || ok != st.ok {
			t.Errorf("%s: %v, %v, want %v, %v", st.name, left, ok, st.left, st.ok)
		}
	}
	h.end("alice", a)
	h.end("alice", b)
	if len(h.since) != 0 || h.some.Load() != 0 {
		t.Errorf("left: %v", h.since)
	}
}

// Of many held logins the bound is kept, and those given up make room.
func TestHoldsBound(t *testing.T) {
	now := time.Unix(1000, 0)
	h := holds{limit: time.Minute, since: map[holdKey]time.Time{}}
	client := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range maxHolds {
		if _, ok := h.begin("alice", client(i), now); !ok {
			t.Fatalf("no room for hold %d", i)
		}
	}
	if _, ok := h.begin("alice", client(maxHolds), now); ok {
		t.Error("one over the bound is held")
	}
	if _, ok := h.begin("alice", client(maxHolds), now.Add(3*time.Minute)); !ok || len(h.since) != 1 {
		t.Errorf("held %v, %d holds", ok, len(h.since))
	}
}

func TestParseRequest(t *testing.T) {
	raw := "GET /auth HTTP/1.0\r\nHost: x\r\nAuth-Method: CRAM-MD5\r\nAuth-User: al+ice%40%25\r\nAuth-Pass: s3cret\r\nAuth-Salt: <1.2@x>\r\n" +
		"Auth-Protocol: pop3\r\nAuth-Login-Attempt: 3\r\nClient-IP: ::ffff:192.0.2.7\r\nClient-Host: mail.example.org\r\n" +
		"Auth-SSL: on\r\nAuth-SSL-Protocol: TLSv1.3\r\nAuth-SSL-Cipher: C\r\nAuth-SSL-Verify: SUCCESS\r\nAuth-SSL-Subject: CN=alice,O=Example\r\n" +
		"Auth-SSL-Issuer: CN=ca\r\nAuth-SSL-Serial: 01\r\nAuth-SSL-Fingerprint: ab\r\nProxy-Protocol-Server-Addr: 2001:db8::1\r\nProxy-Protocol-Server-Port: 110\r\n" +
		"X-Auth-Key: s3cret key\r\n\r\n"
	hr, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRequest(hr.Header)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range r.Headers {
		if strings.Contains(strings.Join(values, ""), "s3cret") {
			t.Errorf("policies see %s: %q", name, values)
		}
	}
	if got := r.Password.Reveal(); got != "s3cret" {
		t.Errorf("password %q", got)
	}
	r.Headers, r.Password = nil, proxy.Secret{}
	want := &proxy.Request{
		Adapter: "nginx", Service: "pop3", Protocol: "pop3", Method: "cram-md5", User: "al+ice@%", Salt: "<1.2@x>", Attempt: 3,
		Client: netip.MustParseAddrPort("192.0.2.7:0"), Local: netip.MustParseAddrPort("[2001:db8::1]:110"),
		ClientHost: "mail.example.org", AddressOnly: true,
		TLS: proxy.Transport{
			Secured: true, Protocol: "TLSv1.3", Cipher: "C", ClientVerify: "SUCCESS", ClientDN: "CN=alice,O=Example", ClientCN: "alice",
			ClientIssuer: "CN=ca", ClientSerial: "01", ClientFingerprint: "ab",
		},
	}
	opts := cmp.Options{
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() }),
	}
	if diff := cmp.Diff(want, r, opts); diff != "" {
		t.Error(diff)
	}
}

// What the core is told of a password with a raw 0x7f in it.
func TestRawDelete(t *testing.T) {
	o := newOracle()
	addr, _ := serve(t, testOptions(o), "tcp")
	ask(t, dial(t, addr), asNginx("alice@example.org", "s3\x7fcr%7Fet+%20%25\xc3\xbc%00", "imap"))
	if got, want := o.asked[0].Password.Reveal(), "s3\x7fcr\x7fet+ %ü\x00"; got != want {
		t.Errorf("password %q, want %q", got, want)
	}
}

type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func TestDelConn(t *testing.T) {
	in := []byte("a\x7f\x7fb\x7f")
	readers := map[string]func(io.Reader) io.Reader{
		"whole":        func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"data and EOF": iotest.DataErrReader,
	}
	for name, wrap := range readers {
		for size := 1; size <= 16; size++ {
			c := &delConn{Conn: readerConn{r: wrap(bytes.NewReader(in))}}
			got, err := io.ReadAll(limited{c, size})
			if want := "a%7F%7Fb%7F"; err != nil || string(got) != want {
				t.Errorf("%s, reads of %d bytes: %q, %v", name, size, got, err)
			}
		}
	}
}

// limited reads at most n bytes at a time.
type limited struct {
	r io.Reader
	n int
}

func (l limited) Read(p []byte) (int, error) { return l.r.Read(p[:min(l.n, len(p))]) }

func FuzzPercentDecode(f *testing.F) {
	for _, s := range []string{"", "a+b", "%00%7f%20", "%", "%4", "%zz", "ü%25"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := percentDecode(s); err == nil && len(got) > len(s) {
			t.Errorf("%q grows to %q", s, got)
		}
		// What nginx encodes comes back.
		var b strings.Builder
		for i := range len(s) {
			if s[i] <= ' ' || s[i] == '%' {
				b.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[s[i]>>4])+string("0123456789abcdef"[s[i]&15])))
			} else {
				b.WriteByte(s[i])
			}
		}
		if got, err := percentDecode(b.String()); err != nil || got != s {
			t.Errorf("%q encoded as %q comes back as %q, %v", s, b.String(), got, err)
		}
	})
}

// FuzzCommonName: whatever the other parts of a subject are, its CN is the name.
func FuzzCommonName(f *testing.F) {
	f.Add("alice", "x,CN=admin", "CN=admin,O=x")
	f.Add("a\\", "+CN=admin", `\`)
	f.Add("#0c", " CN=b", `CN=\4`)
	// As OpenSSL does it for nginx (XN_FLAG_RFC2253).
	escape := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			switch c := s[i]; {
			case strings.IndexByte(`,+"\<>;`, c) >= 0, i == 0 && (c == '#' || c == ' '), i == len(s)-1 && c == ' ':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < 0x20 || c >= 0x7f:
				fmt.Fprintf(&b, `\%02X`, c)
			default:
				b.WriteByte(c)
			}
		}
		return b.String()
	}
	f.Fuzz(func(t *testing.T, name, other, any string) {
		for _, dn := range []string{
			"CN=" + escape(name) + ",O=" + escape(other),
			"O=" + escape(other) + ",CN=" + escape(name),
			"O=" + escape(other) + "+CN=" + escape(name) + ",C=DE",
		} {
			if got := commonName(dn); got != name {
				t.Errorf("%s: %q, want %q", dn, got, name)
			}
			if got := commonName(dn + ",CN=" + escape(other)); got != "" {
				t.Errorf("two names in %s,CN=…: %q", dn, got)
			}
		}
		commonName(any)
	})
}

// FuzzRequest: any bytes get HTTP answers or none, and leave nothing running.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(asNginx("alice%00", "s3cret\x7f%7f", "smtp")))
	f.Add([]byte(strings.ReplaceAll(asNginx("wrong", "+", "pop3"), "1.0", "1.1")))
	f.Add([]byte("POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nAuth-Method: none\r\n\r\n\x7f\x7f\x7f"))
	f.Add([]byte("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte("\x7f\r\n\r\n"))
	opt := testOptions(newOracle())
	opt.FailureDelay = 0
	opt.HoldLimit = time.Second
	s, err := New(opt)
	if err != nil {
		f.Fatal(err)
	}
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(in, []byte("slow")) {
			return // it would wait for a release
		}
		client, server := net.Pipe()
		ln.conns <- server
		go func() {
			client.Write(in) // usher may close before the last byte
			// The answer to this one ends the connection, if none did before.
			io.WriteString(client, "\r\n\r\nGET / HTTP/1.0\r\n\r\n")
		}()
		if err := client.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		reply, err := io.ReadAll(client)
		client.Close()
		if len(reply) > 0 && !bytes.HasPrefix(reply, []byte("HTTP/1.")) {
			t.Errorf("answered %q, %v", reply, err)
		}
	})
}

// A pipeListener hands out connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// The name of a certificate, whatever else its owner had written into it.
func TestCommonName(t *testing.T) {
	for dn, want := range map[string]string{
		"CN=alice,O=Example":                       "alice",
		"emailAddress=a@b,CN=alice+OU=x,O=Ex":      "alice",
		`O=x\,CN=admin,CN=alice`:                   "alice",
		`CN=alice\, Bob\2C and \C3\A9\\,O=Example`: `alice, Bob, and é\`,
		"CN=alice,CN=admin":                        "",
		"/O=Example/CN=alice":                      "", // before nginx 1.11.6: nothing is escaped there
		"O=Example":                                "",
		`CN=alice\`:                                `alice\`,
		"":                                         "",
	} {
		if got := commonName(dn); got != want {
			t.Errorf("%s: %q, want %q", dn, got, want)
		}
	}
}
