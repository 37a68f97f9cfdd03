package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"usher/internal/wholefile"
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
	a := &AdminFile{path: path, syncDir: wholefile.SyncDir, watchers: map[*func()]bool{}}
	a.orders.Store(&Orders{})
	raw, err := wholefile.Read(path, maxAdminFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
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
	var file adminFile
	if err := wholefile.Decode(raw, &file); err != nil {
		return nil, err
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
	raw, err := json.MarshalIndent(adminFile{adminVersion, o.byTarget}, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if len(raw) > maxAdminFile {
		return fmt.Errorf("%s would be longer than %d MiB", a.path, maxAdminFile>>20)
	}
	return wholefile.ReplaceWith(a.path, raw, a.syncDir)
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
