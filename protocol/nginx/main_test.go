package nginx

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An oracle is a Handler whose answer the user name's local part tells.
type oracle struct {
	mu       sync.Mutex
	asked    []*proxy.Request
	recorded []proxy.Decision
	reached  chan struct{} // told when `slow` is asked for
	release  chan struct{} // closed when `slow` may be answered
}

func newOracle() *oracle {
	return &oracle{reached: make(chan struct{}, 1), release: make(chan struct{})}
}

func (o *oracle) Handle(ctx context.Context, r *proxy.Request) proxy.Decision {
	o.mu.Lock()
	o.asked = append(o.asked, r)
	o.mu.Unlock()
	d := proxy.Decision{
		ID: "01J", Outcome: proxy.Routed, User: r.User, Password: r.Password,
		Host: "127.0.0.2", Port: 143, Addr: netip.MustParseAddr("127.0.0.2"),
	}
	kind, _, _ := strings.Cut(r.User, "@")
	refuse := func(text string) {
		d = proxy.Decision{Outcome: proxy.Denied, Reason: proxy.PolicyRefused, User: r.User, Text: text}
	}
	switch kind {
	case "named":
		d.Host, d.Addr = "mail2.example.org", netip.MustParseAddr("192.0.2.2")
	case "six":
		d.Host, d.Addr, d.Port = "mail6.example.org", netip.MustParseAddr("2001:db8::6"), 65535
	case "mapped":
		d.Addr = netip.MustParseAddr("::ffff:192.0.2.2")
	case "noport":
		d.Port = 0
	case "driver":
		d.User, d.Password = "driver+x% y@example.net", proxy.NewSecret("s3cret of the%driver+")
	case "blank":
		d.User = " blank"
	case "ctl":
		d.Password = proxy.NewSecret("s3cret\r\nAuth-Status: OK")
	case "long":
		d.User, d.Password = strings.Repeat("u", proxy.MaxUserLen), proxy.NewSecret(strings.Repeat("p", maxCredential))
		d.Addr, d.Port = netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"), 65535
	case "toolong":
		d.Password = proxy.NewSecret(strings.Repeat("p", maxCredential+1))
	case "wrong":
		refuse("")
	case "waited":
		refuse("")
		d.Delayed = true
	case "told":
		refuse("Your\r\nAuth-Status: OK\x7f is on the move.")
	case "ok":
		refuse("OK")
	case "wait":
		refuse(" WAIT\n")
	case "spaces":
		refuse(" \r\n")
	case "longtext":
		refuse(strings.Repeat("ü", 1000))
	case "badtext":
		refuse(strings.Repeat("\xff", 1000))
	case "broken":
		d = proxy.Decision{Reason: proxy.PolicyError, User: r.User}
	case "held":
		d = proxy.Decision{Outcome: proxy.Held, Wait: 5 * time.Second, User: r.User}
	case "passed":
		d = proxy.Decision{Outcome: proxy.Passed, User: r.User}
	case "slow":
		o.reached <- struct{}{}
		select {
		case <-o.release:
		case <-ctx.Done():
		}
	}
	return d
}

func (o *oracle) Record(_ *proxy.Request, d proxy.Decision) proxy.Decision {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recorded = append(o.recorded, d)
	return d
}

func testOptions(h Handler) Options {
	return Options{
		Handler: h, Path: "/auth", Protocols: []string{"imap", "pop3", "smtp"},
		FailureDelay: 2 * time.Second, HoldLimit: time.Minute, Grace: 10 * time.Second,
	}
}

// serve runs a Server on network "tcp" or "unix" until the test ends, or stop
// is called, and returns its address.
func serve(t testing.TB, opt Options, network string) (addr net.Addr, stop func()) {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	where := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "usher")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		where = filepath.Join(dir, "auth")
	}
	ln, err := net.Listen(network, where)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return ln.Addr(), stop
}

func dial(t testing.TB, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// asNginx is a request as nginx 1.22 sends it.
func asNginx(user, pass, protocol string) string {
	lines := []string{
		"GET /auth HTTP/1.0", "Host: 127.0.0.1", "Auth-Method: plain", "Auth-User: " + user, "Auth-Pass: " + pass,
		"Auth-Protocol: " + protocol, "Auth-Login-Attempt: 1", "Client-IP: 192.0.2.7", "Client-Host: [UNAVAILABLE]",
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}
