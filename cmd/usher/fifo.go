package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"usher/config"
)

// pipeSize is what a FIFO shall hold, in bytes: what login processes write while
// usher is restarted. Who finds it full waits, with all its sessions.
const pipeSize = 1 << 20

// listenFIFO opens a FIFO as a listener that accepts one connection, which never
// ends: usher writes to it as well as reads (O_RDWR), as does who handed it over,
// so that login processes always have a reader. One that usher made stays where
// it is when usher ends: login processes hold it open.
func listenFIFO(a config.Address, opt socketOptions) (net.Listener, error) {
	var f *os.File
	var err error
	if a.Network == "fd" {
		f, err = inherited.fifo(a.Addr)
	} else {
		f, err = openFIFO(a.Addr, opt)
	}
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", a, err)
	}
	l := &fifoListener{file: f, addr: fifoAddr(a.String()), closed: make(chan struct{})}
	if a.Network == "unix" {
		l.path = a.Addr
	}
	return l, nil
}

// openFIFO opens the FIFO at path, and makes it if there is none, so that nobody
// sees it half made.
func openFIFO(path string, opt socketOptions) (*os.File, error) {
	uid, gid, err := owners(opt)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := makeFIFO(path, opt.mode, uid, gid); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeNamedPipe:
		return nil, errors.New("something else than a FIFO is there")
	default:
		if err := adjust(path, info, opt.mode, uid, gid); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	lock := func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }
	if err := onDescriptor(f, lock); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process reads there")
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, enlarge(f)
}

func makeFIFO(path string, mode fs.FileMode, uid, gid int) error {
	tmp := filepath.Join(filepath.Dir(path), ".f"+strconv.Itoa(os.Getpid()))
	err := unix.Mkfifo(tmp, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("its folder does not exist: make it, so that only the proxy's user can enter it")
	}
	if err == nil {
		err = errors.Join(os.Chmod(tmp, mode), chown(tmp, uid, gid))
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		if gone := os.Remove(tmp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

func chown(path string, uid, gid int) error {
	if uid < 0 && gid < 0 {
		return nil
	}
	return os.Chown(path, uid, gid)
}

// adjust gives a FIFO that was there its mode and owners. Who made it for usher
// may have given it others that do as well.
func adjust(path string, info fs.FileInfo, mode fs.FileMode, uid, gid int) error {
	var err error
	if info.Mode().Perm() != mode {
		err = os.Chmod(path, mode)
	}
	if err = errors.Join(err, chown(path, uid, gid)); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("it is another user's, and not as it should be: %w", err)
	}
	return err
}

// enlarge makes a pipe hold more. Where the system does not allow it, it stays
// as it is.
func enlarge(f *os.File) error {
	err := onDescriptor(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
		return err
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}

// onDescriptor runs do with a file's descriptor, and leaves the file pollable.
func onDescriptor(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}

type fifoListener struct {
	file   *os.File
	path   string // "": not ours to change
	addr   fifoAddr
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *fifoListener) Accept() (net.Conn, error) {
	var c net.Conn
	l.once.Do(func() { c = &fifoConn{l.file, l.addr} })
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener. It is called once. The connection that was
// accepted is its owner's to close.
func (l *fifoListener) Close() error {
	close(l.closed)
	var err error
	l.once.Do(func() { err = l.file.Close() })
	return err
}

// Addr implements net.Listener.
func (l *fifoListener) Addr() net.Addr { return l.addr }

// change gives a FIFO of ours another mode and other owners.
func (l *fifoListener) change(opt socketOptions) error {
	if l.path == "" {
		return nil
	}
	uid, gid, err := owners(opt)
	if err != nil {
		return fmt.Errorf("listen %s: %w", l.addr, err)
	}
	return errors.Join(os.Chmod(l.path, opt.mode), chown(l.path, uid, gid))
}

// A fifoConn is the reading end of a FIFO.
type fifoConn struct {
	*os.File
	addr fifoAddr
}

// LocalAddr implements net.Conn.
func (c *fifoConn) LocalAddr() net.Addr { return c.addr }

// RemoteAddr implements net.Conn: any number of writers.
func (c *fifoConn) RemoteAddr() net.Addr { return c.addr }

type fifoAddr string

// Network implements net.Addr.
func (fifoAddr) Network() string { return "fifo" }

// String implements net.Addr.
func (a fifoAddr) String() string { return string(a) }
