package nginx

import (
	"bytes"
	"net"
)

// A delListener's connections turn the byte 0x7f into `%7F`. nginx sends it raw
// in Auth-Pass, and Go's HTTP server refuses a header with it before any handler
// sees it. Since nginx encodes every `%` itself, the two can't be mixed up.
type delListener struct{ net.Listener }

func (l delListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &delConn{Conn: c}, nil
}

type delConn struct {
	net.Conn
	rest []byte // read and rewritten, not handed out yet
}

func (c *delConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if bytes.IndexByte(p[:n], 0x7f) < 0 {
		return n, err
	}
	rewritten := bytes.ReplaceAll(p[:n], []byte{0x7f}, []byte("%7F"))
	n = copy(p, rewritten)
	if c.rest = rewritten[n:]; len(c.rest) > 0 {
		err = nil // the next Read of the connection meets it again
	}
	return n, err
}
