package affinity

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
	"go.uber.org/zap"

	"usher/internal/shared"
)

// ErrAway is wrapped by the errors of a shared store that could not be asked, of a
// user whom this node does not know, or of an order.
var ErrAway = shared.ErrAway

// ValkeyOptions configure a Valkey.
type ValkeyOptions struct {
	DB         *shared.DB // not yet run
	Expire     time.Duration
	MaxEntries int // assignments that the node has a copy of at most
	// Hash reports whether key may be recorded on host, "" for any, without the
	// store: whether every node would choose that host. nil: never.
	Hash func(key Key, host string) bool
	Log  *zap.Logger // nil: none
}

// Valkey is a Store that several nodes share, in a Valkey or Redis. Each operation is
// one script. Each node has a copy of all assignments, as far as there is room, and is
// told of every change: so a user who is in the copy costs no round trip, not to look
// him up, and not to claim him either as long as he has some life left, which is then
// prolonged a moment later. An assignment lives for up to a quarter more than Expire,
// so that not each login of a user need be written.
//
// While the store is away (see shared.DB) the copy stands, and who is not in it is
// new, if it is whole. What was claimed meanwhile the node tells the store when that
// is back; there an older claim of another host wins.
//
// Len and Assigned are some seconds old.
type Valkey struct {
	opt    ValkeyOptions
	db     *shared.DB
	log    *zap.Logger
	near   *near
	expire atomic.Int64 // ms
	counts atomic.Pointer[map[string]int]

	mu        sync.Mutex
	touches   map[Key]string      // host, to be prolonged there
	refreshes map[string]struct{} // names, to be prolonged in every tag
	rereads   map[string]uint64   // names that were changed, and how often; out when read
	work      chan struct{}       // capacity 1: some of these are there

	warm chan struct{} // capacity 1: the copy has to be made
	copy atomic.Bool   // the copy was made, and is whole unless near is full

	remembered sync.Map // alias -> memo
	memos      atomic.Int64
}

var _ Store = (*Valkey)(nil)

// NewValkey returns the store. Run does its work; the DB must be run too, after.
func NewValkey(opt ValkeyOptions) (*Valkey, error) {
	switch {
	case opt.Expire < time.Second:
		return nil, errors.New("affinity: expire is under a second")
	case opt.MaxEntries < 1:
		return nil, errors.New("affinity: max_entries is under 1")
	}
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	if opt.Hash == nil {
		opt.Hash = func(Key, string) bool { return false }
	}
	v := &Valkey{
		opt: opt, db: opt.DB, log: opt.Log, near: newNear(opt.MaxEntries),
		touches: map[Key]string{}, refreshes: map[string]struct{}{}, rereads: map[string]uint64{},
		work: make(chan struct{}, 1), warm: make(chan struct{}, 1),
	}
	v.counts.Store(&map[string]int{})
	v.SetLimits(opt.Expire, opt.MaxEntries)
	v.db.Track(v.told, func() {}) // what was missed: the generation says so
	v.db.OnBack(v.reconcile)
	v.db.OnBeat(v.warmUp)
	return v, nil
}

// Track is what DB.Track has to be of a Valkey's DB.
const Track = nearTrack

// SetLimits changes life and the number of assignments that the node knows; what is
// there keeps the life that it was given.
func (v *Valkey) SetLimits(expire time.Duration, maxEntries int) {
	v.expire.Store(expire.Milliseconds())
	v.near.most.Store(int64(maxEntries))
}

// life is what the store gives an assignment, in ms.
func (v *Valkey) life() int64 { e := v.expire.Load(); return e + e/4 }

// margin is the life left, in ms, that a claim must have not to be waited for.
func (v *Valkey) margin() int64 { return min(v.expire.Load()/2, 10_000) }

// sure reports whether what is known is what the store has.
func (v *Valkey) sure(k known) bool {
	return k.doubt == noDoubt && !k.dirty && k.gen == v.db.Generation() && v.db.Fresh()
}

// mayHash reports whether a key that is not in the copy is new, and may be recorded
// on host, "" for any, without the store.
func (v *Valkey) mayHash(key Key, host string) bool {
	if !v.copy.Load() || v.near.full.Load() {
		return false
	}
	v.mu.Lock()
	_, changed := v.rereads[key.Name]
	v.mu.Unlock()
	return !changed && v.opt.Hash(key, host)
}

// Lookup implements Store.
func (v *Valkey) Lookup(ctx context.Context, key Key) (string, error) {
	if k, host, ok := v.near.get(key); ok && v.sure(k) {
		return host, nil
	}
	live, err := v.look(ctx, key.Name)
	switch {
	case errors.Is(err, ErrAway):
		return v.lookupAlone(key, err)
	case err != nil:
		return "", err
	}
	for _, a := range live {
		if a.Key.Tag == key.Tag {
			return a.Host, nil
		}
	}
	if !v.db.Settled() && !v.mayHash(key, "") {
		return "", fmt.Errorf("%w: it was, and other nodes may know the user", ErrAway)
	}
	return "", nil
}

// lookupAlone answers while the store is away, which why says.
func (v *Valkey) lookupAlone(key Key, why error) (string, error) {
	k, host, ok := v.near.get(key)
	switch {
	case ok && k.doubt != doubted:
		return host, nil
	case !ok && v.mayHash(key, ""):
		return "", nil
	}
	return "", why
}

// look reads what lives of a name, and keeps it in mind.
func (v *Valkey) look(ctx context.Context, name string) ([]Assignment, error) {
	all, err := v.lookAll(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (v *Valkey) lookAll(ctx context.Context, names []string) ([][]Assignment, error) {
	told, gen, asked := make([]uint64, len(names)), v.db.Generation(), v.near.now()
	calls := make([]shared.Call, len(names))
	for i, name := range names {
		told[i], calls[i] = v.near.told(name), v.call(name)
	}
	answers, err := v.db.EvalAll(ctx, lookScript, calls)
	if err != nil {
		return nil, err
	}
	out := make([][]Assignment, len(names))
	for i, name := range names {
		parts, err := answers[i].ToArray()
		if err != nil || len(parts)%3 != 0 {
			return nil, errStrange
		}
		var expires []int64
		for ; len(parts) > 0; parts = parts[3:] {
			tag, err1 := parts[0].ToString()
			host, err2 := parts[1].ToString()
			left, err3 := parts[2].AsInt64()
			if err := errors.Join(err1, err2, err3); err != nil {
				return nil, errStrange
			}
			out[i] = append(out[i], Assignment{Key: Key{tag, name}, Host: host})
			expires = append(expires, asked+left)
		}
		again, forgotten := v.near.take(name, out[i], expires, told[i], gen)
		if again {
			v.reread(name)
		}
		if forgotten {
			v.forgetMemos()
		}
	}
	return out, nil
}

var errStrange = fmt.Errorf("%w: a strange answer", ErrAway)

// Claim implements Store.
func (v *Valkey) Claim(ctx context.Context, key Key, seen, host string) (string, error) {
	if k, known, ok := v.near.get(key); ok && known == host && v.sure(k) {
		left := k.expires - v.near.now()
		if left >= v.expire.Load() || left > v.margin() && v.touch(key, host) {
			return host, nil
		}
	}
	may := "1"
	if !v.db.Settled() && !v.mayHash(key, host) {
		may = "0"
	}
	told, gen, asked := v.near.told(key.Name), v.db.Generation(), v.near.now()
	v.near.expect(key.Name)
	m, err := v.db.Eval(ctx, claimScript, v.call(key.Name, key.Tag, seen, host, strconv.FormatInt(v.life(), 10), may))
	if errors.Is(err, ErrAway) {
		return v.claimAlone(key, seen, host, err)
	}
	if err != nil {
		return "", err
	}
	winner, left, err := hostAndLife(m)
	switch {
	case err != nil:
		return "", err
	case winner == "":
		return "", fmt.Errorf("%w: it was, and other nodes may know the user", ErrAway)
	}
	v.wrote(key, winner, asked+left, told, gen)
	return winner, nil
}

// claimAlone claims while the store is away, which why says.
func (v *Valkey) claimAlone(key Key, seen, host string, why error) (string, error) {
	k, was, ok := v.near.get(key)
	switch {
	case ok && k.doubt == doubted:
		return "", why
	case ok && was != host && was != seen:
		return was, nil
	case !ok && !v.mayHash(key, host), ok && was != host && !v.opt.Hash(key, host):
		return "", why
	}
	v.near.claim(key, host, v.near.now()+v.life())
	return host, nil
}

func hostAndLife(m valkey.ValkeyMessage) (host string, left int64, err error) {
	parts, err := m.ToArray()
	if err != nil || len(parts) < 2 {
		return "", 0, errStrange
	}
	host, err1 := parts[0].ToString()
	left, err2 := parts[1].AsInt64()
	if errors.Join(err1, err2) != nil {
		return "", 0, errStrange
	}
	return host, left, nil
}

// An alias is the name of a user behind a key.
type alias struct {
	Key
	user string
}

// A memo says that an alias need not be told the store.
type memo struct {
	until int64 // ms of near
	told  bool  // false: the store was away, and is told when it is back
}

// Remember implements Store.
func (v *Valkey) Remember(ctx context.Context, key Key, user string) error {
	a := alias{key, user}
	if m, ok := v.remembered.Load(a); ok && m.(memo).until > v.near.now() && (m.(memo).told || v.db.Away()) {
		return nil
	}
	_, err := v.db.Eval(ctx, rememberScript, v.remind(a))
	away := errors.Is(err, ErrAway)
	if err != nil && !away {
		return err
	}
	if k, _, ok := v.near.get(key); ok {
		if v.memos.Add(1) > maxMemos {
			v.forgetMemos()
		}
		v.remembered.Store(a, memo{k.expires, !away})
	}
	return nil
}

// remind is the call that has the store remember an alias.
func (v *Valkey) remind(a alias) shared.Call {
	return v.call(a.Name, a.Tag, a.user, strconv.Itoa(MaxUsers))
}

// forgetMemos has every alias told the store again.
func (v *Valkey) forgetMemos() {
	v.remembered.Clear()
	v.memos.Store(0)
}

// maxMemos bounds the aliases that need not be told the store.
const maxMemos = 100_000

// Refresh implements Store. It is done a moment later.
func (v *Valkey) Refresh(ctx context.Context, name string) error {
	v.mu.Lock()
	full := len(v.refreshes) >= maxWork
	if !full {
		v.refreshes[name] = struct{}{}
	}
	v.mu.Unlock()
	v.poke()
	if !full {
		return nil
	}
	_, err := v.db.Eval(ctx, refreshScript, v.call(name, strconv.FormatInt(v.life(), 10)))
	return err
}

// Get implements Store. While the store is away the names of users are not known.
func (v *Valkey) Get(ctx context.Context, key Key) (Assignment, error) {
	m, err := v.db.Eval(ctx, getScript, v.call(key.Name, key.Tag))
	if k, host, ok := v.near.get(key); errors.Is(err, ErrAway) && v.copy.Load() && k.doubt != doubted {
		if !ok {
			return Assignment{}, nil
		}
		left := time.Duration(k.expires-v.near.now()) * time.Millisecond
		return Assignment{Key: key, Host: host, Expires: time.Now().Add(left)}, nil
	}
	if err != nil {
		return Assignment{}, err
	}
	host, left, err := hostAndLife(m)
	if err != nil || host == "" {
		return Assignment{}, err
	}
	a := Assignment{Key: key, Host: host, Expires: time.Now().Add(time.Duration(left) * time.Millisecond)}
	if parts, _ := m.ToArray(); len(parts) == 3 {
		a.Users, _ = parts[2].AsStrSlice()
	}
	if len(a.Users) == 0 {
		a.Users = nil
	}
	return a, nil
}

// Set implements Store.
func (v *Valkey) Set(ctx context.Context, key Key, host string) error {
	told, gen := v.near.told(key.Name), v.db.Generation()
	life, asked := v.life(), v.near.now()
	v.near.expect(key.Name)
	if _, err := v.db.Eval(ctx, setScript, v.call(key.Name, key.Tag, host, strconv.FormatInt(life, 10))); err != nil {
		return err
	}
	v.wrote(key, host, asked+life, told, gen)
	return nil
}

// Forget implements Store.
func (v *Valkey) Forget(ctx context.Context, key Key, host string) error {
	told := v.near.told(key.Name)
	m, err := v.db.Eval(ctx, forgetScript, v.call(key.Name, key.Tag, host))
	if err != nil {
		return err
	}
	v.forgetMemos()
	if n, err := m.AsInt64(); err != nil || n != 1 || !v.near.forget(key, told) { // he is elsewhere, or may be by now
		v.near.tell(key.Name)
		v.reread(key.Name)
	}
	return nil
}

// Len implements Store.
func (v *Valkey) Len() int {
	n := 0
	for _, of := range *v.counts.Load() {
		n += of
	}
	return n
}

// Assigned implements Store.
func (v *Valkey) Assigned(host string) int { return (*v.counts.Load())[host] }
