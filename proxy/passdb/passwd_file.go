package passdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

const (
	// maxPassword bounds what is hashed, in bytes.
	maxPassword = 1024
	// recheck is how often at most the file's state is looked at.
	recheck = time.Second
	// settle is how long a changed file must have been at rest before it is
	// read: one that is being rewritten in place would lack users.
	settle = time.Second
)

// A PasswdFile is the driver for Dovecot's passwd-file. User names are compared
// in lower case (ASCII), as Dovecot's default auth_username_format does.
//
// It compares plaintext passwords. Methods that show none (apop, cram-md5,
// external) it serves where the file has the password as it is, see proven; those
// with a token (xoauth2, oauthbearer) are refused as bad requests.
//
// The file is read again when it changes, by the login that first sees it; the
// others go on with what was read before. So do all while the file is broken or
// gone, after one warning.
type PasswdFile struct {
	path    string
	workers *Workers
	log     *zap.Logger
	start   time.Time // next counts from here

	users atomic.Pointer[table] // never nil
	next  atomic.Int64          // time.Duration after start of the next look

	mu     sync.Mutex  // held by the one who looks at the file
	seen   os.FileInfo // of the last reading, good or bad
	warned string      // the last warning, until a good reading
}

// NewPasswdFile reads the file. The error names each fault with its line and
// user, never a password or hash.
func NewPasswdFile(path string, workers *Workers, log *zap.Logger) (*PasswdFile, error) {
	if log == nil {
		log = zap.NewNop()
	}
	f := &PasswdFile{path: path, workers: workers, log: log.Named("passdb"), start: time.Now()}
	t, info, err := readTable(path)
	if err != nil {
		return nil, err
	}
	f.users.Store(t)
	f.seen = info
	f.next.Store(int64(recheck))
	return f, nil
}

// Name implements Driver.
func (f *PasswdFile) Name() string { return "passwd_file" }

// Verifies implements Driver.
func (f *PasswdFile) Verifies() bool { return true }

// Lookup implements Driver. The identity of a user with nopassword is not
// Verified. Errors of Workers come back as they are.
func (f *PasswdFile) Lookup(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	f.refresh()
	t := f.users.Load()
	user := lower(r.User)
	e, ok := t.users[user]
	if !ok {
		return proxy.Identity{}, ErrUnknownUser
	}
	if err := f.usable(r); err != nil {
		return proxy.Identity{}, err
	}
	x := e.extra
	if x == nil {
		x = &noExtra
	}
	right, backend := x.noPassword, x.pass
	if withoutPassword(r.Method) {
		var err error
		if backend, right, err = e.proven(r); err != nil {
			return proxy.Identity{}, err
		}
		if !right && r.Method == "external" && certified(r) && !e.locked() {
			f.log.Warn("external refused: the user's line has no password for the backend; expected {PLAIN} or pass=", zap.String("user", user))
		}
	} else if !right {
		v := e.password
		if v == nil {
			v = t.typical
		}
		match, err := f.compare(ctx, v, r.Password)
		if err != nil {
			return proxy.Identity{}, err
		}
		right = match && e.password != nil
	}
	// Only now, so that who does not know the password learns nothing, neither
	// by the answer nor by its time.
	switch {
	case !right, x.fail, slices.ContainsFunc(x.nets, func(s netSet) bool { return !s.has(r.Client.Addr()) }):
		return proxy.Identity{}, deny(f.Name(), proxy.BadPassword, "")
	case x.disabled:
		return proxy.Identity{}, deny(f.Name(), proxy.UserDisabled, x.reason)
	}
	id := proxy.Identity{User: user, Password: backend, Driver: f.Name(), Verified: !x.noPassword || withoutPassword(r.Method), Fields: slices.Clone(x.fields)}
	if x.user != "" {
		id.User = x.user
	}
	return id, nil
}

var noExtra extra

// decoy implements decoy: what Lookup does for a known user, in vain.
func (f *PasswdFile) decoy(ctx context.Context, r *proxy.Request) error {
	if err := f.usable(r); err != nil {
		return err
	}
	if withoutPassword(r.Method) {
		return nil
	}
	_, err := f.compare(ctx, f.users.Load().typical, r.Password)
	return err
}

// usable refuses requests that show no password that could be compared. An
// empty one is never right, whatever the file says: the backend might take it
// for an anonymous login. Bytes of zero end a password in crypt(3), and for
// bcrypt "a" and "a\x00a" are the same.
func (f *PasswdFile) usable(r *proxy.Request) error {
	password := r.Password.Reveal()
	switch {
	case withoutPassword(r.Method):
		return nil
	case isToken(r.Method), len(password) > maxPassword:
		return deny(f.Name(), proxy.BadRequest, "")
	case password == "":
		return deny(f.Name(), proxy.BadPassword, "")
	}
	for i := range len(password) {
		if password[i] == 0 {
			return deny(f.Name(), proxy.BadRequest, "")
		}
	}
	return nil
}

// compare reports whether the password is v's; it is not nil's. What costs time
// runs on the workers.
func (f *PasswdFile) compare(ctx context.Context, v verifier, password proxy.Secret) (match bool, err error) {
	if v == nil {
		return false, nil
	}
	if v.cost() == "" {
		match, err = v.verify(password.Reveal())
	} else if full := f.workers.Do(ctx, func() { match, err = v.verify(password.Reveal()) }); full != nil {
		return false, full
	}
	if err != nil {
		return false, fmt.Errorf("compare: %w", err)
	}
	return match, nil
}

// refresh reads the file again if it has changed. Of callers at the same time
// one does it, the others return at once.
func (f *PasswdFile) refresh() {
	if int64(time.Since(f.start)) < f.next.Load() || !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	defer func() { f.next.Store(int64(time.Since(f.start) + recheck)) }()

	info, err := os.Stat(f.path)
	if err != nil {
		f.warn(fmt.Errorf("passwd_file: %w", err))
		return
	}
	if same(info, f.seen) {
		f.warned = ""
		return
	}
	if age := time.Since(info.ModTime()); age >= 0 && age < settle {
		return
	}
	t, info, err := readTable(f.path)
	if info != nil {
		f.seen = info
	}
	if err != nil {
		f.warn(err)
		return
	}
	f.users.Store(t)
	f.warned = ""
	f.log.Info("passwd_file read again", zap.String("path", f.path), zap.Int("users", len(t.users)))
}

// warn says once what is wrong.
func (f *PasswdFile) warn(err error) {
	if text := err.Error(); text != f.warned {
		f.warned = text
		f.log.Warn("passwd_file cannot be used as it is now; what was read before stands",
			zap.String("path", f.path), zap.Error(err))
	}
}

func same(a, b os.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// readTable reads the file at path. info is its state before it was read; it is
// nil if reading failed for a reason that another try may not meet.
func readTable(path string) (t *table, info os.FileInfo, err error) {
	// Opening a pipe would block.
	if info, err = os.Stat(path); err != nil {
		return nil, nil, fmt.Errorf("passwd_file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("passwd_file %s: not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("passwd_file: %w", err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, fmt.Errorf("passwd_file: %w", err)
	}
	t, err = parseTable(path, file)
	if fault := (*fileFault)(nil); err != nil && !errors.As(err, &fault) {
		info = nil
	}
	return t, info, err
}
