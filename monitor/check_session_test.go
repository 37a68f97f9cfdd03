package monitor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy"
)

// pipe makes a prober whose backend is serve, which closes conn at its end.
func pipe(timeout time.Duration, serve func(conn net.Conn)) *prober {
	p := newProber(nil, timeout)
	p.dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			serve(theirs)
		}()
		return ours, nil
	}
	return p
}

// answerLines reads lines and answers each, and says greeting before.
func answerLines(conn net.Conn, greeting string, answers ...string) (r *bufio.Reader) {
	r = bufio.NewReader(conn)
	_, _ = io.WriteString(conn, greeting)
	for _, a := range answers {
		if _, err := r.ReadString('\n'); err != nil {
			return r
		}
		_, _ = io.WriteString(conn, a)
	}
	return r
}

// The deadline is that of the whole check: a server that is never quite silent
// cannot move it.
func TestConverse_Deadline(t *testing.T) {
	drip := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			for i := 0; ; i++ {
				time.Sleep(100 * time.Millisecond)
				if _, err := io.WriteString(conn, text[i%len(text):i%len(text)+1]); err != nil {
					return
				}
			}
		}
	}
	hang := func(greeting string, answers ...string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.Copy(io.Discard, answerLines(conn, greeting, answers...)) }
	}
	const imap = "* OK [CAPABILITY IMAP4rev1 STARTTLS]\r\n"
	tests := []struct {
		name, protocol, as string
		serve              func(net.Conn)
		want               string
		took               time.Duration
	}{
		{"a byte at a time", "imap", "deep", drip("a"), "timeout after 5s (greeting)", 5 * time.Second},
		{"a line at a time", "pop3", "deep", drip("+OK\r\n"), "timeout after 5s (CAPA)", 5 * time.Second},
		{"a reply at a time", "smtp", "deep", drip("220-a\r\n"), "timeout after 5s (greeting)", 5 * time.Second},
		{"a header at a time", "http", "deep", drip("HTTP/1.1 200 OK\r\na: b\r\n"), "timeout after 5s (response)", 5 * time.Second},
		{"a literal at a time", "sieve", "deep", drip("{100}\r\n"), "timeout after 5s (greeting)", 5 * time.Second},
		{"reads nothing", "http", "deep", func(conn net.Conn) { time.Sleep(time.Minute) }, "timeout after 5s (request)", 5 * time.Second},
		{"hangs in CAPABILITY", "imap", "deep", hang("* OK\r\n", ""), "timeout after 5s (CAPABILITY)", 5 * time.Second},
		{"hangs in the login", "imap", "login", hang(imap, ""), "timeout after 5s (login)", 5 * time.Second},
		{"hangs in STARTTLS", "imap", "starttls", hang(imap, ""), "timeout after 5s (STARTTLS)", 5 * time.Second},
		{"hangs in the handshake", "imap", "starttls", hang(imap, "a1 OK\r\n"), "timeout after 5s (TLS handshake)", 5 * time.Second},
		{"hangs in LHLO", "lmtp", "deep", hang("220 a\r\n", ""), "timeout after 5s (LHLO)", 5 * time.Second},
		{"hangs in the goodbye", "imap", "deep", hang(imap, ""), "", goodbye},
		{"hangs in the goodbye, late", "imap", "deep", func(conn net.Conn) {
			time.Sleep(4500 * time.Millisecond)
			hang(imap, "")(conn)
		}, "", 5 * time.Second},
		{"drips in the goodbye", "imap", "deep", func(conn net.Conn) {
			_, _ = io.WriteString(conn, imap)
			drip("* OK\r\n")(conn)
		}, "", goodbye},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Minute) // until the server has noticed
				begin := time.Now()
				err := pipe(5*time.Second, tt.serve).checkNow(t, as(tt.protocol, tt.as, 143))
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("down: %v", err)
				case tt.want != "" && (err == nil || err.Error() != tt.want):
					t.Errorf("%v, want %q", err, tt.want)
				case err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("the cause is lost: %v", errors.Unwrap(err))
				}
			})
		})
	}
}

// A check that is cut off at a shutdown does not wait for its deadline.
func TestConverse_Cancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		p := pipe(time.Hour, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
		if err := p.run(ctx, as("imap", "deep", 143), loopback, nil); err == nil {
			t.Error("up")
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// What was configured to be encrypted is not told in the clear, whatever a
// protocol's dialogue does.
func TestSession_Confide(t *testing.T) {
	for _, words := range []string{"login starttls", "login tls"} {
		var sent bytes.Buffer
		c := &session{prober: newProber(nil, time.Second), s: as("imap", words, 143), conn: &tape{sent: &sent}}
		if err := c.confide("login", testPassword, stars); !errors.Is(err, errClear) {
			t.Errorf("%s: %v", words, err)
		}
		if sent.Len() > 0 {
			t.Errorf("%s: %d bytes were told", words, sent.Len())
		}
	}
}

// A trace has every step, and no password.
func TestRun_Trace(t *testing.T) {
	ca := newAuthority(t)
	port := serve(t, play{t, ca.issue(t, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), "mail.example.org"), `
		S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
		C: a1 STARTTLS
		S: a1 OK go
		tls
		C: a2 CAPABILITY
		S: * CAPABILITY IMAP4rev1
		S: a2 OK
		C: a3 LOGIN "$USER" {16}
		S: + go
		C: hunter2-"hörse"
		S: a3 NO you said hunter2-"hörse"`}.serve)
	s := as("imap", "login starttls any", port)
	s.TestPassword = proxy.NewSecret(`hunter2-"hörse"`)
	var trace []string
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := newProber(ca.pool, 10*time.Second).run(ctx, s, loopback, func(line string) { trace = append(trace, line) })
	if err == nil || err.Error() != "login refused: you said ****" {
		t.Error(err)
	}
	want := `* connected to 127.0.0.1:PORT
S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
C: a1 STARTTLS
S: a1 OK go
* TLS 1.3, certificate for mail.example.org until 2040-01-01, not verified
C: a2 CAPABILITY
S: * CAPABILITY IMAP4rev1
S: a2 OK
C: a3 LOGIN "probe@example.org" {16}
S: + go
C: ****
S: a3 NO you said ****`
	_, p, _ := strings.Cut(trace[0], "127.0.0.1:")
	if got := strings.ReplaceAll(strings.Join(trace, "\n"), p, "PORT"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
