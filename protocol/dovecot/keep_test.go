package dovecot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A baton is a listener without a socket: it serves what it is given, and hands
// connections over to whoever reads kept.
type baton struct {
	conns  chan net.Conn
	closed chan struct{}
	kept   chan *passed
	keep   func() error // called before; an error is Keep's
}

func newBaton() *baton {
	return &baton{conns: make(chan net.Conn), closed: make(chan struct{}), kept: make(chan *passed, 100)}
}

func (b *baton) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b *baton) Close() error   { close(b.closed); return nil }
func (b *baton) Addr() net.Addr { return nil }

func (b *baton) Keep(state []byte, conns ...net.Conn) error {
	if b.keep != nil {
		if err := b.keep(); err != nil {
			return err
		}
	}
	p := &passed{state: append([]byte(nil), state...)}
	for i, c := range conns {
		if w, ok := c.(*passed); ok {
			c = w.Conn
		}
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			return err
		}
		copied, err := net.FileConn(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if i == 0 {
			p.Conn = copied
		} else {
			p.more = append(p.more, copied)
		}
	}
	b.kept <- p
	return nil
}

// A passed connection is one that a baton handed over.
type passed struct {
	net.Conn
	state []byte
	more  []net.Conn
}

func (p *passed) Kept() ([]byte, []net.Conn) { return p.state, p.more }
func (p *passed) NetConn() net.Conn          { return p.Conn }

// runOn serves on a baton; end tells the server to end, and waits.
func runOn(t *testing.T, opt Options, b *baton) (end func()) {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	s.waits.reconnect = 0
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, b) }()
	end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(end)
	return end
}

// pair is a connection of unix sockets.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("unix", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// authServer listens as a real auth server; the test accepts.
func authServer(t *testing.T) (ln net.Listener, accept func() (net.Conn, *bufio.Reader)) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, func() (net.Conn, *bufio.Reader) {
		t.Helper()
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
}

const upstreamGreeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n"

// linked is a client that an upstream has greeted.
func linked(t *testing.T, opt Options, b *baton) (client net.Conn, in *bufio.Reader, up net.Conn, upIn *bufio.Reader, end func()) {
	t.Helper()
	ln, accept := authServer(t)
	opt.Upstream = ln.Addr().String()
	end = runOn(t, opt, b)
	client, server := pair(t)
	b.conns <- server
	in = bufio.NewReader(client)
	say(t, client, "VERSION\t1\t2\nCPID\t4711\n")
	up, upIn = accept()
	say(t, up, upstreamGreeting)
	for range strings.Count(upstreamGreeting, "\n") {
		hear(t, in)
	}
	hear(t, upIn)
	hear(t, upIn)
	return client, in, up, upIn, end
}

// A login on the way when nobody can take the connection over is still answered.
func TestKeep_RefusedAnswersStill(t *testing.T) {
	b := newBaton()
	var client net.Conn
	b.keep = func() error {
		say(t, client, authPlain(1, "alice@example.org"))
		return errors.ErrUnsupported
	}
	client, in, up, upIn, end := linked(t, testOptions(newOracle()), b)
	go end()
	if got := hear(t, upIn); !strings.HasPrefix(got, "AUTH\t1\t") {
		t.Fatalf("the upstream got %q", got)
	}
	say(t, up, "OK\t1\tuser=alice@example.org\tproxy\n")
	if got, want := hear(t, in), "OK\t1\tuser=alice@example.org\tproxy\tport=143\tpass=s3cret\tproxy_refresh=450\thost=127.0.0.2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An upstream's greeting that came in part is whole at the next server.
func TestKeep_HalfAGreeting(t *testing.T) {
	ln, accept := authServer(t)
	opt := testOptions(newOracle())
	opt.Upstream = ln.Addr().String()
	first, second := newBaton(), newBaton()
	end := runOn(t, opt, first)
	client, server := pair(t)
	first.conns <- server
	up, upIn := accept()
	say(t, client, "VERSION\t1\t2\nCPID\t4711\n")
	hear(t, upIn)
	hear(t, upIn)
	lines := strings.SplitAfter(upstreamGreeting, "\n")
	say(t, up, lines[0]+lines[1]+lines[2][:3])
	time.Sleep(20 * time.Millisecond) // it is read
	end()
	runOn(t, opt, second)
	second.conns <- <-first.kept
	say(t, up, lines[2][3:]+strings.Join(lines[3:], ""))
	in := bufio.NewReader(client)
	for _, want := range lines[:len(lines)-1] {
		if got := hear(t, in) + "\n"; got != want {
			t.Fatalf("greeted with %q, want %q", got, want)
		}
	}
}

// What was asked on a connection that the next server can't serve on is
// answered: its end would say that the password is wrong.
func TestKeep_OtherwiseServed(t *testing.T) {
	for _, state := range []keptState{
		{Kind: "standalone", Minor: "2"},
		{Kind: "interposed", Minor: "2", Upstream: "/nowhere"},
		{Kind: "more"},
	} {
		for _, interposed := range []bool{false, true} {
			if state.Kind == "standalone" && !interposed {
				continue
			}
			t.Run(fmt.Sprint(state.Kind, interposed), func(t *testing.T) {
				opt := testOptions(newOracle())
				if interposed {
					ln, _ := authServer(t)
					opt.Upstream = ln.Addr().String()
				}
				b := newBaton()
				runOn(t, opt, b)
				client, server := pair(t)
				state.In = []byte(authPlain(7, "alice@example.org") + "AUTH\t8")
				say(t, client, "\tPLAIN\tservice=imap\tresp=\nCONT\t9\t\n")
				text, err := json.Marshal(state)
				if err != nil {
					t.Fatal(err)
				}
				other, upstream := pair(t)
				b.conns <- &passed{Conn: server, state: text, more: []net.Conn{upstream}}
				in := bufio.NewReader(client)
				for _, id := range []int{7, 8, 9} {
					if got, want := hear(t, in), fmt.Sprintf("FAIL\t%d\tcode=temp_fail", id); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				}
				if l, err := in.ReadString('\n'); err == nil {
					t.Errorf("then came %q", l)
				}
				if _, err := other.Read(make([]byte, 1)); err == nil {
					t.Error("the upstream's connection got something")
				}
			})
		}
	}
}

// A connection that comes to a server which was just told to end goes on to the
// one that follows.
func TestKeep_TwoReloads(t *testing.T) {
	ln, _ := authServer(t)
	opt := testOptions(newOracle())
	opt.Upstream = ln.Addr().String()
	for range 30 {
		s, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		b := newBaton()
		s.keeper = b
		client, server := pair(t)
		text, err := json.Marshal(keptState{Kind: "interposed", Upstream: opt.Upstream, Minor: "2", Version: "VERSION\t1\t2\n", CPID: "CPID\t4711\n", Greeted: true, Foreign: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		hard, cut := context.WithCancel(context.Background())
		s.interpose(phases{ctx, hard, hard}, &passed{Conn: server, state: text})
		server.Close()
		select {
		case p := <-b.kept:
			p.Close()
		default:
			t.Error("the connection was not handed over")
		}
		cut()
		s.work.close()
		client.Close()
		if t.Failed() {
			return
		}
	}
}

// The upstream's connection that was handed over twice stays the only one.
func TestKeep_OneUpstream(t *testing.T) {
	opt := testOptions(newOracle())
	ln, accept := authServer(t)
	opt.Upstream = ln.Addr().String()
	b := newBaton()
	end := runOn(t, opt, b)
	client, server := pair(t)
	b.conns <- server
	in := bufio.NewReader(client)
	say(t, client, "VERSION\t1\t2\nCPID\t4711\n")
	up, upIn := accept()
	say(t, up, upstreamGreeting)
	for range strings.Count(upstreamGreeting, "\n") {
		hear(t, in)
	}
	hear(t, upIn)
	hear(t, upIn)
	more := make(chan struct{}, 10)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			more <- struct{}{}
			c.Close()
		}
	}()
	for range 10 {
		end()
		next := newBaton()
		end = runOn(t, opt, next)
		next.conns <- <-b.kept
		b = next
		say(t, client, authPlain(1, "alice@example.org"))
		hear(t, upIn)
		say(t, up, "OK\t1\tuser=alice@example.org\tproxy\n")
		hear(t, in)
	}
	ln.Close()
	<-watched
	if n := len(more); n > 0 {
		t.Errorf("%d more connections to the upstream", n)
	}
}

// The beginning of a line is no reason to close a connection.
func TestKeep_HalfALine(t *testing.T) {
	for _, interposed := range []bool{false, true} {
		t.Run(fmt.Sprint(interposed), func(t *testing.T) {
			opt := testOptions(newOracle())
			if interposed {
				ln, accept := authServer(t)
				opt.Upstream = ln.Addr().String()
				go func() {
					up, _ := accept()
					say(t, up, upstreamGreeting)
				}()
			}
			b := newBaton()
			end := runOn(t, opt, b)
			client, server := pair(t)
			b.conns <- server
			in := bufio.NewReader(client)
			say(t, client, "VERSION\t1\t2\nCPID\t4711\n")
			for hear(t, in) != "DONE" {
			}
			say(t, client, "AUTH\t1\tPL")
			time.Sleep(20 * time.Millisecond) // it is read
			end()
			select {
			case p := <-b.kept:
				state, more, err := keptOf(p)
				if err != nil || string(state.In) != "AUTH\t1\tPL" {
					t.Errorf("handed over with %q (%v)", state.In, err)
				}
				for _, c := range append(more, p) {
					c.Close()
				}
			default:
				t.Error("the connection was not handed over")
			}
		})
	}
}
