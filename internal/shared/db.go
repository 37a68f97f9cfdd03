package shared

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what Redis names scripts by
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
	"go.uber.org/zap"
)

// A DB is the store as one node sees it. Open makes one, Run does its work; until
// Run has reached the server the store is away. All methods may be called by many
// goroutines at once.
//
// While it is away every call fails at once, so that nobody waits for it; Run asks
// on, and lets calls through when the server answers and all that the node has to
// put right is done.
type DB struct {
	opt   Options
	log   *zap.Logger
	copt  valkey.ClientOption
	unix  map[string]bool
	stars *strings.Replacer
	fresh string // an id for a store that has none

	here   atomic.Bool
	client atomic.Pointer[valkey.Client]
	beaten atomic.Int64 // when the last beat was answered, in ns after start
	backAt atomic.Int64 // when the store came back last
	clock  atomic.Int64 // the store's ms since 1970, less those after start
	start  time.Time
	gen    atomic.Uint64 // of the connections that invalidations come by
	nodes  atomic.Pointer[[]Node]

	lost   func()           // invalidations may have been missed
	stale  func(key string) // a tracked key was changed
	back   []func(ctx context.Context, whole bool) error
	tables []*Table
	beats  []func()

	id      string // of the store's content, as of the last beat
	whole   atomic.Bool
	once    sync.Once
	reached chan struct{} // closed when the store was here once
	doubled bool          // another node has this one's name
	joins   bool          // the first beat has found a store that others have used for long
	failed  chan struct{} // capacity 1: a call failed
	ctx     context.Context
	cancel  context.CancelFunc

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	calls sync.WaitGroup
	over  bool
}

// Open checks the options and connects to nothing.
func Open(o Options) (*DB, error) {
	if err := o.valid(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	db := &DB{opt: o, log: o.Log, unix: map[string]bool{}, start: time.Now(), fresh: rand.Text(), failed: make(chan struct{}, 1), reached: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	if db.log == nil {
		db.log = zap.NewNop()
	}
	db.ctx, db.cancel = context.WithCancel(context.Background())
	db.lost, db.stale = func() {}, func(string) {}
	db.nodes.Store(&[]Node{})
	db.whole.Store(true)
	db.backAt.Store(-int64(time.Hour))
	db.beaten.Store(-int64(time.Hour))
	db.configure()
	return db, nil
}

// configure makes the client's options. One connection carries calls, invalidations
// and messages, so that they come in the order in which the server made them.
func (db *DB) configure() {
	o := &db.opt
	var secrets []string
	reveal := func(s Secret) string {
		if s == nil || s.IsEmpty() {
			return ""
		}
		secrets = append(secrets, s.Reveal())
		return s.Reveal()
	}
	db.copt = valkey.ClientOption{
		DialCtxFn: db.dial, TLSConfig: o.TLS, Dialer: net.Dialer{Timeout: max(o.Timeout, 500*time.Millisecond), KeepAlive: time.Second},
		Username: o.Username, Password: reveal(o.Password), SelectDB: o.DB,
		ConnWriteTimeout: max(o.Timeout, time.Second), PipelineMultiplex: -1, BlockingPipeline: -1,
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
		ClientSetInfo: valkey.DisableClientSetInfo, AlwaysPipelining: true, DisableRetry: true,
		ClientTrackingOptions: []string{"BCAST", "PREFIX", o.Prefix + o.Track},
		OnInvalidations:       db.invalidated,
		CacheSizeEachConn:     1 << 20, // the client's own cache is not used
	}
	for _, a := range o.Addresses {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			a = path
			db.unix[a] = true
		}
		db.copt.InitAddress = append(db.copt.InitAddress, a)
	}
	switch {
	case o.SentinelMaster != "":
		db.copt.Sentinel = valkey.SentinelOption{
			MasterSet: o.SentinelMaster, Username: o.SentinelUsername, Password: reveal(o.SentinelPassword),
			TLSConfig: o.TLS, Dialer: db.copt.Dialer, TopologyRefreshInterval: 2 * time.Second,
		}
	case len(o.Addresses) > 1:
		db.copt.ClusterOption = valkey.ClusterOption{ShardsRefreshInterval: 2 * time.Second, MaxMovedRedirections: 5}
		db.copt.ShuffleInit = true
	default:
		db.copt.ForceSingleClient = true
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may begin with another
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "********")
	}
	db.stars = strings.NewReplacer(pairs...)
}

// dial opens a connection, and keeps it so that the end need not wait for a server
// that is silent.
func (db *DB) dial(ctx context.Context, addr string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	defer context.AfterFunc(db.ctx, cancel)()
	network := "tcp"
	if db.unix[addr] {
		network = "unix"
	}
	var c net.Conn
	var err error
	if config != nil && network == "tcp" {
		c, err = (&tls.Dialer{NetDialer: d, Config: config}).DialContext(ctx, network, addr)
	} else {
		c, err = d.DialContext(ctx, network, addr)
	}
	if err != nil {
		return nil, err
	}
	conn := &kept{c, db}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.over {
		return nil, errors.Join(valkey.ErrClosing, c.Close())
	}
	db.conns[conn] = struct{}{}
	return conn, nil
}

// A kept connection is one that DB.conns has.
type kept struct {
	net.Conn
	db *DB
}

// Close implements net.Conn.
func (k *kept) Close() error {
	k.db.mu.Lock()
	delete(k.db.conns, k)
	k.db.mu.Unlock()
	return k.Conn.Close()
}

// invalidated is called by the connection's reader: all that was read before is in
// doubt where keys is nil.
func (db *DB) invalidated(keys []valkey.ValkeyMessage) {
	if keys == nil {
		db.gen.Add(1)
		db.whole.Store(true)
		db.lost()
		db.alarm()
		return
	}
	for i := range keys {
		if k, err := keys[i].ToString(); err == nil {
			db.stale(strings.TrimPrefix(k, db.opt.Prefix))
		}
	}
}

// alarm has Run look after the store now.
func (db *DB) alarm() {
	select {
	case db.failed <- struct{}{}:
	default: // it is about to
	}
}

// Away reports whether calls fail.
func (db *DB) Away() bool { return !db.here.Load() }

// Reached is closed when the store has been here for the first time.
func (db *DB) Reached() <-chan struct{} { return db.reached }

// Fresh reports whether the store answered a moment ago, so that what was not
// invalidated is so.
func (db *DB) Fresh() bool {
	return db.here.Load() && db.since(&db.beaten) < freshFor
}

// Settled reports whether every node has had the time to bring back what only it
// knew, after an outage.
func (db *DB) Settled() bool { return !db.whole.Load() && db.since(&db.backAt) > settle }

// Deadline is the moment of the store's clock, in ms since 1970, after which a call
// that begins now is given up: a script that comes to its turn later, of a store that
// was stopped meanwhile, must do nothing.
func (db *DB) Deadline() string {
	return strconv.FormatInt(db.Now()+db.opt.Timeout.Milliseconds(), 10)
}

func (db *DB) since(at *atomic.Int64) time.Duration {
	return time.Since(db.start) - time.Duration(at.Load())
}

// Generation changes whenever invalidations may have been missed.
func (db *DB) Generation() uint64 { return db.gen.Load() }

// Now is the store's clock, in ms since 1970, as of the last beat.
func (db *DB) Now() int64 { return db.clock.Load() + time.Since(db.start).Milliseconds() }

// Key puts the prefix before a key.
func (db *DB) Key(k string) string { return db.opt.Prefix + k }

// Track has stale called with each key, without the prefix, that was changed by
// whomever, and lost when such calls may have been missed. Both must not wait. Call
// it before Run.
func (db *DB) Track(stale func(key string), lost func()) { db.stale, db.lost = stale, lost }

// OnBack has f called when the store answers after it was away, before others may
// use it: with f's ctx calls go through. whole says that the store may have lost
// what it had. An error leaves the store away. Call it before Run.
func (db *DB) OnBack(f func(ctx context.Context, whole bool) error) { db.back = append(db.back, f) }

// OnBeat has f called after each beat that was answered. Call it before Run.
func (db *DB) OnBeat(f func()) { db.beats = append(db.beats, f) }

type repairing struct{}

// A Script is one atomic operation.
type Script struct{ source, sha string }

// NewScript makes one of its source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // what Redis names scripts by
	return &Script{source, hex.EncodeToString(sum[:])}
}

// A Call is a Script with the keys that it works on, prefix included, and what else
// it is told.
type Call struct{ Keys, Args []string }

// Eval runs a script. An error that wraps ErrAway: the store could not be asked, or
// whether it did it is not known.
func (db *DB) Eval(ctx context.Context, s *Script, c Call) (valkey.ValkeyMessage, error) {
	all, err := db.EvalAll(ctx, s, []Call{c})
	if err != nil {
		return valkey.ValkeyMessage{}, err
	}
	return all[0], nil
}

// EvalAll runs a script many times in one go; the answers are in the calls' order.
func (db *DB) EvalAll(ctx context.Context, s *Script, calls []Call) ([]valkey.ValkeyMessage, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	return db.ask(ctx, func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult {
		cmds := make([]valkey.Completed, len(calls))
		for i, c := range calls {
			cmds[i] = client.B().Evalsha().Sha1(s.sha).Numkeys(int64(len(c.Keys))).Key(c.Keys...).Arg(c.Args...).Build()
		}
		results := client.DoMulti(ctx, cmds...)
		// A server that was restarted has no scripts.
		var unknown []int
		cmds = cmds[:0]
		for i, r := range results {
			if said, ok := valkey.IsValkeyErr(r.Error()); ok && said.IsNoScript() {
				c := calls[i]
				unknown = append(unknown, i)
				cmds = append(cmds, client.B().Eval().Script(s.source).Numkeys(int64(len(c.Keys))).Key(c.Keys...).Arg(c.Args...).Build())
			}
		}
		if len(unknown) > 0 {
			for i, r := range client.DoMulti(ctx, cmds...) {
				results[unknown[i]] = r
			}
		}
		return results
	})
}

// Ask sends commands in one go. They must be such as may be done twice.
func (db *DB) Ask(ctx context.Context, build func(b valkey.Builder) []valkey.Completed) ([]valkey.ValkeyMessage, error) {
	return db.ask(ctx, func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult {
		return client.DoMulti(ctx, build(client.B())...)
	})
}

// ask runs f and waits for no longer than the timeout, whatever the client does.
func (db *DB) ask(ctx context.Context, f func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult) ([]valkey.ValkeyMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client := db.client.Load()
	if client == nil || !db.here.Load() && ctx.Value(repairing{}) == nil {
		return nil, ErrAway
	}
	run, cancel := context.WithTimeout(context.WithoutCancel(ctx), db.opt.Timeout)
	answers := make(chan []valkey.ValkeyResult, 1)
	db.mu.Lock()
	if db.over {
		db.mu.Unlock()
		cancel()
		return nil, ErrAway
	}
	db.calls.Add(1)
	db.mu.Unlock()
	go func() {
		defer db.calls.Done()
		defer cancel()
		answers <- f(run, *client)
	}()
	var results []valkey.ValkeyResult
	select {
	case results = <-answers:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-run.Done():
		select {
		case results = <-answers:
		default:
			return nil, db.trip(db.plain(context.DeadlineExceeded))
		}
	}
	out := make([]valkey.ValkeyMessage, len(results))
	for i, r := range results {
		m, err := r.ToMessage()
		if err != nil && !valkey.IsValkeyNil(err) {
			return nil, db.trip(db.plain(err))
		}
		out[i] = m
	}
	return out, nil
}

// trip notes that the store is away, if err says so, and returns err.
func (db *DB) trip(err error) error {
	if errors.Is(err, ErrAway) {
		if db.here.Swap(false) {
			db.log.Warn("shared store", zap.String("state", "away"), zap.Error(err))
		}
		db.alarm()
	}
	return err
}

// Run keeps the store in sight until ctx ends. Then every call fails.
func (db *DB) Run(ctx context.Context) {
	var listening sync.WaitGroup
	listening.Go(func() { db.listen(ctx) })
	t := time.NewTicker(beat)
	defer t.Stop()
	for ctx.Err() == nil {
		err := db.beatOnce(ctx)
		pause := t.C
		var again *time.Timer
		if err != nil && ctx.Err() == nil {
			if !errors.Is(err, ErrAway) { // it answers, and refuses what nodes need
				err = fmt.Errorf("%w: %w", ErrAway, err)
			}
			_ = db.trip(err)
			again = time.NewTimer(beat / 2)
			pause = again.C
		}
		select {
		case <-ctx.Done():
		case <-pause:
		case <-db.failedUnless(err):
		}
		if again != nil {
			again.Stop()
		}
	}
	db.close()
	listening.Wait()
}

// failedUnless is the channel of alarms, or, after an error, none: who is known to be
// away is asked by the clock alone.
func (db *DB) failedUnless(err error) <-chan struct{} {
	if err != nil {
		return nil
	}
	return db.failed
}

// connect makes the client, which keeps itself connected from then on.
func (db *DB) connect() error {
	if db.client.Load() != nil {
		return nil
	}
	opt := db.copt
	opt.InitAddress = slices.Clone(opt.InitAddress)
	client, err := valkey.NewClient(opt)
	if err != nil {
		if client != nil {
			client.Close() // a single one comes with the error
		}
		return db.plain(err)
	}
	db.client.Store(&client)
	return nil
}

// close ends all connections, without waiting for what a server says.
func (db *DB) close() {
	db.here.Store(false)
	db.mu.Lock()
	db.over = true
	open := make([]net.Conn, 0, len(db.conns))
	for c := range db.conns {
		open = append(open, c)
	}
	db.mu.Unlock()
	db.cancel()
	for _, c := range open {
		_ = c.Close() // it is given up
	}
	if client := db.client.Load(); client != nil {
		(*client).Close()
	}
	db.calls.Wait()
}
