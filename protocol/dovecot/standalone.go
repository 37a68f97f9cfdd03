package dovecot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// saslTimeout is after how long an unfinished exchange may be forgotten
// (AUTH_REQUEST_TIMEOUT_SECS of Dovecot's auth).
const saslTimeout = 150 * time.Second

// An authConn is one client's connection in standalone mode.
type authConn struct {
	*Server
	conn net.Conn
	out  *outbox
	stop <-chan struct{} // closed when Serve is told to end

	minor atomic.Int32 // of the client's VERSION

	mu      sync.Mutex
	pending map[uint32]*exchange
	active  int  // decisions that run, also of requests that were given up
	over    bool // time is up: nothing is begun any more
	late    delays
	running sync.WaitGroup
}

// An exchange is one AUTH until it is answered.
type exchange struct {
	id    uint32
	auth  *authLine
	sasl  dialogue    // nil of a mechanism that is not offered
	gone  atomic.Bool // answered, or given up by the client
	began time.Time

	deciding bool // the SASL exchange is complete; the reading goroutine's own

	// Of a token that was refused: what the client will be told once it has
	// answered to the reason. authConn.mu guards it.
	refused *proxy.Decision
}

// standalone serves a connection.
func (s *Server) standalone(ph phases, nc net.Conn) {
	ctx, cancel := context.WithCancel(ph.hard)
	c := &authConn{Server: s, conn: nc, out: newOutbox(nc), stop: ph.serving.Done(), pending: map[uint32]*exchange{}}
	defer c.running.Wait()
	defer cancel()

	kept, more, err := keptOf(nc)
	switch {
	case err != nil || kept != nil && (kept.Kind != "standalone" || len(more) > 0):
		c.turnAway(nc, kept, more, err)
		return
	case kept == nil:
		// Sent whole at accept: every client takes it, and some wait for its
		// DONE before they speak.
		greeting, err := c.ownGreeting()
		if err != nil {
			c.log.Error("handshake", zap.Error(err))
			return
		}
		c.out.send(greeting, false)
	}
	err = c.read(ctx, ph, kept)
	if err != nil && !errors.Is(err, errKept) && !normalEnd(err) {
		c.log.Warn("connection", zap.Error(err))
	}
	c.out.finish()
	if err == nil && c.minor.Load() == 0 {
		resetConn(c.conn)
	}
}

// read serves lines until the client leaves or usher ends.
// kept is of one that was handed over, else nil.
func (c *authConn) read(ctx context.Context, ph phases, kept *keptState) error {
	in := newLineReader(c.conn, maxLine)
	defer context.AfterFunc(ph.serving, in.wake)()
	defer context.AfterFunc(ph.grace, func() {
		c.giveUp()
		in.wake()
	})()
	idle := lineTimeout // for the handshake
	if kept != nil {
		idle = 0
		in.preload(kept.In)
		c.setMinor(kept.Minor)
	}
	var endedAt time.Time
	keep := c.keeper != nil
	for {
		if ended(c.stop) {
			if keep && c.outstanding() == 0 {
				c.out.finish()
				state := keptState{Kind: "standalone", Minor: strconv.Itoa(int(c.minor.Load())), In: in.unread()}
				if !c.out.failed() && c.handOver(&state, c.conn) == nil {
					return errKept
				}
				keep = false
			}
			if endedAt.IsZero() {
				endedAt = time.Now()
			}
			idle = silence(endedAt)
			if keep && abstains(endedAt) {
				pause(ctx, ph.grace.Done(), idle)
				continue
			}
		}
		line, tooLong, err := in.next(idle)
		switch {
		case errors.Is(err, errIdle) && ended(c.stop):
			if !keep && c.outstanding() == 0 {
				c.out.finish()
				if hangUp(c.conn) {
					return nil
				}
			}
			continue
		case err != nil:
			return err
		case tooLong:
			c.tooLong(line)
		default:
			if err := c.line(ctx, text(line)); err != nil {
				return err
			}
		}
		idle = 0
		if !in.buffered() {
			c.out.flush()
		}
		c.out.wait()
	}
}

func (c *authConn) line(ctx context.Context, line string) error {
	verb, idText, rest := command(line)
	switch verb {
	case "VERSION":
		if idText != "1" {
			return fmt.Errorf("handshake: the client speaks version %.20q, expected 1", idText)
		}
		if !c.setMinor(rest) {
			return fmt.Errorf("handshake: minor version %.20q", rest)
		}
		return nil
	case "CPID":
		return nil
	case "AUTH", "CONT", "CANCEL":
	default:
		c.log.Debug("unknown command", zap.String("command", fmt.Sprintf("%.20q", verb)))
		return nil
	}
	id, ok := parseID(idText)
	if !ok {
		c.log.Warn("a request without a number", zap.String("command", verb))
		return nil
	}
	switch verb {
	case "AUTH":
		c.handleAuth(ctx, id, rest)
	case "CONT":
		c.handleCont(ctx, id, rest)
	case "CANCEL":
		c.handleCancel(id)
	}
	return nil
}

func (c *authConn) setMinor(text string) bool {
	minor, err := strconv.ParseInt(text, 10, 32)
	c.minor.Store(int32(minor))
	return err == nil
}

// tooLong refuses the request that an over-long line would have been.
func (c *authConn) tooLong(head []byte) {
	verb, idText, _ := command(string(head))
	c.log.Warn("a line is over the limit", zap.Int("limit", maxLine))
	if id, ok := parseID(idText); ok && (verb == "AUTH" || verb == "CONT") {
		c.refuse(id, &proxy.Request{Adapter: "dovecot"}, "")
	}
}

// refuse answers a request that never became one.
func (c *authConn) refuse(id uint32, r *proxy.Request, code string) {
	c.drop(id)
	c.opt.Handler.Record(r, proxy.Decision{Outcome: proxy.Denied, Reason: proxy.BadRequest})
	c.out.queue(appendFailCode(nil, id, code))
}

// drop forgets an exchange: whatever is still decided for it is not told.
func (c *authConn) drop(id uint32) {
	c.mu.Lock()
	if x := c.pending[id]; x != nil {
		x.gone.Store(true)
		delete(c.pending, id)
	}
	c.mu.Unlock()
}

func (c *authConn) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

func (c *authConn) handleAuth(ctx context.Context, id uint32, rest string) {
	a, err := parseAuth(rest)
	if err != nil {
		c.log.Warn("bad AUTH", zap.Error(err))
		c.refuse(id, &proxy.Request{Adapter: "dovecot"}, "")
		return
	}
	x := &exchange{id: id, auth: a, began: time.Now()}
	mech := mechanisms[a.mech]
	if slices.Contains(c.opt.Mechanisms, a.mech) {
		x.sasl = mech.begin()
	}
	c.mu.Lock()
	_, double := c.pending[id]
	full := !double && (c.over || c.active >= c.opt.MaxOutstanding ||
		len(c.pending) >= c.opt.MaxOutstanding && !c.expire(x.began))
	if !double && !full {
		c.pending[id] = x
	}
	c.mu.Unlock()

	switch {
	case double:
		c.log.Warn("a request number that is still in use", zap.Uint32("number", id))
		c.refuse(id, &a.req, "")
	case full:
		d := c.opt.Handler.Record(&a.req, proxy.Decision{Reason: proxy.Overload, Err: errOutstanding})
		c.tell(x, &d)
	case x.sasl == nil:
		c.log.Warn("a mechanism that is not offered", zap.String("mech", fmt.Sprintf("%.20q", a.mech)))
		c.refuse(id, &a.req, "")
	case c.opt.RequireSecured && !a.req.TLS.Secured:
		c.log.Warn("plaintext mechanism without TLS refused: require_secured", zap.String("mech", a.mech))
		c.refuse(id, &a.req, "")
	case !a.hasResp || (a.resp == "" && (c.minor.Load() < 2 || mech.emptyIsNone)):
		// Exim's empty resp= means that there is none.
		c.challenge(x)
	default:
		c.response(ctx, x, a.resp)
	}
}

// expire forgets exchanges that their client left half-way. c.mu is held.
func (c *authConn) expire(now time.Time) bool {
	n := len(c.pending)
	for id, x := range c.pending {
		if (!x.deciding || x.refused != nil) && now.Sub(x.began) > saslTimeout {
			x.gone.Store(true)
			delete(c.pending, id)
		}
	}
	return len(c.pending) < n
}

func (c *authConn) handleCont(ctx context.Context, id uint32, data string) {
	c.mu.Lock()
	x := c.pending[id]
	refused := x != nil && x.refused != nil
	if refused {
		x.gone.Store(true)
		delete(c.pending, id)
		c.out.queue(c.reply(x, x.refused))
	}
	c.mu.Unlock()
	if refused {
		return
	}
	if x == nil || x.deciding {
		c.out.queue(append(appendCommand(nil, "FAIL", id), "\treason=Authentication request timed out\n"...))
		c.drop(id)
		return
	}
	resp, _, _ := strings.Cut(data, "\t")
	c.response(ctx, x, resp)
}

// handleCancel gives a request up. Clients below minor version 4 close at an
// answer, newer ones wait for one.
func (c *authConn) handleCancel(id uint32) {
	c.drop(id)
	if c.minor.Load() >= 4 {
		c.out.queue(appendCancelled(nil, id))
	}
}

// challenge asks for the next piece of an exchange.
func (c *authConn) challenge(x *exchange) {
	c.out.queue(appendContinue(nil, x.id, x.sasl.prompt()))
}

// response takes a piece of a SASL exchange and, when it is whole, decides.
func (c *authConn) response(ctx context.Context, x *exchange, b64 string) {
	r := &x.auth.req
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		c.refuse(x.id, r, "invalid_base64")
		return
	}
	done, err := x.sasl.take(r, string(raw))
	switch {
	case err != nil:
		c.log.Info("bad SASL message", zap.Error(err))
		c.refuse(x.id, r, "")
		return
	case !done:
		c.challenge(x)
		return
	}
	x.deciding = true
	c.mu.Lock()
	c.active++
	c.mu.Unlock()
	c.running.Add(1)
	c.work.run(func() {
		defer c.running.Done()
		d := c.decide(ctx, c.stop, r, &x.gone)
		if d.Outcome == proxy.Denied && !d.Delayed {
			c.late.wait(ctx, c.stop, c.opt.FailureDelay, (c.opt.MaxOutstanding+1)/2)
		}
		c.answer(x, &d)
	})
}

// explain tells a refusal in the mechanism's words, and reports whether it has
// some: then the client speaks next. c.mu is held.
func (c *authConn) explain(x *exchange, d *proxy.Decision) bool {
	if d.Outcome != proxy.Denied || x.sasl.refusal() == "" {
		return false
	}
	x.refused = d
	c.out.queue(appendContinue(nil, x.id, x.sasl.refusal()))
	return true
}

// giveUp tells whoever still waits to try later.
func (c *authConn) giveUp() {
	reset := false
	c.mu.Lock()
	c.over = true
	for _, x := range c.pending {
		x.gone.Store(true)
		d := x.refused // which was recorded
		if d == nil {
			later := c.opt.Handler.Record(&x.auth.req, proxy.Decision{Reason: proxy.Overload})
			d = &later
		}
		b := c.reply(x, d)
		reset = reset || b == nil
		c.out.queue(b)
	}
	clear(c.pending)
	c.mu.Unlock()
	c.write(reset, false)
}

// answer tells a decision, unless its client gave the request up. It is queued
// before nothing seems to be outstanding: then the connection may be closed.
func (c *authConn) answer(x *exchange, d *proxy.Decision) {
	b := c.reply(x, d)
	c.mu.Lock()
	c.active--
	gone := x.gone.Load()
	explained := !gone && c.explain(x, d)
	if !gone && !explained {
		x.gone.Store(true)
		delete(c.pending, x.id)
		c.out.queue(b)
	}
	others := len(c.pending) > 0
	c.mu.Unlock()
	if !gone {
		c.write(b == nil, others)
	}
}

// tell writes a decision on a request that is not pending.
func (c *authConn) tell(x *exchange, d *proxy.Decision) {
	b := c.reply(x, d)
	c.out.queue(b)
	c.write(b == nil, c.outstanding() > 0)
}

// write writes what is queued, and then resets the connection if it shall.
// others: more answers may be on their way.
func (c *authConn) write(reset, others bool) {
	if !reset {
		c.out.send(nil, others)
		return
	}
	c.out.finish()
	resetConn(c.conn)
}

// reply is what a decision is told by; nil: by the end of the connection.
func (c *authConn) reply(x *exchange, d *proxy.Decision) []byte {
	switch {
	case d.Outcome == proxy.Routed, d.Outcome == proxy.Passed:
		return c.fitting(c.route.appendOK(nil, "OK", x.id, d, x.tokenMech(d)), x.id, d)
	case d.Outcome == proxy.TempFail && c.minor.Load() == 0 && x.auth.req.NoLogin:
		// Postfix and Exim show every FAIL as a wrong password, and a closed
		// connection as a temporary failure.
		return nil
	}
	return appendFail(nil, x.id, d)
}

// tokenMech is the mechanism by which the backend shall be shown the client's
// token, empty where it is shown another password.
func (x *exchange) tokenMech(d *proxy.Decision) string {
	r := &x.auth.req
	if _, ok := x.sasl.(*oauth); !ok || d.Password.Reveal() != r.Password.Reveal() {
		return ""
	}
	return x.auth.mech
}
