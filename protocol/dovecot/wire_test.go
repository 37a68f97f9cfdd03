package dovecot

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/proxy"
)

func TestParseAuth(t *testing.T) {
	rest := strings.Join([]string{
		"login", "protocol=managesieve", "secured=tls", "session=St2K8", "lip=::ffff:198.51.100.1", "rip=2001:db8::7", "lport=4190", "rport=70000",
		"client_id=x\x01ty", "ssl_protocol=TLSv1.3", "ssl_cipher=A", "valid-client-cert", "cert_username=alice", "ssl_client_cert_fp=ab",
		"local_name=", "nologin", "no-penalty", "resp=YQ==",
	}, "\t")
	a, err := parseAuth(rest)
	if err != nil {
		t.Fatal(err)
	}
	want := proxy.Request{
		Adapter: "dovecot", Service: "managesieve", Protocol: "sieve", Method: "login", Session: "St2K8", ClientID: "x\ty", NoLogin: true,
		Client: netip.MustParseAddrPort("[2001:db8::7]:0"), Local: netip.MustParseAddrPort("198.51.100.1:4190"),
		TLS: proxy.Transport{Secured: true, Protocol: "TLSv1.3", Cipher: "A", ClientVerify: "SUCCESS", ClientCN: "alice", ClientFingerprint: "ab"},
	}
	same := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	secret := cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() })
	if diff := cmp.Diff(want, a.req, same, secret); diff != "" {
		t.Error(diff)
	}
	if a.mech != "LOGIN" || !a.hasResp || a.resp != "YQ==" {
		t.Errorf("mech %q resp %v %q", a.mech, a.hasResp, a.resp)
	}
}

func FuzzParseAuth(f *testing.F) {
	f.Add("PLAIN\tservice=imap\trip=::1\tresp=AGFsaWNl")
	f.Add("\t\t\t=\x01")
	f.Fuzz(func(t *testing.T, rest string) {
		a, err := parseAuth(rest)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v, %v", a, err)
		}
		if err == nil && (a.mech == "" || a.req.Service == "") {
			t.Errorf("%+v", a)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add("a\x00b\x01c\td\re\nf")
	f.Add("\x01")
	f.Fuzz(func(t *testing.T, s string) {
		e := appendEscaped(nil, s)
		if strings.ContainsAny(string(e), "\x00\t\r\n") {
			t.Errorf("%q escapes to %q", s, e)
		}
		if got := unescape(string(e)); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
		if len(unescape(s)) > len(s) {
			t.Errorf("%q grows", s)
		}
	})
}

// fields splits an answer and fails the test unless it is one line.
func fields(t *testing.T, line []byte) []string {
	t.Helper()
	s, ok := strings.CutSuffix(string(line), "\n")
	if !ok || strings.ContainsAny(s, "\n\r\x00") {
		t.Fatalf("not one line: %q", line)
	}
	return strings.Split(s, "\t")
}

// FuzzAppendRouted: whatever stands in values, the routed line has the fields
// that it shall have, one line, each value as it was.
func FuzzAppendRouted(f *testing.F) {
	f.Add("user=alice\tproxy\tport=10143\thostip=192.0.2.1\tpass=x", "forward_a", "a\tb\r\nc", "pass\tword", "127.0.0.2", 143, true)
	f.Add("director_proxy_maybe\tuser=a\x01tb\thost=\tport=", "ssl", "", "", "mail.example.org.", 0, false)
	f.Add("user=card\tproxy\tpass=\toriginal_user=", "forward_a", "", "", "127.0.0.2", 143, false)
	addr := netip.MustParseAddr("192.0.2.2")
	f.Fuzz(func(t *testing.T, rest, name, value, pass, host string, port int, seen bool) {
		if strings.ContainsAny(rest, "\n\r\x00") || strings.ContainsAny(name, "\t\n\r\x00=") || name == "" || !proxy.ValidHost(host) {
			return // no upstream's line; the pipeline lets no such name or host through
		}
		if slices.Contains(reserved, name) || port < 0 || port > 65535 {
			return
		}
		up, have, route, err := parseReply(rest)
		if err != nil || !route {
			return
		}
		if up.User == "" && up.DestUser == "" {
			t.Fatal("to be routed without a user")
		}
		d := proxy.Decision{
			Outcome: proxy.Routed, Host: host, Addr: addr, Port: port, Password: proxy.NewSecret(pass),
			Changes: []proxy.Change{{Attr: proxy.Attr{Name: name, Value: value}}},
		}
		rt := routing{refresh: 450, masterUser: "m\tm", masterPass: proxy.NewSecret("p\np")}
		got := fields(t, rt.appendRouted(nil, "OK", 7, rest, have, seen, &d))
		if got[0] != "OK" || got[1] != "7" {
			t.Fatalf("%q", got)
		}
		count := map[string]int{}
		last := map[string]string{}
		for _, g := range got[2:] {
			n, v, _ := strings.Cut(g, "=")
			count[n]++
			last[n] = unescape(v)
		}
		if count["host"] != 1 || last["host"] != strings.TrimSuffix(host, ".") || count["proxy_refresh"] != 1 || last["proxy_refresh"] != "450" {
			t.Errorf("host or proxy_refresh: %q", got)
		}
		if count[name] != 1 || last[name] != value {
			t.Errorf("%s is %q, want %q, in %q", name, last[name], value, got)
		}
		if _, err := netip.ParseAddr(host); count["hostip"] > 0 && last["hostip"] != addr.String() || count["hostip"] == 0 && err != nil {
			t.Errorf("hostip: %q", got)
		}
		if count["proxy"] == 0 {
			t.Errorf("no proxy: %q", got)
		}
		if !have.pass && seen && name != "pass" && name != "master" && !have.master && (count["pass"] != 1 || last["pass"] != pass) {
			t.Errorf("pass: %q", got)
		}
		if (have.pass || have.master || name == "master") && count["pass"] > strings.Count("\t"+rest, "\tpass") {
			t.Errorf("a pass too many: %q", got)
		}
		// What the upstream said of anything else stands as it came, in order.
		i := 2
		for field := range strings.SplitSeq(rest, "\t") {
			n, _, _ := strings.Cut(field, "=")
			if field == "" || n == name || slices.Contains([]string{"host", "hostip", "port", "proxy_refresh"}, n) ||
				n == "pass" && have.emptyPass && !seen {
				continue
			}
			for i < len(got) && got[i] != field {
				i++
			}
			if i == len(got) {
				t.Fatalf("%q is gone from %q", field, got)
			}
			i++
		}
	})
}

func FuzzAppendOK(f *testing.F) {
	f.Add("alice", "s3cret", "forward_a", "x\ty\n", "told\r\nyou")
	f.Fuzz(func(t *testing.T, user, pass, name, value, text string) {
		if name == "" || strings.ContainsAny(name, "\t\n\r\x00=\x01") {
			return
		}
		d := proxy.Decision{
			Outcome: proxy.Routed, User: user, Password: proxy.NewSecret(pass), Host: "127.0.0.2", Port: 143,
			Addr: netip.MustParseAddr("127.0.0.2"), Fields: []proxy.Attr{{Name: name, Value: value}}, Text: text,
		}
		rt := routing{refresh: 450}
		want := []string{"OK", "7", "user=" + string(appendEscaped(nil, user)), "proxy"}
		if !slices.Contains(reserved, name) {
			want = append(want, name+"="+string(appendEscaped(nil, value)))
		}
		want = append(want, "port=143")
		if pass != "" {
			want = append(want, "pass="+string(appendEscaped(nil, pass)))
		}
		want = append(want, "proxy_refresh=450", "host=127.0.0.2")
		if diff := cmp.Diff(want, fields(t, rt.appendOK(nil, "OK", 7, &d, ""))); diff != "" {
			t.Error(diff)
		}
		d.Outcome, d.Reason = proxy.Denied, proxy.PolicyRefused
		if fail := fields(t, appendFail(nil, 7, &d)); len(fail) > 4 || len(strings.Join(fail, "\t")) > 2048 {
			t.Errorf("%q", fail)
		}
	})
}
