package monitor

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"

	"github.com/pires/go-proxyproto"

	"usher/proxy"
)

// checkConnect says up when the connection stands, with TLS where the entry has
// it. It reads nothing: a process that is stopped, but whose kernel accepts, is
// up for it.
func checkConnect(ctx context.Context, p *prober, s *proxy.Server, addr netip.Addr) error {
	conn, err := p.open(ctx, s, addr)
	if err != nil {
		return err
	}
	p.close(conn, s)
	return nil
}

// open connects to s at addr as its settings say: TCP, then the PROXY header,
// then TLS on connect. ctx's deadline stays on the connection, which the caller
// closes.
func (p *prober) open(ctx context.Context, s *proxy.Server, addr netip.Addr) (net.Conn, error) {
	conn, err := p.dial(ctx, "tcp", netip.AddrPortFrom(addr, uint16(s.Port)).String())
	if err != nil {
		return nil, p.explain("connect", err)
	}
	p.note("* ", "connected to "+netip.AddrPortFrom(addr, uint16(s.Port)).String())
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			p.close(conn, s)
			return nil, p.explain("connect", err)
		}
	}
	if s.HAProxyV2 {
		if err := writeProxyHeader(conn); err != nil {
			p.close(conn, s)
			return nil, p.explain("PROXY header", err)
		}
		p.note("* ", "PROXY v2 header sent")
	}
	if !s.TLS {
		return conn, nil
	}
	secure, err := p.handshake(ctx, s, conn)
	if err != nil {
		p.close(conn, s)
		return nil, err
	}
	return secure, nil
}

// handshake goes on in TLS on conn, which stays the caller's to close if that
// fails.
func (p *prober) handshake(ctx context.Context, s *proxy.Server, conn net.Conn) (*tls.Conn, error) {
	secure := tls.Client(conn, p.tlsConfig(s))
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, p.explain("TLS handshake", err)
	}
	if p.trace != nil {
		p.note("* ", secured(secure.ConnectionState(), s.TLSSkipVerify))
	}
	return secure, nil
}

// writeProxyHeader sends a PROXY v2 header with the command LOCAL: the
// connection is the sender's own and stands for no client, which is what the
// protocol has for health checks (proxy-protocol.txt, section 2.2).
func writeProxyHeader(conn net.Conn) error {
	h := proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	_, err := h.WriteTo(conn)
	return err
}

// tlsConfig keeps the configured host as the name, though an address is
// dialled: the certificate must be the host's. A host that is an address needs
// an IP SAN. DNS's trailing dot is no part of a certificate's name (RFC 6125,
// section 6.4).
func (p *prober) tlsConfig(s *proxy.Server) *tls.Config {
	return &tls.Config{
		ServerName:         strings.TrimSuffix(s.Host, "."),
		RootCAs:            p.roots,
		InsecureSkipVerify: s.TLSSkipVerify,
	}
}
