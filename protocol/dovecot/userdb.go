package dovecot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

const (
	// maxUserdbLine is the longest line in bytes, its LF included, of the
	// auth-master protocol in either direction (MAX_INBUF_SIZE of
	// auth-master-connection.c and of lib-auth's auth-master.c).
	maxUserdbLine = 8192
	// userdbPatience is how long a look-up waits for an upstream that is away:
	// it may just be restarting, and mail would be deferred.
	userdbPatience = 5 * time.Second
	// listBatch is how many names of a LIST leave together.
	listBatch = 256
)

// A Directory answers the userdb look-ups of standalone mode. Errors wrap
// proxy.ErrUnknownUser, proxy.ErrNotServed, or are temporary.
type Directory interface {
	// User returns the userdb fields of r.User: uid, gid, home and others. One
	// named user is the final name, else it is r.User.
	User(ctx context.Context, r *proxy.Request) ([]proxy.Attr, error)
	// List calls yield with each user name that matches mask (* and ?; "": all)
	// until it returns false.
	List(ctx context.Context, mask string, yield func(user string) bool) error
}

// NewUserdb returns a Server of the auth-master protocol as lmtp and doveadm
// speak it toward an auth-userdb socket: PASS, USER and LIST. With
// Options.Upstream it stands before such a socket, and adds to its PASS replies
// what the director did; without, Options.Directory knows the users.
func NewUserdb(opt Options) (*Server, error) {
	if opt.Upstream == "" && opt.Directory == nil {
		return nil, errors.New("dovecot: no directory to look users up in")
	}
	s, err := newServer(opt)
	if err != nil {
		return nil, err
	}
	s.serve = s.userdb
	return s, nil
}

// A userdbConn is one client's connection and, interposed, the upstream's that
// belongs to it.
type userdbConn struct {
	*Server
	ctx  context.Context
	in   *lineReader
	out  *outbox
	stop <-chan struct{}

	waited bool // for an upstream that did not come; the reading goroutine's own

	mu      sync.Mutex
	up      *outbox       // nil: the upstream is away
	changed chan struct{} // closed, and made anew, when up changes
	over    bool          // time is up: nothing is begun any more
	pending map[uint32]*lookup
	running sync.WaitGroup
}

// A lookup is one PASS, USER or LIST between its line and the end of its answer.
type lookup struct {
	verb string
	req  proxy.Request
	told bool // the upstream said PASS
	gone atomic.Bool
}

func (s *Server) userdb(ph phases, nc net.Conn) {
	if kept, more, err := keptOf(nc); kept != nil || err != nil {
		s.turnAway(nc, kept, more, err) // the address was that of another kind
		return
	}
	ctx, cancel := context.WithCancel(ph.hard)
	defer cancel()
	c := &userdbConn{
		Server: s, ctx: ctx, in: newLineReader(nc, maxUserdbLine), out: newOutbox(nc), stop: ph.serving.Done(),
		changed: make(chan struct{}), pending: map[uint32]*lookup{},
	}
	c.out.send(fmt.Appendf(nil, "VERSION\t1\t1\nSPID\t%d\n", os.Getpid()), false)
	var upstream sync.WaitGroup
	if s.opt.Upstream != "" {
		upstream.Go(func() { s.keep(ctx, c.stop, c.serveLink) })
	}
	if err := c.read(ph, nc); err != nil && !normalEnd(err) {
		c.log.Warn("connection", zap.Error(err))
	}
	if up := c.present(); up != nil {
		up.finish()
	}
	c.out.finish()
	cancel()
	upstream.Wait()
	c.running.Wait()
}

func (c *userdbConn) present() *outbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// read serves lines until the client leaves or usher ends.
func (c *userdbConn) read(ph phases, nc net.Conn) error {
	defer context.AfterFunc(ph.serving, c.in.wake)()
	defer context.AfterFunc(ph.grace, func() {
		c.giveUp()
		c.in.wake()
	})()
	var endedAt time.Time
	for {
		idle := time.Duration(0)
		if ended(c.stop) {
			if endedAt.IsZero() {
				endedAt = time.Now()
			}
			idle = silence(endedAt)
		}
		line, tooLong, err := c.in.next(idle)
		switch {
		case errors.Is(err, errIdle):
			if ended(c.stop) && c.outstanding() == 0 && hangUp(nc) {
				return nil
			}
			continue
		case err != nil:
			return err
		case tooLong:
			c.log.Warn("a line is over the limit", zap.Int("limit", maxUserdbLine))
			if verb, id, _ := command(string(line)); isLookup(verb) {
				c.refuse(verb, id)
			}
		default:
			if err := c.line(line); err != nil {
				return err
			}
		}
		up := c.present()
		if !c.in.buffered() {
			c.waited = false
			if up != nil {
				up.flush()
			}
			c.out.flush()
		}
		c.out.wait()
		if up != nil {
			up.wait()
		}
	}
}

func isLookup(verb string) bool { return verb == "PASS" || verb == "USER" || verb == "LIST" }

func (c *userdbConn) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

func (c *userdbConn) line(line []byte) error {
	verb, idText, rest := command(text(line))
	switch {
	case verb == "VERSION":
		if idText != "1" {
			return fmt.Errorf("handshake: the client speaks version %.20q of the auth-master protocol, expected 1", idText)
		}
		return nil
	case isLookup(verb):
	case c.opt.Upstream != "":
		if up := c.await(); up != nil {
			up.queue(line) // CACHE-FLUSH and the like
		}
		return nil
	default:
		c.log.Warn("unknown command", zap.String("command", fmt.Sprintf("%.20q", verb)))
		return nil
	}
	id, ok := parseID(idText)
	if !ok {
		c.log.Warn("a look-up without a number", zap.String("command", verb))
		return nil
	}
	x := &lookup{verb: verb}
	if verb != "LIST" {
		if err := x.parse(rest); err != nil {
			c.log.Warn("bad look-up", zap.String("command", verb), zap.Error(err))
			c.refuse(verb, idText)
			return nil
		}
	}
	up := (*outbox)(nil)
	if c.opt.Upstream != "" {
		up = c.await()
	}
	c.mu.Lock()
	double := c.pending[id] != nil
	full := c.over || len(c.pending) >= c.opt.MaxOutstanding
	away := c.opt.Upstream != "" && (up == nil || up != c.up)
	if !double && !full && !away {
		c.pending[id] = x
		if up != nil {
			up.queue(line)
		}
	}
	c.mu.Unlock()
	switch {
	case double:
		c.log.Warn("a look-up's number that is still in use", zap.Uint32("number", id))
		c.refuse(verb, idText)
	case full:
		c.fail(id, x, proxy.Decision{Reason: proxy.Overload, Err: errOutstanding})
	case away:
		c.fail(id, x, proxy.Decision{Reason: proxy.UpstreamUnavailable})
	case c.opt.Upstream == "":
		c.running.Add(1)
		c.work.run(func() {
			defer c.running.Done()
			c.answer(id, x, rest)
		})
	}
	return nil
}

// await returns the upstream's connection; of one that is away it waits for the
// next one, but not long, and once for all that was asked in one go.
func (c *userdbConn) await() *outbox {
	t := time.NewTimer(userdbPatience)
	defer t.Stop()
	for {
		c.mu.Lock()
		up, changed := c.up, c.changed
		c.mu.Unlock()
		if up != nil || c.waited {
			return up
		}
		select {
		case <-changed:
		case <-t.C:
			c.waited = true
			return nil
		case <-c.stop:
			return nil
		}
	}
}

// parse reads what stands behind the number of a PASS or USER: the user's name
// and parameters as AUTH has them.
func (x *lookup) parse(rest string) error {
	user, params, _ := strings.Cut(rest, "\t")
	a, err := parseParams(params)
	if err != nil {
		return err
	}
	x.req = a.req
	x.req.User = unescape(user)
	x.req.NoAuth, x.req.Lookup, x.req.NoLogin = true, true, false
	x.req.Method = "lookup"
	return nil
}

// refuse answers a look-up that never became one.
func (c *userdbConn) refuse(verb, idText string) {
	id, ok := parseID(idText)
	if !ok {
		return
	}
	c.opt.Handler.Record(&proxy.Request{Adapter: "dovecot", NoAuth: true, Lookup: true}, proxy.Decision{Outcome: proxy.Denied, Reason: proxy.BadRequest})
	c.out.queue(appendNoAnswer(nil, verb, id, ""))
}

// fail answers a look-up that nobody else will.
func (c *userdbConn) fail(id uint32, x *lookup, d proxy.Decision) {
	if x.verb == "PASS" {
		c.opt.Handler.Record(&x.req, d)
	}
	c.out.send(appendNoAnswer(nil, x.verb, id, ""), false)
}

// appendNoAnswer tells that a look-up failed, which clients take as temporary.
// reason is shown to the sender of a mail.
func appendNoAnswer(b []byte, verb string, id uint32, reason string) []byte {
	if verb == "LIST" {
		return append(appendCommand(b, "DONE", id), "\tfail\n"...)
	}
	b = append(appendCommand(b, "FAIL", id), "\tcode=temp_fail"...)
	if reason != "" {
		b = appendField(b, "reason", oneLine(reason))
	}
	return append(b, '\n')
}

// giveUp tells whoever still waits that it failed.
func (c *userdbConn) giveUp() {
	c.mu.Lock()
	c.over = true
	open := map[uint32]*lookup{}
	for id, x := range c.pending {
		x.gone.Store(true)
		open[id] = &lookup{verb: x.verb, req: x.req} // x may still be decided on
	}
	clear(c.pending)
	c.mu.Unlock()
	for id, x := range open {
		c.fail(id, x, proxy.Decision{Reason: proxy.Overload})
	}
}

// take ends a look-up if it still is what stands under its number.
func (c *userdbConn) take(id uint32, x *lookup) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[id] != x {
		return false
	}
	delete(c.pending, id)
	return true
}

// answer answers a look-up of standalone mode.
func (c *userdbConn) answer(id uint32, x *lookup, rest string) {
	var b []byte
	switch x.verb {
	case "PASS":
		d := c.decide(c.ctx, c.stop, &x.req, &x.gone)
		if !c.take(id, x) {
			return
		}
		b = c.appendPass(nil, id, x, &d, func(b []byte) []byte { return c.route.appendOK(b, "PASS", id, &d, "") })
	case "USER":
		b = c.user(id, x)
	case "LIST":
		b = c.list(id, x, rest)
	}
	if x.verb == "PASS" || c.take(id, x) {
		c.out.send(b, false)
	}
}

// appendPass writes the answer to a PASS: pass writes that of a user who is
// taken somewhere. A user whom nobody knows is NOTFOUND, but none whom the
// upstream knows; whatever else keeps somebody from being routed must not bounce
// mail.
func (c *userdbConn) appendPass(b []byte, id uint32, x *lookup, d *proxy.Decision, pass func([]byte) []byte) []byte {
	switch {
	case d.Outcome == proxy.Routed, d.Outcome == proxy.Passed:
		if b = pass(b); len(b) <= maxUserdbLine {
			return b
		}
		c.log.Error("an answer is over the limit", zap.String("id", d.ID), zap.Int("bytes", len(b)), zap.Int("limit", maxUserdbLine))
		return appendNoAnswer(b[:0], "PASS", id, "")
	case d.Outcome == proxy.Denied && d.Reason != proxy.PolicyRefused && x.req.Upstream == nil:
		return append(appendCommand(b, "NOTFOUND", id), '\n')
	case d.Outcome == proxy.Denied:
		return appendNoAnswer(b, "PASS", id, d.Text)
	}
	return appendNoAnswer(b, "PASS", id, "")
}

func (c *userdbConn) user(id uint32, x *lookup) []byte {
	if proxy.ValidUser(x.req.User) != nil {
		return append(appendCommand(nil, "NOTFOUND", id), '\n')
	}
	fields, err := c.opt.Directory.User(c.ctx, &x.req)
	switch {
	case errors.Is(err, proxy.ErrUnknownUser):
		return append(appendCommand(nil, "NOTFOUND", id), '\n')
	case errors.Is(err, proxy.ErrNotServed):
		return appendNoAnswer(nil, "USER", id, "no password driver of usher knows mailboxes")
	case err != nil:
		c.log.Warn("userdb look-up", zap.Error(err))
		return appendNoAnswer(nil, "USER", id, "")
	}
	name := x.req.User
	if i := slices.IndexFunc(fields, func(f proxy.Attr) bool { return f.Name == "user" }); i >= 0 {
		name = fields[i].Value
	}
	b := append(appendCommand(nil, "USER", id), '\t')
	b = appendEscaped(b, name)
	for _, f := range fields {
		if f.Name == "user" {
			continue
		}
		b = append(b, '\t')
		b = append(b, f.Name...)
		if !f.Bare {
			b = append(b, '=')
			b = appendEscaped(b, f.Value)
		}
	}
	if b = append(b, '\n'); len(b) > maxUserdbLine {
		c.log.Error("an answer is over the limit", zap.Int("bytes", len(b)), zap.Int("limit", maxUserdbLine))
		return appendNoAnswer(b[:0], "USER", id, "")
	}
	return b
}

// list streams the names that a LIST asks for, as fast as the client reads, and
// returns its last line.
func (c *userdbConn) list(id uint32, x *lookup, rest string) []byte {
	mask := ""
	for field := range strings.SplitSeq(rest, "\t") {
		if v, ok := strings.CutPrefix(field, "user="); ok {
			mask = unescape(v)
		}
	}
	var b []byte
	n := 0
	err := c.opt.Directory.List(c.ctx, mask, func(user string) bool {
		b = append(appendCommand(b, "LIST", id), '\t')
		b = append(appendEscaped(b, user), '\n')
		if n++; n%listBatch == 0 {
			c.out.send(b, false)
			c.out.wait()
			b = b[:0]
		}
		return !x.gone.Load() && !c.out.failed()
	})
	if err != nil {
		c.log.Warn("userdb list", zap.Error(err))
		return appendNoAnswer(b, "LIST", id, "")
	}
	return append(appendCommand(b, "DONE", id), "\t\n"...)
}

// serveLink is one connection to the upstream, from its beginning to its end.
func (c *userdbConn) serveLink(ctx context.Context, conn net.Conn) (answered bool, err error) {
	up := newOutbox(conn)
	up.send([]byte("VERSION\t1\t1\n"), false)
	c.exchange(up)
	defer c.exchange(nil)
	in := newLineReader(conn, maxUpstreamLine)
	for {
		line, tooLong, err := in.next(0)
		switch {
		case err != nil:
			return answered, err
		case tooLong:
			return answered, errors.New("a line of the upstream is over the limit")
		}
		switch verb, idText, rest := command(text(line)); verb {
		case "VERSION":
		case "SPID":
			answered = true
			c.isBack()
		case "MECH":
			return false, errors.New("the upstream is a socket for logins; expected one for userdb look-ups (auth-userdb)")
		default:
			if c.upstreamLine(verb, idText, rest) {
				c.out.queue(line)
			}
		}
		if !in.buffered() {
			c.out.flush()
		}
		c.out.wait()
	}
}

// exchange makes up the upstream's connection, and fails what the last one did
// not answer.
func (c *userdbConn) exchange(up *outbox) {
	c.mu.Lock()
	c.up = up
	close(c.changed)
	c.changed = make(chan struct{})
	open := map[uint32]*lookup{}
	for id, x := range c.pending {
		if !x.told {
			open[id] = x
			delete(c.pending, id)
		}
	}
	c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(open)) {
		c.fail(id, open[id], proxy.Decision{Reason: proxy.UpstreamUnavailable})
	}
}

// upstreamLine reports whether a line passes unchanged.
func (c *userdbConn) upstreamLine(verb, idText, rest string) (pass bool) {
	id, ok := parseID(idText)
	if !ok {
		return true
	}
	switch verb {
	case "PASS":
		return c.upstreamPass(id, rest)
	case "USER", "NOTFOUND", "FAIL", "DONE":
		c.mu.Lock()
		x := c.pending[id]
		if x != nil && x.told {
			x = nil
		}
		if x != nil {
			delete(c.pending, id)
		}
		c.mu.Unlock()
		if x == nil {
			return false // nobody asks any more: the client has its answer
		}
		if x.verb == "PASS" {
			c.recordNo(x, verb)
		}
	}
	return true
}

// recordNo records an upstream's PASS that is none.
func (c *userdbConn) recordNo(x *lookup, verb string) {
	d := proxy.Decision{Outcome: proxy.Denied, By: "upstream", Reason: proxy.UnknownUser}
	if verb == "FAIL" {
		d.Outcome, d.Reason = proxy.TempFail, proxy.UpstreamUnavailable
	}
	c.opt.Handler.Record(&x.req, d)
}

func (c *userdbConn) upstreamPass(id uint32, rest string) (pass bool) {
	up, have, route, err := parseReply(rest)
	c.mu.Lock()
	x := c.pending[id]
	if x == nil || x.told || x.verb != "PASS" {
		c.mu.Unlock()
		return false
	}
	x.told = true
	x.req.Upstream = up
	c.mu.Unlock()
	if !route && have.proxy && !have.host {
		err = errors.New("upstream: a PASS with proxy, and neither host nor user") // which would bounce
	}
	if err != nil || !route {
		c.take(id, x)
	}
	switch {
	case err != nil:
		c.log.Warn("upstream reply", zap.Error(err))
		c.fail(id, x, proxy.Decision{Reason: proxy.UpstreamUnavailable})
		return false
	case !route:
		why := proxy.NotProxied
		if have.host {
			why = proxy.UpstreamHost
		}
		c.opt.Handler.Record(&x.req, proxy.Decision{Outcome: proxy.Passed, By: "upstream", Reason: why, User: up.User})
		return true
	}
	c.running.Add(1)
	c.work.run(func() {
		defer c.running.Done()
		d := c.decide(c.ctx, c.stop, &x.req, &x.gone)
		if !c.take(id, x) {
			return
		}
		c.out.send(c.appendPass(nil, id, x, &d, func(b []byte) []byte {
			if d.Outcome == proxy.Routed {
				return c.route.appendRouted(b, "PASS", id, rest, have, false, &d)
			}
			return appendPassed(b, "PASS", id, rest, &d)
		}), false)
	})
	return false
}
