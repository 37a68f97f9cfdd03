package dovecot

import "usher/proxy"

// A mechanism is a SASL mechanism that standalone mode can serve.
type mechanism struct {
	flags string // of its MECH line
	// emptyIsNone: an empty initial response says nothing, so the client is asked.
	emptyIsNone bool
	begin       func() dialogue
}

// mechanisms are keyed by name, upper case.
var mechanisms = map[string]mechanism{
	"PLAIN":       {"plaintext", false, func() dialogue { return plain{} }},
	"LOGIN":       {"plaintext", true, func() dialogue { return &login{} }},
	"OAUTHBEARER": {"plaintext", true, func() dialogue { return oauthBearer }},
	"XOAUTH2":     {"plaintext", true, func() dialogue { return xoauth2 }},
}

// A dialogue is the server's side of one SASL exchange. It belongs to the
// goroutine that reads the connection, but for refusal.
type dialogue interface {
	// prompt is what the client is asked next.
	prompt() string
	// take reads a response into r. done: r can be decided on. An error is the
	// client's fault, and does not quote the response.
	take(r *proxy.Request, response string) (done bool, err error)
	// refusal is what a client is told of a denial and answers something to
	// before it is sent FAIL; empty: nothing. Any goroutine may call it.
	refusal() string
}
