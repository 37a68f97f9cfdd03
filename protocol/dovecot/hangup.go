package dovecot

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangUp ends a connection, unless something was sent that nobody has read yet:
// a login process takes a close for the failure of what it has just asked. The
// look and the end are as close together as they can be. A TCP connection, which
// is none of a login process, is left to the caller to close.
func hangUp(c net.Conn) bool {
	if w, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = w.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true // a test's: the caller closes it
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true // it is closed
	}
	quiet := true
	if err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if n > 0 && err == nil || errors.Is(err, unix.EINTR) {
			quiet = false
			return
		}
		if _, ok := c.(*net.UnixConn); ok {
			// Its error is that of a connection that has ended by itself.
			_ = unix.Shutdown(int(fd), unix.SHUT_RDWR)
		}
	}); err != nil {
		return true
	}
	return quiet
}
