package proxy

import (
	"strings"
	"testing"
)

func TestValidUser(t *testing.T) {
	for _, tc := range []struct {
		name, user string
		ok         bool
	}{
		{"plain", "alice@example.org", true},
		{"utf-8", "jürgen@example.org", true},
		{"invalid utf-8", "a\xff", true},
		{"spaces", "a b", true},
		{"longest", strings.Repeat("a", 255), true},
		{"empty", "", false},
		{"too long", strings.Repeat("a", 256), false},
		{"tab", "a\tb", false},
		{"newline", "a\nb", false},
		{"carriage return", "a\r", false},
		{"nul", "a\x00", false},
		{"del", "a\x7f", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := ValidUser(tc.user)
			if (err == nil) != tc.ok {
				t.Fatalf("ValidUser: %v", err)
			}
			if err != nil && len(tc.user) > 3 && strings.Contains(err.Error(), tc.user) {
				t.Errorf("the error repeats the name: %v", err)
			}
		})
	}
}

var hostTests = []struct {
	host      string
	ok        bool
	canonical string
}{
	{"127.0.0.2", true, "127.0.0.2"},
	{"::1", true, "::1"},
	{"2001:DB8::1", true, "2001:db8::1"},
	{"::ffff:192.0.2.1", true, "192.0.2.1"},
	{"imap1.example.org", true, "imap1.example.org"},
	{"IMAP1.Example.org.", true, "imap1.example.org"},
	{"localhost", true, "localhost"},
	{"mail_1", true, "mail_1"},
	{"", false, ""}, {".", false, ""}, {"..", false, ""}, {"a..b", false, ""}, {".a", false, ""},
	{"-a", false, ""}, {"a-", false, ""}, {"a-.b", false, ""},
	{"0.0.0.0", false, ""}, {"::", false, ""}, {"fe80::1%eth0", false, ""},
	{"1.2.3", false, ""}, {"1.2.3.999", false, ""}, {"12345", false, ""},
	{"[::1]", false, ""}, {"a:143", false, ""}, {"unix:/tmp/x", false, ""},
	{"a b", false, ""}, {"a\r\nAuth-Status: OK", false, ""}, {"a\tproxy", false, ""}, {"a=b", false, ""},
	{"bücher.example", false, ""},
	{strings.Repeat("a", 64), false, ""},
	{strings.Repeat("a.", 127) + "a", false, ""},
}

func TestValidHost(t *testing.T) {
	for _, tc := range hostTests {
		if ValidHost(tc.host) != tc.ok {
			t.Errorf("ValidHost(%q) = %v", tc.host, !tc.ok)
		}
		if tc.ok && CanonicalHost(tc.host) != tc.canonical {
			t.Errorf("CanonicalHost(%q) = %q, want %q", tc.host, CanonicalHost(tc.host), tc.canonical)
		}
	}
}

// What is let through can't break a line, a header or a field.
func FuzzValidHost(f *testing.F) {
	for _, tc := range hostTests {
		f.Add(tc.host)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !ValidHost(s) {
			return
		}
		if strings.ContainsAny(s, " \t\r\n\x00\x01=/[]%,") || len(s) > 254 {
			t.Errorf("let through: %q", s)
		}
		if !ValidHost(CanonicalHost(s)) {
			t.Errorf("the canonical form of %q is none: %q", s, CanonicalHost(s))
		}
	})
}
