package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// runDemo runs `usher demo ARGS` in this process and returns what it printed.
func runDemo(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	t.Setenv("TMPDIR", shortDir(t))
	var out, log bytes.Buffer
	root := newRoot(&flags{})
	root.SetArgs(append([]string{"demo"}, args...))
	root.SetOut(&out)
	root.SetErr(&log)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), log.String())
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
	return out.String(), log.String()
}

func noPassword(t *testing.T, text string) {
	t.Helper()
	for _, u := range demoUsers {
		if strings.Contains(text, u.password) {
			t.Errorf("the password of %s is in:\n%s", u.name, text)
		}
	}
}

func TestDemoOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	stdout, stderr := runDemo(t, "--once")
	for _, want := range []string{
		`(?m)^usher \S+, demo$`,
		`stand-in for the mail proxy`,
		`(?m)^east +127\.0\.0\.2:\d+ +up$`,
		`(?m)^north +127\.0\.0\.3:\d+ +up$`,
		`(?m)^west +127\.0\.0\.4:\d+ +up$`,
		`(?m)^alice@example.org +auth_http +127\.0\.0\.\d:\d+ +(east|north|west) +policy:director +hash$`,
		`(?m)^alice@example.org +auth_http +127\.0\.0\.\d:\d+ +(east|north|west) +policy:director +sticky$`,
		`(?m)^bob@example.org +dovecot +127\.0\.0\.\d:\d+ +(east|north|west) +policy:director +hash$`,
		`(?m)^carol@example.org +auth_http +127\.0\.0\.\d:\d+ +(east|north|west) +policy:director +hash$`,
		`(?m)^carol@example.org +dovecot +127\.0\.0\.\d:\d+ +(east|north|west) +policy:director +sticky$`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no %s in:\n%s", want, stdout)
		}
	}
	for line := range strings.Lines(stdout) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if stderr != "" {
		t.Errorf("on standard error without --verbose:\n%s", stderr)
	}
	noPassword(t, stdout)
}

func TestDemoOnce_JSON(t *testing.T) {
	stdout, stderr := runDemo(t, "--once", "--json", "--verbose")
	var got demoReport
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	type login struct{ user, protocol, reason string }
	var logins []login
	at := map[string]string{}
	for _, l := range got.Logins {
		logins = append(logins, login{l.User, l.Protocol, l.Reason})
		if before, known := at[l.User]; known && before != l.Address {
			t.Errorf("%s was at %s, then at %s", l.User, before, l.Address)
		}
		at[l.User] = l.Address
	}
	want := []login{
		{"alice@example.org", "auth_http", "hash"},
		{"alice@example.org", "auth_http", "sticky"},
		{"bob@example.org", "dovecot", "hash"},
		{"carol@example.org", "auth_http", "hash"},
		{"carol@example.org", "dovecot", "sticky"},
	}
	if diff := cmp.Diff(want, logins, cmp.AllowUnexported(login{})); diff != "" {
		t.Errorf("logins (-want +got):\n%s", diff)
	}
	if len(got.Backends) != 3 || got.Usher != nil {
		t.Errorf("backends %v, usher %v: want three, and nowhere to ask", got.Backends, got.Usher)
	}
	if n := strings.Count(stderr, `"msg":"decision"`); n != len(want) {
		t.Errorf("%d decisions in the log, want %d:\n%s", n, len(want), stderr)
	}
	noPassword(t, stdout+stderr)
}

// The lines to try do what they promise, and Ctrl-C ends the demo well.
func TestDemoStaysUp(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Setenv("TMPDIR", shortDir(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		d := demo{program: "usher", out: w, errOut: io.Discard}
		err := d.run(ctx)
		ended <- errors.Join(err, w.Close())
	}()
	var text strings.Builder
	in := bufio.NewScanner(r)
	for in.Scan() && !strings.Contains(in.Text(), "/metrics") {
		text.WriteString(in.Text() + "\n")
	}
	before, rest, found := strings.Cut(text.String(), "  curl -si")
	if !found {
		t.Fatalf("no curl line (%v):\n%s", in.Err(), text.String())
	}
	noPassword(t, before)
	curl, after, _ := strings.Cut("curl -si"+rest, "\n\n")
	noPassword(t, after)
	alice := regexp.MustCompile(`alice\S+ +auth_http +(127\.\S+):(\d+)`).FindStringSubmatch(before)
	if alice == nil {
		t.Fatalf("alice is nowhere:\n%s", before)
	}

	t.Run("curl line", func(t *testing.T) {
		h := runCurlLine(t, curl)
		if got := []string{h.Get("Auth-Status"), h.Get("Auth-Server"), h.Get("Auth-Port")}; !cmp.Equal(got, []string{"OK", alice[1], alice[2]}) {
			t.Errorf("answer %q, want OK and the place where the demo took alice, %s:%s", got, alice[1], alice[2])
		}
	})
	for _, cmd := range []string{"status", "route alice@example.org"} {
		t.Run(cmd, func(t *testing.T) {
			m := regexp.MustCompile(`(?m)^  usher ` + cmd + ` --socket (\S+)$`).FindStringSubmatch(after)
			if m == nil {
				t.Fatalf("no such line:\n%s", after)
			}
			var out bytes.Buffer
			root := newRoot(&flags{})
			root.SetArgs(append(strings.Fields(cmd), "--socket", m[1]))
			root.SetOut(&out)
			if err := root.ExecuteContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want := net.JoinHostPort(alice[1], alice[2]); !strings.Contains(out.String(), want) {
				t.Errorf("no %s in:\n%s", want, out.String())
			}
		})
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

// runCurlLine does what the line says, with net/http and, where there is one,
// with curl.
func runCurlLine(t *testing.T, line string) http.Header {
	t.Helper()
	url := regexp.MustCompile(`http://\S+`).FindString(line)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`-H '([\w-]+): ([^']*)'`).FindAllStringSubmatch(line, -1) {
		req.Header.Set(m[1], m[2])
	}
	for _, name := range []string{"Auth-Method", "Auth-User", "Auth-Pass", "Auth-Protocol", "Auth-Login-Attempt", "Client-IP"} {
		if req.Header.Get(name) == "" {
			t.Errorf("no %s in: %s", name, line)
		}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if path, err := exec.LookPath("curl"); err == nil {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Auth-Status: OK\r\n") {
			t.Errorf("%s (%v) says:\n%s", path, err, out)
		}
	}
	return resp.Header
}

// The demo fails when anything is not as promised.
func TestDemoReport(t *testing.T) {
	first := &demoResult{User: "alice", Protocol: "auth_http", Address: "127.0.0.2:1", By: "policy:director", Reason: "hash"}
	for _, tc := range []struct {
		name, want string
		second     demoResult
	}{
		{"sticky", "", demoResult{User: "alice", Address: "127.0.0.2:1", By: "policy:director", Reason: "sticky"}},
		{"another user", "", demoResult{User: "bob", Address: "127.0.0.3:1", By: "policy:director", Reason: "hash"}},
		{"another host", "usher said 127.0.0.3:1, but 127.0.0.2:1 before, by auth_http", demoResult{User: "alice", Address: "127.0.0.3:1", By: "policy:director", Reason: "sticky"}},
		{"not remembered", `the reason is "hash", expected "sticky"`, demoResult{User: "alice", Address: "127.0.0.2:1", By: "policy:director", Reason: "hash"}},
		{"nobody", "nobody decided", demoResult{User: "bob", Address: "127.0.0.3:1", Reason: "hash"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := demoReport{Logins: []*demoResult{first}}
			got := ""
			if err := r.add(&tc.second); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("error %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAskAuthHTTP_Refused(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		answer     map[string]string
	}{
		{"no", `Auth-Status "no"`, map[string]string{"Auth-Status": "no"}},
		{"no status", `Auth-Status ""`, nil},
		{"no server", "no address and port", map[string]string{"Auth-Status": "OK", "Auth-Port": "143"}},
		{"a name", "no address and port", map[string]string{"Auth-Status": "OK", "Auth-Server": "east", "Auth-Port": "143"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range tc.answer {
					w.Header().Set(name, value)
				}
			}))
			defer srv.Close()
			_, err := askAuthHTTP(t.Context(), srv.URL, demoUsers[0])
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestAskDovecot_Refused(t *testing.T) {
	for _, tc := range []struct{ name, answer, want string }{
		{"fail", "FAIL\t1\tcode=temp_fail\n", "code=temp_fail"},
		{"hung up", "", "hung up"},
		{"no proxy", "OK\t1\tuser=alice@example.org\n", "without proxy"},
		{"no host", "OK\t1\tproxy\tport=143\n", "no address and port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "auth")
			ln, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			served := make(chan error, 1)
			go func() {
				c, err := ln.Accept()
				if err != nil {
					served <- err
					return
				}
				in := bufio.NewReader(c)
				for line := ""; !strings.HasPrefix(line, "AUTH\t") && err == nil; {
					line, err = in.ReadString('\n')
				}
				_, werr := io.WriteString(c, "VERSION\t1\t2\nDONE\n"+tc.answer)
				served <- errors.Join(err, werr, c.Close())
			}()
			_, err = askDovecot(t.Context(), path, demoUsers[0])
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogIn(t *testing.T) {
	bs, err := startDemoBackends(demoUsers[:1])
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bs.close(); err != nil {
			t.Error(err)
		}
	}()
	alice := demoUsers[0]
	for _, b := range bs.list {
		if got, err := logIn(t.Context(), b.addr, alice); err != nil || got != "backend "+b.name {
			t.Errorf("%s: %q (%v)", b.name, got, err)
		}
	}
	_, err = logIn(t.Context(), bs.list[0].addr, demoUser{alice.name, "wrong"})
	if err == nil || !strings.Contains(err.Error(), "login: ") {
		t.Errorf("a wrong password: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := logIn(ended, bs.list[0].addr, alice); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if b := bs.at(netip.MustParseAddrPort("127.0.0.1:1")); b != nil {
		t.Errorf("127.0.0.1:1 is %s", b.name)
	}
}

// A backend that knows nobody makes the demo fail, and nothing stays behind.
func TestDemoFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := shortDir(t)
	bs, err := startDemoBackends(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := startDemoUsher(t.Context(), dir, bs, &demoLog{errOut: io.Discard})
	if err != nil {
		t.Fatal(errors.Join(err, bs.close()))
	}
	d := demo{once: true, out: io.Discard}
	err = d.show(t.Context(), u, bs)
	if want := regexp.MustCompile(`^alice@example\.org by auth_http: at backend \w+, 127\.0\.0\.\d:\d+: login: `); err == nil || !want.MatchString(err.Error()) {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := errors.Join(u.close(), bs.close()); err != nil {
		t.Error(err)
	}

	// A backend that is down is named.
	u, err = startDemoUsher(t.Context(), dir, bs, &demoLog{errOut: io.Discard})
	if err == nil {
		t.Fatal(errors.Join(errors.New("no error without backends"), u.close()))
	}
	for _, b := range bs.list {
		if want := fmt.Sprintf("usher finds the backend %s down: ", b.addr); !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "control")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket: %v", err)
	}
}

func TestDemoLog(t *testing.T) {
	const lines = `{"level":"info","msg":"decision","adapter":"nginx","user":"bob@example.org","by":"policy:director","reason":"hash"}
{"level":"info","msg":"decision","adapter":"nginx","user":"mallory@example.org"}
{"level":"warn","msg":"something"}
{"level":"error","msg":"worse"}
`
	for _, tc := range []struct {
		name    string
		verbose bool
		want    string
	}{
		{"quiet", false, `{"level":"error","msg":"worse"}` + "\n"},
		{"verbose", true, lines},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var printed bytes.Buffer
			l := demoLog{errOut: &printed, verbose: tc.verbose}
			if _, err := l.Write([]byte(lines)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, printed.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if line, ok := l.take("nginx", "bob@example.org"); !ok || line.By != "policy:director" || line.Reason != "hash" {
				t.Errorf("bob's decision: %+v, %v", line, ok)
			}
			if _, ok := l.take("nginx", "bob@example.org"); ok {
				t.Error("taken twice")
			}
			if _, ok := l.take("nginx", "mallory@example.org"); ok {
				t.Error("a stranger is kept")
			}
		})
	}
}

func TestDemoDir(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp/"+strings.Repeat("long", 30))
	dir, err := demoDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 || len(dir) > maxDemoDir {
		t.Errorf("%s: %v (%v)", dir, info, err)
	}
}

func TestProgramName(t *testing.T) {
	for arg0, want := range map[string]string{
		"bin/usher": "bin/usher", "usher": "usher", "/tmp/go-build123/b001/exe/usher": "go run ./cmd/usher",
	} {
		if got := programName(arg0); got != want {
			t.Errorf("%s: %q, want %q", arg0, got, want)
		}
	}
}
