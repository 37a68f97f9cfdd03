package dovecot

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	writeTimeout = 30 * time.Second // two thirds of it at least
	maxBuffered  = 4 << 20          // bytes that a peer which does not read can make us hold
	softBuffered = 1 << 20          // beyond, nothing new is read from that peer
)

var errSlowReader = errors.New("the peer does not read")

// An outbox writes lines to a connection from many goroutines. Whoever finds
// it idle writes, for all that append meanwhile: no goroutine of its own, and
// one system call for answers that are ready together.
type outbox struct {
	conn net.Conn

	mu      sync.Mutex
	drained sync.Cond // L is mu; told when a write ends
	buf     []byte
	spare   []byte
	writing bool
	renewed time.Time // the write deadline; of the one who writes
	err     error
}

func newOutbox(conn net.Conn) *outbox {
	o := &outbox{conn: conn}
	o.drained.L = &o.mu
	return o
}

// queue appends b without writing: the caller flushes.
func (o *outbox) queue(b []byte) {
	o.mu.Lock()
	if o.err == nil {
		o.buf = append(o.buf, b...)
	}
	o.mu.Unlock()
}

// send appends b and sees to its being written. others: more answers may be on
// their way, let them come first.
func (o *outbox) send(b []byte, others bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	o.buf = append(o.buf, b...)
	if len(o.buf) > maxBuffered {
		o.fail(errSlowReader)
		return
	}
	o.write(others)
}

// flush writes what is queued.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write(false)
}

// write runs with mu held and releases it while it writes.
func (o *outbox) write(others bool) {
	if o.writing {
		return
	}
	o.writing = true
	if others {
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
	}
	for len(o.buf) > 0 && o.err == nil {
		out := o.buf
		o.buf = o.spare[:0]
		o.mu.Unlock()
		var err error
		if now := time.Now(); now.Sub(o.renewed) > writeTimeout/3 {
			o.renewed = now
			err = o.conn.SetWriteDeadline(now.Add(writeTimeout))
		}
		if err == nil {
			_, err = o.conn.Write(out)
		}
		o.mu.Lock()
		clear(out) // passwords were in it
		if cap(out) > 64<<10 {
			out = nil
		}
		o.spare = out
		if err != nil {
			o.fail(err)
		}
	}
	o.writing = false
	o.drained.Broadcast()
}

// fail ends the connection. mu is held.
func (o *outbox) fail(err error) {
	if o.err != nil {
		return
	}
	o.err = err
	o.buf = nil
	closeQuietly(o.conn)
	o.drained.Broadcast()
}

// failed reports whether the connection has ended.
func (o *outbox) failed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err != nil
}

// wait blocks while the peer has more than softBuffered bytes to read, and
// writes them if nobody does.
func (o *outbox) wait() {
	o.mu.Lock()
	for len(o.buf) > softBuffered && o.err == nil {
		if !o.writing {
			o.write(false)
			continue
		}
		o.drained.Wait()
	}
	o.mu.Unlock()
}

// finish waits until all is written.
func (o *outbox) finish() {
	o.mu.Lock()
	for (o.writing || len(o.buf) > 0) && o.err == nil {
		if !o.writing {
			o.write(false)
			continue
		}
		o.drained.Wait()
	}
	o.mu.Unlock()
}

func closeQuietly(c net.Conn) {
	c.Close()
}

// resetConn closes a connection of Postfix so that its next write there fails, and
// it connects again: on TCP with a reset. Many versions (3.7.11 of Debian 12) keep
// a connection that has ended, and would take its end for the answer to the next
// request as well.
func resetConn(c net.Conn) {
	inner := c
	if w, ok := c.(interface{ NetConn() net.Conn }); ok {
		inner = w.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		// An error says that it is closed.
		_ = tcp.SetLinger(0)
	}
	closeQuietly(c)
}
