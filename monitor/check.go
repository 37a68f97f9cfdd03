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
// every connection. Its errors are made by explain. It never shows
// s.TestPassword. trace, if not nil, is told what is said and heard, a line each.
type checkFunc func(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr, trace func(line string)) error

// checks has one function a protocol.
var checks = map[string]checkFunc{
	"imap":  checkConnect,
	"pop3":  checkConnect,
	"smtp":  checkConnect,
	"lmtp":  checkConnect,
	"sieve": checkConnect,
	"http":  checkConnect,
}

// A prober is what checks have in common.
type prober struct {
	dial    DialFunc
	roots   *x509.CertPool // nil: the system's
	timeout time.Duration  // of a check, for its error text
	log     *zap.Logger
}

func (p *prober) run(ctx context.Context, s *proxy.Server, addr netip.Addr, trace func(line string)) error {
	check := checks[s.Protocol]
	if check == nil { // named by a policy, not by the inventory
		check = checkConnect
	}
	return check(ctx, p, s, addr, trace)
}

// close ends a connection. What went wrong by then is the check's to tell: an
// error here, of a server that did not wait for TLS's goodbye, changes nothing.
func (p *prober) close(conn net.Conn, s *proxy.Server) {
	if err := conn.Close(); err != nil {
		p.log.Debug("close", zap.String("backend", s.Address()), zap.Error(err))
	}
}
