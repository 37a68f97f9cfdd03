package servers

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A Conn is one end of a line protocol. The test's log gets every line, with >
// before what was sent and < before what came.
type Conn struct {
	t    testing.TB
	name string
	c    net.Conn
	br   *bufio.Reader
}

// Connect opens a connection to addr (ip:port) from the local address from. It
// is closed when the test ends.
func Connect(t testing.TB, name, addr, from string) *Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c := &Conn{t: t, name: name, c: nc, br: bufio.NewReader(nc)}
	t.Cleanup(c.Close)
	return c
}

// StartTLS goes on in TLS. The server's certificate must be cert.
func (c *Conn) StartTLS(cert *Certificate) { c.startTLS(cert, nil) }

// startTLS shows the client's own certificate if it has one.
func (c *Conn) startTLS(cert, own *Certificate) {
	c.t.Helper()
	host, _ := splitAddr(c.t, c.c.RemoteAddr().String())
	conf := &tls.Config{RootCAs: cert.Pool, ServerName: host}
	if own != nil {
		pair, err := tls.LoadX509KeyPair(own.CertFile, own.KeyFile)
		if err != nil {
			c.t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	tc := tls.Client(c.c, conf)
	c.deadline()
	if err := tc.Handshake(); err != nil {
		c.t.Fatalf("%s: TLS: %v", c.name, err)
	}
	c.c, c.br = tc, bufio.NewReader(tc)
}

// Close closes the connection. It may be called again.
func (c *Conn) Close() {
	// The peer may have gone first, which TLS calls an error.
	_ = c.c.Close()
}

// Writeln sends a line and its CRLF.
func (c *Conn) Writeln(line string) {
	c.t.Helper()
	c.t.Logf("%s > %s", c.name, line)
	c.deadline()
	if _, err := io.WriteString(c.c, line+"\r\n"); err != nil {
		c.t.Fatalf("%s: write: %v", c.name, err)
	}
}

// Read returns the next line without its end. The error is io.EOF, or a
// timeout, or the connection's.
func (c *Conn) Read() (string, error) {
	c.t.Helper()
	c.deadline()
	line, err := c.br.ReadString('\n')
	if err != nil {
		c.t.Logf("%s < (%v)", c.name, err)
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	c.t.Logf("%s < %s", c.name, line)
	return line, nil
}

// Readln returns the next line, and fails the test when none comes.
func (c *Conn) Readln() string {
	c.t.Helper()
	line, err := c.Read()
	if err != nil {
		c.t.Fatalf("%s: read: %v", c.name, err)
	}
	return line
}

// ExpectPattern returns the next line, which must match the regular expression.
func (c *Conn) ExpectPattern(pattern string) string {
	c.t.Helper()
	line := c.Readln()
	if !regexp.MustCompile(pattern).MatchString(line) {
		c.t.Fatalf("%s: got %q, want a match of %s", c.name, line, pattern)
	}
	return line
}

func (c *Conn) deadline() {
	if err := c.c.SetDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
}
