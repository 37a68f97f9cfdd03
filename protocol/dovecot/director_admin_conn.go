package dovecot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// maxAdminLine is the longest line in bytes, its LF included, that a client of
	// director-admin may send.
	maxAdminLine = 8192
	// adminIdle is how long a client may say nothing. doveadm lists all users
	// between its greeting and its request (director map).
	adminIdle = time.Hour
	// adminBatch is how many bytes of a list leave together.
	adminBatch = 32 << 10

	// adminGreeting is what either side says first. poolmon compares it byte for byte.
	adminGreeting = "VERSION\tdirector-doveadm\t1\t0\n"
)

// An adminConn is a client's connection. Requests are answered one after the
// other, as the director does.
type adminConn struct {
	*Server
	nc   net.Conn
	in   *lineReader
	gone bool // nobody reads the answers
}

func (s *Server) directorAdmin(ph phases, nc net.Conn) {
	if kept, more, err := keptOf(nc); kept != nil || err != nil {
		s.turnAway(nc, kept, more, err) // the address was that of another kind
		return
	}
	c := &adminConn{Server: s, nc: nc, in: newLineReader(nc, maxAdminLine)}
	err := c.say([]byte(adminGreeting))
	if err == nil {
		err = c.read(ph)
	}
	if err != nil && !normalEnd(err) && !errors.Is(err, syscall.ECONNRESET) {
		s.log.Warn("director-admin", zap.Error(err))
	}
}

// read serves requests until the client leaves or usher ends. A client that hangs
// up without reading has its requests carried out all the same.
func (c *adminConn) read(ph phases) error {
	defer context.AfterFunc(ph.serving, c.in.wake)()
	var endedAt time.Time
	greeted := false
	for ph.grace.Err() == nil {
		idle := adminIdle
		if !greeted {
			idle = lineTimeout
		}
		if ph.serving.Err() != nil {
			if endedAt.IsZero() {
				endedAt = time.Now()
			}
			idle = silence(endedAt)
		}
		line, tooLong, err := c.in.next(idle)
		switch {
		case errors.Is(err, errIdle):
			if ph.serving.Err() == nil || hangUp(c.nc) {
				return nil
			}
			continue
		case err != nil:
			return err
		case tooLong:
			return fmt.Errorf("a line is over the limit of %d bytes", maxAdminLine)
		case !greeted:
			if greeted = isAdminVersion(text(line)); !greeted {
				return errAdminVersion
			}
			continue
		}
		if err := c.request(ph.grace, text(line)); err != nil {
			return err
		}
	}
	return nil
}

// say writes b, unless the client has gone. It fails when the client is there and
// does not read.
func (c *adminConn) say(b []byte) error {
	if c.gone || len(b) == 0 {
		return nil
	}
	err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = c.nc.Write(b)
	}
	if err == nil {
		return nil
	}
	c.gone = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlowReader
	}
	return nil
}

// request serves one line. Its error ends the connection.
func (c *adminConn) request(ctx context.Context, line string) error {
	r, err := parseAdmin(line)
	if err != nil {
		return fmt.Errorf("%w: %.40q", err, line)
	}
	switch r.verb {
	case "HOST-LIST":
		err = c.hostList(ctx)
	case "HOST-LIST-REMOVED":
		err = c.hostListRemoved(ctx)
	case "USER-LOOKUP":
		err = c.userLookup(ctx, r)
	case "USER-LIST":
		err = c.userList(ctx, r)
	case "DIRECTOR-LIST":
		err = c.directorList(ctx)
	default:
		err = c.order(ctx, r)
		if errors.Is(err, errAdminParams) {
			break
		}
		return c.say([]byte(c.outcome(r, err) + "\n"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.verb, err)
	}
	return nil
}
