package monitor

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"usher/proxy"
)

// A tape is a connection to a server that says what it says, a line at a time,
// whatever it is told. Deadlines never come.
type tape struct {
	said []byte
	sent *bytes.Buffer
}

func (c *tape) Read(b []byte) (int, error) {
	if len(c.said) == 0 {
		return 0, io.EOF
	}
	end := bytes.IndexByte(c.said, '\n') + 1
	if end == 0 {
		end = len(c.said)
	}
	n := copy(b, c.said[:end])
	c.said = c.said[n:]
	return n, nil
}

func (c *tape) Write(b []byte) (int, error)      { return c.sent.Write(b) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *tape) RemoteAddr() net.Addr             { return c.LocalAddr() }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// fuzzCheck gives a protocol's check a server that says anything: there is no
// panic, no endless loop, and no password in the error, in the trace, or on an
// unencrypted connection that should be encrypted.
func fuzzCheck(f *testing.F, protocol string, seeds ...string) {
	all := []string{"deep", "login", "starttls", "login starttls"}
	for i := range all {
		f.Add([]byte{}, uint8(i))
		for _, s := range seeds {
			f.Add([]byte(play{}.fill(s, "0")), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, said []byte, n uint8) {
		words := all[int(n)%len(all)]
		var sent bytes.Buffer
		p := newProber(nil, time.Second)
		p.dial = func(context.Context, string, string) (net.Conn, error) { return &tape{said, &sent}, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		secret := strings.Contains(words, "login") // else there is none to be told
		var trace []string
		err := p.run(ctx, as(protocol, words, 143), loopback, func(line string) { trace = append(trace, line) })
		if ctx.Err() != nil {
			t.Error("it takes too long")
		}
		if err != nil {
			if secret {
				told(t, err.Error())
			}
			if got := err.Error(); len(got) > maxWords+8 || strings.ContainsFunc(got, isControl) || !utf8.ValidString(got) {
				t.Errorf("%q", got)
			}
		}
		for _, line := range trace {
			if secret {
				told(t, line)
			}
			if len(line) > maxTrace+8 || strings.ContainsFunc(line, isControl) {
				t.Errorf("%q", line)
			}
		}
		if strings.Contains(words, "starttls") {
			told(t, sent.String())
		}
	})
}

func FuzzCheckIMAP(f *testing.F) {
	fuzzCheck(f, "imap",
		"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\na1 OK go\r\n* BYE\r\na2 OK\r\n",
		"* OK\r\n* CAPABILITY IMAP4rev1\r\na1 OK\r\na2 NO $PASS $PLAIN\r\n",
		"* PREAUTH\r\n* X {3}\r\nabc {2}\r\n\r\n\r\na1 OK [CAPABILITY IMAP4rev2]\r\n+ x\r\n")
}

func FuzzCheckPOP3(f *testing.F) {
	fuzzCheck(f, "pop3",
		"+OK\r\n+OK\r\nUSER\r\nSASL PLAIN\r\n.\r\n+OK\r\n-ERR [IN-USE] x\r\n",
		"+OK\r\n-ERR\r\n+OK\r\n-ERR $PASS\r\n",
		"+OK\r\n+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n+ \r\n-ERR $PLAIN\r\n")
}

func FuzzCheckSMTP(f *testing.F) {
	fuzzCheck(f, "smtp",
		"220-a\r\n220 b\r\n250-c\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n535 $PLAIN\r\n",
		"220 a\r\n250-c\r\n250 AUTH LOGIN\r\n334 x\r\n334 y\r\n535-$PASS\r\n535 $PASS64\r\n",
		"220 a\r\n502 b\r\n250 c\r\n221\r\n")
}

func FuzzCheckLMTP(f *testing.F) {
	fuzzCheck(f, "lmtp",
		"220 a\r\n250-c\r\n250 STARTTLS\r\n250 d\r\n550 $PASS\r\n",
		"220 a\r\n250-c\r\n250 AUTH PLAIN\r\n235 in\r\n")
}

func FuzzCheckSieve(f *testing.F) {
	fuzzCheck(f, "sieve",
		"\"SASL\" \"PLAIN\"\r\n\"STARTTLS\"\r\nOK\r\nNO (X \"$PASS\") {3}\r\n$PASS\r\n",
		"{4+}\r\nSASL {5}\r\nPLAIN\r\nOK\r\nBYE $PASS \"$PLAIN\"\r\n",
		"\"A\\\"B\" (x)\r\nNO\r\n")
}

func FuzzCheckHTTP(f *testing.F) {
	fuzzCheck(f, "http",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 401 $BASIC $PASS\r\n\r\n",
		"HTTP/1.1 $PASS\r\n $PASS: $PASS\r\nTransfer-Encoding: chunked\r\n\r\n")
}

// logIn plays an IMAP server that takes LOGIN by the letter (RFC 9051, section
// 9), and returns what it was given.
func logIn(t *testing.T, user, password string) (got []string, err error) {
	var rest []byte
	p := pipe(time.Minute, func(conn net.Conn) {
		r := answerLines(conn, "* OK [CAPABILITY IMAP4rev1] ready\r\n")
		next := func(want string) bool {
			b := make([]byte, len(want))
			_, err := io.ReadFull(r, b)
			return err == nil && string(b) == want
		}
		astring := func() (string, bool) {
			var b strings.Builder
			switch first, _ := r.ReadByte(); first {
			case '"':
				for {
					switch ch, err := r.ReadByte(); {
					case err != nil, ch == '\r', ch == '\n', ch == 0, ch > 0x7f:
						return "", false
					case ch == '"':
						return b.String(), true
					case ch == '\\':
						if ch, _ = r.ReadByte(); ch != '"' && ch != '\\' {
							return "", false
						}
						b.WriteByte(ch)
					default:
						b.WriteByte(ch)
					}
				}
			case '{':
				digits, _ := r.ReadString('}')
				n, err := strconv.Atoi(strings.TrimSuffix(digits, "}"))
				if err != nil || !next("\r\n") || r.Buffered() > 0 {
					return "", false
				}
				_, _ = io.WriteString(conn, "+ go on\r\n")
				raw := make([]byte, n)
				_, err = io.ReadFull(r, raw)
				return string(raw), err == nil && !bytes.Contains(raw, []byte{0})
			}
			return "", false
		}
		if !next("a1 LOGIN ") {
			return
		}
		u, ok := astring()
		if !ok || !next(" ") {
			return
		}
		w, ok := astring()
		if !ok || !next("\r\n") {
			return
		}
		got = []string{u, w}
		_, _ = io.WriteString(conn, "a1 OK in\r\n")
		rest, _ = r.ReadBytes('\n')
		_, _ = io.WriteString(conn, "a2 OK bye\r\n")
	})
	s := as("imap", "login", 143)
	s.TestUsername, s.TestPassword = user, proxy.NewSecret(password)
	err = p.checkNow(t, s)
	if err == nil && string(rest) != "a2 LOGOUT\r\n" {
		t.Errorf("after the login: %q", rest)
	}
	return got, err
}

// Whatever a name or a password has in it, the server gets that and no command.
func FuzzLogin(f *testing.F) {
	for _, s := range []string{
		"probe", "", " ", `a"b`, `a\b`, `\`, `"`, `\"`, `" "x`, "jürgen", "\xff\xfe", "a\r\na9 DELETE INBOX", "\n", "\t", "{3}", "{3+}\r\nabc",
		"\x7f", "a\x00b", "%*()]", strings.Repeat("x", 300), strings.Repeat("\xe9", 300),
	} {
		f.Add(s, "secret")
		f.Add("probe", s)
	}
	f.Fuzz(func(t *testing.T, user, password string) {
		if user == "" {
			return // nobody to log in as
		}
		got, err := logIn(t, user, password)
		if strings.Contains(user+password, "\x00") {
			if !errors.Is(err, errNUL) || got != nil {
				t.Errorf("%v, %q", err, got)
			}
			return
		}
		if err != nil || !slices.Equal(got, []string{user, password}) {
			t.Errorf("%v, %q, want %q %q", err, got, user, password)
		}
	})
}

// hide leaves no form, also of passwords that look like what is said.
func FuzzHide(f *testing.F) {
	f.Add("user", "pass word", "you said ", " and more")
	f.Add("u", "\\\"é\x01", "", "pass")
	f.Fuzz(func(t *testing.T, user, password, before, after string) {
		if len(password) < 4 || strings.ContainsAny(password+before+after, "*") {
			return
		}
		p := newProber(nil, time.Second)
		p.secrets = formsOf(user, proxy.NewSecret(password))
		for _, form := range []string{
			password,
			base64.StdEncoding.EncodeToString([]byte(password)),
			base64.StdEncoding.EncodeToString([]byte(plain(user, password))),
			base64.StdEncoding.EncodeToString([]byte(user + ":" + password)),
		} {
			if got := p.hide(before + form + after); strings.Contains(got, password) || strings.Contains(got, strings.TrimRight(form, "=")) {
				t.Errorf("%q in %q", form, got)
			}
		}
	})
}

// What a login at an IMAP backend costs usher, without the network.
func BenchmarkCheckIMAP(b *testing.B) {
	p := pipe(time.Minute, func(conn net.Conn) {
		answerLines(conn, "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN] ready\r\n", "a1 OK in\r\n", "* BYE bye\r\na2 OK\r\n")
	})
	s := as("imap", "login", 143)
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.run(ctx, s, loopback, nil); err != nil {
			b.Fatal(err)
		}
	}
}
