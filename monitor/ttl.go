package monitor

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// minTTL: an answer that may not be kept at all (TTL 0) still is for a
	// second, or a login each would ask.
	minTTL = time.Second
	// maxTTL: who gave a name a TTL of a day and then moves it waits an hour.
	maxTTL = time.Hour
	// failedFor bounds the time to the next question after one that failed.
	failedFor = 5 * time.Second
)

// untilNext is the time to the next question. After an answer that is its TTL
// and up to a tenth, so that whoever keeps it for us has dropped it by then; no
// TTL (0), as of what stands in /etc/hosts, is about refresh.
func untilNext(ttl, refresh time.Duration, failed bool) time.Duration {
	switch {
	case failed:
		return jitter(min(refresh, failedFor))
	case ttl <= 0:
		return jitter(refresh)
	}
	ttl = min(max(ttl, minTTL), maxTTL)
	return ttl + time.Duration(rand.Float64()*float64(ttl)/10)
}

// A ttlReader finds the smallest TTL of the answers that pass by on the
// connections of one question. Those are made by a net.Resolver, which keeps the
// TTLs to itself; what it does with the messages is its own.
type ttlReader struct {
	mu    sync.Mutex
	least time.Duration // 0: none yet
}

// ttl returns the smallest one so far, at least minTTL; 0: none.
func (t *ttlReader) ttl() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.least
}

// read takes one message. Aliases count (CNAME), what is no answer does not.
func (t *ttlReader) read(message []byte, stream bool) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || h.RCode != dnsmessage.RCodeSuccess || p.SkipAllQuestions() != nil {
		return
	}
	if h.Truncated && !stream {
		return // the resolver asks again by TCP
	}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return
		}
		seconds := r.TTL
		if seconds > 1<<31-1 {
			seconds = 0 // RFC 2181 section 8
		}
		ttl := max(time.Duration(seconds)*time.Second, minTTL)
		t.mu.Lock()
		if t.least == 0 || ttl < t.least {
			t.least = ttl
		}
		t.mu.Unlock()
		if p.SkipAnswer() != nil {
			return
		}
	}
}

// dial opens a connection to a name server that t reads along. It ends with
// ctx: net.Resolver gives up waiting then, but not reading.
func (t *ttlReader) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	if udp, ok := c.(*net.UDPConn); ok {
		return &udpConn{UDPConn: udp, ttls: t, stop: stop}, nil
	}
	return &tcpConn{Conn: c, ttls: t, stop: stop}, nil
}

// A udpConn is a net.PacketConn, by which net.Resolver knows that a message is a
// packet. It reads by Read alone.
type udpConn struct {
	*net.UDPConn
	ttls *ttlReader
	id   [2]byte // of the question
	stop func() bool
}

// Write sends the question.
func (c *udpConn) Write(b []byte) (int, error) {
	copy(c.id[:], b)
	return c.UDPConn.Write(b)
}

// Read returns one packet. net.Resolver skips those with another number than
// the question has, which anybody can send.
func (c *udpConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	if n >= 2 && c.id == [2]byte(b) {
		c.ttls.read(b[:n], false)
	}
	return n, err
}

// Close implements net.Conn.
func (c *udpConn) Close() error {
	c.stop()
	return c.UDPConn.Close()
}

// A tcpConn carries messages with their length in two bytes before them (RFC
// 1035 section 4.2.2). It is no net.PacketConn.
type tcpConn struct {
	net.Conn
	ttls  *ttlReader
	piece []byte // of a message that has not come completely
	stop  func() bool
}

// Read returns what came.
func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.piece = append(c.piece, b[:n]...)
	for len(c.piece) >= 2 {
		end := 2 + (int(c.piece[0])<<8 | int(c.piece[1]))
		if len(c.piece) < end {
			break
		}
		c.ttls.read(c.piece[2:end], true)
		c.piece = c.piece[end:]
	}
	return n, err
}

// Close implements net.Conn.
func (c *tcpConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
