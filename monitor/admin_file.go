package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"usher/proxy"
)

// maxAdminFile bounds what is read: 2,000 hosts with reasons are less than 1 MiB.
const maxAdminFile = 16 << 20

// adminVersion is that of the file's format.
const adminVersion = 1

// An AdminFile is the AdminState of one node: a JSON file that is replaced whole,
// so that it is always the one before or the one after an order.
type AdminFile struct {
	path    string
	orders  atomic.Pointer[Orders] // never nil
	syncDir func(dir string) error

	giving   sync.Mutex // one order at a time; held as long as the disk takes
	mu       sync.Mutex
	watchers map[*func()]bool
}

var _ AdminState = (*AdminFile)(nil)

// adminFile is the file's format.
type adminFile struct {
	Version int              `json:"version"`
	Orders  map[string]Order `json:"orders"` // by HOST or HOST:PORT, canonical
}

// OpenAdminFile reads the orders in the file at path. There are none if it does
// not exist; the first order makes it. A file that can't be read as a whole is an
// error that names the place: what operators ordered is not to be guessed.
func OpenAdminFile(path string) (*AdminFile, error) {
	a := &AdminFile{path: path, syncDir: syncDir, watchers: map[*func()]bool{}}
	a.orders.Store(&Orders{})
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("orders for backends: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	raw, err := io.ReadAll(io.LimitReader(f, maxAdminFile+1))
	if err != nil {
		return nil, fmt.Errorf("orders for backends: %w", err)
	}
	orders, err := parseAdminFile(raw)
	if err != nil {
		return nil, fmt.Errorf("orders for backends: %s: %w; mend it, or move it away to begin without orders", path, err)
	}
	a.orders.Store(orders)
	return a, nil
}

func parseAdminFile(raw []byte) (*Orders, error) {
	if len(raw) > maxAdminFile {
		return nil, fmt.Errorf("is longer than %d MiB", maxAdminFile>>20)
	}
	var file adminFile
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(&file)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("something follows its end")
		}
	}
	if err != nil {
		at := dec.InputOffset()
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			at = syntax.Offset
		case errors.As(err, &kind):
			at = kind.Offset
		case errors.Is(err, io.ErrUnexpectedEOF):
			at = int64(len(raw))
		}
		line := 1 + bytes.Count(raw[:min(at, int64(len(raw)))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
	if file.Version != adminVersion {
		return nil, fmt.Errorf("version %d; expected %d", file.Version, adminVersion)
	}
	var faults []error
	for key, o := range file.Orders {
		if err := o.valid(key); err != nil {
			faults = append(faults, fmt.Errorf("order for %.280q: %w", key, err))
		}
	}
	return &Orders{file.Orders}, errors.Join(faults...)
}

// valid checks an order of a file.
func (o *Order) valid(key string) error {
	t, err := ParseTarget(key)
	if err != nil {
		return err
	}
	if key != t.String() {
		return fmt.Errorf("expected it as %q", t)
	}
	if _, known := proxy.ParseAdmin(o.State); !known && o.State != "" {
		return fmt.Errorf("state %.80q; expected up, drain or down", o.State)
	}
	if o.Weight != nil && (*o.Weight < 0 || *o.Weight > MaxWeight) {
		return fmt.Errorf("weight %d; expected 0 to %d", *o.Weight, MaxWeight)
	}
	if o.Weight != nil && t.Port != 0 {
		return errors.New("a weight for one entry; expected for the host")
	}
	return nil
}

// Orders implements AdminState.
func (a *AdminFile) Orders() *Orders { return a.orders.Load() }

// Order implements AdminState. The folder is made if it is missing.
func (a *AdminFile) Order(_ context.Context, c Change) error {
	if err := c.Valid(); err != nil {
		return err
	}
	a.giving.Lock()
	defer a.giving.Unlock()
	next := a.orders.Load().with(c)
	if err := a.write(next); err != nil {
		return fmt.Errorf("the order can't be kept, and is not taken: %w", err)
	}
	a.orders.Store(next)
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.watchers {
		(*f)()
	}
	return nil
}

// write replaces the file, and after an error leaves what stands in it. The caller
// holds a.giving.
func (a *AdminFile) write(o *Orders) error {
	if err := a.replace(o); err != nil {
		return err
	}
	if err := a.syncDir(filepath.Dir(a.path)); err != nil {
		return errors.Join(err, a.replace(a.orders.Load()))
	}
	return nil
}

// replace puts a new file beside the one that is there, on the disk, and then in
// its place.
func (a *AdminFile) replace(o *Orders) (err error) {
	raw, err := json.MarshalIndent(adminFile{adminVersion, o.byTarget}, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if len(raw) > maxAdminFile {
		return fmt.Errorf("%s would be longer than %d MiB", a.path, maxAdminFile>>20)
	}
	dir := filepath.Dir(a.path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(a.path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), a.path)
}

// syncDir puts a folder's names on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Watch implements AdminState. f must not give orders itself.
func (a *AdminFile) Watch(f func()) (stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watchers[&f] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, &f)
	}
}
