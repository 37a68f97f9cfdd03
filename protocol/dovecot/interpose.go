package dovecot

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

const (
	// maxUpstreamLine bounds a line of the auth server: an OK may be longer
	// than what clients may send.
	maxUpstreamLine = 64 << 10
	// dialTimeout is how long a client waits for an absent upstream before it
	// is let go. Its own handshake ends after 30 s.
	dialTimeout = 25 * time.Second
)

// A relay is one client's connection and the one upstream connection that
// belongs to it: SPID, COOKIE, CPID and the numbers of requests are good for
// this pair only.
type relay struct {
	*Server
	client net.Conn
	in     *lineReader // from the client
	out    *outbox     // to the client
	up     *outbox     // to the auth server
	stop   <-chan struct{}

	mu      sync.Mutex
	minor   string
	mechs   map[string]bool // of the upstream's greeting
	greeted bool            // the upstream's DONE came
	lost    bool            // the upstream went away
	over    bool            // time is up: nothing is begun any more
	pending map[uint32]*relayed
	late    delays
	running sync.WaitGroup
}

// A relayed request is one AUTH between its line and its answer.
type relayed struct {
	req   proxy.Request
	mech  string
	gone  atomic.Bool // given up by the client
	named bool        // LOGIN: the user name went by
	told  bool        // the upstream said OK: req changes no more
	began time.Time
}

func (s *Server) interpose(ph phases, nc net.Conn) {
	ctx, cancel := context.WithCancel(ph.hard)
	defer cancel()
	upstream, err := s.dial(ph.serving, ctx)
	if err != nil {
		s.log.Error("upstream", zap.String("upstream", s.opt.Upstream), zap.Error(err))
		return
	}
	defer closeQuietly(upstream)
	defer context.AfterFunc(ctx, func() { closeQuietly(upstream) })()

	c := &relay{
		Server: s, client: nc, in: newLineReader(nc, maxLine), out: newOutbox(nc), up: newOutbox(upstream), stop: ph.serving.Done(),
		mechs: map[string]bool{}, pending: map[uint32]*relayed{},
	}
	var upstreamDone sync.WaitGroup
	upstreamDone.Go(func() {
		err := c.readUpstream(ctx, upstream)
		if ctx.Err() == nil {
			c.upstreamLost(err)
		}
	})
	if err := c.readClient(ph); err != nil && !normalEnd(err) {
		c.log.Warn("connection", zap.Error(err))
	}
	c.up.finish()
	c.out.finish()
	cancel()
	upstreamDone.Wait()
	c.running.Wait()
}

// dial connects to the upstream, again and again for dialTimeout: it may just
// be restarting, and a login process whose connection is refused gives its
// mail clients no greeting.
func (s *Server) dial(serving, ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(s.opt.Upstream, "/") {
		network = "unix"
	}
	var d net.Dialer
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		c, err := d.DialContext(ctx, network, s.opt.Upstream)
		if err == nil {
			return c, nil
		}
		pause(ctx, serving.Done(), wait)
		if ctx.Err() != nil || ended(serving.Done()) {
			return nil, err
		}
	}
}

// readClient hands the client's lines to the upstream, unread but for what
// routing needs, until one of them leaves.
func (c *relay) readClient(ph phases) error {
	defer context.AfterFunc(ph.serving, c.in.wake)()
	defer context.AfterFunc(ph.grace, func() {
		c.giveUp()
		c.in.wake()
	})()
	idle := time.Duration(0)
	for {
		if ended(c.stop) || c.isLost() {
			idle = drainIdle
		}
		line, tooLong, err := c.in.next(idle)
		switch {
		case errors.Is(err, errIdle):
			if c.outstanding() == 0 {
				return nil
			}
			continue
		case err != nil:
			return err
		case tooLong:
			c.tooLong(line)
		default:
			if c.clientLine(text(line)) {
				c.up.queue(line)
			}
		}
		if !c.in.buffered() {
			c.up.flush()
			c.out.flush()
		}
		c.out.wait()
		c.up.wait()
	}
}

func (c *relay) isLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

func (c *relay) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// clientLine notes what a line says and reports whether it shall go on to the
// upstream. What would make the auth server close the connection, and other
// people's logins with it, is refused here.
func (c *relay) clientLine(line string) (forward bool) {
	verb, idText, rest := command(line)
	switch verb {
	case "AUTH", "CONT", "CANCEL":
	case "VERSION":
		c.mu.Lock()
		c.minor = rest
		c.mu.Unlock()
		return true
	default:
		return true
	}
	id, ok := parseID(idText)
	if !ok {
		c.log.Warn("a request without a number", zap.String("command", verb))
		return false
	}
	switch verb {
	case "AUTH":
		return c.clientAuth(id, rest)
	case "CONT":
		c.clientCont(id, rest)
	case "CANCEL":
		c.mu.Lock()
		if x := c.pending[id]; x != nil {
			x.gone.Store(true)
			delete(c.pending, id)
		}
		c.mu.Unlock()
	}
	return true
}

func (c *relay) tooLong(head []byte) {
	verb, idText, _ := command(string(head))
	c.log.Warn("a line is over the limit", zap.Int("limit", maxLine))
	id, ok := parseID(idText)
	if !ok || (verb != "AUTH" && verb != "CONT") {
		return
	}
	if verb == "CONT" {
		// The upstream waits for the rest of an exchange that will not come.
		c.up.queue([]byte("CANCEL\t" + idText + "\n"))
	}
	c.refuse(id, &proxy.Request{Adapter: "dovecot"})
}

func (c *relay) refuse(id uint32, r *proxy.Request) {
	if x := c.take(id); x != nil {
		x.gone.Store(true)
	}
	c.opt.Handler.Record(r, proxy.Decision{Outcome: proxy.Denied, Reason: proxy.BadRequest})
	c.out.queue(appendFailCode(nil, id, ""))
}

func (c *relay) take(id uint32) *relayed {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.pending[id]
	delete(c.pending, id)
	return x
}

// takeIf takes x out, if it still is what stands under its number.
func (c *relay) takeIf(id uint32, x *relayed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[id] != x {
		return false
	}
	delete(c.pending, id)
	return true
}

// giveUp tells whoever still waits to try later.
func (c *relay) giveUp() {
	c.mu.Lock()
	c.over = true
	open := map[uint32]*relayed{}
	for id, x := range c.pending {
		x.gone.Store(true)
		open[id] = &relayed{req: x.req} // x may still be decided on
	}
	clear(c.pending)
	c.mu.Unlock()
	for id, x := range open {
		c.fail(id, x, proxy.Overload)
	}
}

func (c *relay) clientAuth(id uint32, rest string) (forward bool) {
	a, err := parseAuth(rest)
	if err != nil {
		c.log.Warn("bad AUTH", zap.Error(err))
		c.refuse(id, &proxy.Request{Adapter: "dovecot"})
		return false
	}
	x := &relayed{req: a.req, mech: a.mech, began: time.Now()}
	c.mu.Lock()
	_, double := c.pending[id]
	unknown := c.greeted && !c.mechs[a.mech]
	full := c.over || len(c.pending) >= c.opt.MaxOutstanding && !c.expire(x.began)
	lost := c.lost
	if !double && !full && !lost && !unknown {
		c.pending[id] = x
	}
	c.mu.Unlock()

	switch {
	case lost:
		c.fail(id, x, proxy.UpstreamUnavailable)
	case double:
		c.log.Warn("a request number that is still in use", zap.Uint32("number", id))
		c.up.queue(append(appendCommand(nil, "CANCEL", id), '\n'))
		c.refuse(id, &a.req)
	case unknown:
		c.log.Warn("a mechanism that the upstream does not offer")
		c.refuse(id, &a.req)
	case full:
		c.fail(id, x, proxy.Overload)
	default:
		if a.hasResp && a.resp != "" {
			c.notePassword(x, a.resp)
		}
		return true
	}
	return false
}

// expire forgets requests that neither side will answer. c.mu is held.
func (c *relay) expire(now time.Time) bool {
	n := len(c.pending)
	for id, x := range c.pending {
		if now.Sub(x.began) > saslTimeout {
			delete(c.pending, id)
		}
	}
	return len(c.pending) < n
}

func (c *relay) clientCont(id uint32, data string) {
	c.mu.Lock()
	x := c.pending[id]
	c.mu.Unlock()
	if x != nil {
		resp, _, _ := strings.Cut(data, "\t")
		c.notePassword(x, resp)
	}
}

// notePassword reads user and password out of a PLAIN or LOGIN response. What
// can't be read is the upstream's to judge.
func (c *relay) notePassword(x *relayed, b64 string) {
	if x.mech != "PLAIN" && x.mech != "LOGIN" {
		return
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case x.told:
	case x.mech == "PLAIN":
		_, rest, _ := strings.Cut(string(raw), "\x00")
		user, pass, _ := strings.Cut(rest, "\x00")
		x.req.User, x.req.Password = user, proxy.NewSecret(pass)
	case !x.named:
		x.req.User, x.named = string(raw), true
	default:
		x.req.Password = proxy.NewSecret(string(raw))
	}
}

// fail answers a request that the upstream will not.
func (c *relay) fail(id uint32, x *relayed, why proxy.Reason) {
	d := proxy.Decision{Reason: why}
	if why == proxy.Overload {
		d.Err = errOutstanding
	}
	d = c.opt.Handler.Record(&x.req, d)
	c.tellFail(id, x, &d)
}

func (c *relay) tellFail(id uint32, x *relayed, d *proxy.Decision) {
	c.mu.Lock()
	old := c.minor == "0"
	c.mu.Unlock()
	if d.Outcome == proxy.TempFail && x.req.NoLogin && old {
		// Postfix and Exim show every FAIL as a wrong password.
		c.out.finish()
		closeQuietly(c.client)
		return
	}
	c.out.send(appendFail(nil, id, d), false)
}

// readUpstream hands the auth server's lines to the client, and those that are
// to be routed to the pipeline.
func (c *relay) readUpstream(ctx context.Context, upstream net.Conn) error {
	in := newLineReader(upstream, maxUpstreamLine)
	for {
		line, tooLong, err := in.next(0)
		if err != nil {
			return err
		}
		if tooLong {
			return errors.New("a line of the upstream is over the limit")
		}
		if c.upstreamLine(ctx, text(line)) {
			c.out.queue(line)
		}
		if !in.buffered() {
			c.out.flush()
		}
		c.out.wait()
	}
}

// upstreamLine reports whether a line passes unchanged.
func (c *relay) upstreamLine(ctx context.Context, line string) (pass bool) {
	verb, idText, rest := command(line)
	switch verb {
	case "MECH":
		c.mu.Lock()
		c.mechs[strings.ToUpper(idText)] = true
		c.mu.Unlock()
	case "DONE":
		c.mu.Lock()
		c.greeted = true
		c.mu.Unlock()
	case "FAIL":
		if id, ok := parseID(idText); ok {
			if x := c.take(id); x != nil {
				c.recordFail(x, rest)
			}
		}
	case "OK":
		id, ok := parseID(idText)
		if !ok {
			return true
		}
		return c.upstreamOK(ctx, id, rest)
	}
	return true
}

// recordFail records an upstream's refusal, which passes unchanged.
func (c *relay) recordFail(x *relayed, rest string) {
	d := proxy.Decision{Outcome: proxy.Denied, By: "upstream", Reason: proxy.BadPassword}
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\t")
		name, value, _ := strings.Cut(field, "=")
		switch {
		case name == "user":
			d.User = unescape(value)
		case name == "temp", name == "code" && value == "temp_fail":
			d.Outcome, d.Reason = proxy.TempFail, proxy.UpstreamUnavailable
		case name == "user_disabled", name == "code" && value == "user_disabled":
			d.Reason = proxy.UserDisabled
		}
	}
	c.opt.Handler.Record(&x.req, d)
}

func (c *relay) upstreamOK(ctx context.Context, id uint32, rest string) (pass bool) {
	up, have, route, err := parseReply(rest)
	c.mu.Lock()
	x := c.pending[id]
	twice := x != nil && x.told
	if x != nil {
		x.told = true
	}
	c.mu.Unlock()
	switch {
	case x == nil:
		// Given up by the client, who ignores what still comes.
		return true
	case twice:
		c.log.Warn("a second answer of the upstream", zap.Uint32("number", id))
		return false
	}
	if err != nil {
		c.log.Warn("upstream reply", zap.Error(err))
		c.take(id)
		c.fail(id, x, proxy.UpstreamUnavailable)
		return false
	}
	r := &x.req
	if !route {
		c.take(id)
		why := proxy.NotProxied
		switch {
		case r.NoLogin:
			why = proxy.AuthOnly
		case have.host:
			why = proxy.UpstreamHost
		}
		c.opt.Handler.Record(r, proxy.Decision{Outcome: proxy.Passed, By: "upstream", Reason: why, User: up.User})
		return true
	}
	c.mu.Lock()
	seen := !r.Password.IsEmpty()
	r.Upstream = up
	if r.User == "" {
		r.User = cmp.Or(up.User, up.DestUser) // another mechanism than PLAIN and LOGIN
	}
	c.mu.Unlock()
	c.running.Add(1)
	c.work.run(func() {
		defer c.running.Done()
		d := c.decide(ctx, c.stop, r, &x.gone)
		if d.Outcome == proxy.Denied {
			// A right password that the policy refuses shall look like a wrong
			// one, which the auth server answers late.
			c.late.wait(ctx, c.stop, c.opt.FailureDelay, (c.opt.MaxOutstanding+1)/2)
		}
		if d.Outcome == proxy.Passed && c.isLost() {
			// A local login would be asked for at an auth server that knows
			// nothing of it.
			d = c.opt.Handler.Record(r, proxy.Decision{Reason: proxy.UpstreamUnavailable})
		}
		if !c.takeIf(id, x) {
			return
		}
		switch d.Outcome {
		case proxy.Routed:
			b := c.fitting(c.route.appendRouted(nil, id, rest, have, seen, &d), id, &d)
			c.out.send(b, c.outstanding() > 0)
		case proxy.Passed:
			c.out.send(append(append(append(appendCommand(nil, "OK", id), '\t'), rest...), '\n'), false)
		default:
			c.tellFail(id, x, &d)
		}
	})
	return false
}

// upstreamLost fails what the upstream did not answer. The client's connection
// ends when nothing is outstanding: a close takes pending logins with it.
func (c *relay) upstreamLost(err error) {
	c.log.Warn("upstream lost", zap.String("upstream", c.opt.Upstream), zap.Error(err))
	c.mu.Lock()
	c.lost = true
	open := map[uint32]*relayed{}
	for id, x := range c.pending {
		if !x.told {
			open[id] = x
			delete(c.pending, id)
		}
	}
	c.mu.Unlock()
	for id, x := range open {
		c.fail(id, x, proxy.UpstreamUnavailable)
	}
	c.in.wake()
}
