package monitor

import (
	"testing"

	"usher/proxy"
)

func TestCheckHTTP(t *testing.T) {
	expect := func(status string) func(*proxy.Server) { return func(s *proxy.Server) { s.ExpectStatus = status } }
	asks := func(uri string) func(*proxy.Server) { return func(s *proxy.Server) { s.RequestURI = uri } }
	const request = `
			C: GET / HTTP/1.1
			C: Host: mail.example.org:$PORT
			C: User-Agent: usher
			C: Connection: close
			C: 
			`
	const withBasic = `
			C: GET / HTTP/1.1
			C: Host: mail.example.org:$PORT
			C: User-Agent: usher
			C: Connection: close
			C: Authorization: Basic $BASIC
			C: 
			`
	perform(t, "http", []scene{
		{"200", "deep", request + `
			S: HTTP/1.1 200 OK
			S: Content-Length: 100
			S: `, "", nil},
		{"in TLS", "deep tls", `
			tls` + request + `
			S: HTTP/1.1 204 No Content
			S: `, "", nil},
		{"a body that does not end", "deep", request + `
			S: HTTP/1.0 200 OK
			S: 
			lines aaaaa`, "", nil},
		{"a path makes a request of a check that is not deep", "", `
			C: GET /health?deep=1 HTTP/1.1
			C: Host: mail.example.org:$PORT
			C: User-Agent: usher
			C: Connection: close
			C: 
			S: HTTP/1.1 200
			S: `, "", asks("/health?deep=1")},
		{"301 is not followed", "deep", request + `
			S: HTTP/1.1 301 Moved Permanently
			S: Location: /login
			S: `, "status: 301 Moved Permanently, expected 2xx", nil},
		{"404", "deep", request + `
			S: HTTP/1.1 404 Not Found
			S: `, "status: 404 Not Found, expected 2xx", nil},
		{"500", "deep", request + `
			S: HTTP/1.1 500 Internal Server Error
			S: `, "status: 500 Internal Server Error, expected 2xx", nil},
		{"another class", "deep", request + `
			S: HTTP/1.1 302 Found
			S: `, "", expect("3xx")},
		{"another number", "deep", request + `
			S: HTTP/1.1 401 Unauthorized
			S: `, "", expect("401")},
		{"200 where 204 is expected", "deep", request + `
			S: HTTP/1.1 200 OK
			S: `, "status: 200 OK, expected 204", expect("204")},
		{"early hints", "deep", request + `
			S: HTTP/1.1 103 Early Hints
			S: Link: </a.css>
			S: 
			S: HTTP/1.1 200 OK
			S: `, "", nil},
		{"early hints without end", "deep", request + `
			lines HTTP/1.1 103 x\r\n\r\n`, "response: more than 1000 lines", nil},
		{"nothing", "deep", request, "connection closed by server (response)", nil},
		{"silence", "deep", request + `
			hang`, "timeout after 300ms (response)", nil},
		{"garbage", "deep", request + `
			S: * OK ready
			S: `, "response: its head is not one of HTTP: * OK ready", nil},
		{"binary", "deep", request + `
			W: \0\x01\n`, "response: a line has control characters", nil},
		{"empty line", "deep", request + `
			S: `, "response: its head is not one of HTTP: ", nil},
		{"status that is no number", "deep", request + `
			S: HTTP/1.1 2oo OK
			S: `, "response: its head is not one of HTTP: HTTP/1.1 2oo OK", nil},
		{"header without colon", "deep", request + `
			S: HTTP/1.1 200 OK
			S: hello
			S: `, "response: its head is not one of HTTP: HTTP/1.1 200 OK", nil},
		{"endless header line", "deep", request + `
			S: HTTP/1.1 200 OK
			W: A: 
			lines aaaaaaa`, "response: a line has more than 8192 bytes", nil},
		{"endless header", "deep", request + `
			S: HTTP/1.1 200 OK
			lines A: b\r\n`, "response: more than 1000 lines", nil},
		{"huge header", "deep", request + `
			S: HTTP/1.1 200 OK
			lines A: ` + long(8000) + `\r\n`, "response: more than 262144 bytes", nil},
		{"closed in the header", "deep", request + `
			S: HTTP/1.1 200 OK`, "connection closed by server (response)", nil},
		{"basic", "login", withBasic + `
			S: HTTP/1.1 200 OK
			S: `, "", nil},
		{"basic refused", "login", withBasic + `
			S: HTTP/1.1 401 not $BASIC, $PASS
			S: X: $BASIC
			S: `, "status: 401 not ****, ****, expected 2xx", nil},
		{"password in a malformed line", "login", withBasic + `
			S: HTTP/1.1 $PASS
			S: `, "response: its head is not one of HTTP: HTTP/1.1 ****", nil},
	})
}

func TestCheckHTTP_Unsayable(t *testing.T) {
	s := as("http", "login", 80)
	s.TestUsername = "a:b"
	if _, err := requestFor(s); err == nil || err.Error() != "test_username has a colon, which Basic authentication cannot say" {
		t.Error(err)
	}
	for _, uri := range []string{"/%zz", "/\x7f", "health"} {
		s := as("http", "deep", 80)
		s.RequestURI = uri
		if head, err := requestFor(s); err == nil {
			t.Errorf("%q: %q", uri, head)
		}
	}
}

func TestHostHeader(t *testing.T) {
	for want, s := range map[string]*proxy.Server{
		"mail.example.org":      {Host: "mail.example.org.", Port: 80},
		"mail.example.org:8080": {Host: "mail.example.org", Port: 8080},
		"a:80":                  {Host: "a", Port: 80, TLS: true},
		"a":                     {Host: "a", Port: 443, TLS: true},
		"[2001:db8::1]":         {Host: "2001:db8::1", Port: 80},
		"[2001:db8::1]:81":      {Host: "2001:db8::1", Port: 81},
	} {
		if got := hostHeader(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
