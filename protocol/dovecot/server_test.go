package dovecot

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

func authPlain(id int, user string) string {
	resp := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00s3cret"))
	return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=imap\tresp=%s\n", id, resp)
}

// bubbled serves one standalone connection in a synctest bubble and returns the
// client's end behind its greeting.
func bubbled(t *testing.T, change func(*Options)) (net.Conn, *bufio.Reader, *oracle) {
	o := newOracle()
	opt := testOptions(o)
	if change != nil {
		change(&opt)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.standalone(phases{ctx, ctx, ctx}, server)
		server.Close()
	}()
	t.Cleanup(func() {
		client.Close()
		cancel()
		<-done
		s.work.close()
	})
	in := bufio.NewReader(client)
	for line := ""; line != "DONE\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return client, in, o
}

func say(t *testing.T, c net.Conn, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(c, l); err != nil {
			t.Fatal(err)
		}
	}
}

func hear(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

func TestFailureDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in, _ := bubbled(t, func(o *Options) { o.FailureDelay = 2 * time.Second })
		start := time.Now()
		say(t, c, authPlain(1, "wrong@example.org"), authPlain(2, "alice@example.org"), authPlain(3, "broken@example.org"), authPlain(4, "waited@example.org"))
		for range 3 {
			if l := hear(t, in); strings.HasPrefix(l, "FAIL\t1") {
				t.Errorf("first: %s", l)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the others waited %v for a wrong password", d)
		}
		if got, want := hear(t, in), "FAIL\t1\tuser=wrong@example.org"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("a wrong password is told after %v, want 2s", d)
		}
	})
}

// Refusals that wait may take half of the places; more are told at once.
func TestFailureDelayFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in, _ := bubbled(t, func(o *Options) { o.FailureDelay, o.MaxOutstanding = time.Minute, 4 })
		start := time.Now()
		for id := range 10 {
			say(t, c, authPlain(id, "wrong@example.org"))
			synctest.Wait()
			if id >= 2 {
				if got, want := hear(t, in), fmt.Sprintf("FAIL\t%d\tuser=wrong@example.org", id); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		}
		say(t, c, authPlain(10, "alice@example.org"))
		if got := hear(t, in); !strings.HasPrefix(got, "OK\t10\t") {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

func TestHoldExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in, o := bubbled(t, nil)
		start := time.Now()
		say(t, c, authPlain(1, "kept@example.org"))
		if got, want := hear(t, in), "FAIL\t1\tcode=temp_fail"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("held for %v, want 1m", d)
		}
		if n := o.records(proxy.TempFail, proxy.HoldExpired); n != 1 {
			t.Errorf("%d decisions hold_expired", n)
		}
	})
}

func TestTimeouts(t *testing.T) {
	tests := []struct {
		name string
		say  []string
		want time.Duration // until usher closes
	}{
		{"silent in the handshake", nil, lineTimeout},
		{"a line that does not end", []string{"VERSION\t1\t2\n", "AUTH\t1\tPL"}, lineTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, in, _ := bubbled(t, nil)
				start := time.Now()
				say(t, c, tt.say...)
				if _, err := in.ReadByte(); err == nil {
					t.Error("something was answered")
				}
				if d := time.Since(start); d != tt.want {
					t.Errorf("closed after %v, want %v", d, tt.want)
				}
			})
		})
	}
}

// Exchanges that their client left half-way give their place to others, late.
func TestUnfinishedExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, in, _ := bubbled(t, func(o *Options) { o.MaxOutstanding = 1 })
		say(t, c, "VERSION\t1\t2\n", "AUTH\t1\tLOGIN\tservice=imap\n")
		hear(t, in)
		say(t, c, authPlain(2, "alice@example.org"))
		if got, want := hear(t, in), "FAIL\t2\tcode=temp_fail"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		<-time.After(saslTimeout + time.Second)
		say(t, c, authPlain(3, "alice@example.org"))
		if got := hear(t, in); !strings.HasPrefix(got, "OK\t3\t") {
			t.Errorf("got %q", got)
		}
	})
}

// A wake between a reader's look and its wait is not lost.
func TestWakeBeforeWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		in := newLineReader(server, maxLine)
		go io.WriteString(client, "one\n")
		if _, _, err := in.next(time.Minute); err != nil {
			t.Fatal(err)
		}
		in.wake()
		if _, _, err := in.next(0); !errors.Is(err, errIdle) {
			t.Errorf("got %v, want %v", err, errIdle)
		}
	})
}

// What a peer has to read is written also when nobody flushes.
func TestOutboxWaitWrites(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	done := make(chan int64)
	go func() {
		n, err := io.Copy(io.Discard, client)
		if err != nil {
			t.Error(err)
		}
		done <- n
	}()
	o := newOutbox(server)
	o.queue(make([]byte, softBuffered+1))
	o.wait()
	server.Close()
	if n := <-done; n != softBuffered+1 {
		t.Errorf("%d bytes written", n)
	}
}

// served starts a Server on a unix socket and returns a function that connects.
func served(t testing.TB, opt Options) (dial func() net.Conn) {
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "auth"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return func() net.Conn {
		c, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		return c
	}
}

// A client that never reads is not read from for ever, and harms nobody else.
func TestSlowReader(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "upstream")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // an auth server that says OK to all, and one that does not read
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go answerAll(c)
		}
	}()
	relayed := testOptions(newOracle())
	relayed.Upstream = sock
	for name, opt := range map[string]Options{"standalone": testOptions(newOracle()), "interposed": relayed} {
		t.Run(name, func(t *testing.T) {
			dial := served(t, opt)
			slow := dial()
			total := 0
			for id := 0; total < 64<<20; {
				var burst []byte
				for range 100 {
					id++
					burst = append(burst, authPlain(id, "alice@example.org")...)
				}
				if err := slow.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				n, err := slow.Write(burst)
				total += n
				if err != nil {
					break
				}
			}
			// softBuffered of answers, the sockets' buffers, and as much toward
			// the upstream.
			if total > 16<<20 {
				t.Errorf("%d bytes were read from a client that does not read", total)
			}
			other := dial()
			if err := other.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			say(t, other, authPlain(1, "alice@example.org"))
			in := bufio.NewReader(other)
			for {
				l := hear(t, in)
				if strings.HasPrefix(l, "OK\t1\t") {
					break
				}
			}
		})
	}
}

func answerAll(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tab\nDONE\n")
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if verb, id, _ := command(strings.TrimSuffix(line, "\n")); verb == "AUTH" {
			if _, err := io.WriteString(c, "OK\t"+id+"\tuser=alice@example.org\tproxy\n"); err != nil {
				return
			}
		}
	}
}

// An auth server that does not read is not written to for ever either.
func TestSlowUpstream(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "upstream")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	opt := testOptions(newOracle())
	opt.Upstream = sock
	opt.Grace = 10 * time.Millisecond
	slow := served(t, opt)()
	up, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	burst := []byte(strings.Repeat("NOOP\t1\tthe upstream does not read\n", 1000))
	total := 0
	for total < 64<<20 {
		if err := slow.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := slow.Write(burst)
		total += n
		if err != nil {
			break
		}
	}
	if total > 4<<20 {
		t.Errorf("%d bytes were taken for an upstream that does not read", total)
	}
}

func TestAllowFrom(t *testing.T) {
	opt := testOptions(newOracle())
	opt.AllowFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		peer string
		want bool
	}{{"192.0.2.1", true}, {"::ffff:192.0.2.1", true}, {"127.0.0.1", false}, {"2001:db8::1", false}}
	for _, tt := range tests {
		if got := s.allowed(&net.TCPAddr{IP: net.ParseIP(tt.peer), Port: 1}); got != tt.want {
			t.Errorf("%s: allowed %v", tt.peer, got)
		}
	}
	if !s.allowed(&net.UnixAddr{}) {
		t.Error("a unix socket's peer is refused")
	}
}

func TestNewFaults(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"handler", func(o *Options) { o.Handler = nil }, "dovecot: no handler"},
		{"outstanding", func(o *Options) { o.MaxOutstanding = 0 }, "dovecot: outstanding_per_connection is under 1"},
		{"mechanisms", func(o *Options) { o.Mechanisms = nil }, "dovecot: no mechanisms to offer"},
		{"mechanism", func(o *Options) { o.Mechanisms = []string{"cram-md5"} }, `dovecot: mechanism "cram-md5" can't be served standalone; expected PLAIN, LOGIN, OAUTHBEARER or XOAUTH2`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opt := testOptions(newOracle())
			tt.change(&opt)
			_, err := New(opt)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is not decided when the grace ends is told to try later: a connection
// that is just cut shows as a wrong password.
func TestGraceEnds(t *testing.T) {
	o := newOracle()
	opt := testOptions(o)
	opt.Grace = 20 * time.Millisecond
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "auth"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, authPlain(1, "slow@never"))
	for o.gate("slow@never"); ; {
		o.mu.Lock()
		n := o.asked["slow@never"]
		o.mu.Unlock()
		if n > 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	stop()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "FAIL\t1\tcode=temp_fail\n"; !strings.HasSuffix(string(got), "DONE\n"+want) {
		t.Errorf("read %q, want at its end %q", got, want)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve did not return")
	}
}

// A refusal by the policy comes as late as one of a wrong password would.
func TestRefusalIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt := testOptions(newOracle())
		opt.FailureDelay = 2 * time.Second
		s, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		var served sync.WaitGroup
		served.Go(func() { s.standalone(phases{ctx, ctx, ctx}, server) })
		r := bufio.NewReader(client)
		line := func() string {
			text, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		for line() != "DONE\n" {
		}
		begin := time.Now()
		if _, err := client.Write([]byte("VERSION\t1\t2\n" + authPlain(1, "refused@x") + authPlain(2, "alice@x"))); err != nil {
			t.Fatal(err)
		}
		if got := line(); !strings.HasPrefix(got, "OK\t2\t") || time.Since(begin) > 0 {
			t.Errorf("%q after %s", got, time.Since(begin))
		}
		if got := line(); got != "FAIL\t1\tuser=refused@x\n" || time.Since(begin) != 2*time.Second {
			t.Errorf("%q after %s", got, time.Since(begin))
		}
		cancel()
		client.Close()
		served.Wait()
		s.work.close()
	})
}
