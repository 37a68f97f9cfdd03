package affinity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"usher/internal/wholefile"
)

// A Stamp says who gave an order, when, and why.
type Stamp struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// A Pin is the order that a user goes to a host, whatever the policy selects.
type Pin struct {
	Host  string `json:"host"` // canonical
	Stamp Stamp  `json:"stamp"`
}

// A Hold is the order that a user's logins wait.
type Hold struct {
	Stamp Stamp `json:"stamp"`
}

// Orders are what operators decreed for single users: pins and holds. Users are
// named as OrderName makes of their names. All methods may be called by many
// goroutines at once. An error means that the store could not answer, or could not
// keep the order, which is then not taken.
type Orders interface {
	// Pin returns the user's, "" for none. It does not wait.
	Pin(ctx context.Context, user string) (host string, err error)
	// Held reports whether the user's logins shall wait. It does not wait.
	Held(ctx context.Context, user string) (bool, error)
	SetPin(ctx context.Context, user string, p Pin) error
	// Unpin and Release report whether there was one.
	Unpin(ctx context.Context, user string) (bool, error)
	SetHold(ctx context.Context, user string, h Hold) error
	Release(ctx context.Context, user string) (bool, error)
	// Standing returns all pins and holds, by user. Read them only.
	Standing(ctx context.Context) (pins map[string]Pin, holds map[string]Hold, err error)
}

// OrderName makes of a user's name what orders for him go by: his name in lower
// case, cut at the master-user separator.
func OrderName(user, separator string) string { return KeyName(user, separator, ByUser) }

// maxOrders bounds the file of an OrderFile.
const maxOrders = 256 << 20

// An OrderFile keeps the orders of one node: a JSON file that is replaced whole.
type OrderFile struct {
	path  string
	most  int // bytes of the file
	mu    sync.Mutex
	state atomic.Pointer[orderState] // never nil
}

// orderState is the file's format. It is immutable.
type orderState struct {
	Version int             `json:"version"`
	Pins    map[string]Pin  `json:"pins"`
	Holds   map[string]Hold `json:"holds"`
}

var _ Orders = (*OrderFile)(nil)

// OpenOrderFile reads the orders in the file at path. There are none if it does
// not exist; the first order makes it. A file that can't be read as a whole is an
// error that names the place.
func OpenOrderFile(path string) (*OrderFile, error) {
	o := &OrderFile{path: path, most: maxOrders}
	o.state.Store(&orderState{Version: 1})
	raw, err := wholefile.Read(path, maxOrders)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pins and holds: %w", err)
	}
	st, err := parseOrders(raw)
	if err != nil {
		return nil, fmt.Errorf("pins and holds: %s: %w; mend it, or move it away to begin without", path, err)
	}
	o.state.Store(st)
	return o, nil
}

func parseOrders(raw []byte) (*orderState, error) {
	st := &orderState{}
	if err := wholefile.Decode(raw, st); err != nil {
		return nil, err
	}
	if st.Version != 1 {
		return nil, fmt.Errorf("version %d; expected 1", st.Version)
	}
	for user, p := range st.Pins {
		if p.Host == "" || strings.ContainsFunc(p.Host, func(r rune) bool { return r <= ' ' }) {
			return nil, fmt.Errorf("pin of %.280q: host %.280q; expected a host name or an address", user, p.Host)
		}
	}
	return st, nil
}

// Pin implements Orders.
func (o *OrderFile) Pin(_ context.Context, user string) (string, error) {
	return o.state.Load().Pins[user].Host, nil
}

// Held implements Orders.
func (o *OrderFile) Held(_ context.Context, user string) (bool, error) {
	_, held := o.state.Load().Holds[user]
	return held, nil
}

// SetPin implements Orders.
func (o *OrderFile) SetPin(_ context.Context, user string, p Pin) error {
	return o.changeFor(user, func(st *orderState) { st.Pins[user] = p })
}

// Unpin implements Orders.
func (o *OrderFile) Unpin(_ context.Context, user string) (found bool, err error) {
	if _, found = o.state.Load().Pins[user]; !found {
		return false, nil
	}
	return true, o.change(func(st *orderState) { delete(st.Pins, user) })
}

// SetHold implements Orders.
func (o *OrderFile) SetHold(_ context.Context, user string, h Hold) error {
	return o.changeFor(user, func(st *orderState) { st.Holds[user] = h })
}

// Release implements Orders.
func (o *OrderFile) Release(_ context.Context, user string) (found bool, err error) {
	if _, found = o.state.Load().Holds[user]; !found {
		return false, nil
	}
	return true, o.change(func(st *orderState) { delete(st.Holds, user) })
}

// Standing implements Orders.
func (o *OrderFile) Standing(context.Context) (map[string]Pin, map[string]Hold, error) {
	st := o.state.Load()
	return st.Pins, st.Holds, nil
}

// changeFor is change with an order for a user, whose name JSON must be able to say.
func (o *OrderFile) changeFor(user string, f func(*orderState)) error {
	if !utf8.ValidString(user) {
		return fmt.Errorf("the order can't be kept, and is not taken: the name %.280q is no UTF-8", user)
	}
	return o.change(f)
}

// change writes a changed copy, and lets it count once it is on the disk.
func (o *OrderFile) change(f func(*orderState)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.state.Load()
	next := &orderState{Version: 1, Pins: maps.Clone(old.Pins), Holds: maps.Clone(old.Holds)}
	if next.Pins == nil {
		next.Pins = map[string]Pin{}
	}
	if next.Holds == nil {
		next.Holds = map[string]Hold{}
	}
	f(next)
	raw, err := json.MarshalIndent(next, "", "  ")
	if err == nil && len(raw) >= o.most {
		err = fmt.Errorf("%s would have more than %d bytes", o.path, o.most)
	}
	if err == nil {
		err = wholefile.Replace(o.path, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("the order can't be kept, and is not taken: %w", err)
	}
	o.state.Store(next)
	return nil
}
