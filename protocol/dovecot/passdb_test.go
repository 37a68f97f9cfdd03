package dovecot

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/proxy"
)

// authGreeting is what a fake auth server says at first.
const authGreeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tXOAUTH2\nMECH\tOAUTHBEARER\nMECH\tEXTERNAL\nSPID\t7\nCUID\t1\nCOOKIE\tab\nDONE\n"

// A fakeAuth is an auth server of which a test tells what it says to a line.
type fakeAuth struct {
	path string

	mu    sync.Mutex
	lines []string // heard, of all connections
}

func (f *fakeAuth) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

// startFakeAuth serves connection after connection: say returns what is said to
// a line of the n-th (from 0); bye at its end ends the connection.
func startFakeAuth(t *testing.T, greeting string, say func(n int, line string) string) *fakeAuth {
	t.Helper()
	f := &fakeAuth{path: filepath.Join(t.TempDir(), "auth")}
	ln, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				f.talk(c, greeting, func(line string) string { return say(n, line) })
			})
		}
	})
	return f
}

const bye = "ends the connection"

func (f *fakeAuth) talk(c net.Conn, greeting string, say func(string) string) {
	if _, err := c.Write([]byte(greeting)); err != nil {
		return
	}
	in := bufio.NewScanner(c)
	for in.Scan() {
		f.mu.Lock()
		f.lines = append(f.lines, in.Text())
		f.mu.Unlock()
		text, end := strings.CutSuffix(say(in.Text()), bye)
		if _, err := c.Write([]byte(text)); err != nil || end {
			return
		}
	}
}

// runPassdb starts a driver and stops it at the test's end.
func runPassdb(t *testing.T, opt PassdbOptions) *Passdb {
	t.Helper()
	if opt.MaxOutstanding == 0 {
		opt.MaxOutstanding = 10
	}
	p, err := NewPassdb(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

// toAuth answers an AUTH with what stands behind its number, the verb before it.
func toAuth(line, verb, rest string) string {
	got, id, _ := command(line)
	if got != "AUTH" {
		return ""
	}
	return verb + "\t" + id + rest + "\n"
}

func asked(method, user, password string) *proxy.Request {
	return &proxy.Request{Service: "imap", Protocol: "imap", Method: method, User: user, Password: proxy.NewSecret(password)}
}

// reasonOf returns why err refuses; "temporary" for other errors.
func reasonOf(err error) proxy.Reason {
	var d *proxy.Denial
	switch {
	case err == nil:
		return ""
	case errors.As(err, &d):
		return d.Reason
	}
	return "temporary"
}

func TestPassdb_Lines(t *testing.T) {
	full := asked("plain", "bob", "a\x01\tb")
	full.Service, full.Session, full.NoLogin = "smtp", "s\t1\n", true
	full.TLS = proxy.Transport{Secured: true, ClientVerify: "SUCCESS", ClientCN: "somebody else"}
	full.Client = netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711")
	full.Local = netip.MustParseAddrPort("[2001:db8::1]:0")
	cert := func(user, cn, verify string) *proxy.Request {
		r := asked("external", user, "")
		r.TLS.ClientVerify, r.TLS.ClientCN = verify, cn
		return r
	}
	tests := []struct {
		name string
		r    *proxy.Request
		want string // behind the number, the response in the clear
		why  proxy.Reason
	}{
		{"plain", asked("plain", "bob", "pässwörd"), "PLAIN\tservice=imap\tresp=\x00bob\x00pässwörd", ""},
		{"login", asked("login", "bob", "x"), "PLAIN\tservice=imap\tresp=\x00bob\x00x", ""},
		{"all there is", full, "PLAIN\tservice=smtp\tsecured\tsession=s\x01t1\x01n\tlip=2001:db8::1\trip=192.0.2.7\trport=4711\tnologin\tresp=\x00bob\x00a\x01\tb", ""},
		{"xoauth2", asked("xoauth2", "b=,ob", "to.ken"), "XOAUTH2\tservice=imap\tresp=user=b=,ob\x01auth=Bearer to.ken\x01\x01", ""},
		{"oauthbearer", asked("oauthbearer", "b=,ob", "to.ken"), "OAUTHBEARER\tservice=imap\tresp=n,a=b=3D=2Cob,\x01auth=Bearer to.ken\x01\x01", ""},
		{"external", cert("bob", "bob", "SUCCESS"), "EXTERNAL\tservice=imap\tvalid-client-cert\tcert_username=bob\tresp=", ""},
		{"external as another", cert("bob", "root", "SUCCESS"), "EXTERNAL\tservice=imap\tvalid-client-cert\tcert_username=root\tresp=bob", ""},
		{"external, not verified", cert("bob", "bob", "FAILED:expired"), "", proxy.BadRequest},
		{"external without a name", cert("bob", "", "SUCCESS"), "", proxy.BadRequest},
		{"no password", asked("plain", "bob", ""), "", proxy.BadPassword},
		{"no token", asked("xoauth2", "bob", ""), "", proxy.BadPassword},
		{"NUL", asked("plain", "bob", "a\x00b"), "", proxy.BadRequest},
		{"token with a separator", asked("oauthbearer", "bob", "a\x01b"), "", proxy.BadRequest},
		{"token with a space", asked("xoauth2", "bob", "a b"), "", proxy.BadRequest},
		{"apop", asked("apop", "bob", "x"), "", proxy.BadRequest},
		{"cram-md5", asked("cram-md5", "bob", "x"), "", proxy.BadRequest},
		{"unknown method", asked("", "bob", "x"), "", proxy.BadRequest},
		{"too long", asked("plain", "bob", strings.Repeat("x", 6200)), "", proxy.BadRequest},
	}
	f := startFakeAuth(t, authGreeting, func(_ int, line string) string { return toAuth(line, "OK", "\tuser=bob") })
	p := runPassdb(t, PassdbOptions{Address: f.path})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(f.heard())
			_, err := p.Lookup(t.Context(), tt.r)
			if got := reasonOf(err); got != tt.why {
				t.Fatalf("%q (%v), want %q", got, err, tt.why)
			}
			var d *proxy.Denial
			if errors.As(err, &d) && d.Delayed {
				t.Error("a refusal of our own says that it has waited")
			}
			lines := f.heard()[before:]
			if tt.want == "" {
				if len(lines) > 0 && strings.HasPrefix(lines[len(lines)-1], "AUTH") {
					t.Errorf("asked %q", lines)
				}
				return
			}
			line := lines[len(lines)-1]
			_, _, rest := command(line)
			head, resp, _ := strings.Cut(rest, "\tresp=")
			raw, err := base64.StdEncoding.DecodeString(resp)
			if err != nil {
				t.Fatal(err)
			}
			if got := head + "\tresp=" + string(raw); got != tt.want {
				t.Errorf("\n got  %q\n want %q", got, tt.want)
			}
		})
	}
}

func TestPassdb_LongestLine(t *testing.T) {
	f := startFakeAuth(t, authGreeting, func(_ int, line string) string { return toAuth(line, "OK", "\tuser=bob") })
	p := runPassdb(t, PassdbOptions{Address: f.path})
	longest := 0
	for n := 6000; n < 6200; n++ {
		if _, err := p.Lookup(t.Context(), asked("plain", "bob", strings.Repeat("x", n))); err != nil {
			break
		}
		lines := f.heard()
		longest = len(lines[len(lines)-1]) + 1
	}
	if longest < maxAuthLine-20 || longest > maxAuthLine {
		t.Errorf("the longest line has %d bytes, at most %d can be sent", longest, maxAuthLine)
	}
}

func TestPassdb_Answers(t *testing.T) {
	tests := []struct {
		name   string
		verb   string
		rest   string
		want   proxy.Identity
		denial *proxy.Denial
		temp   string
	}{
		{name: "renamed, with fields", verb: "OK", rest: "\tuser=rob\x01tert\tproxy\tport=143\tpass=se\x01tcret\tx=1\tflag\tx=2\tlip=192.0.2.1\tlport=143\toriginal_user=bob",
			want: proxy.Identity{User: "rob\tert", Driver: "dovecot", Verified: true, Password: proxy.NewSecret("se\tcret"),
				Fields: []proxy.Attr{{Name: "port", Value: "143"}, {Name: "x", Value: "2"}, {Name: "flag", Bare: true}}}},
		{name: "reason without nologin", verb: "OK", rest: "\tuser=bob\treason=r",
			want: proxy.Identity{User: "bob", Driver: "dovecot", Verified: true, Fields: []proxy.Attr{{Name: "reason", Value: "r"}}}},
		{name: "no user", verb: "OK", rest: "\tproxy", temp: "names no user"},
		{name: "nothing", verb: "OK", temp: "names no user"},
		{name: "nologin", verb: "OK", rest: "\tuser=bob\tnologin\treason=Go away.",
			denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.UserDisabled, Text: "Go away.", Delayed: true}},
		{name: "wrong", verb: "FAIL", rest: "\tuser=bob", denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.BadPassword, Delayed: true}},
		{name: "wrong, bare", verb: "FAIL", denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.BadPassword, Delayed: true}},
		{name: "reason", verb: "FAIL", rest: "\tuser=bob\treason=a\x01tb", denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.BadPassword, Text: "a\tb", Delayed: true}},
		{name: "disabled", verb: "FAIL", rest: "\tcode=user_disabled", denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.UserDisabled, Delayed: true}},
		{name: "expired", verb: "FAIL", rest: "\treason=old\tcode=pass_expired", denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.BadPassword, Text: "old", Delayed: true}},
		{name: "authz", verb: "FAIL", rest: "\tcode=authz_fail", denial: &proxy.Denial{By: "passdb:dovecot", Reason: proxy.BadPassword, Delayed: true}},
		{name: "temporary", verb: "FAIL", rest: "\tuser=bob\tcode=temp_fail", temp: "temporary failure"},
		{name: "temporary, as 2.2 says it", verb: "FAIL", rest: "\tuser=bob\ttemp", temp: "temporary failure"},
		{name: "temporary with a reason", verb: "FAIL", rest: "\tcode=temp_fail\treason=LDAP is\x01naway", temp: "says: LDAP is away"},
		{name: "our own fault", verb: "FAIL", rest: "\tcode=invalid_base64", temp: "temporary failure"},
		{name: "more", verb: "CONT", rest: "\t", temp: "asks for more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFakeAuth(t, authGreeting, func(_ int, line string) string { return toAuth(line, tt.verb, tt.rest) })
			p := runPassdb(t, PassdbOptions{Address: f.path})
			id, err := p.Lookup(t.Context(), asked("plain", "bob", "secret"))
			switch {
			case tt.temp != "":
				if err == nil || errors.Is(err, proxy.ErrDenied) || !strings.Contains(err.Error(), tt.temp) || !strings.Contains(err.Error(), f.path) {
					t.Errorf("error %v, want …%s…", err, tt.temp)
				}
			case tt.denial != nil:
				var d *proxy.Denial
				if !errors.As(err, &d) {
					t.Fatalf("error %v, want a denial", err)
				}
				if diff := cmp.Diff(tt.denial, d); diff != "" {
					t.Error(diff)
				}
			case err != nil:
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, id, cmp.AllowUnexported(proxy.Secret{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An auth server explains why it refuses a token, and waits for a word.
func TestPassdb_TokenRefused(t *testing.T) {
	for method, word := range map[string]string{"xoauth2": "", "oauthbearer": "AQ=="} {
		t.Run(method, func(t *testing.T) {
			f := startFakeAuth(t, authGreeting, func(_ int, line string) string {
				verb, id, rest := command(line)
				switch {
				case verb == "AUTH":
					return "CONT\t" + id + "\teyJzdGF0dXMiOiI0MDEifQ==\n"
				case verb == "CONT" && rest == word:
					return "FAIL\t" + id + "\tuser=bob\n"
				}
				return ""
			})
			p := runPassdb(t, PassdbOptions{Address: f.path})
			if _, err := p.Lookup(t.Context(), asked(method, "bob", "token")); reasonOf(err) != proxy.BadPassword {
				t.Errorf("error %v, want a denial", err)
			}
		})
	}
}

func TestPassdb_NotOffered(t *testing.T) {
	f := startFakeAuth(t, "VERSION\t1\t2\nMECH\tPLAIN\nSPID\t1\nDONE\n", func(int, string) string { return "" })
	p := runPassdb(t, PassdbOptions{Address: f.path})
	_, err := p.Lookup(t.Context(), asked("xoauth2", "bob", "token"))
	if err == nil || errors.Is(err, proxy.ErrDenied) || err.Error() != f.path+": the auth server does not offer XOAUTH2" {
		t.Errorf("error %v", err)
	}
}

// Answers come in any order, and go to who asked.
func TestPassdb_Together(t *testing.T) {
	var mu sync.Mutex
	var waiting []string
	f := startFakeAuth(t, authGreeting, func(_ int, line string) string {
		verb, id, rest := command(line)
		if verb != "AUTH" {
			return ""
		}
		_, resp, _ := strings.Cut(rest, "resp=")
		raw, err := base64.StdEncoding.DecodeString(resp)
		if err != nil {
			return bye
		}
		mu.Lock()
		defer mu.Unlock()
		waiting = append(waiting, "OK\t"+id+"\tuser="+strings.Split(string(raw), "\x00")[1]+"\n")
		if len(waiting) < 20 {
			return ""
		}
		slices.Reverse(waiting)
		return strings.Join(waiting, "") + "OK\t4000000000\tuser=nobody\nFAIL\tx\nNOISE\t1\n"
	})
	p := runPassdb(t, PassdbOptions{Address: f.path, MaxOutstanding: 20})
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			user := fmt.Sprintf("user-%d", n)
			id, err := p.Lookup(t.Context(), asked("plain", user, "x"))
			if err != nil || id.User != user {
				t.Errorf("%s: answered %q (%v)", user, id.User, err)
			}
		})
	}
	all.Wait()
}

// What was not answered at the connection's end is asked once more, on a new
// connection that has another CPID, and by a number that is higher.
func TestPassdb_AskedAgain(t *testing.T) {
	f := startFakeAuth(t, authGreeting, func(n int, line string) string {
		if n == 0 && strings.HasPrefix(line, "AUTH") {
			return bye
		}
		return toAuth(line, "OK", "\tuser=bob")
	})
	p := runPassdb(t, PassdbOptions{Address: f.path})
	if _, err := p.Lookup(t.Context(), asked("plain", "bob", "x")); err != nil {
		t.Fatal(err)
	}
	var cpids, ids []uint32
	for _, line := range f.heard() {
		verb, text, _ := command(line)
		n, ok := parseID(text)
		switch {
		case verb == "CPID" && ok:
			cpids = append(cpids, n)
		case verb == "AUTH" && ok:
			ids = append(ids, n)
		}
	}
	if len(cpids) != 2 || cpids[0] == cpids[1] || min(cpids[0], cpids[1]) <= maxPID || max(cpids[0], cpids[1]) >= 1<<31 {
		t.Errorf("CPIDs %v", cpids)
	}
	if len(ids) != 2 || ids[1] <= ids[0] {
		t.Errorf("numbers %v", ids)
	}
}

func TestPassdb_Gone(t *testing.T) {
	f := startFakeAuth(t, authGreeting, func(_ int, line string) string {
		if strings.HasPrefix(line, "AUTH") {
			return bye
		}
		return ""
	})
	p := runPassdb(t, PassdbOptions{Address: f.path})
	_, err := p.Lookup(t.Context(), asked("plain", "bob", "x"))
	if !errors.Is(err, errUpstreamAway) || errors.Is(err, proxy.ErrDenied) {
		t.Errorf("error %v, want a temporary one", err)
	}
	asks := 0
	for _, line := range f.heard() {
		if strings.HasPrefix(line, "AUTH") {
			asks++
		}
	}
	if asks != 2 {
		t.Errorf("asked %d times, want twice", asks)
	}
}

func TestPassdb_Absent(t *testing.T) {
	p := runPassdb(t, PassdbOptions{Address: filepath.Join(t.TempDir(), "nobody")})
	begin := time.Now()
	_, err := p.Lookup(t.Context(), asked("plain", "bob", "x"))
	if !errors.Is(err, errUpstreamAway) || time.Since(begin) > 5*linkPatience {
		t.Errorf("error %v after %s", err, time.Since(begin))
	}
}

func TestPassdb_Overload(t *testing.T) {
	got := make(chan struct{}, 1)
	f := startFakeAuth(t, authGreeting, func(_ int, line string) string {
		if strings.HasPrefix(line, "AUTH") {
			got <- struct{}{}
		}
		return ""
	})
	p := runPassdb(t, PassdbOptions{Address: f.path, MaxOutstanding: 1})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := p.Lookup(ctx, asked("plain", "bob", "x"))
		first <- err
	}()
	<-got
	if _, err := p.Lookup(t.Context(), asked("plain", "bob", "x")); !errors.Is(err, proxy.ErrOverload) {
		t.Errorf("error %v, want overload", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) || errors.Is(err, proxy.ErrDenied) {
		t.Errorf("error %v, want the context's", err)
	}
	deadline := time.After(10 * time.Second)
	for {
		lines := f.heard()
		if last := lines[len(lines)-1]; strings.HasPrefix(last, "CANCEL\t") {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("no CANCEL: %q", lines)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// What is no auth server for logins is none.
func TestAuthClient_Handshake(t *testing.T) {
	for name, tt := range map[string]struct{ says, want string }{
		"userdb":      {"VERSION\t1\t1\nSPID\t7\n", "a socket for userdb look-ups?"},
		"version":     {"VERSION\t2\t0\n", "version \"2\""},
		"silence":     {"VERSION\t1\t2\n", "no greeting in time"},
		"endless":     {strings.Repeat("MECH\tX\n", greetLines+1), "without an end"},
		"long line":   {strings.Repeat("x", maxUpstreamLine+10) + "\n", "over the limit"},
		"hangs up":    {bye, "EOF"},
		"another one": {"220 mail.example.org ESMTP\n", "no greeting in time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer ours.Close()
				var peer sync.WaitGroup
				peer.Go(func() {
					defer theirs.Close()
					in := bufio.NewReader(theirs)
					for range 2 { // they are heard first
						if _, err := in.ReadString('\n'); err != nil {
							t.Error(err)
							return
						}
					}
					if tt.says == bye {
						return
					}
					if _, err := theirs.Write([]byte(tt.says)); err != nil {
						return // closed before its end
					}
					if _, err := in.ReadByte(); err == nil {
						t.Error("more was said")
					}
				})
				p, err := NewPassdb(PassdbOptions{Address: "x", MaxOutstanding: 1})
				if err != nil {
					t.Fatal(err)
				}
				answered, err := p.auth.serve(t.Context(), ours)
				if answered || err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("answered %v, error %v, want …%s…", answered, err, tt.want)
				}
				ours.Close()
				peer.Wait()
			})
		})
	}
}

// An auth server that does not answer keeps nobody for ever.
func TestAuthClient_Deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		p, err := NewPassdb(PassdbOptions{Address: "x", MaxOutstanding: 1})
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		f := &fakeAuth{}
		work.Go(func() {
			// Read first: net.Pipe has no buffer.
			in := bufio.NewReader(theirs)
			for range 2 {
				if _, err := in.ReadString('\n'); err != nil {
					t.Error(err)
				}
			}
			f.talk(theirs, authGreeting, func(string) string { return "" })
		})
		work.Go(func() {
			if answered, _ := p.auth.serve(t.Context(), ours); !answered {
				t.Error("the greeting was not taken")
			}
		})
		begin := time.Now()
		_, err = p.Lookup(t.Context(), asked("plain", "bob", "x"))
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, proxy.ErrDenied) || time.Since(begin) != authTimeout {
			t.Errorf("error %v after %s", err, time.Since(begin))
		}
		ours.Close()
		theirs.Close()
		work.Wait()
	})
}

func TestPassdb_Directory(t *testing.T) {
	const greeting = "VERSION\t1\t1\nSPID\t7\n"
	f := startFakeAuth(t, greeting, func(_ int, line string) string {
		verb, id, rest := command(line)
		user, _, _ := strings.Cut(rest, "\t")
		switch {
		case verb == "LIST":
			return "LIST\t" + id + "\ta\nLIST\t" + id + "\tB\x01tc\nDONE\t" + id + "\t\n"
		case verb != "PASS" && verb != "USER":
			return ""
		}
		switch user {
		case "alice":
			if verb == "PASS" {
				return "PASS\t" + id + "\tuser=al\x01tice\tproxy=y\tpass=secret\thost=h\n"
			}
			return "USER\t" + id + "\tal\x01tice\tuid=1\tflag\thome=/a\x01tb\n"
		case "empty":
			return verb + "\t" + id + "\t\n"
		case "later":
			return "FAIL\t" + id + "\treason=try later\n"
		case "fails":
			return "FAIL\t" + id + "\n"
		case "odd":
			return "WHAT\t" + id + "\n"
		case "gone":
			return bye
		}
		return "NOTFOUND\t" + id + "\n"
	})
	p := runPassdb(t, PassdbOptions{Address: "/nonexistent", UserdbAddress: f.path})
	r := func(user string) *proxy.Request { return &proxy.Request{Service: "lmtp", User: user} }

	id, err := p.Find(t.Context(), r("alice"))
	want := proxy.Identity{User: "al\tice", Driver: "dovecot", Fields: []proxy.Attr{{Name: "host", Value: "h"}}}
	if diff := cmp.Diff(want, id, cmp.AllowUnexported(proxy.Secret{}), cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("Find: %v %s", err, diff)
	}
	fields, err := p.User(t.Context(), r("alice"))
	wantFields := []proxy.Attr{{Name: "user", Value: "al\tice"}, {Name: "uid", Value: "1"}, {Name: "flag", Bare: true}, {Name: "home", Value: "/a\tb"}}
	if diff := cmp.Diff(wantFields, fields); diff != "" || err != nil {
		t.Errorf("User: %v %s", err, diff)
	}
	for user, want := range map[string]string{
		"nobody": "unknown user", "a\tb": "bad user name", "empty": "names no user", "later": "the auth server says: try later",
		"fails": "temporary failure", "odd": "an unexpected answer", "gone": "EOF",
	} {
		unknown := user == "nobody" || user == "a\tb"
		_, findErr := p.Find(t.Context(), r(user))
		_, userErr := p.User(t.Context(), r(user))
		for _, err := range []error{findErr, userErr} {
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, proxy.ErrUnknownUser) != unknown || errors.Is(err, proxy.ErrDenied) {
				t.Errorf("%s: error %v, want …%s…", user, err, want)
			}
		}
	}
	for mask, want := range map[string][]string{"": {"a", "B\tc"}, "b*": {"B\tc"}, "z": nil} {
		var got []string
		err := p.List(t.Context(), mask, func(user string) bool { got = append(got, user); return true })
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("List %q: %v %s", mask, err, diff)
		}
	}
	n := 0
	if err := p.List(t.Context(), "", func(string) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("%d names after the end was asked for (%v)", n, err)
	}
}

func TestPassdb_DirectoryFaults(t *testing.T) {
	r := &proxy.Request{Service: "lmtp", User: "bob"}
	for name, tt := range map[string]struct{ greeting, list, want string }{
		"login socket": {authGreeting, "", "the socket is one for logins"},
		"version":      {"VERSION\t2\t0\n", "", "version \"2\""},
		"list fails":   {"VERSION\t1\t1\nSPID\t7\n", "LIST\t1\ta\nDONE\t1\tfail\n", "temporary failure"},
		"list ends":    {"VERSION\t1\t1\nSPID\t7\n", "LIST\t1\ta\n" + bye, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFakeAuth(t, tt.greeting, func(_ int, line string) string {
				if !strings.HasPrefix(line, "LIST") {
					return ""
				}
				return tt.list
			})
			p := runPassdb(t, PassdbOptions{Address: "/nonexistent", UserdbAddress: f.path})
			if tt.list == "" {
				if _, err := p.Find(t.Context(), r); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Find: %v", err)
				}
				return
			}
			if err := p.List(t.Context(), "", func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("a part of a list: %v", err)
			}
		})
	}
	p := runPassdb(t, PassdbOptions{Address: "/nonexistent"})
	if _, err := p.Find(t.Context(), r); err == nil || errors.Is(err, proxy.ErrUnknownUser) || !strings.Contains(err.Error(), "userdb_address is missing") {
		t.Errorf("Find: %v", err)
	}
	if _, err := p.User(t.Context(), r); !errors.Is(err, proxy.ErrNotServed) {
		t.Errorf("User: %v", err)
	}
	if err := p.List(t.Context(), "", nil); !errors.Is(err, proxy.ErrNotServed) {
		t.Errorf("List: %v", err)
	}
	if _, err := NewPassdb(PassdbOptions{Address: "x"}); err == nil {
		t.Error("a driver that can ask nothing is made")
	}
}

// What we ask is read back by our own server as it was meant, whatever clients
// say, and is one line.
func FuzzAuthParams(f *testing.F) {
	f.Add("imap", "session", "bob", "secret", true)
	f.Add("a\tb", "\x01\n\r\x00", "b=,", "\x00", false)
	f.Fuzz(func(t *testing.T, service, session, user, secret string, nologin bool) {
		r := asked("plain", user, secret)
		r.Service, r.Session, r.NoLogin = service, session, nologin
		p := &Passdb{}
		for _, method := range []string{"plain", "xoauth2", "oauthbearer", "external"} {
			r.Method = method
			r.TLS = proxy.Transport{ClientVerify: "SUCCESS", ClientCN: session}
			mech, resp, _, err := p.initial(r)
			if err != nil {
				continue
			}
			params := authParams(r, mech, resp)
			if strings.ContainsAny(params, "\n\r\x00") {
				t.Fatalf("more than a line: %q", params)
			}
			a, err := parseAuth(mech + "\t" + params)
			if err != nil {
				if service == "" {
					continue
				}
				t.Fatal(err)
			}
			raw, err := base64.StdEncoding.DecodeString(a.resp)
			if err != nil || string(raw) != resp || a.mech != mech || a.req.NoLogin != nologin || a.req.Session != session || a.req.TLS.Secured {
				t.Errorf("%q is read as %+v", params, a)
			}
			if cert := a.req.TLS.ClientCN != ""; cert != (method == "external") {
				t.Errorf("%s with a certificate's name: %v", method, cert)
			}
		}
	})
}

// Only an OK that names a user lets one in.
func FuzzAuthAnswer(f *testing.F) {
	f.Add(true, "user=bob\tpass=x\tnologin\treason=r")
	f.Add(false, "code=temp_fail\treason=x")
	f.Fuzz(func(t *testing.T, ok bool, rest string) {
		verb := "FAIL"
		if ok {
			verb = "OK"
		}
		id, err := (&Passdb{}).read(answer{verb, rest})
		switch {
		case err == nil && (!ok || id.User == ""):
			t.Errorf("%s %q lets %q in", verb, rest, id.User)
		case err != nil && id.User != "":
			t.Errorf("%s %q: an error and an identity", verb, rest)
		}
	})
}

// Whatever a peer says, a link hands no answer to who did not ask.
func FuzzAuthLink(f *testing.F) {
	f.Add("VERSION\t1\t2\nMECH\tPLAIN\nSPID\t1\nDONE\nOK\t1\tuser=x\nCONT\t1\nFAIL\t9\n")
	f.Fuzz(func(t *testing.T, text string) {
		ours, theirs := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() {
			defer theirs.Close()
			if _, err := theirs.Write([]byte(text)); err != nil {
				return // closed before its end
			}
		})
		in := newLineReader(ours, maxUpstreamLine)
		mechs, err := greeting(in)
		if err == nil && mechs == nil {
			t.Error("a greeting without mechanisms")
		}
		got := make(chan answer, 2)
		l := &authLink{calls: map[uint32]chan<- answer{1: got}}
		for err == nil {
			var line []byte
			if line, _, err = in.next(0); err == nil {
				l.line(strings.TrimSuffix(string(line), "\n"))
			}
		}
		ours.Close()
		peer.Wait()
		close(got)
		for a := range got {
			if a.verb != "OK" && a.verb != "FAIL" && a.verb != "CONT" {
				t.Errorf("answered %q", a.verb)
			}
		}
	})
}
