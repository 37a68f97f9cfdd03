package nginx

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/zap"

	"usher/proxy"
)

const (
	secretHeader = "X-Auth-Key"
	maxHeader    = 64 << 10         // bytes of a request; a client certificate may be among them
	readTimeout  = 10 * time.Second // for a request's headers, and a PROXY header
	// writeTimeout bounds the whole exchange: policy, password driver and a late
	// refusal, each of which has a limit of its own. nginx itself waits for 60 s.
	writeTimeout = 3 * time.Minute
	idleTimeout  = 60 * time.Second
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

	Path      string   // of the URL that nginx asks
	Protocols []string // of imap, pop3, smtp
	// SharedSecret must come as X-Auth-Key. Empty: none is asked for.
	SharedSecret proxy.Secret
	// ProxyProtocolFrom lists the networks that may send a PROXY header.
	ProxyProtocolFrom []netip.Prefix
	// AllowNoAuth lets Auth-Method: none in, but never for smtp.
	AllowNoAuth bool
	// FailureDelay is how late a refusal is told.
	FailureDelay time.Duration
	// HoldLimit is how long a held login waits in all.
	HoldLimit time.Duration
	// Grace is how long Serve, told to end, waits for requests in flight.
	Grace time.Duration
}

// A Server answers auth_http requests on one listener.
type Server struct {
	opt    Options
	log    *zap.Logger
	holds  holds
	secret [sha256.Size]byte
	policy proxyproto.ConnPolicyFunc
}

// New checks the options. It starts nothing.
func New(opt Options) (*Server, error) {
	if opt.Handler == nil {
		return nil, errors.New("nginx: no handler")
	}
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	s := &Server{
		opt: opt, log: opt.Log.Named("nginx"),
		holds:  holds{limit: opt.HoldLimit, since: map[holdKey]time.Time{}},
		secret: sha256.Sum256([]byte(opt.SharedSecret.Reveal())),
	}
	if len(opt.ProxyProtocolFrom) > 0 {
		ranges := make([]string, len(opt.ProxyProtocolFrom))
		for i, p := range opt.ProxyProtocolFrom {
			ranges[i] = p.String()
		}
		var err error
		if s.policy, err = proxyproto.PolicyFromRanges(ranges, proxyproto.USE, proxyproto.REJECT); err != nil {
			return nil, fmt.Errorf("nginx: proxy_protocol_from: %w", err)
		}
	}
	return s, nil
}

// Serve answers requests on ln until ctx ends, then lets those in flight
// finish, for Options.Grace at most, and returns. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.policy != nil && ln.Addr().Network() != "unix" {
		ln = &proxyproto.Listener{Listener: ln, ConnPolicy: s.policy, ReadHeaderTimeout: readTimeout}
	}
	errLog, err := zap.NewStdLogAt(s.log, zap.DebugLevel)
	if err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errLog,
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), s.opt.Grace)
		defer cancel()
		err := srv.Shutdown(grace)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		drained <- err
	})
	err = srv.Serve(delListener{ln})
	if !stop() {
		// Told to end: Serve returned at once, the requests in flight did not.
		if err := <-drained; err != nil {
			return fmt.Errorf("nginx: shutdown: %w", err)
		}
		return nil
	}
	return fmt.Errorf("nginx: %w", err)
}

// ServeHTTP implements http.Handler. The status is 200 but for a request
// without the shared secret: nginx ignores it and reads Auth-Status.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	h := w.Header()
	h["Content-Type"] = nil // nginx has 1 KiB for all headers
	if !s.knowsSecret(hr.Header) {
		r := &proxy.Request{Adapter: "nginx", Client: addrPort(hr.Header, "Client-Ip", "", "", "")}
		s.opt.Handler.Record(r, proxy.Decision{Outcome: proxy.Denied, Reason: proxy.BadSharedKey})
		w.WriteHeader(http.StatusForbidden)
		return
	}
	r, err := parseRequest(hr.Header)
	r.URI = hr.RequestURI
	d := s.decide(hr, r, err)
	s.write(hr.Context(), h, r, &d)
	if dropped := changeHeaders(h, d.Header); dropped > 0 {
		s.log.Warn("headers of the policy dropped: nginx reads 1 KiB", zap.String("id", d.ID), zap.Int("headers", dropped))
	}
	w.WriteHeader(http.StatusOK)
}

// knowsSecret compares in constant time. Hashing first hides the length.
func (s *Server) knowsSecret(h http.Header) bool {
	if s.opt.SharedSecret.IsEmpty() {
		return true
	}
	values := h[http.CanonicalHeaderKey(secretHeader)]
	if len(values) != 1 {
		return false
	}
	sum := sha256.Sum256([]byte(values[0]))
	return subtle.ConstantTimeCompare(sum[:], s.secret[:]) == 1
}

func (s *Server) decide(hr *http.Request, r *proxy.Request, bad error) proxy.Decision {
	refuse := func(why proxy.Reason, err error) proxy.Decision {
		return s.opt.Handler.Record(r, proxy.Decision{Outcome: proxy.Denied, Reason: why, Err: err})
	}
	switch {
	case hr.URL.Path != s.opt.Path:
		return s.opt.Handler.Record(r, proxy.Decision{Reason: proxy.NoBackend,
			Err: fmt.Errorf("auth_http asks for path %.80q, this listener answers %q", hr.URL.Path, s.opt.Path)})
	case !slices.Contains(s.opt.Protocols, r.Service):
		return s.opt.Handler.Record(r, proxy.Decision{Reason: proxy.NoBackend,
			Err: fmt.Errorf("protocol %.20q is not among this listener's protocols", r.Service)})
	case bad != nil:
		return refuse(proxy.BadRequest, bad)
	case r.NoAuth && (!s.opt.AllowNoAuth || r.Service == "smtp"):
		return refuse(proxy.NoAuthRefused, nil)
	}
	d := s.opt.Handler.Handle(hr.Context(), r)
	if d.Outcome != proxy.Held {
		s.holds.end(r.User, r.Client.Addr())
		return d
	}
	left, ok := s.holds.begin(r.User, r.Client.Addr(), time.Now())
	if !ok {
		return s.opt.Handler.Record(r, proxy.Decision{Reason: proxy.HoldExpired, User: d.User})
	}
	d.Wait = min(max(d.Wait, time.Second), left)
	return d
}

// write turns a decision into headers. From the eleventh refusal on a
// connection nginx is not told to wait: the reply itself is late.
func (s *Server) write(ctx context.Context, h http.Header, r *proxy.Request, d *proxy.Decision) {
	switch d.Outcome {
	case proxy.Routed:
		if err := writeRouted(h, r, d); err != nil {
			s.log.Error("reply", zap.String("id", d.ID), zap.Error(err))
			clear(h)
			writeTempFail(h, r)
		}
	case proxy.Held:
		writeWait(h, d.Wait)
	case proxy.Denied:
		wait := s.opt.FailureDelay
		if d.Delayed {
			wait = 0
		}
		if r.Attempt > patience {
			t := time.NewTimer(wait)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			wait = 0
		}
		writeDenied(h, r, d, wait)
	default: // passed is no answer that nginx knows
		writeTempFail(h, r)
	}
}
