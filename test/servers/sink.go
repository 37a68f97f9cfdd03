package servers

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// An SMTPSink is an SMTP server, as small as the proxies before it let it be: it
// takes XCLIENT, by which nginx says who logged in (nginx does not log in
// itself), and AUTH PLAIN with any password, by which Dovecot's submission-login
// does, and answers VRFY with its own address and that user.
type SMTPSink struct {
	Addr string // ip:port

	ip       string
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool // nil once closed
}

// StartSMTPSink listens on a free port of ip until the test ends.
func StartSMTPSink(t testing.TB, ip string) *SMTPSink {
	t.Helper()
	l, err := net.Listen("tcp", Addr(t, ip))
	if err != nil {
		t.Fatal(err)
	}
	s := &SMTPSink{Addr: l.Addr().String(), ip: ip, listener: l, conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("smtp sink: %v", err)
				}
				return
			}
			if s.register(c) {
				s.wg.Go(func() { s.serve(c) })
			}
		}
	})
	t.Cleanup(s.Close)
	return s
}

// Close stops listening and ends the sessions. It may be called again.
func (s *SMTPSink) Close() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	// Only what is closed already can give an error here.
	_ = s.listener.Close()
	for c := range conns {
		_ = c.Close()
	}
	s.wg.Wait()
}

func (s *SMTPSink) register(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		_ = c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

func (s *SMTPSink) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	if c.SetDeadline(time.Now().Add(time.Minute)) != nil {
		return
	}
	reply := "220 " + s.ip + " ESMTP"
	login := "nobody"
	lines := bufio.NewScanner(c)
	for {
		if _, err := fmt.Fprintf(c, "%s\r\n", reply); err != nil || !lines.Scan() {
			return
		}
		verb, args, _ := strings.Cut(lines.Text(), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply = "250-" + s.ip + "\r\n250-AUTH PLAIN\r\n250 XCLIENT NAME ADDR PROTO HELO LOGIN"
		case "HELO":
			reply = "250 " + s.ip
		case "XCLIENT":
			if m := xclientLogin.FindStringSubmatch(args); m != nil {
				login = m[1]
			}
			reply = "220 " + s.ip + " ESMTP"
		case "AUTH":
			if m := plainLogin(args); m != "" {
				login, reply = m, "235 2.7.0 logged in"
			} else {
				reply = "535 5.7.8 not PLAIN"
			}
		case "VRFY":
			reply = "250 " + s.ip + " for " + login
		default:
			reply = "502 5.5.1 not in this sink"
		}
	}
}

// plainLogin returns the user of `PLAIN <initial response>`, or "".
func plainLogin(args string) string {
	mech, resp, _ := strings.Cut(args, " ")
	text, err := base64.StdEncoding.DecodeString(resp)
	if f := strings.Split(string(text), "\x00"); err == nil && mech == "PLAIN" && len(f) == 3 {
		return f[1]
	}
	return ""
}

var xclientLogin = regexp.MustCompile(`(?:^| )LOGIN=(\S+)`)
