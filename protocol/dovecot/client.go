package dovecot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

const (
	// maxAuthLine is the longest line in bytes, its LF included, that an auth
	// server reads (AUTH_CLIENT_MAX_LINE_LENGTH).
	maxAuthLine = 8192
	// greetTimeout bounds the handshake, and greetLines its lines.
	greetTimeout = 10 * time.Second
	greetLines   = 200
	// authTimeout is after how long an auth server forgets a request
	// (AUTH_REQUEST_TIMEOUT_SECS).
	authTimeout = 150 * time.Second
	// linkPatience is how long a request waits for an auth server that is away:
	// it may just be restarting.
	linkPatience = time.Second
)

// Errors of an authClient: temporary failures all.
var (
	errUpstreamAway = errors.New("the auth server is away")
	errUpstreamFull = fmt.Errorf("too many requests wait for the auth server: %w", proxy.ErrOverload)
	errUpstreamMore = errors.New("the auth server asks for more than the mechanism has")
)

// An authClient asks an auth server for many at once, over one connection, which
// Run keeps.
type authClient struct {
	*upstream
	slots  chan struct{} // one for each request
	lastID atomic.Uint32

	mu      sync.Mutex
	link    *authLink     // nil: the auth server is away
	changed chan struct{} // closed, and made anew, when link changes
}

// An authLink is one connection, from the auth server's greeting to its end.
type authLink struct {
	out   *outbox
	mechs map[string]bool
	gone  chan struct{} // closed at the end, when no answer can come any more

	mu    sync.Mutex
	calls map[uint32]chan<- answer
}

// An answer is an OK, FAIL or CONT: rest is what stands behind the number.
type answer struct{ verb, rest string }

func newAuthClient(address string, outstanding int, log *zap.Logger) *authClient {
	return &authClient{upstream: newUpstream(address, log), slots: make(chan struct{}, outstanding), changed: make(chan struct{})}
}

// Run keeps a connection to the auth server until ctx ends.
func (c *authClient) Run(ctx context.Context) error {
	c.keep(ctx, nil, c.serve)
	return nil
}

// ask returns the answer to an AUTH: mech and params, the latter with `resp` at
// their end. last is what the client says if the auth server says more before
// it refuses, base64; nil: nothing. A request that the auth server did not
// answer before it went away is asked once more. All errors are temporary.
func (c *authClient) ask(ctx context.Context, mech, params string, last *string) (answer, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return answer{}, errUpstreamFull
	}
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	for range 2 {
		l, err := c.await(ctx)
		if err != nil {
			return answer{}, err
		}
		if !l.mechs[mech] {
			return answer{}, fmt.Errorf("the auth server does not offer %s", mech)
		}
		a, err := l.ask(ctx, c.nextID(), mech, params, last)
		if !errors.Is(err, errUpstreamAway) {
			return a, err
		}
	}
	return answer{}, errUpstreamAway
}

// nextID returns a number that no request in flight has; 0 is none.
func (c *authClient) nextID() uint32 {
	for {
		if id := c.lastID.Add(1); id != 0 {
			return id
		}
	}
}

// await returns the connection; if there is none, it waits for one, but not long.
func (c *authClient) await(ctx context.Context) (*authLink, error) {
	t := time.NewTimer(linkPatience)
	defer t.Stop()
	for {
		c.mu.Lock()
		l, changed := c.link, c.changed
		c.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-t.C:
			return nil, errUpstreamAway
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// exchange makes l the connection; nil: there is none.
func (c *authClient) exchange(l *authLink) {
	c.mu.Lock()
	c.link = l
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

// ask asks on this connection. errUpstreamAway: it ended without an answer.
func (l *authLink) ask(ctx context.Context, id uint32, mech, params string, last *string) (answer, error) {
	got := make(chan answer, 2) // an auth server says more at most once
	l.mu.Lock()
	if _, double := l.calls[id]; double {
		l.mu.Unlock()
		return answer{}, errUpstreamFull
	}
	l.calls[id] = got
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.calls, id)
		l.mu.Unlock()
	}()
	b := append(appendCommand(nil, "AUTH", id), '\t')
	b = append(b, mech...)
	b = append(b, '\t')
	b = append(b, params...)
	l.out.send(append(b, '\n'), false)
	for {
		var a answer
		select {
		case a = <-got:
		case <-l.gone:
			select {
			case a = <-got: // it came before the end
			default:
				return answer{}, errUpstreamAway
			}
		case <-ctx.Done():
			l.cancel(id)
			return answer{}, ctx.Err()
		}
		switch {
		case a.verb != "CONT":
			return a, nil
		case last == nil:
			l.cancel(id)
			return answer{}, errUpstreamMore
		}
		l.out.send(append(append(append(appendCommand(nil, "CONT", id), '\t'), *last...), '\n'), false)
		last = nil
	}
}

// cancel gives a request up. What is still said of it is skipped.
func (l *authLink) cancel(id uint32) {
	l.out.send(append(appendCommand(nil, "CANCEL", id), '\n'), false)
}

// serve is one connection, from its beginning to its end.
func (c *authClient) serve(_ context.Context, conn net.Conn) (answered bool, err error) {
	l := &authLink{out: newOutbox(conn), gone: make(chan struct{}), calls: map[uint32]chan<- answer{}}
	// 2.4 holds its greeting back until it has the client's version.
	l.out.send(fmt.Appendf(nil, "VERSION\t1\t2\nCPID\t%d\n", nextCPID()), false)
	in := newLineReader(conn, maxUpstreamLine)
	late := time.AfterFunc(greetTimeout, func() { closeQuietly(conn) })
	l.mechs, err = greeting(in)
	if !late.Stop() {
		err = errors.New("handshake: no greeting in time")
	}
	if err != nil {
		return false, err
	}
	c.isBack()
	c.exchange(l)
	defer func() {
		c.exchange(nil)
		close(l.gone)
	}()
	for {
		line, tooLong, err := in.next(0)
		switch {
		case err != nil:
			return true, err
		case tooLong:
			return true, errors.New("a line of the upstream is over the limit")
		}
		l.line(text(line))
	}
}

// greeting reads an auth server's, up to DONE, and returns the mechanisms.
func greeting(in *lineReader) (map[string]bool, error) {
	mechs := map[string]bool{}
	for range greetLines {
		line, tooLong, err := in.next(0)
		switch {
		case err != nil:
			return nil, fmt.Errorf("handshake: %w", err)
		case tooLong:
			return nil, errors.New("handshake: a line is over the limit")
		}
		switch verb, value, _ := command(text(line)); verb {
		case "VERSION":
			if value != "1" {
				return nil, fmt.Errorf("handshake: version %.20q of the auth protocol, expected 1", value)
			}
		case "MECH":
			mechs[strings.ToUpper(value)] = true
		case "SPID":
			if len(mechs) == 0 {
				return nil, errors.New("handshake: no mechanisms: a socket for userdb look-ups? expected one for logins (auth-client)")
			}
		case "DONE":
			return mechs, nil
		}
	}
	return nil, errors.New("handshake: a greeting without an end")
}

// line hands an answer to who waits for it. Others are of requests that were
// given up.
func (l *authLink) line(line string) {
	verb, idText, rest := command(line)
	if verb != "OK" && verb != "FAIL" && verb != "CONT" {
		return
	}
	id, ok := parseID(idText)
	if !ok {
		return
	}
	l.mu.Lock()
	got := l.calls[id]
	if verb != "CONT" {
		delete(l.calls, id)
	}
	l.mu.Unlock()
	if got == nil {
		return
	}
	select {
	case got <- answer{verb, rest}:
	default: // who asks has not read the two before, and goes wrong with them
	}
}

// maxPID is the highest process number that a Linux can have (PID_MAX_LIMIT);
// other systems stay below.
const maxPID = 1 << 22

var lastCPID = func() *atomic.Uint32 {
	n := &atomic.Uint32{}
	n.Store(rand.Uint32())
	return n
}()

// nextCPID returns a number for CPID. A socket of login processes refuses one
// that another connection has, so it is no process's. It is random at first, as
// others may do the same, and rises.
func nextCPID() uint32 {
	const top = 1<<31 - 1 // some read it as a signed number
	return maxPID + 1 + lastCPID.Add(1)%(top-maxPID)
}
