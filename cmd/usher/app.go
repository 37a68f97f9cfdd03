package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/config"
	"usher/control"
	"usher/protocol/dovecot"
	"usher/protocol/nginx"
	"usher/proxy"
	"usher/proxy/affinity"
)

// grace is how long requests in flight may take when usher ends, or when a
// reload ends a listener.
const grace = 10 * time.Second

// lastResort is what comes on top of grace before usher ends all the same.
const lastResort = 3 * time.Second

// mostBusy is how long a request may keep a generation's work alive that a
// reload has replaced.
const mostBusy = 5 * time.Minute

// maxOperators bounds the connections to the admin API and to the metrics.
const maxOperators = 256

// An app is a running usher: the parts put together. It implements
// control.Service, and the adapters' Handler by the generation that stands.
type app struct {
	parts
	load    func() (*config.Config, error) // reads the configuration anew
	source  string                         // where it is read from, for status
	logging *logging
	slots   *slots
	started time.Time

	gen atomic.Pointer[generation]

	mu      sync.Mutex // a start, a reload or the end at a time
	closing bool
	serving map[string]*server // by address
	failed  chan error         // of servers that ended by themselves

	draining sync.WaitGroup // of servers that were told to end
}

// newApp makes the parts that outlive a generation. It starts nothing.
func newApp(cfg *config.Config, source string, load func() (*config.Config, error), logs *logging) (*app, error) {
	p, err := openParts(cfg, logs.log)
	if err != nil {
		return nil, err
	}
	if m, ok := p.store.(*affinity.Memory); ok && cfg.Affinity.Mode != "off" {
		p.state.keep(cfg.StateDir, m, logs.log)
		if err := p.state.moves.Redo(context.Background()); err != nil {
			return nil, err
		}
	}
	a := &app{
		parts: p,
		load:  load, source: source, logging: logs,
		slots:   newSlots(cfg.Limits.Connections),
		started: time.Now(), serving: map[string]*server{}, failed: make(chan error, 1),
	}
	if a.cluster != nil {
		current := a.gen.Load
		a.cluster.gen.Store(&current)
	}
	return a, nil
}

// Run serves cfg until ctx ends, then finishes what is in flight. ready, if not
// nil, is called when all listeners are open.
func (a *app) Run(ctx context.Context, cfg *config.Config, ready func()) (err error) {
	defer func() { err = errors.Join(err, a.state.close()) }()
	sweep, stopSweep := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { a.store.Run(sweep) })
	background.Go(func() { a.policy.maps.Run(sweep) })
	background.Go(func() { a.state.run(sweep) })
	background.Go(func() { a.learnKeys(sweep, cfg) })
	if a.cluster != nil {
		background.Go(func() { a.cluster.db.Run(sweep) })
		a.cluster.wait(ctx)
	}
	defer background.Wait()
	defer stopSweep()

	if err := a.apply(cfg, false); err != nil {
		return errors.Join(err, a.close())
	}
	if ready != nil {
		ready()
	}
	select {
	case <-ctx.Done():
	case err = <-a.failed:
	}
	return errors.Join(err, a.close())
}

// learnKeys finds the keys that policies made for users among the assignments that
// were kept: of those the name is no user's.
func (a *app) learnKeys(ctx context.Context, cfg *config.Config) {
	learn := func(as affinity.Assignment) bool {
		for _, user := range as.Users {
			if affinity.KeyName(user, cfg.Dovecot.MasterUserSeparator, affinity.Scope(cfg.Affinity.Key)) != as.Key.Name {
				a.keys.Learn(affinity.OrderName(user, cfg.Dovecot.MasterUserSeparator), as.Key)
			}
		}
		return true
	}
	if a.cluster != nil {
		select {
		case <-a.cluster.db.Reached():
		case <-ctx.Done():
			return
		}
	}
	err := a.store.Each(ctx, "", learn)
	for errors.Is(err, affinity.ErrAway) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(learnAgain):
		}
		err = a.store.Each(ctx, "", learn)
	}
	if err != nil && ctx.Err() == nil {
		a.log.Error("keys of policies", zap.Error(err))
	}
}

// learnAgain is after how long a store that is away is asked for keys again.
const learnAgain = time.Second

// apply makes cfg the one that stands: builds a generation, opens what is new,
// swaps, closes what is gone. When anything of it fails nothing has changed.
func (a *app) apply(cfg *config.Config, force bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closing {
		return errors.New("usher is ending")
	}
	old := a.gen.Load()
	if old != nil && old.cfg.StateDir != cfg.StateDir {
		return fmt.Errorf("state_dir: is %s now and was %s; expected a restart for that", cfg.StateDir, old.cfg.StateDir)
	}
	if old != nil {
		if err := sameStore(old.cfg, cfg); err != nil {
			return err
		}
	}
	g, err := build(cfg, a.parts, old)
	if err != nil {
		return err
	}
	if err := g.acceptProbe(old, force); err != nil {
		return err
	}
	wanted, err := a.servers(cfg)
	if err != nil {
		return err
	}
	var opened []*server
	for _, s := range wanted {
		if old := a.serving[s.key]; old != nil {
			err = old.sock.change(s.options)
		} else if err = s.open(a.slots); err == nil {
			opened = append(opened, s)
		}
		if err != nil {
			for _, o := range opened {
				err = errors.Join(err, o.sock.Close())
			}
			return err
		}
	}

	for _, w := range g.warnings {
		a.log.Warn("configuration", zap.String("warning", w))
	}
	a.logging.set(cfg.Log)
	a.store.SetLimits(cfg.Affinity.Expire, cfg.Affinity.MaxEntries)
	a.slots.resize(cfg.Limits.Connections)
	g.changed = func() {
		a.metrics.SetInventory(func() (control.Inventory, bool) { return g.inventory(), a.gen.Load() == g })
	}
	if old != nil {
		old.reports.over.Store(true)
	}
	a.metrics.SetInventory(func() (control.Inventory, bool) { return g.inventory(), true })
	g.start()
	g.inits.prepare(a.policy.cache)
	a.metrics.SetPolicies(g.filters)
	a.metrics.KeepDecisions(cfg.Control.Decisions)
	a.state.moves.Change(a.moveSettings(g))
	a.gen.Store(g)
	g.changed()
	a.exchange(wanted)
	if old != nil {
		a.draining.Go(func() {
			if err := old.stop(mostBusy); err != nil {
				a.log.Error("end of the old configuration's work", zap.Error(err))
			}
		})
	}
	return nil
}

// sameStore returns why a reload can't go from one configuration to the other: the
// store outlives it.
func sameStore(old, cfg *config.Config) error {
	switch {
	case old.Affinity.Store != cfg.Affinity.Store:
		return fmt.Errorf("affinity.store: is %s now and was %s; expected a restart for that", cfg.Affinity.Store, old.Affinity.Store)
	case cfg.Affinity.Store != "valkey":
		return nil
	case !reflect.DeepEqual(old.Redis, cfg.Redis):
		return errors.New("redis: has changed, and affinity.store is valkey; expected a restart for that")
	case nodeName(old) != nodeName(cfg):
		return fmt.Errorf("node: is %s now and was %s; expected a restart for that", nodeName(cfg), nodeName(old))
	}
	return nil
}

// exchange makes the running servers those that are wanted. A server whose
// settings changed is followed by another on the same socket.
func (a *app) exchange(wanted []*server) {
	keep := map[string]bool{}
	for _, s := range wanted {
		keep[s.key] = true
		old := a.serving[s.key]
		if old != nil && reflect.DeepEqual(old.settings, s.settings) {
			continue
		}
		if old != nil {
			s.sock = old.sock
			old.cancel() // it drains beside the new one
			a.finish(old)
		}
		a.run(s)
		a.serving[s.key] = s
	}
	for key, s := range a.serving {
		if !keep[key] {
			s.sock.alone.Store(true)
			s.cancel()
			if err := s.sock.Close(); err != nil {
				a.log.Warn("close", zap.String("listener", s.title), zap.Error(err))
			}
			a.finish(s)
			delete(a.serving, key)
		}
	}
}

// finish waits in the background for a server that was told to end.
func (a *app) finish(s *server) {
	a.draining.Go(func() {
		if err := <-s.done; err != nil {
			a.log.Warn("end of a listener", zap.String("listener", s.title), zap.Error(err))
		}
	})
}

// A server is one listener with what answers on it.
type server struct {
	key      string // address
	title    string
	options  socketOptions
	settings any // a reload compares them
	listen   func() (net.Listener, error)
	serve    func(ctx context.Context, ln net.Listener) error
	exempt   bool // does not count as a connection of proxies

	sock   *socket
	cancel context.CancelFunc
	done   chan error
}

// open opens the server's socket. limit bounds the connections of all proxies.
func (s *server) open(limit *slots) error {
	ln, err := s.listen()
	if err != nil {
		return err
	}
	if s.exempt {
		limit = newSlots(maxOperators)
	}
	s.sock = newSocket(ln, limit)
	return nil
}

func (a *app) run(s *server) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan error, 1)
	lease := newLease(s.sock)
	go func() {
		err := s.serve(ctx, lease)
		s.done <- err
		if ctx.Err() == nil {
			select {
			case a.failed <- fmt.Errorf("%s: %w", s.key, err):
			default:
			}
		}
	}()
}

// close ends all servers, waits for what is in flight, and stops the rest. What
// does not end by itself, a script that is stuck in a library call, is left to
// the end of the process.
func (a *app) close() error {
	done := make(chan error, 1)
	go func() { done <- a.end() }()
	t := time.NewTimer(grace + lastResort)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("requests were still running %s after the end was asked for", grace+lastResort)
	}
}

func (a *app) end() error {
	a.mu.Lock()
	a.closing = true // from here on nobody changes what is served
	a.mu.Unlock()
	var errs []error
	// Nobody accepts any more before the first connection is handed over: it
	// would come back.
	for _, s := range a.serving {
		errs = append(errs, s.sock.silence())
		s.sock.alone.Store(!s.sock.kept())
	}
	for _, s := range a.serving {
		s.cancel()
	}
	for _, s := range a.serving {
		errs = append(errs, s.sock.Close())
	}
	for _, s := range a.serving {
		errs = append(errs, <-s.done)
	}
	a.draining.Wait()
	if g := a.gen.Load(); g != nil {
		errs = append(errs, g.stop(0))
	}
	a.policy.http.CloseIdleConnections()
	return errors.Join(errs...)
}

// Handle implements the adapters' Handler. The generation is counted as busy
// before it is looked at again: one that a reload has just replaced may be
// about to stop.
func (a *app) Handle(ctx context.Context, r *proxy.Request) proxy.Decision {
	for {
		g := a.gen.Load()
		g.inFlight.Add(1)
		if a.gen.Load() == g {
			defer g.inFlight.Add(-1)
			return g.pipeline.Handle(ctx, r)
		}
		g.inFlight.Add(-1)
	}
}

// Refresh implements dovecot.Refresher.
func (a *app) Refresh(ctx context.Context, user string) error {
	return a.gen.Load().pipeline.Refresh(ctx, user)
}

// A directory answers userdb look-ups by the password drivers of the generation
// that stands. It implements dovecot.Directory.
type directory struct{ *app }

func (d directory) User(ctx context.Context, r *proxy.Request) ([]proxy.Attr, error) {
	return d.gen.Load().passdb.User(ctx, r)
}

func (d directory) List(ctx context.Context, mask string, yield func(user string) bool) error {
	return d.gen.Load().passdb.List(ctx, mask, yield)
}

// Record implements the adapters' Handler.
func (a *app) Record(r *proxy.Request, d proxy.Decision) proxy.Decision {
	return a.gen.Load().pipeline.Record(r, d)
}

// servers makes what cfg's listeners shall be answered by.
func (a *app) servers(cfg *config.Config) ([]*server, error) {
	var out []*server
	var faults []error
	for i := range cfg.Nginx.Listeners {
		s, err := a.nginxServer(cfg, &cfg.Nginx.Listeners[i])
		out, faults = append(out, s), append(faults, err)
	}
	for i := range cfg.Dovecot.Listeners {
		s, err := a.dovecotServer(cfg, &cfg.Dovecot.Listeners[i])
		out, faults = append(out, s), append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if c := &cfg.Control; !c.Address.IsZero() {
		opt := socketOptions{mode: 0o600, peers: true}
		out = append(out, &server{
			key: c.Address.String(), title: "control " + c.Address.String(), options: opt, exempt: true,
			listen: func() (net.Listener, error) {
				if c.Address.Network == "unix" {
					if err := ensureDir(c.Address.Addr); err != nil {
						return nil, err
					}
				}
				return listen(c.Address, opt)
			},
			serve: func(ctx context.Context, ln net.Listener) error {
				return control.Serve(ctx, ln, control.API(a, a.log))
			},
		})
	}
	if c := &cfg.Control.TCP; !c.Address.IsZero() {
		var authority []byte
		var err error
		if c.ClientCA != "" {
			if authority, err = os.ReadFile(c.ClientCA); err != nil {
				return nil, fmt.Errorf("control.tcp: %w", err)
			}
		}
		secure, err := control.RemoteTLS(c.TLSCert, c.TLSKey, authority)
		if err != nil {
			return nil, fmt.Errorf("control.tcp: %w", err)
		}
		out = append(out, &server{
			key: c.Address.String(), title: "control " + c.Address.String(), exempt: true,
			settings: []any{c.Token.Reveal(), authority, certificates(secure)},
			listen:   func() (net.Listener, error) { return listen(c.Address, socketOptions{}) },
			serve: func(ctx context.Context, ln net.Listener) error {
				if secure != nil {
					ln = tls.NewListener(ln, secure)
				}
				return control.Serve(ctx, ln, control.Remote(control.API(a, a.log), c.Token))
			},
		})
	}
	if c := &cfg.Control; !c.HTTP.IsZero() {
		out = append(out, &server{
			key: c.HTTP.String(), title: "metrics " + c.HTTP.String(), exempt: true,
			listen: func() (net.Listener, error) { return listen(c.HTTP, socketOptions{mode: 0o666}) },
			serve: func(ctx context.Context, ln net.Listener) error {
				return control.Serve(ctx, ln, control.HTTP(a, a.metrics))
			},
		})
	}
	return out, nil
}

// certificates are what tells one tls.Config from another.
func certificates(c *tls.Config) (der [][]byte) {
	if c != nil {
		der = c.Certificates[0].Certificate
	}
	return der
}

func (a *app) nginxServer(cfg *config.Config, l *config.NginxListener) (*server, error) {
	opt := nginx.Options{
		Path: l.Path, Protocols: l.Protocols, SharedSecret: l.SharedSecret,
		ProxyProtocolFrom: l.ProxyProtocolFrom, AllowNoAuth: l.AllowNoAuth,
		FailureDelay: cfg.FailureDelay, HoldLimit: cfg.Limits.Hold, Grace: grace,
	}
	settings := opt
	settings.SharedSecret = proxy.Secret{}
	opt.Handler, opt.Log = a, a.log
	srv, err := nginx.New(opt)
	if err != nil {
		return nil, err
	}
	sock := socketOptions{mode: l.Mode.FileMode(), owner: l.Owner, group: l.Group}
	return &server{
		key: l.Address.String(), title: "nginx " + l.Address.String(), options: sock,
		settings: []any{settings, l.SharedSecret.Reveal()},
		listen:   func() (net.Listener, error) { return guarded(l.Address, sock, l.Guard) },
		serve:    srv.Serve,
	}, nil
}

func (a *app) dovecotServer(cfg *config.Config, l *config.DovecotListener) (*server, error) {
	sock := socketOptions{mode: l.Mode.FileMode(), owner: l.Owner, group: l.Group, peers: l.Kind == "userdb" || l.Kind == "director-admin"}
	out := &server{
		key: l.Address.String(), title: "dovecot " + l.Kind + " " + l.Address.String(), options: sock,
		listen: func() (net.Listener, error) { return guarded(l.Address, sock, l.Guard) },
	}
	opt := dovecot.Options{
		Upstream: l.Upstream.Addr, Mechanisms: l.Mechanisms, RequireSecured: l.RequireSecured,
		FailureDelay: cfg.FailureDelay, Refresh: cfg.Affinity.Expire / 2, HoldLimit: cfg.Limits.Hold,
		MaxOutstanding: cfg.Limits.OutstandingPerConnection, AllowFrom: l.AllowFrom,
		MasterUser: cfg.Dovecot.Master.User, MasterPass: cfg.Dovecot.Master.Pass, Grace: grace,
	}
	settings := opt
	settings.MasterPass = proxy.Secret{}
	out.settings = []any{l.Kind, settings, cfg.Dovecot.Master.Pass.Reveal()}
	opt.Handler, opt.Log = a, a.log
	open := dovecot.New
	switch l.Kind {
	case "auth":
	case "userdb":
		open, opt.Directory = dovecot.NewUserdb, directory{a}
	case "director-admin":
		open, opt.Director = dovecot.NewDirectorAdmin, director{a}
	case "notify":
		out.settings = l.Kind // one FIFO, read by one server for as long as it stands
		out.exempt = true
		out.listen = func() (net.Listener, error) { return listenFIFO(l.Address, sock) }
		out.serve = dovecot.NewNotify(a, a.log).Serve
		return out, nil
	default:
		return nil, fmt.Errorf("dovecot: kind %q is not in this version", l.Kind)
	}
	srv, err := open(opt)
	if err != nil {
		return nil, err
	}
	out.serve = srv.Serve
	return out, nil
}

// guarded opens a listener that other machines reach only if it may: of fd:NAME
// the address is known only now.
func guarded(addr config.Address, sock socketOptions, guard func(net.Addr) error) (net.Listener, error) {
	ln, err := listen(addr, sock)
	if err != nil {
		return nil, err
	}
	if err := guard(ln.Addr()); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", addr, err), ln.Close())
	}
	return ln, nil
}

// Reload implements control.Service.
func (a *app) Reload(force bool) error {
	cfg, err := a.load()
	if err == nil {
		err = a.apply(cfg, force)
	}
	if err != nil {
		a.log.Error("reload refused, the old configuration stands", zap.Error(err))
		return err
	}
	a.log.Info("reloaded", zap.String("config", a.source))
	return nil
}

// Ready implements control.Service.
func (a *app) Ready() bool { return a.gen.Load().monitor.Ready() }

// Status implements control.Service.
func (a *app) Status() control.Status {
	g := a.gen.Load()
	st := control.Status{
		Version: version(), Node: nodeName(g.cfg), Started: a.started, Config: a.source, LoadedAt: g.loadedAt,
		Ready: g.monitor.Ready(), Policy: g.policies, Assignments: a.store.Len(), Store: a.cluster.state(),
	}
	a.mu.Lock()
	for _, s := range a.serving {
		st.Listeners = append(st.Listeners, s.title)
	}
	a.mu.Unlock()
	slices.Sort(st.Listeners)
	st.Panics = panics(g.monitor)
	st.Backends = a.backends(g, g.monitor.Status())
	return st
}

// Route implements control.Service.
func (a *app) Route(ctx context.Context, q control.RouteQuery) (control.RouteAnswer, error) {
	gen := a.gen.Load()
	q.Adapter = adapterOf(q, gen.cfg)
	r, err := dryRequest(q)
	if err != nil {
		return control.RouteAnswer{}, err
	}
	var steps []string
	d := gen.pipeline.Explain(ctx, r, q.Network, func(s string) { steps = append(steps, s) })
	ans := control.RouteAnswer{
		User: d.User, Outcome: d.Outcome.String(), By: d.By, Reason: string(d.Reason), Text: d.Text,
		TookUS: d.Took.Microseconds(), Steps: steps,
	}
	if d.Host != "" {
		ans.Backend = proxy.HostPort(d.Host, d.Port)
	}
	if d.Addr.IsValid() {
		ans.Address = d.Addr.String()
	}
	if d.Err != nil {
		ans.Error = d.Err.Error()
	}
	return ans, nil
}

func nodeName(cfg *config.Config) string {
	if cfg.Node != "" {
		return cfg.Node
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
