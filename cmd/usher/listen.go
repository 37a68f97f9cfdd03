package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"usher/config"
)

// socketOptions are of unix sockets.
type socketOptions struct {
	mode         fs.FileMode
	owner, group string
	// peers, if set, lets only root, usher's own user, and owner and group in.
	peers bool
}

// listen opens the one kind of listener that usher has: TCP, a unix socket, or
// a descriptor that the service manager handed over (fd:NAME).
func listen(a config.Address, opt socketOptions) (net.Listener, error) {
	switch a.Network {
	case "fd":
		return listenInherited(a.Addr, opt)
	case "unix":
		return listenUnix(a.Addr, opt)
	}
	ln, err := net.Listen("tcp", a.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}

// listenInherited takes a socket over. Mode and owner are the service manager's;
// who may use it is still asked where that matters.
func listenInherited(name string, opt socketOptions) (net.Listener, error) {
	ln, back, err := inherited.take(name)
	if err != nil {
		return nil, err
	}
	undo := func(err error) (net.Listener, error) {
		defer back()
		return nil, errors.Join(fmt.Errorf("listen fd:%s: %w", name, err), ln.Close())
	}
	u, ok := ln.(*net.UnixListener)
	if tcp, isTCP := ln.(*net.TCPListener); isTCP && !opt.peers {
		return &tcpListener{tcp, back}, nil
	}
	if !ok {
		return undo(errors.New("expected a unix socket: of another nobody knows who the peer is"))
	}
	uid, gid, err := owners(opt)
	if err != nil {
		return undo(err)
	}
	return &unixListener{UnixListener: u, opt: opt, uid: uid, gid: gid, kept: u.Addr().String(), back: back}, nil
}

// A tcpListener is one that the service manager handed over.
type tcpListener struct {
	*net.TCPListener
	back func()
}

// Close implements net.Listener.
func (l *tcpListener) Close() error {
	defer l.back()
	return l.TCPListener.Close()
}

// listenUnix makes the socket beside its place, gives it mode, owner and group,
// and moves it there: nobody ever sees it half made. A stale socket is
// replaced; one that somebody listens on is not taken from him.
func listenUnix(path string, opt socketOptions) (net.Listener, error) {
	uid, gid, err := owners(opt)
	if err != nil {
		return nil, fmt.Errorf("listen unix:%s: %w", path, err)
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	tmp := filepath.Join(filepath.Dir(path), ".u"+strconv.Itoa(os.Getpid()))
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen unix:%s: its folder does not exist: make it, so that only the proxy's user can enter it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen unix:%s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	undo := func(err error) (net.Listener, error) {
		return nil, errors.Join(fmt.Errorf("listen unix:%s: %w", path, err), ln.Close(), os.Remove(tmp))
	}
	if err := os.Chmod(tmp, opt.mode); err != nil {
		return undo(err)
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Chown(tmp, uid, gid); err != nil {
			return undo(err)
		}
	}
	if err := os.Rename(tmp, path); err != nil {
		return undo(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return undo(err)
	}
	return &unixListener{UnixListener: ln, path: path, made: info, opt: opt, uid: uid, gid: gid}, nil
}

// vacant reports whether a socket may be put at path.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen unix:%s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen unix:%s: something else than a socket is there", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("listen unix:%s: another process listens there", path), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen unix:%s: it can't be told whether another process listens there: %w", path, err)
	}
	return nil
}

// owners looks owner and group up; -1 leaves them as they are.
func owners(opt socketOptions) (uid, gid int, err error) {
	uid, gid = -1, -1
	if opt.owner != "" {
		if uid, err = strconv.Atoi(opt.owner); err != nil {
			u, err := user.Lookup(opt.owner)
			if err != nil {
				return 0, 0, fmt.Errorf("owner: %w", err)
			}
			if uid, err = strconv.Atoi(u.Uid); err != nil {
				return 0, 0, fmt.Errorf("owner: %w", err)
			}
		}
	}
	if opt.group != "" {
		if gid, err = strconv.Atoi(opt.group); err != nil {
			g, err := user.LookupGroup(opt.group)
			if err != nil {
				return 0, 0, fmt.Errorf("group: %w", err)
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return 0, 0, fmt.Errorf("group: %w", err)
			}
		}
	}
	return uid, gid, nil
}

// A unixListener takes its own socket away when it closes, and no other's.
type unixListener struct {
	*net.UnixListener
	path     string // "": not ours to take away
	made     fs.FileInfo
	opt      socketOptions
	uid, gid int

	kept    string // path of a socket that the service manager keeps, or ""
	back    func() // gives that socket back; nil: there is none
	out     outgoing
	adopted []net.Conn // handed over by another usher and not yet accepted
	fault   error      // and what went wrong there
}

// Keep hands a connection, and those that belong to it, over to whoever listens
// here next. After an error they are still the caller's alone. It implements
// dovecot.Keeper.
func (l *unixListener) Keep(state []byte, conns ...net.Conn) error {
	path := l.kept
	if path == "" {
		path = l.path
	}
	return l.out.send(path, state, conns)
}

func (l *unixListener) Accept() (net.Conn, error) {
	for {
		if len(l.adopted) > 0 {
			c := l.adopted[0]
			l.adopted = l.adopted[1:]
			return c, nil
		}
		if err := l.fault; err != nil {
			l.fault = nil
			return nil, err // the caller logs it, and goes on
		}
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if isHandover(c) {
			l.adopted, l.fault = adopt(c)
			continue
		}
		if !l.opt.peers || l.admits(c) {
			return c, nil
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
}

// admits asks the kernel who the peer is (SO_PEERCRED).
func (l *unixListener) admits(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cred == nil {
		return false
	}
	uid := int(cred.Uid)
	return uid == 0 || uid == os.Geteuid() || uid == l.uid || (l.gid >= 0 && int(cred.Gid) == l.gid)
}

func (l *unixListener) Close() error {
	var removed error
	if l.isOurs() {
		removed = os.Remove(l.path)
	}
	if l.back != nil {
		defer l.back()
	}
	return errors.Join(l.UnixListener.Close(), removed)
}

// disown closes what was handed over and nobody accepted.
func (l *unixListener) disown() {
	for _, c := range l.adopted {
		c.Close()
	}
	l.adopted = nil
}

// isOurs reports whether what stands at the path is this socket.
func (l *unixListener) isOurs() bool {
	if l.path == "" {
		return false
	}
	now, err := os.Stat(l.path)
	return err == nil && os.SameFile(now, l.made)
}

// change gives a socket that stands another mode and other owners.
func (l *unixListener) change(opt socketOptions) error {
	if l.path == "" {
		return nil // the service manager's
	}
	uid, gid, err := owners(opt)
	if err != nil {
		return fmt.Errorf("listen unix:%s: %w", l.path, err)
	}
	if !l.isOurs() {
		return nil
	}
	if err := os.Chmod(l.path, opt.mode); err != nil {
		return err
	}
	// -1 would keep what a former configuration set.
	if uid < 0 {
		uid = os.Geteuid()
	}
	if gid < 0 {
		gid = os.Getegid()
	}
	return os.Chown(l.path, uid, gid)
}

// inherited are the sockets and FIFOs that the service manager handed over, by
// name (sd_listen_fds_with_names(3)). They are read once a process.
var inherited handedOver

type handedOver struct {
	once  sync.Once
	mu    sync.Mutex
	files map[string][]*os.File
}

// take returns the next socket of that name. back makes it one that can be taken
// again, by the next reload: of one that was refused, or had left it out.
func (h *handedOver) take(name string) (ln net.Listener, back func(), err error) {
	f, err := h.next(name, false)
	if err != nil {
		return nil, nil, fmt.Errorf("listen fd:%s: %w", name, err)
	}
	back = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.files[name] = append(h.files[name], f)
	}
	if ln, err = net.FileListener(f); err != nil {
		back()
		return nil, nil, fmt.Errorf("listen fd:%s: %w", name, err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it is the service manager's
	}
	return ln, back, nil
}

// fifo returns the next FIFO of that name.
func (h *handedOver) fifo(name string) (*os.File, error) {
	f, err := h.next(name, true)
	if err != nil {
		return nil, err
	}
	again, err := pollable(f, name)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return again, enlarge(again)
}

// pollable returns another descriptor of a FIFO, not blocking. One that was
// opened for reading alone is opened anew: without a writer of its own it would
// be at its end now and then.
func pollable(f *os.File, name string) (*os.File, error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if flags&unix.O_ACCMODE != unix.O_RDWR {
		return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR|unix.O_NONBLOCK, 0)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// next takes the next file of that name and kind out.
func (h *handedOver) next(name string, fifo bool) (*os.File, error) {
	h.once.Do(func() { h.files = activation.FilesWithNames() })
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range h.files[name] {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if (info.Mode().Type() == fs.ModeNamedPipe) == fifo {
			h.files[name] = slices.Delete(slices.Clone(h.files[name]), i, i+1)
			return f, nil
		}
	}
	kind := "socket"
	if fifo {
		kind = "FIFO"
	}
	return nil, fmt.Errorf("the service manager handed over no %s of that name (FileDescriptorName= of the socket unit)", kind)
}

// A socket is a listener that outlives the servers on it. It accepts, and hands
// each connection to the lease that stands: so a reload that changes a
// listener's settings refuses no connection.
type socket struct {
	net.Listener
	slots  *slots
	conns  chan accepted
	quiet  chan struct{} // closed when nothing more shall be accepted
	closed chan struct{}
	pump   sync.WaitGroup

	// alone: nobody listens here next, to hand connections over to.
	alone atomic.Bool
}

type accepted struct {
	conn net.Conn
	err  error
}

// newSocket starts to accept on ln. Close ends it.
func newSocket(ln net.Listener, s *slots) *socket {
	k := &socket{Listener: ln, slots: s, conns: make(chan accepted), quiet: make(chan struct{}), closed: make(chan struct{})}
	k.pump.Go(k.pass)
	return k
}

// pass accepts, and passes on.
func (k *socket) pass() {
	for {
		if u, ok := k.Listener.(*unixListener); ok && len(u.adopted) > 0 {
			k.slots.take() // they were accepted already
		} else if !k.slots.acquire(k.quiet) {
			return
		}
		c, err := k.Accept()
		if err != nil {
			k.slots.release()
			select {
			case <-k.quiet:
				return
			default:
			}
		} else {
			c = &slotConn{Conn: c, slots: k.slots}
		}
		select {
		case k.conns <- accepted{c, err}:
		case <-k.closed:
			if err == nil {
				c.Close()
			}
			return
		}
	}
}

// silence ends accepting, and returns when what was accepted has its server:
// what comes later waits in the kernel's queue. A FIFO has no queue.
func (k *socket) silence() error {
	close(k.quiet)
	ln, ok := k.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return nil
	}
	err := ln.SetDeadline(time.Unix(1, 0))
	k.pump.Wait()
	return err
}

// kept reports whether the socket stands when usher has ended.
func (k *socket) kept() bool {
	u, ok := k.Listener.(*unixListener)
	return ok && u.kept != ""
}

// change gives a unix socket, or FIFO, of ours another mode and other owners.
func (k *socket) change(opt socketOptions) error {
	if c, ok := k.Listener.(interface{ change(socketOptions) error }); ok {
		return c.change(opt)
	}
	return nil
}

// Close closes the listener. It is called once.
func (k *socket) Close() error {
	close(k.closed)
	err := k.Listener.Close()
	k.pump.Wait()
	if u, ok := k.Listener.(*unixListener); ok {
		u.disown()
	}
	return err
}

// A lease is a socket as one server has it: closing it ends that server's
// Accept and leaves the socket open for the next.
type lease struct {
	*socket
	once  sync.Once
	ended chan struct{}
}

func newLease(k *socket) *lease { return &lease{socket: k, ended: make(chan struct{})} }

// Accept implements net.Listener.
func (l *lease) Accept() (net.Conn, error) {
	select {
	case <-l.ended:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-l.conns:
		return a.conn, a.err
	case <-l.ended:
	case <-l.closed:
	}
	return nil, net.ErrClosed
}

// Keep implements dovecot.Keeper.
func (l *lease) Keep(state []byte, conns ...net.Conn) error {
	u, ok := l.Listener.(*unixListener)
	if !ok || l.alone.Load() {
		return errors.ErrUnsupported
	}
	return u.Keep(state, conns...)
}

// Close implements net.Listener.
func (l *lease) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

// slots bound the connections of all listeners together (limits.connections).
// Beyond, connections wait in the kernel's queue: closing them at once would
// tell mail clients that their password is wrong.
type slots struct {
	mu    sync.Mutex
	most  int
	taken int
	freed chan struct{} // closed, and made anew, when there may be room
}

func newSlots(n int) *slots { return &slots{most: n, freed: make(chan struct{})} }

// resize changes the number. Who is over it stays.
func (s *slots) resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = n
	s.tell()
}

// tell wakes who waits. s.mu is held.
func (s *slots) tell() {
	close(s.freed)
	s.freed = make(chan struct{})
}

// acquire waits for a slot; false: closed came first.
func (s *slots) acquire(closed <-chan struct{}) bool {
	for {
		s.mu.Lock()
		if s.taken < s.most {
			s.taken++
			s.mu.Unlock()
			return true
		}
		freed := s.freed
		s.mu.Unlock()
		select {
		case <-freed:
		case <-closed:
			return false
		}
	}
}

// take takes a slot, if need be one more than there are.
func (s *slots) take() {
	s.mu.Lock()
	s.taken++
	s.mu.Unlock()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.taken >= s.most
	s.taken--
	if full {
		s.tell()
	}
}

// A slotConn gives its slot back once.
type slotConn struct {
	net.Conn
	slots *slots
	once  sync.Once
}

// Kept implements dovecot.Kept.
func (c *slotConn) Kept() (state []byte, more []net.Conn) {
	if a, ok := c.Conn.(*adopted); ok {
		return a.Kept()
	}
	return nil, nil
}

func (c *slotConn) Close() error {
	c.once.Do(c.slots.release)
	return c.Conn.Close()
}

// NetConn is the connection itself, as tls.Conn's.
func (c *slotConn) NetConn() net.Conn {
	if a, ok := c.Conn.(*adopted); ok {
		return a.Conn
	}
	return c.Conn
}

// ensureDir makes the folder of the control socket.
func ensureDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}
