package dovecot

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// lineTimeout is how long a line may take that has begun.
	lineTimeout = 60 * time.Second
	// drainIdle is how long a connection must be silent, while usher ends,
	// before it is closed: a request that is on its way is still answered.
	drainIdle = 50 * time.Millisecond
	// maxSkip ends a connection that sends more than this without an LF.
	maxSkip = 1 << 20
)

// errIdle: nothing came in time. No byte was lost.
var errIdle = errors.New("idle")

// A lineReader reads LF-ended lines with a limit on their length.
type lineReader struct {
	conn  net.Conn
	r     *bufio.Reader
	max   int
	slow  bool        // a deadline is set
	woken atomic.Bool // wake was called
}

func newLineReader(conn net.Conn, max int) *lineReader {
	return &lineReader{conn: conn, r: bufio.NewReaderSize(conn, max), max: max}
}

// next returns the next line with its LF; it is valid until the next call. Of a
// line over the limit the first 64 bytes are returned with tooLong set, and the
// rest is skipped. idle, if not 0, bounds the wait for the line's first byte.
func (l *lineReader) next(idle time.Duration) (line []byte, tooLong bool, err error) {
	if l.r.Buffered() == 0 {
		if idle > 0 || l.slow {
			if err := l.deadline(idle); err != nil {
				return nil, false, err
			}
		}
		if _, err := l.r.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil, false, errIdle
			}
			return nil, false, err
		}
	}
	if buf, err := l.r.Peek(l.r.Buffered()); err != nil || bytes.IndexByte(buf, '\n') < 0 {
		if err := l.deadline(lineTimeout); err != nil {
			return nil, false, err
		}
	}
	line, err = l.r.ReadSlice('\n')
	if err == nil {
		return line, false, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, false, err
	}
	head := bytes.Clone(line[:64])
	for skipped := len(line); ; {
		part, err := l.r.ReadSlice('\n')
		switch {
		case err == nil:
			return head, true, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		}
		if skipped += len(part); skipped > maxSkip {
			return nil, false, errors.New("a line without an end")
		}
	}
}

// deadline sets the read deadline d from now, or none.
func (l *lineReader) deadline(d time.Duration) error {
	l.slow = d > 0
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	if err := l.conn.SetReadDeadline(t); err != nil {
		return err
	}
	if d > 0 || !l.woken.Load() {
		return nil
	}
	// wake came after the caller had looked: its deadline stands.
	l.slow = true
	return l.conn.SetReadDeadline(time.Now().Add(drainIdle))
}

// wake makes a reader that waits for a line return errIdle soon, so that it
// looks whether it shall end. It may be called at any time.
func (l *lineReader) wake() {
	l.woken.Store(true)
	if err := l.conn.SetReadDeadline(time.Now().Add(drainIdle)); err != nil {
		closeQuietly(l.conn)
	}
}

// buffered reports whether another line may be had without waiting. The
// beginning of one does not count: its end may be long in coming.
func (l *lineReader) buffered() bool {
	buf, err := l.r.Peek(l.r.Buffered())
	return err == nil && bytes.IndexByte(buf, '\n') >= 0
}

// text cuts the LF, and a CR that a hand-typed line may have, off a line.
func text(line []byte) string {
	s := strings.TrimSuffix(string(line), "\n")
	return strings.TrimSuffix(s, "\r")
}

// normalEnd reports whether err is how connections end.
func normalEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}
