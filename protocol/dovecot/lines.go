package dovecot

import (
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
	drainIdle = 5 * time.Millisecond
	// drainPatience is after how long of a connection that is never silent for
	// drainIdle the next short silence is taken.
	drainPatience = 200 * time.Millisecond
	// abstainAfter and abstainUntil: see abstains.
	abstainAfter = time.Second
	abstainUntil = 6 * time.Second
	// maxSkip ends a connection that sends more than this without an LF.
	maxSkip = 1 << 20
)

// errIdle: nothing came in time. No byte was lost.
var errIdle = errors.New("idle")

// A lineReader reads LF-ended lines with a limit on their length. Its buffer is
// small while the lines are: most connections are idle most of the time.
type lineReader struct {
	conn  net.Conn
	buf   []byte
	r, w  int // buf[r:w] was read and not yet returned
	max   int
	slow  bool        // a deadline is set
	woken atomic.Bool // wake was called
}

// smallBuffer is what a lineReader begins with, in bytes.
const smallBuffer = 2048

func newLineReader(conn net.Conn, max int) *lineReader {
	return &lineReader{conn: conn, buf: make([]byte, min(smallBuffer, max)), max: max}
}

// next returns the next line with its LF; it is valid until the next call. Of a
// line over the limit the first 64 bytes are returned with tooLong set, and the
// rest is skipped. idle, if not 0, bounds the wait for the line's first byte.
func (l *lineReader) next(idle time.Duration) (line []byte, tooLong bool, err error) {
	var head []byte // of a line that is too long
	skipped, begun := 0, false
	for scanned := 0; ; {
		if i := bytes.IndexByte(l.buf[l.r+scanned:l.w], '\n'); i >= 0 {
			end := l.r + scanned + i + 1
			line, l.r = l.buf[l.r:end], end
			if head != nil {
				return head, true, nil
			}
			return line, false, nil
		}
		scanned = l.w - l.r
		if scanned >= l.max {
			if head == nil {
				head = bytes.Clone(l.buf[l.r : l.r+64])
			}
			if skipped += scanned; skipped > maxSkip {
				return nil, false, errors.New("a line without an end")
			}
			l.r, l.w, scanned = 0, 0, 0
		}
		switch inside := scanned > 0 || head != nil; {
		case inside && !begun:
			begun = true
			err = l.deadline(lineTimeout)
		case !inside && (idle > 0 || l.slow):
			err = l.deadline(idle)
		}
		if err == nil {
			err = l.fill()
		}
		switch {
		case err == nil:
		case head == nil && errors.Is(err, os.ErrDeadlineExceeded) && (l.woken.Swap(false) || scanned == 0):
			l.slow = true // wake may have set the deadline
			return nil, false, errIdle
		default:
			return nil, false, err
		}
	}
}

// fill reads once. There is room: a full buffer has a line, or is skipped.
func (l *lineReader) fill() error {
	if l.r > 0 {
		l.w = copy(l.buf, l.buf[l.r:l.w])
		l.r = 0
	}
	if l.w == len(l.buf) {
		l.buf = append(make([]byte, 0, min(2*len(l.buf), l.max)), l.buf...)
		l.buf = l.buf[:cap(l.buf)]
	}
	n, err := l.conn.Read(l.buf[l.w:])
	l.w += n
	if n > 0 {
		return nil
	}
	return err
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
	if d > 0 && d <= drainIdle || !l.woken.Load() {
		return nil
	}
	// wake may have come after the caller had looked: its deadline stands.
	l.slow = true
	return l.conn.SetReadDeadline(time.Now().Add(drainIdle))
}

// wake makes a reader that waits for a line, or for the rest of one, return
// errIdle soon, so that it looks whether it shall end. It may be called at any
// time. A second errIdle may follow the first.
func (l *lineReader) wake() {
	l.woken.Store(true)
	if err := l.conn.SetReadDeadline(time.Now().Add(drainIdle)); err != nil {
		closeQuietly(l.conn)
	}
}

// silence is how long a connection must be silent before it is closed, when that
// has been wanted since then.
func silence(since time.Time) time.Duration {
	if time.Since(since) < drainPatience {
		return drainIdle
	}
	return drainIdle / 10
}

// abstains reports whether nothing shall be read for now from a connection that is
// to be handed over, which has been wanted since then: one that always has
// something outstanding gets rid of it so, and what its client says meanwhile
// waits for the next server. Who has to say more of what is outstanding is read
// again after a while.
func abstains(since time.Time) bool {
	d := time.Since(since)
	return abstainAfter <= d && d < abstainUntil
}

// begun reports whether the beginning of a line was read.
func (l *lineReader) begun() bool { return l.r < l.w }

// buffered reports whether another line may be had without waiting. The
// beginning of one does not count: its end may be long in coming.
func (l *lineReader) buffered() bool {
	return bytes.IndexByte(l.buf[l.r:l.w], '\n') >= 0
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
