package monitor

import (
	"encoding/base64"
	"strings"
	"testing"

	"usher/proxy"
)

func TestCheckSieve(t *testing.T) {
	perform(t, "sieve", []scene{
		{"greeting", "deep", `
			S: "IMPLEMENTATION" "Dovecot \"Pigeonhole\""
			S: "SIEVE" "fileinto"
			S: OK "ready."
			C: LOGOUT
			S: OK "bye"`, "", nil},
		{"greeting in small letters, of literals", "deep", `
			S: {4}
			W: SASL {5+}\r\n
			W: PLAIN\r\n
			W: ok (TAG {3}\r\na\nb) "x"\n
			C: LOGOUT`, "", nil},
		{"nothing", "deep", ``, "connection closed by server (greeting)", nil},
		{"silence", "deep", `hang`, "timeout after 300ms (greeting)", nil},
		{"empty line", "deep", `
			S: `, "greeting: an empty line", nil},
		{"imap", "deep", `
			S: * OK ready`, "greeting: not a response of ManageSieve: * OK ready", nil},
		{"no", "deep", `
			S: NO "not now"`, `greeting: NO "not now"`, nil},
		{"bye", "deep", `
			S: "SIEVE" ""
			S: BYE (REFERRAL "sieve://other.example.org") "go there"`, `greeting: BYE (REFERRAL "sieve://other.example.org") "go there"`, nil},
		{"string without end", "deep", `
			S: "SIEVE`, `greeting: a quoted string does not end: "SIEVE`, nil},
		{"string that ends in a backslash", "deep", `
			S: "SIEVE\`, `greeting: a quoted string does not end: "SIEVE\`, nil},
		{"literal that is too large", "deep", `
			S: {262145}`, "greeting: more than 262144 bytes", nil},
		{"literal of no size", "deep", `
			S: {x} "a"`, `greeting: not a literal: {x} "a"`, nil},
		{"literal with more behind it", "deep", `
			S: {3} "a{4}`, `greeting: not a literal: {3} "a{4}`, nil},
		{"literal that does not come", "deep", `
			S: {30}
			S: OK`, "connection closed by server (greeting)", nil},
		{"capabilities without end", "deep", `
			lines "SIEVE" "x"\r\n`, "greeting: more than 1000 lines", nil},
		{"login", "login", `
			S: "SASL" "LOGIN plain"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"
			S: OK (SASL "") "in"
			C: LOGOUT`, "", nil},
		{"no PLAIN", "login", `
			S: "SASL" ""
			S: "STARTTLS"
			S: OK`, "server offers no SASL PLAIN", nil},
		{"login refused", "login", `
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"
			S: NO (ENCRYPT-NEEDED) "$PLAIN: $PASS"`, `login refused: (ENCRYPT-NEEDED) "****==: ****"`, nil},
		{"login refused with a literal", "login", `
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"
			S: NO {17}
			W: $PASS\r\n\r\n`, "login refused: {17} ****??", nil},
		{"bye to the login", "login", `
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"
			S: BYE "too many"`, `login: BYE "too many"`, nil},
		{"challenge to the login", "login", `
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"
			S: ""`, `login: not a response of ManageSieve: ""`, nil},
		{"closed in the login", "login", `
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"`, "connection closed by server (login)", nil},

		{"starttls", "starttls", `
			S: "STARTTLS"
			S: OK
			C: STARTTLS
			S: OK "go"
			tls
			S: OK
			C: LOGOUT`, "", nil},
		{"starttls, capabilities anew, login", "starttls login", `
			S: "SASL" ""
			S: "starttls"
			S: OK
			C: STARTTLS
			S: OK "go"
			tls
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" "$PLAIN"
			S: OK
			C: LOGOUT`, "", nil},
		{"starttls, then bye", "starttls login", `
			S: "STARTTLS"
			S: OK
			C: STARTTLS
			S: OK "go"
			tls
			S: BYE "no"`, `capabilities after TLS: BYE "no"`, nil},
		{"starttls not offered", "starttls login", `
			S: "SASL" "PLAIN"
			S: OK`, "server offers no STARTTLS", nil},
		{"starttls refused", "starttls login", `
			S: "STARTTLS"
			S: OK
			C: STARTTLS
			S: NO "no certificate"`, `STARTTLS refused: "no certificate"`, nil},
		{"starttls with plaintext behind it", "starttls login", `
			S: "STARTTLS"
			S: OK
			C: STARTTLS
			W: OK\r\n"SASL" "PLAIN"\r\nOK\r\n`,
			"server sent plaintext after its go-ahead for STARTTLS, before the handshake", nil},
		{"login too long for a quoted string", "login", `
			S: "SASL" "PLAIN"
			S: OK
			C: AUTHENTICATE "PLAIN" {1092+}
			C: ` + base64.StdEncoding.EncodeToString([]byte("\x00"+long(802)+"\x00"+testPassword)) + `
			S: OK
			C: LOGOUT`, "", func(s *proxy.Server) { s.TestUsername = strings.Repeat("x", 802) }},
	})
}
