package dovecot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"usher/proxy"
)

const (
	// maxDoveadmReply bounds what is read of one request's answers, in bytes.
	maxDoveadmReply = 64 << 20
	// maxDoveadmLine bounds a line of the handshake, and the last of a reply.
	maxDoveadmLine = 1024
	// maxDoveadmLog is how much is kept of what the server logs meanwhile.
	maxDoveadmLog = 400
)

var (
	errLongReply = errors.New("an answer over 64 MiB")
	errNoDoveadm = errors.New("the server does not speak doveadm's protocol")
)

// A doveadmTCP asks by the protocol that doveadm itself speaks, version 1
// (doveadm/client-connection-tcp.c). Each request has a connection of its own.
type doveadmTCP struct {
	addr     string // host:port
	password proxy.Secret
}

// A doveadmConn is a connection that the server has let in.
type doveadmConn struct {
	net.Conn
	in    *bufio.Reader
	minor int // of the server's version; 0: it said none, and frames nothing
	log   *bytes.Buffer
	stop  func() bool
}

// Close closes the connection.
func (c *doveadmConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// dialect goes by the version of the protocol: 1.2 in 2.3, 1.3 from 2.4.0 on.
func (w *doveadmTCP) dialect(ctx context.Context) (doveadmDialect, error) {
	c, err := w.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if c.minor <= 2 {
		return doveadm23, nil
	}
	return doveadm24, nil
}

func (w *doveadmTCP) run(ctx context.Context, commands []doveadmCommand) ([]doveadmReply, error) {
	c, err := w.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []doveadmReply
	for _, command := range commands {
		if _, err := c.Write(command.line()); err != nil {
			return nil, err
		}
		r, err := readDoveadmReply(c.in)
		said := c.said()
		switch {
		case err != nil && said != "":
			return nil, fmt.Errorf("the server does not do `%s`: %s", command.name, said)
		case err != nil:
			return nil, err
		}
		r.said = said
		out = append(out, r)
	}
	return out, nil
}

// connect dials, and shows the password. What the server sends from then on is in
// frames, if it is of version 1.1 or later: we say 1.1, from which on its errors
// come too, and what only later versions do is not done.
func (w *doveadmTCP) connect(ctx context.Context) (*doveadmConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", w.addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(deadline)
	}
	c := &doveadmConn{Conn: conn, log: &bytes.Buffer{}}
	c.stop = context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0)) // what reads or writes then fails, and tells
	})
	if err == nil {
		err = c.greet(w.password)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *doveadmConn) greet(password proxy.Secret) error {
	if _, err := io.WriteString(c.Conn, "VERSION\tdoveadm-server\t1\t1\n"); err != nil {
		return err
	}
	raw := bufio.NewReader(&cappedReader{c.Conn, maxDoveadmReply})
	line, err := shortLine(raw)
	if err != nil {
		return err
	}
	if version, ok := strings.CutPrefix(line, "VERSION\tdoveadm-client\t1\t"); ok {
		if c.minor, err = strconv.Atoi(version); err != nil || c.minor < 0 {
			return errNoDoveadm
		}
		if line, err = shortLine(raw); err != nil {
			return err
		}
	}
	if line == "-" { // it wants a password
		plain := base64.StdEncoding.EncodeToString([]byte("\x00doveadm\x00" + password.Reveal()))
		if _, err := io.WriteString(c.Conn, "PLAIN\t"+plain+"\n"); err != nil {
			return err
		}
		if line, err = shortLine(raw); err != nil {
			return err
		}
		if line == "-" {
			return errors.New("the server does not take the password (doveadm_password)")
		}
	}
	if line != "+" {
		return errNoDoveadm
	}
	c.in = raw
	if c.minor > 0 {
		c.in = bufio.NewReader(&deframer{r: raw, log: c.log})
	}
	return nil
}

// said returns what the server logged since it was asked last, in one line.
func (c *doveadmConn) said() string {
	var words []string
	for line := range strings.Lines(c.log.String()) {
		if len(line) > 1 { // its first byte is the kind
			words = append(words, strings.TrimSpace(line[1:]))
		}
	}
	c.log.Reset()
	return oneLine(strings.Join(words, "; "))
}

// line is a command as it is sent: flags, a user name (both none), the words of a
// command line, tab-escaped.
func (c *doveadmCommand) line() []byte {
	b := append([]byte("\t\t"), c.name...)
	if c.each {
		b = append(b, "\t-1"...)
	}
	if c.host != "" {
		b = appendEscaped(append(b, "\t-h\t"...), c.host)
	}
	if len(c.names) > 0 {
		b = append(b, "\t--"...)
	}
	for _, name := range c.names {
		b = appendEscaped(append(b, '\t'), name)
	}
	return append(b, '\n')
}

// readDoveadmReply reads values, an LF, and `+` or `-` and a fault in a line. No
// value has an LF.
func readDoveadmReply(in *bufio.Reader) (doveadmReply, error) {
	var r doveadmReply
	for {
		part, err := in.ReadSlice('\n')
		r.values = append(r.values, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return r, err
		}
	}
	r.values = r.values[:len(r.values)-1]
	line, err := shortLine(in)
	if err != nil {
		return r, err
	}
	fault, failed := strings.CutPrefix(line, "-")
	switch {
	case failed && fault == "":
		r.fault = "FAILED"
	case failed:
		r.fault = oneLine(fault)
	case line != "+":
		return r, errNoDoveadm
	}
	return r, nil
}

// shortLine reads a line, without its LF.
func shortLine(in *bufio.Reader) (string, error) {
	var b []byte
	for {
		c, err := in.ReadByte()
		switch {
		case err != nil:
			return "", err
		case c == '\n':
			return string(b), nil
		case len(b) == maxDoveadmLine:
			return "", errNoDoveadm
		}
		b = append(b, c)
	}
}

// A deframer returns what is for channel 0 of frames, each a byte that names the
// channel, the length in 4 bytes, most significant first, and that many bytes
// (ostream-multiplex.c). Channel L is the server's log.
type deframer struct {
	r    *bufio.Reader
	left uint32 // of a frame of channel 0
	log  *bytes.Buffer
}

// Read implements io.Reader.
func (d *deframer) Read(p []byte) (int, error) {
	for d.left == 0 {
		var head [5]byte
		if _, err := io.ReadFull(d.r, head[:]); err != nil {
			return 0, err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if head[0] == 0 {
			d.left = n
			continue
		}
		var keep io.Writer = io.Discard
		if head[0] == 'L' && d.log.Len() < maxDoveadmLog {
			keep = d.log
		}
		kept := min(int64(n), maxDoveadmLog)
		if _, err := io.CopyN(keep, d.r, kept); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, d.r, int64(n)-kept); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > uint64(d.left) {
		p = p[:d.left]
	}
	n, err := d.r.Read(p)
	d.left -= uint32(n)
	return n, err
}

// A cappedReader fails with errLongReply after left bytes.
type cappedReader struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (c *cappedReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errLongReply
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
