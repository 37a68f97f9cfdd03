package monitor

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/proxy"
)

// Who logs in, in tests. The domain makes the name one that LMTP can say.
const (
	testUser     = "probe@example.org"
	testPassword = `hunter2-"horse"`
)

// testForms are the ways in which a server could give testPassword away.
var testForms = []string{
	testPassword,
	`hunter2-\"horse\"`,
	base64.RawStdEncoding.EncodeToString([]byte(testPassword)),
	base64.RawStdEncoding.EncodeToString([]byte("\x00" + testUser + "\x00" + testPassword)),
	base64.RawStdEncoding.EncodeToString([]byte(testUser + ":" + testPassword)),
}

// told fails the test if text has the test password in it.
func told(t *testing.T, text string) {
	t.Helper()
	for _, form := range testForms {
		if strings.Contains(text, form) {
			t.Errorf("%q shows the password", text)
		}
	}
}

// A play is a server that follows a script, a step a line:
//
//	S: text    say it, and CRLF
//	W: text    say it; \r, \n, \0 and \x01 in both are those characters
//	C: text    the client must say it
//	tls        go on in TLS
//	peek       wait for the client to say something
//	lines text  say it over and over
//	hang       wait until the client leaves, whatever it says
//	end        say no more, and wait as hang does
//
// At the end it says no more, and the client must not either. In scripts,
// $USER, $PASS, their base64 $USER64 and $PASS64, $PLAIN, $BASIC and $PORT stand
// for what they are.
type play struct {
	t      *testing.T
	cert   tls.Certificate
	script string
}

func (p play) fill(text, port string) string {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	return strings.NewReplacer("$USER64", b64(testUser), "$PASS64", b64(testPassword), "$USER", testUser, "$PASS", testPassword,
		"$PLAIN", b64("\x00"+testUser+"\x00"+testPassword), "$BASIC", b64(testUser+":"+testPassword), "$PORT", port,
		`\r`, "\r", `\n`, "\n", `\0`, "\x00", `\x01`, "\x01").Replace(text)
}

func (p play) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	r := bufio.NewReader(conn)
	for step := range strings.SplitSeq(strings.TrimSpace(p.script), "\n") {
		step = strings.TrimLeft(step, "\t")
		kind, text, _ := strings.Cut(step, " ")
		text = p.fill(text, port)
		switch kind {
		case "S:":
			_, _ = io.WriteString(conn, text+"\r\n")
		case "W:":
			_, _ = io.WriteString(conn, text)
		case "C:":
			line, err := r.ReadString('\n')
			if line != text+"\r\n" {
				p.t.Errorf("client says %q (%v), want %q", line, err, text)
				return
			}
		case "tls":
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{p.cert}})
			r = bufio.NewReader(conn)
		case "peek":
			_, _ = r.Peek(1)
		case "lines":
			for {
				if _, err := io.WriteString(conn, text); err != nil {
					return
				}
			}
		case "hang":
			_, _ = io.Copy(io.Discard, r)
			return
		case "end":
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, r)
			return
		case "":
		default:
			p.t.Errorf("no step: %q", step)
		}
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	if more, _ := io.ReadAll(r); len(more) > 0 {
		p.t.Errorf("client also says %q", more)
	}
}

// as makes a server of the settings that are words: deep, login (deep, with
// testUser), starttls, tls, proxy, any (certificate).
func as(protocol, words string, port int) *proxy.Server {
	s := server(protocol, "mail.example.org", port)
	for w := range strings.FieldsSeq(words) {
		switch w {
		case "deep":
			s.DeepCheck = true
		case "login":
			s.DeepCheck, s.TestUsername, s.TestPassword = true, testUser, proxy.NewSecret(testPassword)
		case "starttls":
			s.StartTLS = true
		case "tls":
			s.TLS = true
		case "proxy":
			s.HAProxyV2 = true
		case "any":
			s.TLSSkipVerify = true
		default:
			panic(w)
		}
	}
	return s
}

// A scene is a dialogue and what a check makes of it.
type scene struct {
	name   string
	as     string // settings, see as
	script string
	want   string              // the error's words; "": up
	set    func(*proxy.Server) // more settings
}

// perform plays scenes of one protocol.
func perform(t *testing.T, protocol string, scenes []scene) {
	ca := newAuthority(t)
	right, wrong := ca.issue(t, time.Now(), "mail.example.org"), ca.issue(t, time.Now(), testPassword)
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			p := play{t, right, sc.script}
			if strings.Contains(sc.script, "wrong certificate") {
				p.cert, p.script = wrong, strings.ReplaceAll(sc.script, "wrong certificate", "")
			}
			port := serve(t, p.serve)
			s := as(protocol, sc.as, port)
			if sc.set != nil {
				sc.set(s)
			}
			timeout := 10 * time.Second
			if strings.HasPrefix(sc.want, "timeout after 300ms") {
				timeout = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			var trace []string
			err := newProber(ca.pool, timeout).run(ctx, s, loopback, func(line string) { trace = append(trace, line) })
			got := ""
			if err != nil {
				got = err.Error()
			}
			if want := strings.ReplaceAll(sc.want, "$PORT", strconv.Itoa(port)); got != want {
				t.Errorf("%q, want %q\n%s", got, want, strings.Join(trace, "\n"))
			}
			told(t, got)
			for _, line := range trace {
				told(t, line)
				if len(line) > maxTrace+8 {
					t.Errorf("a line of %d bytes in the trace", len(line))
				}
			}
		})
	}
}

func long(n int) string { return strings.Repeat("x", n) }
