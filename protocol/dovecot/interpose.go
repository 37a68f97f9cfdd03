package dovecot

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// overtakeAfter is how long a decision may hold up what else the upstream says.
const overtakeAfter = time.Millisecond

// greetingTimeout is how long an upstream may take for its greeting.
const greetingTimeout = 30 * time.Second

// cpidWait bounds the wait for another connection of the same process.
const cpidWait = 200 * time.Millisecond

// waits are how long an interposer waits for whom.
type waits struct {
	// greet is how long a client waits for the upstream's greeting before it
	// gets the one that was seen last; greetUnseen, where none was seen yet. Its
	// own handshake ends after 30 s.
	greet, greetUnseen time.Duration
	// speak is after how long an upstream that waits for the client's VERSION
	// gets ours: Exim waits for the upstream meanwhile.
	speak time.Duration
	// reconnect is how old a login process's connection must be so that it
	// connects again at once (AUTH_SERVER_RECONNECT_TIMEOUT_SECS).
	reconnect time.Duration
}

var usualWaits = waits{greet: 2 * time.Second, greetUnseen: 10 * time.Second, speak: time.Second, reconnect: 5 * time.Second}

// A relay is one client's connection and the one upstream connection that
// belongs to it: SPID, COOKIE, CPID and the numbers of requests are good for
// this pair only. The upstream's may end before the client's: then another one
// takes its place, and what the client knows of the first, its COOKIE, is good
// for nothing any more.
type relay struct {
	*Server
	client net.Conn
	in     *lineReader // from the client
	out    *outbox     // to the client
	stop   <-chan struct{}
	born   time.Time
	begin  chan struct{} // closed when the client may be read
	ended  chan struct{} // closed when the upstream's connection is

	mu      sync.Mutex
	began   bool
	version string // VERSION line of the client
	cpid    string // and its CPID line
	spoke   bool   // we said VERSION in the client's place
	minor   string
	greeted bool  // the client has a greeting
	foreign bool  // … which is not that of link
	link    *link // nil: the upstream is away
	over    bool  // time is up: nothing is begun any more
	leaving bool  // the client is being handed over
	endedAt time.Time
	pending map[uint32]*relayed
	cancels map[uint32]bool // CANCELs of a client that waits for CANCELLED
	late    delays
	running sync.WaitGroup

	// answering counts who may just have an answer in hand that is no longer
	// pending and not yet in out.
	answering atomic.Int32
}

// A link is one connection to the upstream.
type link struct {
	out   *outbox
	mechs map[string]bool
	ready bool // its greeting came

	greeting []byte // as far as it has come
	freezer  *freezer

	ended chan error // of the reading
}

// A relayed request is one AUTH between its line and its answer.
type relayed struct {
	req   proxy.Request
	mech  string
	link  *link
	gone  atomic.Bool // given up by the client
	named bool        // LOGIN: the user name went by
	told  bool        // the upstream said OK: req changes no more
	began time.Time
}

func (s *Server) interpose(ph phases, nc net.Conn) {
	ctx, cancel := context.WithCancel(ph.hard)
	defer cancel()
	c := &relay{
		Server: s, client: nc, in: newLineReader(nc, maxLine), out: newOutbox(nc), stop: ph.serving.Done(),
		born: time.Now(), begin: make(chan struct{}), ended: make(chan struct{}),
		pending: map[uint32]*relayed{}, cancels: map[uint32]bool{},
	}
	kept, conn, ok := c.adopt(nc)
	if !ok {
		return
	}
	var upstream sync.WaitGroup
	upstream.Go(func() {
		if conn != nil {
			if _, err := s.use(ctx, conn, func(ctx context.Context, conn net.Conn) (bool, error) {
				return c.serveLink(ctx, conn, kept)
			}); ctx.Err() == nil && !ended(c.stop) {
				s.isAway(err)
			}
		}
		s.keep(ctx, c.stop, func(ctx context.Context, conn net.Conn) (bool, error) { return c.serveLink(ctx, conn, nil) })
	})
	wait := s.waits.greetUnseen
	if s.greeting.Load() != nil {
		wait = s.waits.greet
	}
	anyway := time.AfterFunc(wait, c.greetAnyway)
	defer anyway.Stop()

	if conn != nil {
		<-c.begin // it is attached in no time
	}
	select {
	case <-c.begin:
	case <-c.stop:
	}
	switch err := c.readClient(ph); {
	case err == nil && c.minor == "0":
		defer resetConn(nc)
	case err != nil && !errors.Is(err, errKept) && !normalEnd(err):
		c.log.Warn("connection", zap.Error(err))
	}
	if l := c.present(); l != nil {
		l.out.finish()
	}
	c.out.finish()
	cancel()
	upstream.Wait()
	c.running.Wait()
	s.cpids.leave(c)
}

// adopt makes a connection that was handed over what it was: kept is its state,
// conn the upstream's connection, nil where there is none. One that was served
// otherwise than here is not ok.
func (c *relay) adopt(nc net.Conn) (kept *keptState, conn net.Conn, ok bool) {
	kept, more, err := keptOf(nc)
	if kept == nil && err == nil {
		return nil, nil, true
	}
	if err != nil || kept.Kind != "interposed" || kept.Upstream != c.opt.Upstream || kept.Linked != (len(more) == 1) {
		c.turnAway(nc, kept, more, err)
		return nil, nil, false
	}
	c.version, c.cpid, c.minor, c.spoke = kept.Version, kept.CPID, kept.Minor, kept.Spoke
	c.greeted, c.foreign, c.born = kept.Greeted, kept.Foreign, kept.Born
	c.in.preload(kept.In)
	if c.cpid != "" {
		c.cpids.enter(c.cpid, c)
	}
	if kept.Linked {
		return kept, more[0], true // which is attached before the client is read
	}
	c.mu.Lock()
	c.start()
	c.mu.Unlock()
	return kept, nil, true
}

// A cpidTable knows which relay speaks for a client process.
type cpidTable struct {
	mu sync.Mutex
	m  map[string]*relay
}

// enter makes c the one that speaks for its CPID, once another that does so has
// ended: a login process that lost its connection comes again at once, and an
// auth server refuses a CPID that it knows as connected. Another that does not
// end is another machine's process.
func (t *cpidTable) enter(cpid string, c *relay) {
	t.mu.Lock()
	if t.m == nil {
		t.m = map[string]*relay{}
	}
	other := t.m[cpid]
	t.m[cpid] = c
	t.mu.Unlock()
	if other != nil {
		pause(context.Background(), other.ended, cpidWait)
	}
}

func (t *cpidTable) leave(c *relay) {
	close(c.ended)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[c.cpid] == c {
		delete(t.m, c.cpid)
	}
}

// serveLink reads one connection to the upstream to its end. kept is of one that
// was handed over, else nil. answered: its greeting came.
func (c *relay) serveLink(ctx context.Context, conn net.Conn, kept *keptState) (answered bool, err error) {
	in := newLineReader(conn, maxUpstreamLine)
	l := &link{out: newOutbox(conn), mechs: map[string]bool{}, freezer: newFreezer(conn, in)}
	if kept == nil {
		c.attach(l)
	} else {
		for _, m := range kept.Mechs {
			l.mechs[m] = true
		}
		l.ready = kept.Ready
		in.preload(kept.UpIn)
		c.mu.Lock()
		c.link = l
		c.start()
		c.mu.Unlock()
	}
	defer time.AfterFunc(c.waits.speak, func() { c.speak(l) }).Stop()
	defer time.AfterFunc(greetingTimeout, func() {
		c.mu.Lock()
		silent := !l.ready
		c.mu.Unlock()
		if silent {
			closeQuietly(conn) // another try may find one that speaks
		}
	}).Stop()
	l.ended = make(chan error, 1)
	read := func() error {
		c.running.Add(1)
		c.work.run(func() { c.readUpstream(ctx, in, l) })
		return <-l.ended
	}
	err = read()
	if l.freezer.stopped(ctx) {
		if !l.freezer.again {
			return l.ready, err
		}
		in.slow = true // there is a deadline
		err = read()
	}
	if ctx.Err() == nil {
		c.detach(l)
	}
	return l.ready, err
}

// attach makes l the upstream's connection, and tells it who the client is.
func (c *relay) attach(l *link) {
	c.mu.Lock()
	c.link, c.spoke = l, false
	l.out.queue([]byte(c.version + c.cpid))
	c.start()
	c.mu.Unlock()
	l.out.flush()
}

// start lets the client be read. c.mu is held.
func (c *relay) start() {
	if !c.began {
		c.began = true
		close(c.begin)
	}
}

// speak says VERSION in the place of a client that waits for the upstream,
// which waits for it (Exim, and an auth server of 2.4): in the words of Exim,
// and what the client then says of itself is not passed on.
func (c *relay) speak(l *link) {
	c.mu.Lock()
	wait := c.link != l || l.ready || c.version != ""
	if !wait {
		c.spoke = true
		l.out.queue([]byte("VERSION\t1\t0\n"))
	}
	c.mu.Unlock()
	if !wait {
		l.out.flush()
	}
}

// detach fails what the upstream did not answer. The client's connection stands:
// closing it would fail all its logins, now and until the upstream is back.
func (c *relay) detach(l *link) {
	c.answering.Add(1)
	defer c.answering.Add(-1)
	c.mu.Lock()
	c.link = nil
	c.foreign = c.greeted
	open := map[uint32]*relayed{}
	for id, x := range c.pending {
		if !x.told {
			open[id] = x
			delete(c.pending, id)
		}
	}
	var cancelled []byte
	for id := range c.cancels {
		cancelled = appendCancelled(cancelled, id)
	}
	clear(c.cancels)
	c.mu.Unlock()
	c.out.queue(cancelled)
	for id, x := range open {
		c.fail(id, x, proxy.UpstreamUnavailable)
	}
	c.out.flush()
	c.in.wake()
}

// greet passes the upstream's whole greeting on. A client that has one of
// another connection shall come again: it knows the wrong COOKIE.
func (c *relay) greet(l *link, greeting []byte) {
	c.greeting.Store(&greeting)
	c.mu.Lock()
	l.ready = true
	first := !c.greeted && !c.leaving
	switch {
	case first:
		c.greeted = true
	case !c.leaving:
		c.foreign = true
	}
	c.mu.Unlock()
	c.isBack()
	if first {
		c.out.send(greeting, false)
	} else {
		c.in.wake()
	}
}

// greetAnyway greets a client whose upstream does not: with what was seen last,
// else with what the listener is configured for. Without a greeting a login
// process would let its clients wait, and give up.
func (c *relay) greetAnyway() {
	greeting, err := c.madeGreeting()
	if err != nil {
		c.log.Error("handshake", zap.Error(err))
		return
	}
	c.mu.Lock()
	late := c.greeted || c.leaving
	if !late {
		c.greeted, c.foreign = true, true
		c.out.queue(greeting)
		c.start()
	}
	c.mu.Unlock()
	if !late {
		c.out.flush()
	}
}

// madeGreeting is the last greeting of the upstream without what was one
// connection's.
func (c *relay) madeGreeting() ([]byte, error) {
	seen := c.greeting.Load()
	if seen == nil {
		return c.ownGreeting()
	}
	cookie, err := newCookie()
	if err != nil {
		return nil, err
	}
	var b []byte
	for line := range strings.Lines(string(*seen)) {
		switch verb, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); verb {
		case "CUID":
			line = fmt.Sprintf("CUID\t%d\n", c.cuid.Add(1))
		case "COOKIE":
			line = "COOKIE\t" + cookie + "\n"
		}
		b = append(b, line...)
	}
	return b, nil
}

// present returns the upstream's connection, or nil.
func (c *relay) present() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}
func (c *relay) readClient(ph phases) error {
	defer context.AfterFunc(ph.serving, c.in.wake)()
	defer context.AfterFunc(ph.grace, func() {
		c.giveUp()
		c.in.wake()
	})()
	keep := c.keeper != nil
	for {
		if keep && ended(c.stop) && c.outstanding() == 0 {
			if keep = c.handOver(); keep {
				return errKept
			}
		}
		if p := c.patience(); keep && p > 0 && abstains(c.endedAt) {
			pause(ph.hard, ph.grace.Done(), p)
			continue
		}
		line, tooLong, err := c.in.next(c.patience())
		switch {
		case errors.Is(err, errIdle):
			if p := c.patience(); 0 < p && p <= drainIdle && c.outstanding() == 0 && c.mayHangUp(keep) {
				c.out.finish()
				if hangUp(c.client) {
					return nil
				}
			}
			continue
		case err != nil:
			return err
		case tooLong:
			c.tooLong(line)
		default:
			c.clientLine(line)
		}
		up := c.present()
		if !c.in.buffered() {
			if up != nil {
				up.out.flush()
			}
			c.out.flush()
		}
		c.out.wait()
		if up != nil {
			up.out.wait()
		}
	}
}

// mayHangUp reports whether a client that is silent may be hung up on. keep: it
// can be handed over.
func (c *relay) mayHangUp(keep bool) bool {
	if ended(c.stop) {
		return !keep
	}
	return !c.in.begun()
}

// patience is how long the client may be silent before its connection ends; 0:
// for ever. It ends with usher, and when the upstream's, which it knows the
// COOKIE of, was followed by another.
func (c *relay) patience() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var since time.Time
	switch {
	case ended(c.stop):
		since = c.endedAt
		if since.IsZero() {
			since = time.Now()
			c.endedAt = since
		}
	case c.foreign && c.link != nil && c.link.ready:
		if young := c.waits.reconnect - time.Since(c.born); young > 0 {
			return young
		}
		since = time.Now()
	default:
		return 0
	}
	return silence(since)
}

func (c *relay) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) + int(c.answering.Load())
}

// clientLine notes what a line says and hands it to the upstream. What would make
// the auth server close the connection, and other people's logins with it, is
// refused here.
func (c *relay) clientLine(line []byte) {
	verb, idText, rest := command(text(line))
	switch verb {
	case "AUTH", "CONT", "CANCEL":
	case "VERSION", "CPID":
		c.clientHello(verb, rest, line)
		return
	default:
		c.pass(line)
		return
	}
	id, ok := parseID(idText)
	if !ok {
		c.log.Warn("a request without a number", zap.String("command", verb))
		return
	}
	switch verb {
	case "AUTH":
		c.clientAuth(id, rest, line)
	case "CONT":
		c.clientCont(id, rest, line)
	case "CANCEL":
		c.clientCancel(id, line)
	}
}

// pass hands a line to the upstream, if it is there.
func (c *relay) pass(line []byte) bool {
	up := c.present()
	if up != nil {
		up.out.queue(line)
	}
	return up != nil
}

// clientHello keeps the lines with which a client begins, since each connection
// to the upstream begins with them. A second one is left out.
func (c *relay) clientHello(verb, minor string, line []byte) {
	c.mu.Lock()
	kept := &c.version
	if verb == "CPID" {
		kept = &c.cpid
	} else if c.version == "" {
		c.minor = minor
	}
	again := *kept != ""
	c.mu.Unlock()
	if again {
		c.log.Warn("a second line of the handshake", zap.String("command", verb))
		return
	}
	if verb == "CPID" {
		c.cpids.enter(string(line), c)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*kept = string(line)
	if c.link != nil && (verb != "VERSION" || !c.spoke) {
		c.link.out.queue(line)
	}
}

// clientCancel gives a request up. Where the upstream is away it is answered
// here, if the client waits for an answer (from minor version 4).
func (c *relay) clientCancel(id uint32, line []byte) {
	c.mu.Lock()
	if x := c.pending[id]; x != nil {
		x.gone.Store(true)
		delete(c.pending, id)
	}
	answered := c.answersCancel()
	up := c.link
	if up != nil && answered && len(c.cancels) < c.opt.MaxOutstanding {
		c.cancels[id] = true
	}
	c.mu.Unlock()
	switch {
	case up != nil:
		up.out.queue(line)
	case answered:
		c.out.queue(appendCancelled(nil, id))
	}
}

// answersCancel reports whether CANCEL is answered in the client's version of
// the protocol. c.mu is held.
func (c *relay) answersCancel() bool {
	minor, err := strconv.Atoi(c.minor)
	return err == nil && minor >= 4
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
		c.pass([]byte("CANCEL\t" + idText + "\n"))
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
	c.answering.Add(1)
	defer c.answering.Add(-1)
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

func (c *relay) clientAuth(id uint32, rest string, line []byte) {
	a, err := parseAuth(rest)
	if err != nil {
		c.log.Warn("bad AUTH", zap.Error(err))
		c.refuse(id, &proxy.Request{Adapter: "dovecot"})
		return
	}
	x := &relayed{req: a.req, mech: a.mech, began: time.Now()}
	if a.hasResp && a.resp != "" {
		x.notePassword(a.resp)
	}
	c.mu.Lock()
	up := c.link
	away := up == nil || c.greeted && !up.ready
	_, double := c.pending[id]
	unknown := !away && up.ready && !up.mechs[a.mech]
	full := c.over || len(c.pending) >= c.opt.MaxOutstanding && !c.expire(x.began)
	strange := unknown && c.foreign // it was offered, but not by this upstream
	if !double && !full && !away && !unknown {
		x.link = up
		c.pending[id] = x
		up.out.queue(line)
	}
	c.mu.Unlock()

	switch {
	case double:
		c.log.Warn("a request number that is still in use", zap.Uint32("number", id))
		c.pass(append(appendCommand(nil, "CANCEL", id), '\n'))
		c.refuse(id, &a.req)
	case away, strange:
		c.fail(id, x, proxy.UpstreamUnavailable)
	case unknown:
		c.log.Warn("a mechanism that the upstream does not offer")
		c.refuse(id, &a.req)
	case full:
		c.fail(id, x, proxy.Overload)
	}
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

func (c *relay) clientCont(id uint32, data string, line []byte) {
	c.mu.Lock()
	if x := c.pending[id]; x != nil && !x.told {
		resp, _, _ := strings.Cut(data, "\t")
		x.notePassword(resp)
	}
	c.mu.Unlock()
	if !c.pass(line) {
		c.out.queue(append(appendCommand(nil, "FAIL", id), "\tcode=temp_fail\n"...))
	}
}

// notePassword reads user and password out of a PLAIN or LOGIN response. What
// can't be read is the upstream's to judge. The relay's lock is held, or nobody
// else knows x.
func (x *relayed) notePassword(b64 string) {
	if x.mech != "PLAIN" && x.mech != "LOGIN" {
		return
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return
	}
	switch {
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
		resetConn(c.client)
		return
	}
	c.out.send(appendFail(nil, id, d), false)
}

// readUpstream hands the auth server's lines to the client: its greeting in one
// piece, and what is to be routed by way of the pipeline. It tells l.ended when
// the connection ends. Who reads also decides, as long as that is quick: to wake
// another goroutine would cost more. When it is not, another one reads on.
func (c *relay) readUpstream(ctx context.Context, in *lineReader, l *link) {
	defer c.running.Done()
	overtake := time.AfterFunc(time.Hour, func() {
		c.work.run(func() { c.readUpstream(ctx, in, l) })
	})
	overtake.Stop()
	for {
		line, tooLong, err := in.next(0)
		switch {
		case err != nil:
		case tooLong:
			err = errors.New("a line of the upstream is over the limit")
		case !l.ready:
			err = c.greetingLine(l, line)
		default:
			c.answering.Add(1)
			pass, decide := c.upstreamLine(ctx, text(line))
			if pass {
				c.out.queue(line)
			}
			if decide == nil {
				c.answering.Add(-1)
				break
			}
			c.running.Add(1) // of the one that may overtake
			overtake.Reset(overtakeAfter)
			decide()
			c.answering.Add(-1)
			if !overtake.Stop() {
				c.out.flush()
				return
			}
			c.running.Done()
		}
		if err != nil {
			l.ended <- err
			return
		}
		if !in.buffered() {
			c.out.flush()
		}
		c.out.wait()
	}
}

// greetingLine gathers the upstream's greeting.
func (c *relay) greetingLine(l *link, line []byte) error {
	if l.greeting = append(l.greeting, line...); len(l.greeting) > maxUpstreamLine {
		return errors.New("the upstream's greeting is over the limit")
	}
	switch verb, mech, _ := command(text(line)); verb {
	case "MECH":
		l.mechs[strings.ToUpper(mech)] = true
	case "DONE":
		c.greet(l, l.greeting)
		l.greeting = nil
	}
	return nil
}

// upstreamLine reports whether a line passes unchanged. Where it does not, decide
// queues what stands in its place.
func (c *relay) upstreamLine(ctx context.Context, line string) (pass bool, decide func()) {
	verb, idText, rest := command(line)
	switch verb {
	case "FAIL":
		if id, ok := parseID(idText); ok {
			if x := c.take(id); x != nil {
				c.recordFail(x, rest)
			}
		}
	case "CANCELLED":
		if id, ok := parseID(idText); ok {
			c.mu.Lock()
			delete(c.cancels, id)
			c.mu.Unlock()
		}
	case "OK":
		if id, ok := parseID(idText); ok {
			return c.upstreamOK(ctx, id, rest)
		}
	}
	return true, nil
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

func (c *relay) upstreamOK(ctx context.Context, id uint32, rest string) (pass bool, decide func()) {
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
		return true, nil
	case twice:
		c.log.Warn("a second answer of the upstream", zap.Uint32("number", id))
		return false, nil
	}
	if err != nil {
		c.log.Warn("upstream reply", zap.Error(err))
		c.take(id)
		c.fail(id, x, proxy.UpstreamUnavailable)
		return false, nil
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
		case !have.proxy && !have.nologin && c.estranged(x):
			c.fail(id, x, proxy.UpstreamUnavailable)
			return false, nil
		}
		c.opt.Handler.Record(r, proxy.Decision{Outcome: proxy.Passed, By: "upstream", Reason: why, User: up.User})
		return true, nil
	}
	c.mu.Lock()
	seen := !r.Password.IsEmpty()
	r.Upstream = up
	if r.User == "" {
		r.User = cmp.Or(up.User, up.DestUser) // another mechanism than PLAIN and LOGIN
	}
	c.mu.Unlock()
	return false, func() {
		d := c.decide(ctx, c.stop, r, &x.gone)
		if d.Outcome == proxy.Denied {
			// A right password that the policy refuses shall look like a wrong
			// one, which the auth server answers late.
			c.late.wait(ctx, c.stop, c.opt.FailureDelay, (c.opt.MaxOutstanding+1)/2)
		}
		if d.Outcome == proxy.Passed && c.estranged(x) {
			d = c.opt.Handler.Record(r, proxy.Decision{Reason: proxy.UpstreamUnavailable})
		}
		if !c.takeIf(id, x) {
			return
		}
		switch d.Outcome {
		case proxy.Routed:
			c.out.queue(c.fitting(c.route.appendRouted(nil, "OK", id, rest, have, seen, &d), id, &d))
		case proxy.Passed:
			c.out.queue(appendPassed(nil, "OK", id, rest, &d))
		default:
			c.tellFail(id, x, &d)
		}
	}
}

// estranged reports whether a local login would be asked for, with the COOKIE
// that the client knows, at an auth server that does not know it.
func (c *relay) estranged(x *relayed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foreign || x.link != c.link
}
