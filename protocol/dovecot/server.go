package dovecot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// A Handler decides. *proxy.Pipeline is one.
type Handler interface {
	Handle(ctx context.Context, r *proxy.Request) proxy.Decision
	Record(r *proxy.Request, d proxy.Decision) proxy.Decision
}

// Options configure a Server: one listener's worth of settings.
type Options struct {
	Handler Handler
	Log     *zap.Logger // nil: none

	// Upstream is the real auth server to interpose on: a path of a unix
	// socket, or host:port. Empty: standalone.
	Upstream string
	// Mechanisms are offered in standalone mode, and before an upstream that
	// was never seen: PLAIN, LOGIN, OAUTHBEARER, XOAUTH2.
	Mechanisms []string
	// Directory answers USER and LIST of a userdb server without upstream.
	Directory Directory
	// Director does what a director-admin server is told.
	Director DirectorAdmin
	// RequireSecured refuses plaintext mechanisms from clients that are not
	// secured.
	RequireSecured bool
	// FailureDelay is how late a refusal is told, in standalone mode.
	FailureDelay time.Duration
	// Refresh is what proxy_refresh tells login processes: whole seconds.
	Refresh time.Duration
	// HoldLimit is how long a held login waits in all.
	HoldLimit time.Duration
	// MaxOutstanding bounds the unanswered requests of one connection.
	MaxOutstanding int
	// AllowFrom lists the networks whose TCP connections are served. Empty: all.
	AllowFrom []netip.Prefix
	// MasterUser and MasterPass log in at the backend where the mechanism showed
	// no password. Empty: as the upstream said.
	MasterUser string
	MasterPass proxy.Secret
	// Grace is how long Serve, told to end, waits for requests in flight.
	Grace time.Duration
}

// A Server serves auth clients on one listener.
type Server struct {
	opt   Options
	log   *zap.Logger
	route routing
	cuid  atomic.Uint32
	work  *workers
	serve func(phases, net.Conn) // one connection

	keeper Keeper // Serve's listener, if it is one

	// Interposed:
	waits    waits
	greeting atomic.Pointer[[]byte] // the upstream's last
	*upstream
	cpids cpidTable
}

// New checks the options of a server of the auth protocol. It starts nothing.
func New(opt Options) (*Server, error) {
	if opt.Upstream == "" && len(opt.Mechanisms) == 0 {
		return nil, errors.New("dovecot: no mechanisms to offer")
	}
	opt.Mechanisms = slices.Clone(opt.Mechanisms)
	for i, m := range opt.Mechanisms {
		opt.Mechanisms[i] = strings.ToUpper(m)
		if _, ok := mechanisms[opt.Mechanisms[i]]; !ok {
			return nil, fmt.Errorf("dovecot: mechanism %q can't be served standalone; expected PLAIN, LOGIN, OAUTHBEARER or XOAUTH2", m)
		}
	}
	s, err := newServer(opt)
	if err != nil {
		return nil, err
	}
	s.serve = s.standalone
	if opt.Upstream != "" {
		s.serve = s.interpose
	}
	return s, nil
}

func newServer(opt Options) (*Server, error) {
	if opt.Handler == nil {
		return nil, errors.New("dovecot: no handler")
	}
	if opt.MaxOutstanding < 1 {
		return nil, errors.New("dovecot: outstanding_per_connection is under 1")
	}
	log := named(opt.Log)
	return &Server{
		opt: opt, log: log, upstream: newUpstream(opt.Upstream, log),
		route: routing{int(opt.Refresh / time.Second), opt.MasterUser, opt.MasterPass},
		work:  newWorkers(), waits: usualWaits,
	}, nil
}

// named returns the logger of this package's servers. log may be nil.
func named(log *zap.Logger) *zap.Logger {
	if log == nil {
		log = zap.NewNop()
	}
	return log.Named("dovecot")
}

// Serve accepts on ln until ctx ends, then lets requests in flight finish, for
// Options.Grace at most, tells what is left to try later, and returns. Connections
// without requests in flight are handed over to the next server if ln is a Keeper.
// It closes ln. It is called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	var conns sync.WaitGroup
	s.keeper, _ = ln.(Keeper)
	hard, cut := context.WithCancel(context.Background())
	defer cut()
	graceCtx, timeIsUp := context.WithCancel(hard)
	defer timeIsUp()
	ph := phases{ctx, graceCtx, hard}

	closing := context.AfterFunc(ctx, func() {
		ln.Close() // Accept tells
	})
	defer closing()

	err := s.accept(ctx, ln, func(c net.Conn) {
		conns.Go(func() {
			defer closeQuietly(c)
			defer context.AfterFunc(hard, func() { closeQuietly(c) })()
			s.serve(ph, c)
		})
	})
	soft := time.AfterFunc(s.opt.Grace, timeIsUp)
	end := time.AfterFunc(s.opt.Grace+lastWords, cut)
	conns.Wait()
	s.work.close()
	soft.Stop()
	end.Stop()
	return err
}

func (s *Server) accept(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	for backoff := time.Duration(0); ; {
		c, err := ln.Accept()
		switch {
		case err == nil:
			backoff = 0
			if !s.allowed(c.RemoteAddr()) {
				s.log.Warn("connection refused: not in allow_from", zap.Stringer("peer", c.RemoteAddr()))
				closeQuietly(c)
				continue
			}
			serve(c)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("dovecot: accept: %w", err)
		default: // no descriptors left, an aborted connection: it may pass
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			s.log.Warn("accept", zap.Error(err), zap.Duration("retry", backoff))
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (s *Server) allowed(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok || len(s.opt.AllowFrom) == 0 {
		return true
	}
	a := tcp.AddrPort().Addr().Unmap()
	return slices.ContainsFunc(s.opt.AllowFrom, func(p netip.Prefix) bool { return p.Contains(a) })
}

// decide asks until the answer is not `held`, for HoldLimit at most. gone ends
// the wait of a request that its client gave up; stop that of all.
func (s *Server) decide(ctx context.Context, stop <-chan struct{}, r *proxy.Request, gone *atomic.Bool) proxy.Decision {
	var until time.Time
	for {
		d := s.opt.Handler.Handle(ctx, r)
		if d.Outcome != proxy.Held {
			return d
		}
		now := time.Now()
		if until.IsZero() {
			until = now.Add(s.opt.HoldLimit)
		}
		wait := min(max(d.Wait, 10*time.Millisecond), time.Second, until.Sub(now))
		if wait > 0 {
			pause(ctx, stop, wait)
		}
		if wait <= 0 || gone.Load() || ctx.Err() != nil || ended(stop) {
			return s.opt.Handler.Record(r, proxy.Decision{Reason: proxy.HoldExpired})
		}
	}
}

// ownGreeting is that of an auth server of our own: VERSION, the offered
// mechanisms, and numbers of this connection.
func (s *Server) ownGreeting() ([]byte, error) {
	cookie, err := newCookie()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("VERSION\t1\t2\n")
	for _, m := range s.opt.Mechanisms {
		b.WriteString("MECH\t" + m + "\t" + mechanisms[m].flags + "\n")
	}
	fmt.Fprintf(&b, "SPID\t%d\nCUID\t%d\nCOOKIE\t%s\nDONE\n", os.Getpid(), s.cuid.Add(1), cookie)
	return []byte(b.String()), nil
}

// newCookie is 128 random bits in hex.
func newCookie() (string, error) {
	var cookie [16]byte
	_, err := rand.Read(cookie[:])
	return hex.EncodeToString(cookie[:]), err
}

// fitting returns the answer b, or a temporary failure where b is longer than
// clients read: they would close the connection, and fail all its logins.
func (s *Server) fitting(b []byte, id uint32, d *proxy.Decision) []byte {
	if len(b) <= maxLine {
		return b
	}
	s.log.Error("an answer is over the limit", zap.String("id", d.ID), zap.Int("bytes", len(b)), zap.Int("limit", maxLine))
	return appendFail(b[:0], id, &proxy.Decision{User: d.User})
}

// pause waits for d, less when ctx or stop end.
func pause(ctx context.Context, stop <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-stop:
	}
}

func ended(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}
