package monitor

import (
	"net"
	"testing"

	"usher/proxy"
)

func TestCheckSMTP(t *testing.T) {
	perform(t, "smtp", []scene{
		{"greeting and EHLO", "deep", `
			S: 220-mx.example.org ESMTP
			S: 220-no spam
			S: 220 please
			C: EHLO [127.0.0.1]
			S: 250-mx.example.org
			S: 250 8BITMIME
			C: QUIT
			S: 221 bye`, "", nil},
		{"codes alone", "deep", `
			S: 220
			C: EHLO [127.0.0.1]
			S: 250
			C: QUIT`, "", nil},
		{"HELO where EHLO is not known", "deep", `
			S: 220 old
			C: EHLO [127.0.0.1]
			S: 502 what?
			C: HELO [127.0.0.1]
			S: 250 hello
			C: QUIT`, "", nil},
		{"neither EHLO nor HELO", "deep", `
			S: 220 old
			C: EHLO [127.0.0.1]
			S: 550 not you
			C: HELO [127.0.0.1]
			S: 550 not you`, "HELO refused: 550 not you", nil},
		{"EHLO not known, login wanted", "login", `
			S: 220 old
			C: EHLO [127.0.0.1]
			S: 502 what?`, "EHLO refused: 502 what?", nil},
		{"EHLO: not now", "deep", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 421 4.3.2 shutting down`, "EHLO refused: 421 4.3.2 shutting down", nil},
		{"busy", "deep", `
			S: 421-4.3.2 too many
			S: 421 connections`, "greeting: 421 4.3.2 too many connections", nil},
		{"no service", "deep", `
			S: 554 no SMTP here`, "greeting: 554 no SMTP here", nil},
		{"another good code", "deep", `
			S: 250 hello`, "greeting: 250 hello", nil},
		{"codes that differ", "deep", `
			S: 220-mx
			S: 250 ready`, "greeting: lines of one reply have different codes: 220 mx, 250 ready", nil},
		{"nothing", "deep", ``, "connection closed by server (greeting)", nil},
		{"silence", "deep", `hang`, "timeout after 300ms (greeting)", nil},
		{"empty line", "deep", `
			S: `, "greeting: no reply of SMTP: ", nil},
		{"no number", "deep", `
			S: 2x0 hello`, "greeting: no reply of SMTP: 2x0 hello", nil},
		{"number with a sign", "deep", `
			S: +22 hello`, "greeting: no reply of SMTP: +22 hello", nil},
		{"number out of range", "deep", `
			S: 620 hello`, "greeting: no reply of SMTP: 620 hello", nil},
		{"no space", "deep", `
			S: 220ready`, "greeting: no reply of SMTP: 220ready", nil},
		{"reply without end", "deep", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			lines 250-x\r\n`, "EHLO: more than 1000 lines", nil},
		{"closed in a reply", "deep", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx`, "connection closed by server (EHLO)", nil},
		{"auth plain", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 auth login plain
			C: AUTH PLAIN $PLAIN
			S: 235 2.7.0 in
			C: QUIT`, "", nil},
		{"auth login", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH LOGIN
			C: AUTH LOGIN
			S: 334 VXNlcm5hbWU6
			C: $USER64
			S: 334 UGFzc3dvcmQ6
			C: $PASS64
			S: 235 2.7.0 in
			C: QUIT`, "", nil},
		{"auth not offered", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250 mx`, "server offers no AUTH", nil},
		{"auth without a mechanism of ours", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH GSSAPI PLAIN-CLIENTTOKEN`, "server offers no AUTH PLAIN or LOGIN", nil},
		{"login refused", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH PLAIN
			C: AUTH PLAIN $PLAIN
			S: 535-5.7.8 not with
			S: 535 5.7.8 $PLAIN, which is $PASS`, "login refused: 535 5.7.8 not with 5.7.8 ****==, which is ****", nil},
		{"login not now", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH PLAIN
			C: AUTH PLAIN $PLAIN
			S: 454 4.7.0 later`, "login refused: 454 4.7.0 later", nil},
		{"login goes on and on", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH PLAIN
			C: AUTH PLAIN $PLAIN
			S: 334 more`, "login refused: 334 more", nil},
		{"auth login refused at the name", "login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH LOGIN
			C: AUTH LOGIN
			S: 334 VXNlcm5hbWU6
			C: $USER64
			S: 535 no`, "login refused: 535 no", nil},

		{"starttls, login", "starttls login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 STARTTLS
			C: STARTTLS
			S: 220 go
			tls
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH PLAIN
			C: AUTH PLAIN $PLAIN
			S: 235 in
			C: QUIT`, "", nil},
		{"starttls alone", "starttls", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 starttls
			C: STARTTLS
			S: 220 go
			tls
			C: QUIT`, "", nil},
		{"auth that was offered before TLS", "starttls login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250-AUTH PLAIN
			S: 250 STARTTLS
			C: STARTTLS
			S: 220 go
			tls
			C: EHLO [127.0.0.1]
			S: 250 mx`, "server offers no AUTH", nil},
		{"starttls not offered", "starttls login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 AUTH PLAIN`, "server offers no STARTTLS", nil},
		{"starttls refused", "starttls", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 STARTTLS
			C: STARTTLS
			S: 454 4.7.0 TLS not available`, "STARTTLS refused: 454 4.7.0 TLS not available", nil},
		{"starttls with plaintext behind it", "starttls login", `
			S: 220 mx
			C: EHLO [127.0.0.1]
			S: 250-mx
			S: 250 STARTTLS
			C: STARTTLS
			W: 220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n`,
			"server sent plaintext after its go-ahead for STARTTLS, before the handshake", nil},
	})
}

func TestCheckLMTP(t *testing.T) {
	named := func(user string) func(*proxy.Server) { return func(s *proxy.Server) { s.TestUsername = user } }
	perform(t, "lmtp", []scene{
		{"greeting and LHLO", "deep", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250-lmtp
			S: 250 PIPELINING
			C: QUIT`, "", nil},
		{"a mail server that is none of LMTP", "deep", `
			S: 220 mx
			C: LHLO [127.0.0.1]
			S: 500 5.5.2 unknown command`, "LHLO refused: 500 5.5.2 unknown command", nil},
		{"closed after the greeting", "deep", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]`, "connection closed by server (LHLO)", nil},
		{"the user is known", "login", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250 lmtp
			C: MAIL FROM:<>
			S: 250 ok
			C: RCPT TO:<$USER>
			S: 250 ok
			C: RSET
			S: 250 ok
			C: QUIT`, "", nil},
		{"the user is not known", "login", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250 lmtp
			C: MAIL FROM:<>
			S: 250 ok
			C: RCPT TO:<"o\"neil smith"@example.org>
			S: 550 5.1.1 nobody`, "RCPT refused: 550 5.1.1 nobody", named(`o"neil smith@example.org`)},
		{"a name that is no address", "login", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250 lmtp`, "test_username is no address that RCPT can say", named("a\r\nDATA")},
		{"no mail", "login", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250 lmtp
			C: MAIL FROM:<>
			S: 451 4.3.0 no disk`, "MAIL refused: 451 4.3.0 no disk", nil},
		{"auth", "login", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250-lmtp
			S: 250 AUTH PLAIN
			C: AUTH PLAIN $PLAIN
			S: 235 in
			C: QUIT`, "", nil},
		{"starttls", "starttls deep", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250-lmtp
			S: 250 STARTTLS
			C: STARTTLS
			S: 220 go
			tls
			C: LHLO [127.0.0.1]
			S: 250 lmtp
			C: QUIT`, "", nil},
		{"starttls not offered", "starttls", `
			S: 220 lmtp
			C: LHLO [127.0.0.1]
			S: 250 lmtp`, "server offers no STARTTLS", nil},
	})
}

func TestMailPath(t *testing.T) {
	for user, want := range map[string]string{
		"a":                    "<a>",
		"a.b+c@example.org":    "<a.b+c@example.org>",
		"a@b@c":                `<"a@b"@c>`,
		"a b":                  `<"a b">`,
		`a\"b`:                 `<"a\\\"b">`,
		".a@example.org":       `<".a"@example.org>`,
		"a..b@example.org":     `<"a..b"@example.org>`,
		"a>b@example.org":      `<"a>b"@example.org>`,
		"a@[IPv6:2001:db8::1]": "<a@[IPv6:2001:db8::1]>",
		"":                     "",
		"@example.org":         "",
		"a@":                   "",
		"a@b>c":                "",
		"a@b c":                "",
		"jürgen@example.org":   "",
		"a@exämple.org":        "",
		"a\r\nb":               "",
		"a@b\r\nc":             "",
	} {
		if got, ok := mailPath(user); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %t, want %q", user, got, ok, want)
		}
	}
}

func TestLiteralOf(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"[192.0.2.1]":        &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 25},
		"[IPv6:2001:db8::1]": &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 25},
		"[IPv6:fe80::1]":     &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 25, Zone: "eth0"},
		"[0.0.0.0]":          &net.UnixAddr{Name: "/run/x"},
	} {
		if got := literalOf(addr); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
