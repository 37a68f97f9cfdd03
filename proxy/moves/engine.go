package moves

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy/affinity"
)

const (
	// maxHistory is how many moves and flushes that ended are remembered.
	maxHistory = 1000
	// writeEvery is the least time between two writes of the file: steps of many
	// moves share one.
	writeEvery = 20 * time.Millisecond
)

// Assignments is what moves need of affinity.Store.
type Assignments interface {
	Get(ctx context.Context, key affinity.Key) (affinity.Assignment, error)
	Set(ctx context.Context, key affinity.Key, host string) error
	Each(ctx context.Context, host string, yield func(affinity.Assignment) bool) error
}

// Settings are how moves are made. A reload changes them; moves on their way take
// the new ones at their next step.
type Settings struct {
	// KickDelay is waited between the end of the sessions and the switch: backends
	// have work to finish.
	KickDelay time.Duration
	// Timeout bounds one move, from its turn on.
	Timeout time.Duration
	// Parallel moves at most are on their way; others wait for their turn.
	Parallel int
	// End ends the sessions that users have anywhere, and returns nil when none is
	// left. host is where they are assigned, "" nowhere.
	End func(ctx context.Context, users []string, host string) error
	// Hook, if not nil, is run when the sessions are gone.
	Hook func(ctx context.Context, m Move) error
	// Target is where the hash sends a key that is on a host now. ok false: it
	// stays.
	Target func(a affinity.Assignment) (host string, ok bool)
	// Pin pins a user.
	Pin func(ctx context.Context, user string, p affinity.Pin) error
	// Unpin takes a user's pin away if it is to host.
	Unpin func(ctx context.Context, user, host string) error
	// Fit, if not nil, is asked before the switch, unless it is forced, whether the
	// new host may still have the key.
	Fit func(m Move) error
}

// Options are what an Engine is made of.
type Options struct {
	Path  string // of the file that keeps moves over a restart
	Store Assignments
	NewID func() string
	Holds Holds // of other nodes; nil: there are none
	Log   *zap.Logger
}

// An Engine makes moves. All methods may be called by many goroutines at once.
type Engine struct {
	opt      Options
	settings atomic.Pointer[Settings]
	held     atomic.Pointer[map[affinity.Key]bool] // keys of moves that have not ended

	mu      sync.Mutex
	moves   map[string]Move
	byKey   map[affinity.Key]string // of those that have not ended
	cancels map[string]context.CancelFunc
	flushes map[string]Flush
	ended   []string      // ids of moves and flushes, the oldest first
	turn    chan struct{} // capacity 1: something waits for its turn
	changed chan struct{} // closed and replaced at each change
	running int

	file file
}

// Open reads what was on its way. Moves go on when Run is called, and their keys
// are held from now on.
func Open(opt Options, s Settings) (*Engine, error) {
	e := &Engine{
		opt: opt, moves: map[string]Move{}, byKey: map[affinity.Key]string{}, cancels: map[string]context.CancelFunc{},
		flushes: map[string]Flush{}, turn: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	if e.opt.Log == nil {
		e.opt.Log = zap.NewNop()
	}
	e.settings.Store(&s)
	e.file.path = opt.Path
	if err := e.load(); err != nil {
		return nil, err
	}
	e.hold()
	if e.opt.Holds != nil {
		e.opt.Holds.Keep(slices.Collect(maps.Keys(e.byKey)))
	}
	return e, nil
}

// Change makes s the settings.
func (e *Engine) Change(s Settings) {
	e.settings.Store(&s)
	e.mu.Lock()
	e.wake()
	e.mu.Unlock()
	e.poke()
}

// Moving reports whether the key is being moved, here or at another node, so that its
// logins must wait. It takes no lock.
func (e *Engine) Moving(key affinity.Key) bool {
	return (*e.held.Load())[key] || e.opt.Holds != nil && e.opt.Holds.Held(key)
}

// hold publishes the keys of moves that have not ended. The caller holds e.mu, or
// is alone.
func (e *Engine) hold() {
	held := make(map[affinity.Key]bool, len(e.byKey))
	for k := range e.byKey {
		held[k] = true
	}
	e.held.Store(&held)
}

// free ends the hold of a key. The caller holds e.mu.
func (e *Engine) free(key affinity.Key) {
	delete(e.byKey, key)
	e.hold()
	if e.opt.Holds != nil {
		e.opt.Holds.Release(key)
	}
}

func (e *Engine) poke() {
	select {
	case e.turn <- struct{}{}:
	default: // Run has yet to look
	}
}

// An Order is what a move shall do.
type Order struct {
	User  string
	Key   affinity.Key
	To    string // canonical
	Force bool
	Pin   bool
	Stamp affinity.Stamp

	// Pinned is the host that the user is pinned to, "" for none: Undo restores it.
	Pinned string

	unpin         bool
	undoes, flush string
}

// Start holds the key's logins and returns the move that will end its sessions. An
// error that wraps ErrMoving: there is one already.
func (e *Engine) Start(ctx context.Context, o Order) (Move, error) {
	a, err := e.opt.Store.Get(ctx, o.Key)
	if err != nil {
		return Move{}, err
	}
	m := Move{
		ID: e.opt.NewID(), User: o.User, Key: o.Key, From: a.Host, To: o.To, State: Queued, Force: o.Force, Pin: o.Pin,
		Flush: o.flush, Undoes: o.undoes, Pinned: o.Pinned, Unpin: o.unpin, Users: a.Users, Stamp: o.Stamp, Changed: time.Now().UTC(),
	}
	if e.opt.Holds != nil {
		if other, moving := e.Of(o.Key); moving {
			return Move{}, fmt.Errorf("%s %w: %s", o.User, ErrMoving, other.ID)
		}
		if err := e.opt.Holds.Hold(ctx, o.Key); err != nil {
			return Move{}, fmt.Errorf("other nodes do not hold the user, and the move is not made: %w", err)
		}
	}
	e.mu.Lock()
	if other := e.byKey[o.Key]; other != "" {
		e.mu.Unlock()
		return Move{}, fmt.Errorf("%s %w: %s", o.User, ErrMoving, other)
	}
	if len(e.byKey) >= maxWaiting {
		e.mu.Unlock()
		if e.opt.Holds != nil {
			e.opt.Holds.Release(o.Key)
		}
		return Move{}, fmt.Errorf("%d moves wait for their turn already", maxWaiting)
	}
	e.moves[m.ID] = m
	e.byKey[m.Key] = m.ID
	e.note(m)
	e.hold()
	e.mu.Unlock()
	if err := e.file.sync(ctx, e.snapshot); err != nil {
		e.mu.Lock()
		e.drop(m.ID)
		e.mu.Unlock()
		return Move{}, fmt.Errorf("the move can't be kept, and is not made: %w", err)
	}
	e.poke()
	return m, nil
}

// drop forgets a move. The caller holds e.mu.
func (e *Engine) drop(id string) {
	m := e.moves[id]
	delete(e.moves, id)
	if e.byKey[m.Key] == id {
		e.free(m.Key)
	}
	e.wake()
}

// note tells who waits for a change of m. The caller holds e.mu.
func (e *Engine) note(m Move) {
	e.opt.Log.Info("move", zap.String("id", m.ID), zap.String("user", m.User), zap.String("from", m.From), zap.String("to", m.To),
		zap.String("state", string(m.State)), zap.String("by", m.Stamp.By), zap.String("reason", m.Stamp.Reason), zap.String("error", m.Error))
	e.file.touch()
	e.wake()
}

func (e *Engine) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// step makes a move go to a state. It reports false for one that has ended
// meanwhile.
func (e *Engine) step(id string, to State, why error) (Move, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.moves[id]
	if !ok || m.State.Ended() {
		return m, false
	}
	text := ""
	if why != nil {
		text = strings.ReplaceAll(why.Error(), "\n", "; ") // of errors.Join
	}
	return e.enter(m, to, text), true
}

// enter puts a move into a state. The caller holds e.mu.
func (e *Engine) enter(m Move, to State, why string) Move {
	m.State, m.Error, m.Changed = to, why, time.Now().UTC()
	if m.Began.IsZero() {
		m.Began = m.Changed
	}
	if to.Ended() {
		m.Users = nil // the file keeps a thousand moves that ended
	}
	e.moves[m.ID] = m
	if to.Ended() {
		e.free(m.Key)
		e.remember(m.ID)
		e.account(m)
	}
	e.note(m)
	return m
}

// undo ends a move before its key is switched.
func (e *Engine) undo(id string, stamp affinity.Stamp) (Move, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.moves[id]
	if !ok || m.State.Ended() || m.State == Switching {
		return m, false
	}
	if cancel := e.cancels[id]; cancel != nil {
		cancel()
	}
	return e.enter(m, Undone, "undone by "+stamp.By), true
}

// remember keeps what ended, up to a bound. The caller holds e.mu.
func (e *Engine) remember(id string) {
	e.ended = append(e.ended, id)
	for len(e.ended) > maxHistory {
		delete(e.moves, e.ended[0])
		delete(e.flushes, e.ended[0])
		e.ended = e.ended[1:]
	}
}

// Get returns a move. An error that wraps ErrNoMove: there is none of that id, or
// none any more.
func (e *Engine) Get(id string) (Move, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.moves[id]
	if !ok {
		return m, fmt.Errorf("%w: %.80s", ErrNoMove, id)
	}
	return m, nil
}

// Of returns the move of a key that has not ended.
func (e *Engine) Of(key affinity.Key) (Move, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.moves[e.byKey[key]]
	return m, ok
}

// Moves returns the moves that are known, the newest first.
func (e *Engine) Moves() []Move {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.moves), func(a, b Move) int { return cmp.Compare(b.ID, a.ID) })
}

// Wait returns a move once it has ended.
func (e *Engine) Wait(ctx context.Context, id string) (Move, error) {
	for {
		e.mu.Lock()
		m, ok := e.moves[id]
		changed := e.changed
		e.mu.Unlock()
		if !ok {
			return m, fmt.Errorf("%w: %.80s", ErrNoMove, id)
		}
		if m.State.Ended() {
			return m, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
}

// Undo takes a move back: one on its way ends where it began, and one that is done
// is moved the other way, if the key is still where it was taken to; a pin that it
// made goes.
func (e *Engine) Undo(ctx context.Context, id string, force bool, stamp affinity.Stamp) (Move, error) {
	if m, ok := e.undo(id, stamp); ok {
		return m, nil
	}
	o, m, err := e.Back(ctx, id)
	if err != nil {
		return m, err
	}
	if o.Key != m.Key {
		return m, fmt.Errorf("move %s has just begun; try again", id)
	}
	o.Force, o.Stamp = force, stamp
	return e.Start(ctx, o)
}

// Back returns a move, and the order that takes it the other way if it is done. One
// on its way needs none: it is stopped. Any other can't be undone: an error.
func (e *Engine) Back(ctx context.Context, id string) (Order, Move, error) {
	m, err := e.Get(id)
	switch {
	case err != nil:
		return Order{}, m, err
	case m.State == Switching:
		return Order{}, m, fmt.Errorf("move %s: %s is just being switched; try again", id, m.User)
	case !m.State.Ended():
		return Order{}, m, nil
	case m.State != Done:
		return Order{}, m, fmt.Errorf("move %s is %s: there is nothing to undo", id, m.State)
	case m.From == "":
		return Order{}, m, fmt.Errorf("move %s: %s was assigned nowhere before", id, m.User)
	}
	a, err := e.opt.Store.Get(ctx, m.Key)
	if err != nil {
		return Order{}, m, err
	}
	if a.Host != "" && a.Host != m.To {
		return Order{}, m, fmt.Errorf("move %s: %s %w: on %s", id, m.User, ErrOverMoved, a.Host)
	}
	o := Order{User: m.User, Key: m.Key, To: m.From, undoes: id}
	o.Pin = m.Unpin || m.Pin && m.Pinned == m.From
	o.unpin = m.Pin && !o.Pin
	if m.Pin {
		o.Pinned = m.To
	}
	return o, m, nil
}

// justDone is how long before a start a move may have been done for Redo.
const justDone = time.Minute

// Redo assigns the keys of moves that were done just before a start, where the
// store says that they are where they were: what it keeps may be a moment older
// than the moves. Call it before logins are answered.
func (e *Engine) Redo(ctx context.Context) error {
	last := map[affinity.Key]Move{}
	e.mu.Lock()
	for _, m := range e.moves {
		if old, seen := last[m.Key]; !seen || m.Changed.After(old.Changed) {
			last[m.Key] = m
		}
	}
	e.mu.Unlock()
	var errs []error
	for key, m := range last {
		if m.State != Done || m.From == "" || time.Since(m.Changed) > justDone {
			continue
		}
		a, err := e.opt.Store.Get(ctx, key)
		if err == nil && a.Host == m.From {
			err = e.opt.Store.Set(ctx, key, m.To)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Run makes moves until ctx ends, and returns when all that it started has stopped.
// Those on their way then go on after a restart, from their beginning.
func (e *Engine) Run(ctx context.Context) {
	keep, stop := context.WithCancel(context.Background())
	var keeper, work sync.WaitGroup
	keeper.Go(func() { e.file.run(keep, e.snapshot, e.opt.Log) })
	defer keeper.Wait()
	defer stop()
	defer work.Wait()
	e.resumeFlushes(ctx, &work)
	e.poke()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.turn:
		}
		for id := e.next(); id != ""; id = e.next() {
			work.Go(func() {
				e.make(ctx, id)
				e.mu.Lock()
				e.running--
				e.mu.Unlock()
				e.poke()
			})
		}
	}
}

// next takes the oldest move that waits, if one may begin.
func (e *Engine) next() (id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running >= e.settings.Load().Parallel {
		return ""
	}
	for _, other := range e.byKey {
		if m := e.moves[other]; m.State == Queued && e.cancels[other] == nil && (id == "" || other < id) {
			id = other
		}
	}
	if id != "" {
		e.running++
		e.cancels[id] = func() {} // taken
	}
	return id
}

// make makes one move, to its end or to ctx's.
func (e *Engine) make(ctx context.Context, id string) {
	s := e.settings.Load()
	run, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	e.mu.Lock()
	e.cancels[id] = cancel
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.cancels, id)
		e.mu.Unlock()
	}()
	m, ok := e.step(id, Kicking, nil)
	if !ok {
		return
	}
	err := e.steps(run, m)
	switch {
	case ctx.Err() != nil:
		return // usher ends: the file says that the move is on its way
	case err == nil:
		return
	case run.Err() != nil && errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("not done within %s: %w", s.Timeout, err)
	}
	e.step(id, Failed, err)
}

// steps is the way of a move. An error leaves the key where it is.
func (e *Engine) steps(ctx context.Context, m Move) error {
	if a, err := e.opt.Store.Get(ctx, m.Key); err != nil {
		return err
	} else if m.From == m.To && a.Host == m.To { // he is there
		return e.finish(ctx, m)
	}
	if err := e.end(ctx, m); err != nil {
		return err
	}
	if hook := e.settings.Load().Hook; hook != nil {
		m, ok := e.step(m.ID, Hooking, nil)
		if !ok {
			return nil
		}
		if err := hook(ctx, m); err != nil {
			return fmt.Errorf("flush_hook: %w", err)
		}
	}
	if _, ok := e.step(m.ID, Settling, nil); !ok {
		return nil
	}
	select {
	case <-time.After(e.settings.Load().KickDelay):
	case <-ctx.Done():
		return ctx.Err()
	}
	// A login that was decided just before the hold may have come through since.
	if err := e.end(ctx, m); err != nil {
		return err
	}
	return e.finish(ctx, m)
}

// forcedShare is the part of Timeout after which a forced move goes on where
// sessions can't be ended: it looks twice, and hook and delay need time too. A look
// never takes more than half of what is left.
const forcedShare = 4

// end ends the sessions of all users behind the key.
func (e *Engine) end(ctx context.Context, m Move) error {
	a, err := e.opt.Store.Get(ctx, m.Key)
	if err != nil {
		return err
	}
	s := e.settings.Load()
	users := []string{m.User}
	for _, u := range slices.Concat(m.Users, a.Users, []string{m.Key.Name}) {
		if !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	look := ctx
	if m.Force {
		limit := s.Timeout / forcedShare
		if over, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(over)/2)
		}
		var cancel context.CancelFunc
		look, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	err = s.End(look, users, e.from(m.ID, a.Host))
	if err == nil && len(a.Users) >= affinity.MaxUsers {
		err = fmt.Errorf("%s has %d users or more: not all are known whose sessions must end", m.Key.Name, len(a.Users))
	}
	if err != nil && m.Force && ctx.Err() == nil {
		e.opt.Log.Warn("move goes on, though sessions may live", zap.String("id", m.ID), zap.String("user", m.User), zap.Error(err))
		return nil
	}
	return err
}

// from is where a move's key lives: at host, as a login recorded that was decided
// before the hold, or, where that says nothing, as it was known before.
func (e *Engine) from(id, host string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.moves[id]
	if ok && host != "" && host != m.To && host != m.From {
		m.From = host
		e.moves[id] = m
		e.file.touch()
	}
	return m.From
}

// finish switches the key to its new host. From here on nothing is undone.
func (e *Engine) finish(ctx context.Context, m Move) error {
	if _, ok := e.step(m.ID, Switching, nil); !ok {
		return nil
	}
	s := e.settings.Load()
	if s.Fit != nil && !m.Force {
		if err := s.Fit(m); err != nil {
			return err
		}
	}
	if err := e.opt.Store.Set(ctx, m.Key, m.To); err != nil {
		return err
	}
	if m.Pin {
		if err := s.Pin(ctx, m.User, affinity.Pin{Host: m.To, Stamp: m.Stamp}); err != nil {
			return fmt.Errorf("the user is moved, but not pinned: %w", err)
		}
	}
	if m.Unpin {
		if err := s.Unpin(ctx, m.User, m.From); err != nil {
			return fmt.Errorf("the user is moved, but still pinned: %w", err)
		}
	}
	e.step(m.ID, Done, nil)
	return nil
}
