package passdb

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/proxy"
)

func TestParseTable_Faults(t *testing.T) {
	const file = `# comment
ok:{PLAIN}a
:no user

OK:{PLAIN}b
des:2y0daf4p3LVYc
two:{NOPE}x::::::allow_nets=10.0.0.1/99 noauthenticate
np:{PLAIN}a::::::nopassword
npl:!::::::nopassword
v:{PLAIN}a::::::host=%h
r:{PLAIN}a::::::proxy:protected
e:{PLAIN}a::::::=x
u:{PLAIN}a::::::user=
` + "ctl\x01:{PLAIN}a\n"
	_, err := parseTable("/etc/users", strings.NewReader(file))
	if err == nil {
		t.Fatal("no error")
	}
	want := `passwd_file /etc/users:5: user "ok": again, after line 2
passwd_file /etc/users:6: user "des": scheme CRYPT: DES hashes are not supported; set a new password, or write {PLAIN} before a plain one
passwd_file /etc/users:7: user "two": scheme NOPE is not supported
passwd_file /etc/users:7: user "two": extra field allow_nets: expected addresses and networks like 192.0.2.0/24, with commas between
passwd_file /etc/users:7: user "two": extra field noauthenticate is not supported
passwd_file /etc/users:8: user "np": nopassword, but there is a password
passwd_file /etc/users:9: user "npl": nopassword, but there is a password
passwd_file /etc/users:10: user "v": extra field host: of variables only %u, %n, %d and %% are supported
passwd_file /etc/users:11: user "r": extra field proxy:protected is not supported
passwd_file /etc/users:12: user "e": an extra field without a usable name
passwd_file /etc/users:13: user "u": extra field user: bad user name: empty
passwd_file /etc/users:14: bad user name: control byte 0x01 at 3`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestParseTable_Limits(t *testing.T) {
	_, err := parseTable("f", strings.NewReader("a:\n"+strings.Repeat("x", maxLine+1)))
	if err == nil || !strings.Contains(err.Error(), "passwd_file f:2: longer than 65536 bytes") {
		t.Errorf("long line: %v", err)
	}
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "u%d:{NOPE}a\n", i)
	}
	_, err = parseTable("f", strings.NewReader(b.String()))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxFaults+1 || lines[maxFaults] != "passwd_file f: and 30 more" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

func TestParseEntry(t *testing.T) {
	tests := []struct {
		name string
		line string
		user string
		want *extra
	}{
		{"user only", "Bob", "bob", nil},
		{"like /etc/passwd", "bob:*:1000:1000:Bob,,,:/home/bob:/bin/sh", "bob", nil},
		{"old format with MAIL", "bob:*:1:1::/h::" + ":maildir:/x", "bob", nil},
		{"carriage return", "bob:*:1:1::/h::nologin\r", "bob", &extra{disabled: true}},
		{
			"fields", "Bob@Ex.org:::::::proxy  host=10.0.0.1 userdb_mail=x:y destuser=%n@in.%d key=a:b host=%%1 empty= pass=p",
			"bob@ex.org",
			&extra{pass: proxy.NewSecret("p"), fields: []proxy.Attr{
				{Name: "proxy", Bare: true}, {Name: "host", Value: "%1"},
				{Name: "destuser", Value: "bob@in.ex.org"}, {Name: "key", Value: "a:b"}, {Name: "empty"},
			}},
		},
		{"renamed", "bob:::::::user=Robert x=%u", "bob", &extra{user: "Robert", fields: []proxy.Attr{{Name: "x", Value: "Robert"}}}},
		{"disabled", "bob:::::::nologin reason=moved", "bob", &extra{disabled: true, reason: "moved"}},
		{"reason alone", "bob:::::::reason=x", "bob", &extra{fields: []proxy.Attr{{Name: "reason", Value: "x"}}}},
		{"nopassword", "bob:{PLAIN}::::::nopassword=y fail", "bob", &extra{noPassword: true, fail: true}},
		{"nets", "bob:::::::allow_nets=192.0.2.7,::ffff:10.0.0.0/104,local", "bob", &extra{nets: []netSet{{
			prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("10.0.0.0/8")}, local: true,
		}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Through a table, for the line's end.
			tab, err := parseTable("f", strings.NewReader(tt.line+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			e, ok := tab.users[tt.user]
			if !ok {
				t.Fatalf("no user %q in %v", tt.user, tab.users)
			}
			if e.password != nil {
				t.Error("has a password")
			}
			opt := cmp.AllowUnexported(extra{}, netSet{})
			prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
			secret := cmp.Comparer(func(a, b proxy.Secret) bool { return a.Reveal() == b.Reveal() })
			if diff := cmp.Diff(tt.want, e.extra, opt, prefix, secret, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseTable_Typical(t *testing.T) {
	const dear = "$2y$05$0PFzLFuPcVR/nTj9.KK/zOxCySBooCkj935N85kQbaTOL2MlEPpUK"
	const md5 = "$1$0XKahb6s$YtWc16GJpHtszhP/EE9ke/"
	tests := []struct {
		name  string
		lines []string
		want  string // cost; "": none
	}{
		{"none", nil, ""},
		{"digests only", []string{"a:{PLAIN}x", "b:{PLAIN}x"}, ""},
		{"most are dear", []string{"a:" + md5, "b:" + dear, "c:" + dear, "d:{PLAIN}x"}, "bcrypt/05"},
		{"most are plain", []string{"a:{PLAIN}x", "b:{PLAIN}x", "c:" + dear}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, err := parseTable("f", strings.NewReader(strings.Join(tt.lines, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if tab.typical != nil {
				got = tab.typical.cost()
			}
			if got != tt.want {
				t.Errorf("typical cost %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzPasswdFile(f *testing.F) {
	f.Add("# c\nalice:{PLAIN}a:1:1:g:/h:/s:proxy host=x allow_nets=10.0.0.0/8 user=%u\n")
	f.Add("a:$6$rounds=1000$Rd58iuOFJlreVKHO$Gt5P\nb:{SSHA.hex}00\nc:x[34]\nd:{SCRAM-SHA-1}4096,a,b,c")
	f.Add("a:{ARGON2I}$argon2i$v=19$m=8,t=1,p=1$xABAtLVU$FZlrrS6z\na:\n")
	f.Fuzz(func(t *testing.T, file string) {
		tab, err := parseTable("f", strings.NewReader(file))
		if err != nil {
			if n := strings.Count(err.Error(), "\n"); n > maxFaults {
				t.Errorf("%d lines of faults", n+1)
			}
			return
		}
		for user, e := range tab.users {
			if user != lower(user) || proxy.ValidUser(user) != nil {
				t.Errorf("user %q", user)
			}
			if x := e.extra; x != nil {
				if x.user != "" && proxy.ValidUser(x.user) != nil {
					t.Errorf("user=%q", x.user)
				}
				for _, a := range x.fields {
					if a.Name == "" || hasControl(a.Name) || hasControl(a.Value) || strings.ContainsAny(a.Name, " =") {
						t.Errorf("field %+v", a)
					}
				}
				if x.noPassword && e.password != nil {
					t.Error("nopassword beside a password")
				}
			}
		}
	})
}
