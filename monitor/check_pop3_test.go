package monitor

import (
	"testing"

	"usher/proxy"
)

func TestCheckPOP3(t *testing.T) {
	named := func(user string) func(*proxy.Server) { return func(s *proxy.Server) { s.TestUsername = user } }
	perform(t, "pop3", []scene{
		{"greeting and CAPA", "deep", `
			S: +OK ready
			C: CAPA
			S: +OK
			S: ..odd
			S: TOP
			S: .
			C: QUIT
			S: +OK bye`, "", nil},
		{"no CAPA", "deep", `
			S: +ok
			C: CAPA
			S: -err what?
			C: QUIT`, "", nil},
		{"maintenance", "deep", `
			S: -ERR maintenance`, "greeting: -ERR maintenance", nil},
		{"nothing", "deep", ``, "connection closed by server (greeting)", nil},
		{"silence", "deep", `hang`, "timeout after 300ms (greeting)", nil},
		{"empty line", "deep", `
			S: `, "greeting: not an answer of POP3: ", nil},
		{"imap", "deep", `
			S: * OK ready`, "greeting: not an answer of POP3: * OK ready", nil},
		{"OK and more in one word", "deep", `
			S: +OKAY`, "greeting: not an answer of POP3: +OKAY", nil},
		{"CAPA without end", "deep", `
			S: +OK
			C: CAPA
			S: +OK
			lines UIDL\r\n`, "CAPA: more than 1000 lines", nil},
		{"CAPA of long lines", "deep", `
			S: +OK
			C: CAPA
			S: +OK
			lines ` + long(8000) + `\r\n`, "CAPA: more than 262144 bytes", nil},
		{"closed in CAPA", "deep", `
			S: +OK
			C: CAPA
			S: +OK
			S: USER`, "connection closed by server (CAPA)", nil},
		{"CAPA answers in another way", "deep", `
			S: +OK
			C: CAPA
			S: 500 unknown command`, "CAPA: not an answer of POP3: 500 unknown command", nil},
		{"login", "login", `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: SASL PLAIN
			S: .
			C: USER $USER
			S: +OK
			C: PASS $PASS
			S: +OK in
			C: QUIT`, "", nil},
		{"login without CAPA", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER $USER
			S: +OK
			C: PASS $PASS
			S: +OK in
			C: QUIT`, "", nil},
		{"login without USER", "login", `
			S: +OK
			C: CAPA
			S: +OK
			S: sasl login plain
			S: .
			C: AUTH PLAIN
			S: +
			C: $PLAIN
			S: +OK
			C: QUIT`, "", nil},
		{"no way to log in", "login", `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL GSSAPI
			S: .`, "server offers neither USER nor AUTH PLAIN", nil},
		{"refused at USER", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER $USER
			S: -ERR not here`, "login refused: not here", nil},
		{"refused at PASS", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER $USER
			S: +OK
			C: PASS $PASS
			S: -ERR [AUTH] $PASS is wrong`, "login refused: [AUTH] **** is wrong", nil},
		{"closed at PASS", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER $USER
			S: +OK
			C: PASS $PASS`, "connection closed by server (login)", nil},
		{"refused at AUTH", "login", `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: .
			C: AUTH PLAIN
			S: -ERR [SYS/TEMP] later`, "login refused: -ERR [SYS/TEMP] later", nil},
		{"refused after AUTH", "login", `
			S: +OK
			C: CAPA
			S: +OK
			S: SASL PLAIN
			S: .
			C: AUTH PLAIN
			S: + 
			C: $PLAIN
			S: -ERR $PLAIN`, "login refused: ****==", nil},
		{"mailbox in use", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER $USER
			S: +OK
			C: PASS $PASS
			S: -ERR [in-use] another session
			C: QUIT`, "", nil},
		{"too early", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER $USER
			S: +OK
			C: PASS $PASS
			S: -ERR [LOGIN-DELAY] wait
			C: QUIT`, "", nil},
		{"name with a space, AUTH", "login", `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: SASL PLAIN
			S: .
			C: AUTH PLAIN
			S: +
			C: AGEgYgBodW50ZXIyLSJob3JzZSI=
			S: +OK
			C: QUIT`, "", named("a b")},
		{"name with a space, no AUTH", "login", `
			S: +OK
			C: CAPA
			S: -ERR`, "test_username or test_password has characters that USER and PASS cannot say, and server offers no AUTH PLAIN", named("a b")},
		{"name with a line end", "login", `
			S: +OK
			C: CAPA
			S: -ERR`, "test_username or test_password has characters that USER and PASS cannot say, and server offers no AUTH PLAIN", named("a\r\nDELE 1")},
		{"name in utf-8", "login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: USER jürgen
			S: +OK
			C: PASS $PASS
			S: +OK
			C: QUIT`, "", named("jürgen")},
		{"NUL in the name", "login", `
			S: +OK
			C: CAPA
			S: -ERR`, "test_username or test_password has a NUL, which no login can say", named("a\x00b")},

		{"starttls, login", "starttls login", `
			S: +OK
			C: CAPA
			S: +OK
			S: STLS
			S: .
			C: STLS
			S: +OK
			tls
			C: CAPA
			S: +OK
			S: USER
			S: .
			C: USER $USER
			S: +OK
			C: PASS $PASS
			S: +OK
			C: QUIT`, "", nil},
		{"starttls of a server without CAPA", "starttls", `
			S: +OK
			C: CAPA
			S: -ERR
			C: STLS
			S: +OK
			tls
			C: QUIT`, "", nil},
		{"starttls not offered", "starttls login", `
			S: +OK
			C: CAPA
			S: +OK
			S: USER
			S: .`, "server offers no STARTTLS", nil},
		{"starttls refused", "starttls login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: STLS
			S: -ERR what?`, "STARTTLS refused: what?", nil},
		{"starttls with plaintext behind it", "starttls login", `
			S: +OK
			C: CAPA
			S: -ERR
			C: STLS
			W: +OK go\r\n+OK\r\nUSER\r\n.\r\n`,
			"server sent plaintext after its go-ahead for STARTTLS, before the handshake", nil},
		{"starttls, then no TLS", "starttls", `
			S: +OK
			C: CAPA
			S: -ERR
			C: STLS
			S: +OK
			peek
			S: -ERR what was that?
			hang`, "server does not speak TLS", nil},
	})
}
