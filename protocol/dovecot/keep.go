package dovecot

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// A Keeper is a listener whose connections can be handed over to the next server
// on it, of this process or of the one that follows it.
type Keeper interface {
	// Keep hands conns over, with state for the next server, which may have
	// passwords in it. The caller closes conns, which ends nothing then. After an
	// error nothing was handed over.
	Keep(state []byte, conns ...net.Conn) error
}

// Kept is a connection that was handed over: state is what Keep was given, more
// the other connections. Of a connection that was not, both are nil.
type Kept interface {
	Kept() (state []byte, more []net.Conn)
}

// keptState is what a server tells the next one of a connection without
// outstanding requests.
type keptState struct {
	Kind  string // "standalone" or "interposed"
	Minor string // of the client's VERSION
	In    []byte // read from the client and not yet looked at

	// Interposed:
	Upstream string // its address
	Version  string // the client's line
	CPID     string
	Spoke    bool
	Greeted  bool
	Foreign  bool
	Born     time.Time
	Linked   bool // the upstream's connection comes along
	Ready    bool // and has greeted
	Mechs    []string
	UpIn     []byte // read from it and not yet looked at
}

var errKept = errors.New("handed over")

// keptOf returns the state of a connection that was handed over, or nil.
func keptOf(c net.Conn) (state *keptState, more []net.Conn, err error) {
	k, ok := c.(Kept)
	if !ok {
		return nil, nil, nil
	}
	text, more := k.Kept()
	if text == nil {
		return nil, nil, nil
	}
	state = &keptState{}
	if err := json.Unmarshal(text, state); err != nil {
		return nil, more, errors.New("a connection was handed over with a state that can't be read")
	}
	return state, more, nil
}

// handOver gives a client's connection, and those that belong to it, to the next
// server.
func (s *Server) handOver(state *keptState, conns ...net.Conn) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := s.keeper.Keep(text, conns...); err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			s.log.Warn("a connection can't be handed over; it is closed", zap.Error(err))
		}
		return err
	}
	return nil
}

// unread returns what was read and not yet returned. Nobody may read meanwhile.
func (l *lineReader) unread() []byte { return l.buf[l.r:l.w] }

// preload puts back what another reader had read.
func (l *lineReader) preload(b []byte) {
	if len(b) > len(l.buf) {
		l.buf = make([]byte, max(l.max, len(b)))
	}
	l.r, l.w = 0, copy(l.buf, b)
}

// A freezer stops the reading of an upstream's connection without closing it.
type freezer struct {
	conn net.Conn
	in   *lineReader

	mu     sync.Mutex
	asked  bool
	frozen chan struct{} // closed when nobody reads any more
	thaw   chan struct{} // closed when the connection may be closed, or is read again
	again  bool          // it is read again; set before thaw is closed
}

func newFreezer(conn net.Conn, in *lineReader) *freezer {
	return &freezer{conn: conn, in: in, frozen: make(chan struct{}), thaw: make(chan struct{})}
}

// ask stops the reading. It asks again, since the reader may just have set a
// deadline of its own.
func (f *freezer) ask() {
	f.mu.Lock()
	f.asked = true
	f.mu.Unlock()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if err := f.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
			closeQuietly(f.conn)
		}
		select {
		case <-f.frozen:
			return
		case <-again.C:
		}
	}
}

// stopped is called by the reader for its error: it reports whether the reading
// was only stopped, and then returns when the connection may end or be read again.
func (f *freezer) stopped(ctx context.Context) bool {
	f.mu.Lock()
	asked := f.asked
	f.mu.Unlock()
	close(f.frozen)
	if asked {
		select {
		case <-f.thaw:
		case <-ctx.Done():
		}
	}
	return asked
}

// handOver gives the client's connection and the upstream's to the next server,
// if it can. c is not read meanwhile, and has nothing outstanding.
func (c *relay) handOver() bool {
	l := c.present()
	if l != nil {
		l.out.finish()
	}
	c.out.finish()
	conns := []net.Conn{c.client}
	if l != nil {
		l.freezer.ask()
		defer close(l.freezer.thaw)
	}
	c.mu.Lock()
	c.leaving = true // nobody greets the client any more
	state := &keptState{
		Kind: "interposed", Upstream: c.opt.Upstream, Minor: c.minor, Version: c.version, CPID: c.cpid,
		Spoke: c.spoke, Greeted: c.greeted, Foreign: c.foreign, Born: c.born, In: c.in.unread(),
	}
	// The upstream may have gone in this very moment.
	if l != nil && c.link == l && !l.out.failed() {
		state.Linked, state.Ready, state.UpIn = true, l.ready, slices.Concat(l.greeting, l.freezer.in.unread())
		for m := range l.mechs {
			state.Mechs = append(state.Mechs, m)
		}
		slices.Sort(state.Mechs)
		conns = append(conns, l.freezer.conn)
	} else {
		state.Foreign = state.Greeted
	}
	c.mu.Unlock()
	c.out.finish()
	if !c.out.failed() && c.Server.handOver(state, conns...) == nil {
		return true
	}
	c.mu.Lock()
	c.leaving = false
	c.mu.Unlock()
	if l != nil {
		l.freezer.again = true
	}
	return false
}

// turnAway ends a connection that was handed over and can't be served on: kept is
// its state, nil if that can't be read, more what belonged to it. What the client
// has asked meanwhile is answered: its end alone would say that a password is wrong.
func (s *Server) turnAway(nc net.Conn, kept *keptState, more []net.Conn, err error) {
	s.log.Info("a connection that was handed over is closed: it was served otherwise", zap.Error(err))
	for _, m := range more {
		closeQuietly(m)
	}
	in, out := newLineReader(nc, maxLine), newOutbox(nc)
	minor := 1
	if kept != nil {
		in.preload(kept.In)
		if n, err := strconv.Atoi(kept.Minor); err == nil {
			minor = n
		}
	}
	defer out.finish()
	for began := time.Now(); time.Since(began) < s.opt.Grace; out.wait() {
		line, _, err := in.next(silence(began))
		switch {
		case errors.Is(err, errIdle):
			if hangUp(nc) {
				return
			}
			continue
		case err != nil:
			return
		}
		verb, idText, rest := command(text(line))
		id, ok := parseID(idText)
		switch {
		case !ok:
		case verb == "AUTH", verb == "CONT":
			d := proxy.Decision{Reason: proxy.UpstreamUnavailable}
			if a, err := parseAuth(rest); err == nil && verb == "AUTH" {
				s.opt.Handler.Record(&a.req, d)
			}
			if minor == 0 {
				resetConn(nc) // see tellFail
				return
			}
			out.queue(appendFail(nil, id, &d))
		case verb == "CANCEL" && minor >= 4:
			out.queue(appendCancelled(nil, id))
		}
		if !in.buffered() {
			out.flush()
		}
	}
}
