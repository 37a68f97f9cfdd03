package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// The stand-in for the mail proxy: what nginx or Dovecot would do with a login,
// as far as the demo needs it. It opens a connection for each request, and
// every connection ends with ctx.

// demoClient is the address that the users seem to come from (RFC 5737).
const demoClient = "192.0.2.7"

// maxAnswer bounds what is read of usher's answers, in bytes.
const maxAnswer = 64 << 10

// A header is one of an auth_http request.
type header struct{ name, value string }

// authHeaders are those that nginx sends for a login by IMAP.
func authHeaders(u demoUser) []header {
	return []header{
		{"Auth-Method", "plain"},
		{"Auth-User", u.name},
		{"Auth-Pass", u.password},
		{"Auth-Protocol", "imap"},
		{"Auth-Login-Attempt", "1"},
		{"Client-IP", demoClient},
	}
}

// askAuthHTTP asks as nginx does where to take a user.
func askAuthHTTP(ctx context.Context, url string, u demoUser) (addr netip.AddrPort, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return addr, err
	}
	for _, h := range authHeaders(u) {
		req.Header.Set(h.name, h.value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return addr, err
	}
	defer func() { closing(&err, resp.Body.Close) }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return addr, err
	}
	if status := resp.Header.Get("Auth-Status"); status != "OK" {
		return addr, fmt.Errorf("usher answers %s, Auth-Status %q", resp.Status, status)
	}
	return parseAddrPort(resp.Header.Get("Auth-Server"), resp.Header.Get("Auth-Port"))
}

// askDovecot asks as Dovecot's login processes do where to take a user.
func askDovecot(ctx context.Context, path string, u demoUser) (addr netip.AddrPort, err error) {
	conn, err := dial(ctx, "unix", path)
	if err != nil {
		return addr, err
	}
	defer closing(&err, conn.Close)
	resp := base64.StdEncoding.EncodeToString([]byte("\x00" + u.name + "\x00" + u.password))
	if _, err := fmt.Fprintf(conn, "VERSION\t1\t2\nCPID\t%d\nAUTH\t1\tPLAIN\tservice=imap\tsecured\tsession=demo\tlip=127.0.0.1\trip=%s\tresp=%s\n",
		os.Getpid(), demoClient, resp); err != nil {
		return addr, err
	}
	in := bufio.NewScanner(io.LimitReader(conn, maxAnswer))
	for in.Scan() {
		verb, rest, _ := strings.Cut(in.Text(), "\t")
		switch verb {
		case "OK":
			return parseOK(rest)
		case "FAIL":
			return addr, fmt.Errorf("usher answers FAIL %q", rest)
		}
	}
	return addr, errors.Join(errors.New("usher hung up without an answer"), in.Err())
}

// parseOK reads host and port out of what stands behind OK.
func parseOK(rest string) (netip.AddrPort, error) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, "\t") {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	if _, ok := fields["proxy"]; !ok {
		return netip.AddrPort{}, errors.New("usher answers OK without proxy")
	}
	return parseAddrPort(fields["host"], fields["port"])
}

func parseAddrPort(host, port string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return addr, fmt.Errorf("usher names no address and port: %w", err)
	}
	return addr, nil
}

// logIn logs in at a backend by IMAP and returns the subject of the message that
// lies in the INBOX. The backend's greeting must name the same backend. It
// leaves no connection behind.
func logIn(ctx context.Context, addr netip.AddrPort, u demoUser) (subject string, err error) {
	conn, err := dial(ctx, "tcp", addr.String())
	if err != nil {
		return "", err
	}
	c := imapclient.New(conn, nil)
	defer closing(&err, c.Close)
	if err := c.WaitGreeting(); err != nil {
		return "", fmt.Errorf("greeting: %w", err)
	}
	if err := c.Login(u.name, u.password).Wait(); err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	if _, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		return "", fmt.Errorf("INBOX: %w", err)
	}
	found, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		return "", fmt.Errorf("INBOX: %w", err)
	}
	if len(found) != 1 || found[0].Envelope == nil {
		return "", errors.New("INBOX: no message")
	}
	if err := c.Logout().Wait(); err != nil {
		return "", fmt.Errorf("logout: %w", err)
	}
	subject = found[0].Envelope.Subject
	if greeting, ok := conn.(*boundConn).first(); !ok || !strings.HasSuffix(greeting, "] "+subject+" ready") {
		return "", fmt.Errorf("the backend greets with %q, and its INBOX says %q", greeting, subject)
	}
	return subject, nil
}

// dial opens a connection that is closed when ctx ends: imapclient sets
// deadlines of its own.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &boundConn{Conn: conn, unbind: context.AfterFunc(ctx, func() { conn.Close() })}, nil
}

// A boundConn ends with its context.
type boundConn struct {
	net.Conn
	unbind func() bool

	mu   sync.Mutex
	head []byte // the first bytes that came
}

// maxGreeting bounds what is kept of the first line, in bytes.
const maxGreeting = 1024

// Read implements net.Conn.
func (c *boundConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	c.head = append(c.head, b[:min(n, maxGreeting-len(c.head))]...)
	c.mu.Unlock()
	return n, err
}

// first returns the first line that came.
func (c *boundConn) first() (line string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line, _, ok = strings.Cut(string(c.head), "\r\n")
	return line, ok
}

// Close closes the connection. Closing it twice is no error: imapclient closes
// when the server has hung up.
func (c *boundConn) Close() error {
	c.unbind()
	if err := c.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// curlLine is what to type in order to ask as nginx does.
func curlLine(url string, u demoUser) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "curl -si %s", url)
	for i, h := range authHeaders(u) {
		if i%2 == 0 {
			b.WriteString(" \\\n   ")
		}
		fmt.Fprintf(&b, " -H '%s: %s'", h.name, h.value)
	}
	return b.String()
}
