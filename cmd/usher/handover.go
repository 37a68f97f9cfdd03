package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A login process takes the end of its connection for the failure of what it has
// just asked, and no moment is sure to be quiet. So connections outlive the
// process that serves them: it hands them over to the next one through the very
// socket that they came from. The old one connects to it and sends the
// descriptors (SCM_RIGHTS) with what is to be known of each; that waits in the
// kernel's queue until the next one accepts. Nothing but the listening socket
// needs to be kept, and a reload that changes a listener does the same.

// handoverMagic begins what an usher says to the next one; the number is the
// format's.
const handoverMagic = "USHER-HANDOVER\t1\n"

const (
	handoverTimeout = time.Second // of each step
	maxHandover     = 256 << 10   // bytes of one connection's state
	maxHandoverFDs  = 8           // of one connection
	maxBatch        = 50          // connections: what a socket buffer holds
	maxBatchBytes   = 96 << 10    // and bytes, but for one state that is longer
	gather          = 2 * time.Millisecond
	// settle is how long after its connection another process may say that it
	// hands over, where the two run at the same time.
	settle = 50 * time.Millisecond
)

// An outgoing hands connections over, those of the same moment together: each
// connection to the socket takes a place of its queue, which has few.
type outgoing struct {
	mu    sync.Mutex
	batch *batch // being gathered, or nil
}

type batch struct {
	frames []*frame
	sent   chan struct{} // closed when all were sent, or were not
}

// A frame is one connection's state and descriptors.
type frame struct {
	bytes []byte
	fds   []int
	err   error
}

// send hands over a connection's state and descriptors.
func (o *outgoing) send(path string, state []byte, conns []net.Conn) error {
	f, err := newFrame(state, conns)
	defer f.close()
	if err != nil {
		return err
	}
	o.mu.Lock()
	b := o.batch
	if b == nil {
		b = &batch{sent: make(chan struct{})}
		o.batch = b
		time.AfterFunc(gather, func() { o.flush(b, path) })
	}
	b.frames = append(b.frames, f)
	full := len(b.frames) == maxBatch
	o.mu.Unlock()
	if full {
		o.flush(b, path)
	}
	<-b.sent
	return f.err
}

// flush sends a batch, once.
func (o *outgoing) flush(b *batch, path string) {
	o.mu.Lock()
	mine := o.batch == b
	if mine {
		o.batch = nil
	}
	o.mu.Unlock()
	if !mine {
		return
	}
	defer close(b.sent)
	var c *net.UnixConn
	sent := 0
	for _, f := range b.frames {
		if c != nil && sent+len(f.bytes) > maxBatchBytes {
			c.Close() // nobody may read yet: more would not go in
			c = nil
		}
		if c == nil {
			if c, f.err = greetNext(path); f.err != nil {
				continue
			}
			sent = 0
		}
		sent += len(f.bytes)
		if f.err = f.write(c); f.err != nil {
			c.Close() // what was sent whole before is good
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
}

// greetNext connects to whoever will listen at path.
func greetNext(path string) (*net.UnixConn, error) {
	c, err := net.DialTimeout("unix", path, handoverTimeout)
	if err != nil {
		return nil, err
	}
	u := c.(*net.UnixConn)
	err = u.SetWriteDeadline(time.Now().Add(handoverTimeout))
	if err == nil {
		_, err = u.Write([]byte(handoverMagic))
	}
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func newFrame(state []byte, conns []net.Conn) (*frame, error) {
	f := &frame{}
	if len(state) > maxHandover || len(conns) > maxHandoverFDs {
		return f, errors.New("handover: too much")
	}
	for _, c := range conns {
		fd, err := duplicate(c)
		if err != nil {
			return f, err
		}
		f.fds = append(f.fds, fd)
	}
	f.bytes = binary.BigEndian.AppendUint32(nil, uint32(len(state)))
	f.bytes = append(append(f.bytes, byte(len(conns))), state...)
	return f, nil
}

func (f *frame) write(c *net.UnixConn) error {
	n, _, err := c.WriteMsgUnix(f.bytes, unix.UnixRights(f.fds...), nil)
	if err == nil && n < len(f.bytes) {
		_, err = c.Write(f.bytes[n:])
	}
	return err
}

// close closes the copies of the descriptors; what was sent has its own.
func (f *frame) close() {
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
}

func duplicate(c net.Conn) (int, error) {
	if w, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = w.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("a connection that has no descriptor: %T", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	if cerr := raw.Control(func(orig uintptr) { fd, err = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return 0, cerr
	}
	return fd, err
}

// An adopted connection was served by another usher, or under another
// configuration, before. It implements dovecot.Kept.
type adopted struct {
	net.Conn
	state []byte
	more  []net.Conn
}

// Kept returns what is to be known of the connection, and what belongs to it.
func (a *adopted) Kept() (state []byte, more []net.Conn) { return a.state, a.more }

// isHandover looks, without taking anything, whether a connection is an usher's
// that hands over. Only usher's own user may. Another process has said so before
// it ended, or does in a moment; this one, in a reload, is just about to.
func isHandover(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil || err != nil {
		return false
	}
	if int(cred.Uid) != os.Geteuid() {
		return false
	}
	wait := settle
	if int(cred.Pid) == os.Getpid() {
		wait = handoverTimeout
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false
	}
	is := false
	look := func(fd uintptr) bool {
		var b [len(handoverMagic)]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		is = err == nil && string(b[:n]) == handoverMagic
		return err == nil
	}
	err = raw.Read(look)
	return errors.Join(err, c.SetReadDeadline(time.Time{})) == nil && is
}

// adopt reads what an usher handed over, to its end. What came with an error is
// good.
func adopt(c *net.UnixConn) (conns []net.Conn, err error) {
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(handoverTimeout)); err != nil {
		return nil, err
	}
	var data []byte
	var fds []int
	defer func() {
		for _, fd := range fds { // of a frame that is not whole
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*maxHandoverFDs))
	for begun := false; ; {
		n, oobn, flags, _, rerr := c.ReadMsgUnix(buf, oob)
		if oobn > 0 {
			got, perr := parseRights(oob[:oobn])
			fds = append(fds, got...)
			if perr != nil || flags&unix.MSG_CTRUNC != 0 {
				return conns, errors.Join(errors.New("handover: descriptors are missing"), perr)
			}
		}
		data = append(data, buf[:max(n, 0)]...) // -1 with an error
		if !begun && len(data) >= len(handoverMagic) {
			data, begun = data[len(handoverMagic):], true
		}
		for begun && len(data) >= 5 {
			size, count := int(binary.BigEndian.Uint32(data)), int(data[4])
			if size > maxHandover || count == 0 || count > maxHandoverFDs {
				return conns, errors.New("handover: bad frame")
			}
			if len(data) < 5+size || len(fds) < count {
				break
			}
			a, aerr := newAdopted(data[5:5+size], fds[:count])
			data, fds = data[5+size:], fds[count:]
			if aerr != nil {
				return conns, fmt.Errorf("handover: %w", aerr)
			}
			conns = append(conns, a)
		}
		switch {
		case errors.Is(rerr, io.EOF), rerr == nil && n == 0 && oobn == 0:
			if len(data) > 0 || len(fds) > 0 {
				return conns, errors.New("handover: cut off")
			}
			return conns, nil
		case rerr != nil:
			return conns, fmt.Errorf("handover: %w", rerr)
		}
	}
}

func parseRights(oob []byte) (fds []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range msgs {
		got, perr := unix.ParseUnixRights(&msgs[i])
		fds, err = append(fds, got...), errors.Join(err, perr)
	}
	return fds, err
}

// newAdopted makes connections of descriptors, which it takes.
func newAdopted(state []byte, fds []int) (*adopted, error) {
	a := &adopted{state: append([]byte(nil), state...)}
	var faults error
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "handover")
		c, err := net.FileConn(f)
		faults = errors.Join(faults, err, f.Close())
		if err != nil {
			continue
		}
		if a.Conn == nil {
			a.Conn = c
		} else {
			a.more = append(a.more, c)
		}
	}
	if faults != nil {
		if a.Conn != nil {
			a.Close()
		}
		for _, c := range a.more {
			c.Close()
		}
		return nil, faults
	}
	return a, nil
}
