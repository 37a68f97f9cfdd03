package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"usher/test/servers"
)

// A loginProcess talks to usher as Dovecot's login processes do.
type loginProcess struct {
	c  net.Conn
	in *bufio.Reader
	id int
}

func dialAuth(t *testing.T, sock string) *loginProcess {
	t.Helper()
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &loginProcess{c: c, in: bufio.NewReader(c)}
	fmt.Fprint(c, "VERSION\t1\t2\nCPID\t4711\n")
	for p.line(t) != "DONE" {
	}
	return p
}

func (p *loginProcess) line(t *testing.T) string {
	t.Helper()
	if err := p.c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := p.in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// login returns usher's answer without the request's number.
func (p *loginProcess) login(t *testing.T, user string) string {
	t.Helper()
	p.id++
	resp := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00s3cret"))
	fmt.Fprintf(p.c, "AUTH\t%d\tPLAIN\tservice=imap\tsecured\tresp=%s\n", p.id, resp)
	return strings.Replace(p.line(t), fmt.Sprintf("\t%d\t", p.id), "\t", 1)
}

// A filter asks DNS where a domain's mail lies. When DNS changes so do the next
// logins; when it fails they are told to try later, and never that the password
// is wrong.
func TestPolicy_HostByDNS(t *testing.T) {
	dns := servers.StartDNS(t,
		"_usher.txt.example. TXT backend=127.0.0.2",
		"mx.example. MX 20 mx2.example.", "mx.example. MX 10 mx1.example.", "mx1.example. A 192.0.2.99", "mx2.example. A 127.0.0.3",
		"none.example. A 192.0.2.1")
	dir := shortDir(t)
	sock := filepath.Join(dir, "s")
	script, err := filepath.Abs("testdata/host_by_dns.lua")
	if err != nil {
		t.Fatal(err)
	}
	var backends strings.Builder
	for n := range 3 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", n+2))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		fmt.Fprintf(&backends, "    - {protocol: imap, host: 127.0.0.%d, port: %d}\n", n+2, l.Addr().(*net.TCPAddr).Port)
	}
	a := runApp(t, dir, fmt.Sprintf(`failure_delay: 0s
dovecot: {listeners: [{address: "unix:%s"}]}
control: {address: "", http: ""}
director: {script: %q, network: true, timeout: 1s}
affinity: {mode: "off"} # else users stay where they are while DNS changes
backend_server_monitoring:
  backend_servers:
%s`, sock, script, backends.String()), func(a *app) { a.policy.dns = dns.Resolver() })

	p := dialAuth(t, sock)
	to := func(host string) string { return `^OK\t.*\bproxy\b.*\bhost=` + regexp.QuoteMeta(host) + `\b` }
	const (
		anywhere = `^OK\t.*\bproxy\b.*\bhost=127\.0\.0\.[234]\b`
		later    = `^FAIL\t.*\bcode=temp_fail\b`
	)
	expect := func(t *testing.T, user, want string) {
		t.Helper()
		if got := p.login(t, user); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %s", user, got, want)
		}
	}
	for _, c := range []struct {
		name   string
		change func()
		want   map[string]string // by user
	}{
		{"records", func() {}, map[string]string{
			"a@txt.example": to("127.0.0.2"), "a@mx.example": to("127.0.0.3"),
			"a@none.example": anywhere, "a@unknown.example": anywhere, "alice": anywhere, "a@b c": anywhere,
		}},
		{"changed", func() { dns.Set(t, "_usher.txt.example. TXT backend=127.0.0.4", "mx1.example. A 127.0.0.2") }, map[string]string{
			"a@txt.example": to("127.0.0.4"), "a@mx.example": to("127.0.0.2"),
		}},
		{"no backend of ours", func() { dns.Set(t, "_usher.txt.example. TXT backend=198.51.100.1") }, map[string]string{"a@txt.example": anywhere}},
		{"record removed", func() { dns.Remove("_usher.txt.example.") }, map[string]string{"a@txt.example": anywhere}},
		{"truncated", func() { dns.Mode(servers.DNSTruncates) }, map[string]string{"a@mx.example": to("127.0.0.2")}},
		{"nxdomain", func() { dns.Mode(servers.DNSNXDomain) }, map[string]string{"a@mx.example": anywhere}},
		{"servfail", func() { dns.Mode(servers.DNSServfail) }, map[string]string{"a@mx.example": later, "alice": anywhere}},
		{"silent", func() { dns.Mode(servers.DNSSilent) }, map[string]string{"a@mx.example": later, "alice": anywhere}},
		{"gone", dns.Close, map[string]string{"a@mx.example": later, "alice": anywhere}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.change()
			for user, want := range c.want {
				expect(t, user, want)
			}
		})
	}
	w := httptest.NewRecorder()
	a.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !regexp.MustCompile(`(?m)^usher_policy_network_seconds_count\{module="dns"\} [1-9]`).Match(w.Body.Bytes()) {
		t.Error("no metric of the look-ups")
	}
}
