package monitor

import "testing"

func TestCheckIMAP(t *testing.T) {
	perform(t, "imap", []scene{
		{"greeting and capabilities", "deep", `
			S: * OK ready
			C: a1 CAPABILITY
			S: * CAPABILITY IMAP4rev1 IDLE
			S: a1 OK done
			C: a2 LOGOUT
			S: * BYE bye
			S: a2 OK`, "", nil},
		{"capabilities in the greeting", "deep", `
			S: * OK [CAPABILITY IMAP4rev2] ready
			C: a1 LOGOUT`, "", nil},
		{"no capabilities, but in the tagged answer", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: a1 OK [CAPABILITY IMAP4rev1]
			C: a2 LOGOUT`, "", nil},
		{"small letters, bare line feeds", "deep", `
			W: * ok hello\n
			C: a1 CAPABILITY
			W: * capability imap4rev1\na1 ok\n
			C: a2 LOGOUT
			W: a2 no way\n`, "", nil},
		{"login", "login", `
			S: * OK ready
			C: a1 CAPABILITY
			S: * CAPABILITY IMAP4rev1
			S: a1 OK
			C: a2 LOGIN "$USER" "hunter2-\"horse\""
			S: * OK still here
			S: a2 OK [CAPABILITY IMAP4rev1] in
			C: a3 LOGOUT
			S: * BYE
			S: a3 OK`, "", nil},
		{"login in TLS, after a PROXY header", "login tls", `
			tls
			S: * OK [CAPABILITY IMAP4rev1] ready
			C: a1 LOGIN "$USER" "hunter2-\"horse\""
			S: a1 OK
			C: a2 LOGOUT`, "", nil},
		{"preauth", "login", `
			S: * PREAUTH [CAPABILITY IMAP4rev1] hello probe
			C: a1 LOGOUT`, "", nil},
		{"preauth, starttls", "login starttls", `
			S: * PREAUTH [CAPABILITY IMAP4rev1 STARTTLS]`,
			"greeting: server is logged in already (PREAUTH), so STARTTLS is not possible", nil},
		{"bye", "deep", `
			S: * BYE [UNAVAILABLE] maintenance`, "greeting: * BYE [UNAVAILABLE] maintenance", nil},
		{"bye, small", "deep", `
			S: * bye`, "greeting: * bye", nil},
		{"bye to CAPABILITY", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: * BYE too slow`, "CAPABILITY: * BYE too slow", nil},
		{"bye to the login", "login", `
			S: * OK [CAPABILITY IMAP4rev1]
			C: a1 LOGIN "$USER" "hunter2-\"horse\""
			S: * BYE broken
			S: a1 OK`, "login: * BYE broken", nil},
		{"nothing", "deep", ``, "connection closed by server (greeting)", nil},
		{"silence", "deep", `hang`, "timeout after 300ms (greeting)", nil},
		{"empty line", "deep", `
			S: `, "greeting: not one of IMAP: ", nil},
		{"half a line", "deep", `
			W: * OK ready`, "connection closed by server (greeting)", nil},
		{"binary", "deep", `
			W: \0\x01\n`, "greeting: a line has control characters", nil},
		{"a carriage return in a line", "deep", `
			W: * OK a\rb\r\n`, "greeting: a line has control characters", nil},
		{"endless line", "deep", `
			lines aaaaaaaa`, "greeting: a line has more than 8192 bytes", nil},
		{"endless lines", "deep", `
			S: * OK
			C: a1 CAPABILITY
			lines * 1 EXISTS\r\n`, "CAPABILITY: more than 1000 lines", nil},
		{"a web server", "deep", `
			S: HTTP/1.1 400 Bad Request`, "greeting: not one of IMAP: HTTP/1.1 400 Bad Request", nil},
		{"an untagged response that is no greeting", "deep", `
			S: * 12 EXISTS`, "greeting: not one of IMAP: * 12 EXISTS", nil},
		{"closed after the greeting", "deep", `
			S: * OK
			C: a1 CAPABILITY`, "connection closed by server (CAPABILITY)", nil},
		{"closed in the login", "login", `
			S: * OK [CAPABILITY IMAP4rev1]
			C: a1 LOGIN "$USER" "hunter2-\"horse\""`, "connection closed by server (login)", nil},
		{"wrong tag", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: a2 OK`, "CAPABILITY: no answer to a1: a2 OK", nil},
		{"tag that begins alike", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: a11 OK`, "CAPABILITY: no answer to a1: a11 OK", nil},
		{"tag alone", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: a1`, "CAPABILITY: no answer to a1: a1", nil},
		{"neither OK nor NO", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: a1 MAYBE`, "CAPABILITY refused: MAYBE", nil},
		{"continuation that nobody needs", "login", `
			S: * OK [CAPABILITY IMAP4rev1]
			C: a1 LOGIN "$USER" "hunter2-\"horse\""
			S: + more`, "login: server waits for more: + more", nil},
		{"not IMAP4rev1", "deep", `
			S: * OK [CAPABILITY IMAP4] old`, "server has neither IMAP4rev1 nor IMAP4rev2", nil},
		{"CAPABILITY is refused", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: a1 BAD what?`, "CAPABILITY refused: BAD what?", nil},
		{"LOGINDISABLED", "login", `
			S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready`, "server allows no logins here (LOGINDISABLED)", nil},
		{"login refused", "login", `
			S: * OK [CAPABILITY IMAP4rev1]
			C: a1 LOGIN "$USER" "hunter2-\"horse\""
			S: a1 NO [AUTHENTICATIONFAILED] Authentication failed.`, "login refused: [AUTHENTICATIONFAILED] Authentication failed.", nil},
		{"password repeated", "login", `
			S: * OK [CAPABILITY IMAP4rev1]
			C: a1 LOGIN "$USER" "hunter2-\"horse\""
			S: a1 BAD LOGIN $USER $PASS "hunter2-\"horse\"" $PASS64 $PLAIN $BASIC`,
			`login refused: BAD LOGIN probe@example.org **** "****" **** ****== ****`, nil},
		{"password repeated where the text is cut", "login", `
			S: * OK [CAPABILITY IMAP4rev1]
			C: a1 LOGIN "$USER" "hunter2-\"horse\""
			S: a1 NO ` + long(280) + `$PASS`, "login refused: " + long(280) + "****", nil},
		{"literal that says it is the answer", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: * LIST () "/" {11}
			W: a1 NO no\r\n\0
			S:  more {3}
			W: abc\r\n
			S: * CAPABILITY IMAP4rev1
			S: a1 OK
			C: a2 LOGOUT`, "", nil},
		{"literal that is too large", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: * X {9999999}`, "CAPABILITY: more than 262144 bytes", nil},
		{"literal that does not come", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: * X {20}
			S: a1 OK`, "connection closed by server (CAPABILITY)", nil},
		{"literal of no size", "deep", `
			S: * OK
			C: a1 CAPABILITY
			S: * X {-1}
			S: * X {99999999999999999999}
			S: * X {}
			S: * CAPABILITY IMAP4rev1
			S: a1 OK all of {5}
			C: a2 LOGOUT`, "", nil},
		{"text that ends as a literal", "deep", `
			S: * OK [CAPABILITY IMAP4rev1] I am {500}
			C: a1 LOGOUT`, "", nil},

		{"starttls", "starttls", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 OK go
			tls
			C: a2 LOGOUT
			S: a2 OK`, "", nil},
		{"starttls, capabilities anew, login", "starttls login", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready
			C: a1 STARTTLS
			S: a1 OK [CAPABILITY IMAP4rev1 LOGINDISABLED] go
			tls
			C: a2 CAPABILITY
			S: * CAPABILITY IMAP4rev1
			S: a2 OK
			C: a3 LOGIN "$USER" "hunter2-\"horse\""
			S: a3 OK
			C: a4 LOGOUT`, "", nil},
		{"starttls not offered", "starttls login", `
			S: * OK [CAPABILITY IMAP4rev1] ready`, "server offers no STARTTLS", nil},
		{"starttls refused", "starttls", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 NO no certificate`, "STARTTLS refused: no certificate", nil},
		{"starttls with plaintext behind it", "starttls login", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			W: a1 OK go\r\n* CAPABILITY IMAP4rev1\r\na2 OK\r\n`,
			"server sent plaintext after its go-ahead for STARTTLS, before the handshake", nil},
		{"starttls, then no TLS", "starttls", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 OK go
			peek
			S: * OK what?
			hang`, "server does not speak TLS", nil},
		{"starttls, then the end", "starttls", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 OK go
			peek
			end`, "connection closed by server (TLS handshake)", nil},
		{"starttls, another's certificate, which is the password", "starttls login", `
			wrong certificate
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 OK go
			tls
			hang`, "certificate is for ****, not mail.example.org", nil},
		{"starttls, another's certificate, which need not be verified", "starttls any login", `
			wrong certificate
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 OK go
			tls
			C: a2 CAPABILITY
			S: a2 OK [CAPABILITY IMAP4rev1]
			C: a3 LOGIN "$USER" "hunter2-\"horse\""
			S: a3 OK
			C: a4 LOGOUT`, "", nil},
		{"starttls, then bye", "starttls login", `
			S: * OK [CAPABILITY IMAP4rev1 STARTTLS] ready
			C: a1 STARTTLS
			S: a1 OK go
			tls
			C: a2 CAPABILITY
			S: * BYE`, "CAPABILITY: * BYE", nil},
	})
}
