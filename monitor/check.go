package monitor

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// A checkFunc checks one backend at addr. ctx has a deadline, which it puts on
// every connection. Its errors have words for an operator, and p.hide has been
// over what they quote of the server: they never show s.TestPassword.
type checkFunc func(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error

// checks has one function a protocol.
var checks = map[string]checkFunc{
	"imap":  checkIMAP,
	"pop3":  checkPOP3,
	"smtp":  checkSMTP,
	"lmtp":  checkLMTP,
	"sieve": checkSieve,
	"http":  checkHTTP,
}

// A prober is what checks have in common.
type prober struct {
	dial    DialFunc
	roots   *x509.CertPool // nil: the system's
	timeout time.Duration  // of a check, for its error text
	log     *zap.Logger

	// Those of one check; run sets them on a copy.
	secrets []string          // the forms of its test password, see formsOf
	trace   func(line string) // nil: nobody listens
}

// run checks s at addr. trace, if not nil, is told what is done ("* …"), said
// ("C: …") and heard ("S: …"), a line each, without s.TestPassword.
func (p *prober) run(ctx context.Context, s *proxy.Server, addr netip.Addr, trace func(line string)) error {
	check := checks[s.Protocol]
	if check == nil { // named by a policy, not by the inventory
		check = checkConnect
	}
	one := *p
	one.secrets, one.trace = formsOf(s.TestUsername, s.TestPassword), trace
	return check(ctx, &one, s, addr)
}

// close ends a connection. What went wrong by then is the check's to tell: an
// error here, of a server that did not wait for TLS's goodbye, changes nothing.
func (p *prober) close(conn net.Conn, s *proxy.Server) {
	if err := conn.Close(); err != nil {
		p.log.Debug("close", zap.String("backend", s.Address()), zap.Error(err))
	}
}
