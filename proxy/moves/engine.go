package moves

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
}

// Options are what an Engine is made of.
type Options struct {
	Path  string // of the file that keeps moves over a restart
	Store Assignments
	NewID func() string
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
	return e, nil
}

// Change makes s the settings.
func (e *Engine) Change(s Settings) {
	e.settings.Store(&s)
	e.poke()
}

// Moving reports whether the key is being moved, so that its logins must wait. It
// takes no lock.
func (e *Engine) Moving(key affinity.Key) bool { return (*e.held.Load())[key] }

// hold publishes the keys of moves that have not ended. The caller holds e.mu, or
// is alone.
func (e *Engine) hold() {
	held := make(map[affinity.Key]bool, len(e.byKey))
	for k := range e.byKey {
		held[k] = true
	}
	e.held.Store(&held)
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
		Flush: o.flush, Undoes: o.undoes, Stamp: o.Stamp, Changed: time.Now().UTC(),
	}
	e.mu.Lock()
	if other := e.byKey[o.Key]; other != "" {
		e.mu.Unlock()
		return Move{}, fmt.Errorf("%s %w: %s", o.User, ErrMoving, other)
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
		delete(e.byKey, m.Key)
		e.hold()
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
		text = why.Error()
	}
	return e.enter(m, to, text), true
}

// enter puts a move into a state. The caller holds e.mu.
func (e *Engine) enter(m Move, to State, why string) Move {
	m.State, m.Error, m.Changed = to, why, time.Now().UTC()
	if m.Began.IsZero() {
		m.Began = m.Changed
	}
	e.moves[m.ID] = m
	if to.Ended() {
		delete(e.byKey, m.Key)
		e.hold()
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
	m := e.moves[id]
	if m.State.Ended() || m.State == Switching {
		return m, false
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
// is moved the other way, if the key is still where it was taken to.
func (e *Engine) Undo(ctx context.Context, id string, force bool, stamp affinity.Stamp) (Move, error) {
	e.mu.Lock()
	m, ok := e.moves[id]
	cancel := e.cancels[id]
	e.mu.Unlock()
	if !ok {
		return m, fmt.Errorf("%w: %.80s", ErrNoMove, id)
	}
	if m, ok = e.undo(id, stamp); ok {
		if cancel != nil {
			cancel()
		}
		return m, nil
	}
	switch {
	case m.State == Switching:
		return m, fmt.Errorf("move %s: %s is just being switched; try again", id, m.User)
	case m.State != Done:
		return m, fmt.Errorf("move %s is %s: there is nothing to undo", id, m.State)
	case m.From == "":
		return m, fmt.Errorf("move %s: %s was assigned nowhere before", id, m.User)
	}
	a, err := e.opt.Store.Get(ctx, m.Key)
	if err != nil {
		return m, err
	}
	if a.Host != "" && a.Host != m.To {
		return m, fmt.Errorf("move %s: %s %w: on %s", id, m.User, ErrOverMoved, a.Host)
	}
	return e.Start(ctx, Order{User: m.User, Key: m.Key, To: m.From, Force: force, Stamp: stamp, undoes: id})
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
	err := e.steps(run, m, s)
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
func (e *Engine) steps(ctx context.Context, m Move, s *Settings) error {
	m, err := e.end(ctx, m, s)
	if err != nil {
		return err
	}
	if s.Hook != nil {
		if _, ok := e.step(m.ID, Hooking, nil); !ok {
			return nil
		}
		if err := s.Hook(ctx, m); err != nil {
			return fmt.Errorf("flush_hook: %w", err)
		}
	}
	if _, ok := e.step(m.ID, Settling, nil); !ok {
		return nil
	}
	select {
	case <-time.After(s.KickDelay):
	case <-ctx.Done():
		return ctx.Err()
	}
	// A login that was decided just before the hold may have come through since.
	if m, err = e.end(ctx, m, s); err != nil {
		return err
	}
	return e.finish(ctx, m, s)
}

// end ends the sessions of all users behind the key. It returns the move, From
// being where the key lives: a login that was decided just before the hold may have
// changed that.
func (e *Engine) end(ctx context.Context, m Move, s *Settings) (Move, error) {
	a, err := e.opt.Store.Get(ctx, m.Key)
	if err != nil {
		return m, err
	}
	if a.Host != "" && a.Host != m.From && a.Host != m.To { // To: it was switched before a restart
		m = e.from(m, a.Host)
	}
	users := []string{m.User}
	for _, u := range append(a.Users, m.Key.Name) {
		if !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	err = s.End(ctx, users, m.From)
	if err != nil && m.Force && ctx.Err() == nil {
		e.opt.Log.Warn("move goes on, though sessions may live", zap.String("id", m.ID), zap.String("user", m.User), zap.Error(err))
		return m, nil
	}
	return m, err
}

// from notes where a move that has not ended begins.
func (e *Engine) from(m Move, host string) Move {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.From = host
	if now := e.moves[m.ID]; !now.State.Ended() {
		now.From = host
		e.moves[m.ID] = now
		e.file.touch()
	}
	return m
}

// finish switches the key to its new host. From here on nothing is undone.
func (e *Engine) finish(ctx context.Context, m Move, s *Settings) error {
	if _, ok := e.step(m.ID, Switching, nil); !ok {
		return nil
	}
	if err := e.opt.Store.Set(ctx, m.Key, m.To); err != nil {
		return err
	}
	if m.Pin {
		if err := s.Pin(ctx, m.User, affinity.Pin{Host: m.To, Stamp: m.Stamp}); err != nil {
			return fmt.Errorf("the user is moved, but not pinned: %w", err)
		}
	}
	e.step(m.ID, Done, nil)
	return nil
}
