package servers

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A GateMode is what a Gate does with a connection.
type GateMode int

// The modes of a Gate.
const (
	GateOpen   GateMode = iota
	GateSilent          // accepts, and says nothing
	GateResets          // accepts, and resets
	GateCloses          // accepts, and closes
	GateDrips           // passes on what the server says at a byte a second
)

// A Gate stands before a server, and shows it ill in ways that a real one is
// seldom: a test opens and shuts it as it goes.
type Gate struct {
	Addr string // ip:port

	target   string
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	mode     GateMode
	cert     *tls.Certificate  // that it shows; nil: it does not speak TLS
	conns    map[net.Conn]bool // nil once closed
	closed   chan struct{}
}

// StartGate listens on ip until the test ends, before the server at target
// (ip:port). With a certificate it speaks TLS on connect, and goes on in the
// clear.
func StartGate(t testing.TB, ip, target string, cert *Certificate) *Gate {
	t.Helper()
	l, err := net.Listen("tcp", Addr(t, ip))
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{Addr: l.Addr().String(), target: target, listener: l, conns: map[net.Conn]bool{}, closed: make(chan struct{})}
	if cert != nil {
		g.Show(cert)
	}
	g.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("gate: %v", err)
				}
				return
			}
			if g.register(c) {
				g.wg.Go(func() { g.serve(c.(*net.TCPConn)) })
			}
		}
	})
	t.Cleanup(g.close)
	return g
}

// Set changes what it does with connections that come from now on.
func (g *Gate) Set(m GateMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mode = m
}

// Cut ends the connections that are there.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close()
	}
}

// Show changes the certificate for connections that come from now on.
func (g *Gate) Show(cert *Certificate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cert = cert.Pair()
}

func (g *Gate) close() {
	close(g.closed)
	g.mu.Lock()
	conns := g.conns
	g.conns = nil
	g.mu.Unlock()
	_ = g.listener.Close()
	for c := range conns {
		_ = c.Close()
	}
	g.wg.Wait()
}

func (g *Gate) register(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil {
		_ = c.Close()
		return false
	}
	g.conns[c] = true
	return true
}

func (g *Gate) release(c net.Conn) {
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
	_ = c.Close()
}

// serve does with a connection what the mode says. What breaks on the way is
// the client's to notice.
func (g *Gate) serve(tcp *net.TCPConn) {
	defer g.release(tcp)
	g.mu.Lock()
	mode, cert := g.mode, g.cert
	g.mu.Unlock()
	switch mode {
	case GateSilent:
		_, _ = io.Copy(io.Discard, tcp)
		return
	case GateResets:
		_ = tcp.SetLinger(0)
		return
	case GateCloses:
		return
	}
	var client net.Conn = tcp
	if cert != nil {
		secure := tls.Server(tcp, &tls.Config{Certificates: []tls.Certificate{*cert}})
		if secure.Handshake() != nil {
			return
		}
		client = secure
	}
	server, err := net.DialTimeout("tcp", g.target, patience)
	if err != nil || !g.register(server) {
		return
	}
	defer g.release(server)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if mode == GateDrips {
		g.drip(client, server)
	} else {
		_, _ = io.Copy(client, server)
	}
	_ = client.Close()
}

// drip copies a byte a second.
func (g *Gate) drip(to io.Writer, from io.Reader) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		if _, err := io.CopyN(to, from, 1); err != nil {
			return
		}
		select {
		case <-second.C:
		case <-g.closed:
			return
		}
	}
}
