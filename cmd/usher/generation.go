package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"usher/config"
	"usher/control"
	"usher/luabridge"
	"usher/luabridge/budget"
	"usher/luabridge/maps"
	"usher/luabridge/modules"
	"usher/monitor"
	"usher/protocol/dovecot"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/moves"
	"usher/proxy/passdb"
	"usher/scripts"
)

// A generation is all that a configuration is made into, but for what outlives
// it: sockets, assignments, metrics. A reload makes a new one beside the old.
type generation struct {
	cfg      *config.Config
	log      *zap.Logger
	loadedAt time.Time
	pipeline *proxy.Pipeline
	passdb   *passdb.Chain
	lua      *luabridge.Director
	redis    *modules.Redis // of policies; nil: they reach no network
	monitor  *monitor.Monitor
	reports  *reports
	resolver *monitor.Resolver
	base     []*proxy.Server // the configuration's backends
	made     map[string]*proxy.Server
	inv      sync.Mutex // who holds it may change made and the expander
	expander *monitor.Expander
	expand   context.CancelFunc // ends the expander; nil: it does not run
	kickers  []moves.Kicker
	policies []string // files, for people
	filters  []string // names, for metrics
	probed   error    // what the policy raised for the probe request
	inits    *initRunner
	runners  []runner // password drivers that keep connections, and inits
	warnings []string

	changed func() // is called when the inventory changed; set before start

	ctx    context.Context // of the background work
	work   errgroup.Group
	cancel context.CancelFunc
	done   chan error

	inFlight atomic.Int64 // requests that run on this generation
}

// parts are what generations share.
type parts struct {
	log     *zap.Logger
	metrics *control.Metrics
	store   store
	cluster *cluster // nil: no nodes share the store
	state   *state
	keys    *proxy.KeyIndex
	workers *passdb.Workers
	policy  policyParts
}

// openParts makes them of the first configuration, and starts nothing.
func openParts(cfg *config.Config, log *zap.Logger) (parts, error) {
	store, c, err := openStore(cfg, log)
	if err != nil {
		return parts{}, err
	}
	st, err := openState(cfg.StateDir, store, c, log)
	if err != nil {
		return parts{}, err
	}
	gauges := control.Gauges{Assignments: store.Len}
	if c != nil {
		gauges.StoreUp = func() bool { return !c.db.Away() }
	}
	metrics := control.NewMetrics(version(), gauges)
	return parts{
		log: log, metrics: metrics, store: store, cluster: c, state: st, keys: proxy.NewKeyIndex(), workers: passdb.NewWorkers(),
		policy: newPolicyParts(log, metrics.Registerer()),
	}, nil
}

// policyParts are what policies share on purpose, or what costs to make.
type policyParts struct {
	cache *modules.Store      // of nauthilus_cache
	turns *modules.Rotation   // of usher.round_robin
	maps  *maps.Registry      // of usher.map
	prom  *modules.Prometheus // of nauthilus_prometheus
	nonce []byte              // of nauthilus_password's hashes
	http  *http.Transport
	dns   modules.Resolver // nil: the system's
}

// newPolicyParts makes them, the metrics appearing in registry. Who runs them runs
// maps too.
func newPolicyParts(log *zap.Logger, registry prometheus.Registerer) policyParts {
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails: crypto/rand
	return policyParts{
		cache: modules.NewStore(), turns: &modules.Rotation{}, maps: maps.New(log.Named("policy")),
		prom: modules.NewPrometheus(registry), nonce: nonce, http: modules.NewTransport(),
	}
}

// build makes a generation of cfg and starts nothing. Every fault is in the
// error, a line each. previous may be nil.
func build(cfg *config.Config, p parts, previous *generation) (*generation, error) {
	g := &generation{cfg: cfg, log: p.log, loadedAt: time.Now(), warnings: cfg.Warnings()}
	var faults []error
	if err := g.buildMonitor(cfg, p, previous); err != nil {
		faults = append(faults, err)
	}
	var err error
	if g.kickers, err = kickers(cfg); err != nil {
		faults = append(faults, err)
	}
	g.warnUnserved(cfg)
	if err := mayWrite(cfg.StateDir); err != nil {
		g.warnings = append(g.warnings, fmt.Sprintf("state_dir: %s: %v: what operators order will be refused", cfg.StateDir, err))
	}
	g.warnUnrefreshed(cfg)
	if p.cluster != nil {
		for _, path := range leftOrders(cfg.StateDir) {
			g.warnings = append(g.warnings, path+": is not used with affinity.store valkey; orders stand in the store")
		}
	}
	director, err := g.buildDirector(cfg, p)
	if err != nil {
		faults = append(faults, err)
	} else {
		g.lua, g.probed = director, director.Probed()
		g.inits = newInitRunner(director, p.log)
		g.runners = append(g.runners, g.inits)
	}
	chain, err := g.buildPassdb(cfg, p)
	if err != nil {
		faults = append(faults, err)
	} else {
		g.warnings = append(g.warnings, chain.Warnings()...)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if g.probed != nil {
		g.warnings = append(g.warnings, strings.Split(g.probed.Error(), "\n")...)
	}
	g.passdb = chain
	g.pipeline, err = proxy.New(proxy.Options{
		Verifier: chain, Director: g.director(cfg, director), Backends: g.monitor, Names: g.resolver,
		Assignments: p.store, Orders: userOrders{p.state.orders, p.state.moves, p.state.awaited, cfg.Dovecot.MasterUserSeparator}, Keys: p.keys, Recorder: p.metrics, Log: p.log,
		Affinity: proxy.AffinityMode(cfg.Affinity.Mode), KeyScope: affinity.Scope(cfg.Affinity.Key),
		MasterSeparator: cfg.Dovecot.MasterUserSeparator,
		DenyUnlisted:    cfg.Director.UnlistedBackends == "deny",
		AllowIdentity:   cfg.Director.AllowIdentity,
		HostAttributes:  cfg.Director.HostAttributes,
	})
	return g, err
}

// A runner does its work until ctx ends.
type runner interface {
	Run(ctx context.Context) error
}

// buildPassdb makes the password drivers. Those in Lua need g.lua, which is nil
// where the policy has faults of its own.
func (g *generation) buildPassdb(cfg *config.Config, p parts) (*passdb.Chain, error) {
	var drivers []passdb.Driver
	for _, c := range cfg.Passdb {
		switch c.Driver {
		case "passthrough":
			drivers = append(drivers, passdb.Passthrough{})
		case "passwd_file":
			d, err := passdb.NewPasswdFile(c.Path, p.workers, p.log)
			if err != nil {
				return nil, err
			}
			drivers = append(drivers, d)
		case "lua":
			script, err := luabridge.ReadScript(c.Script)
			if err != nil {
				return nil, fmt.Errorf("passdb: lua: %w", err)
			}
			if g.lua == nil {
				continue
			}
			d, raised, err := g.lua.NewPassdb(script, cfg.Director.AllowIdentity)
			if err != nil {
				return nil, err
			}
			g.probed = errors.Join(g.probed, raised)
			drivers = append(drivers, d)
		case "dovecot":
			d, err := dovecot.NewPassdb(dovecot.PassdbOptions{
				Address: c.Address.Addr, UserdbAddress: c.UserdbAddress.Addr,
				MaxOutstanding: cfg.Limits.Connections, Log: p.log,
			})
			if err != nil {
				return nil, err
			}
			drivers, g.runners = append(drivers, d), append(g.runners, d)
		default:
			return nil, fmt.Errorf("passdb: driver %q is not in this version", c.Driver)
		}
	}
	return passdb.New(drivers...), nil
}

func serversOf(cfg *config.Config) []*proxy.Server {
	var servers []*proxy.Server
	for i := range cfg.Monitoring.BackendServers {
		b := &cfg.Monitoring.BackendServers[i]
		servers = append(servers, &proxy.Server{
			Protocol: b.Protocol, Host: b.Host, Port: b.Port,
			TLS: b.TLS, StartTLS: b.StartTLS, TLSSkipVerify: b.TLSSkipVerify, HAProxyV2: b.HAProxyV2,
			DeepCheck: b.DeepCheck, RequestURI: b.RequestURI, ExpectStatus: string(b.ExpectStatus),
			TestUsername: b.TestUsername, TestPassword: b.TestPassword,
			Weight: b.Weight, Tags: b.Tags, SRV: b.SRV,
		})
	}
	return servers
}

func (g *generation) buildMonitor(cfg *config.Config, p parts, previous *generation) error {
	m := &cfg.Monitoring
	g.reports = &reports{to: p.metrics}
	g.base, g.made = serversOf(cfg), map[string]*proxy.Server{}
	expanderOpt := monitor.ExpanderOptions{Logger: p.log, OnChange: g.takeInventory}
	resolverOpt := monitor.ResolverOptions{Logger: p.log}
	opt := monitor.Options{
		Interval: m.Interval, Retry: m.Retry, Timeout: m.Timeout,
		Rise: m.Rise, Fall: m.Fall, PanicThreshold: m.PanicThreshold, Logger: p.log, Observer: g.reports,
	}
	if previous != nil {
		previous.inv.Lock()
		expanderOpt.Previous = previous.expander
		previous.inv.Unlock()
		resolverOpt.Previous, opt.Previous = previous.resolver, previous.monitor
	}
	var err error
	if g.expander, err = monitor.NewExpander(p.state.added.changes.Load().of(g.base, g.made), expanderOpt); err != nil {
		return err
	}
	opt.Servers, opt.Partial, opt.Admin = g.expander.Servers(), !g.expander.Complete(), p.state.admin
	if g.resolver, err = monitor.NewResolver(hostsOf(opt.Servers), resolverOpt); err != nil {
		return err
	}
	opt.Names = g.resolver
	g.monitor, err = monitor.New(opt)
	return err
}

// reinventory makes the configuration's backends with these changes the ones that
// count.
func (g *generation) reinventory(c *inventoryChanges) error {
	g.inv.Lock()
	defer g.inv.Unlock()
	e, err := monitor.NewExpander(c.of(g.base, g.made), monitor.ExpanderOptions{Logger: g.log, OnChange: g.takeInventory, Previous: g.expander})
	if err != nil {
		return err
	}
	if g.expand != nil {
		g.expand()
	}
	g.expander = e
	g.runExpander()
	g.takeInventory(e.Servers())
	return nil
}

// runExpander runs the expander that stands. The caller holds g.inv.
func (g *generation) runExpander() {
	var ctx context.Context
	ctx, g.expand = context.WithCancel(g.ctx)
	e := g.expander
	g.work.Go(func() error { return e.Run(ctx) })
}

// takeInventory makes servers, which DNS said, the backends.
func (g *generation) takeInventory(servers []*proxy.Server) {
	g.resolver.SetHosts(hostsOf(servers))
	if err := g.monitor.SetServers(servers); err != nil {
		g.log.Error("backends of SRV records", zap.Error(err))
		return
	}
	g.changed()
}

func hostsOf(servers []*proxy.Server) []string {
	hosts := make([]string, len(servers))
	for i, s := range servers {
		hosts[i] = s.Host
	}
	return hosts
}

// warnUnrefreshed warns where login processes are told to say who is still there,
// and nobody listens.
func (g *generation) warnUnrefreshed(cfg *config.Config) {
	kind := func(k string) bool {
		return slices.ContainsFunc(cfg.Dovecot.Listeners, func(l config.DovecotListener) bool { return l.Kind == k })
	}
	mailbox := slices.ContainsFunc(cfg.Monitoring.BackendServers, func(b config.Backend) bool { return b.Protocol == "imap" || b.Protocol == "pop3" })
	if mailbox && kind("auth") && !kind("notify") && cfg.Affinity.Mode != "off" {
		g.warnings = append(g.warnings, fmt.Sprintf("dovecot.listeners: none of kind notify: the assignments of Dovecot's sessions end %s after the login, and login processes log that proxy-notify is missing", cfg.Affinity.Expire))
	}
}

// mayWrite returns why no file can be made in a folder, which may have to be made
// first.
func mayWrite(dir string) error {
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		parent := filepath.Dir(dir)
		if !errors.Is(err, unix.ENOENT) || parent == dir {
			return err
		}
		dir = parent
	}
}

// warnUnserved warns of protocols that nginx asks for and no backend has.
func (g *generation) warnUnserved(cfg *config.Config) {
	if len(cfg.Monitoring.BackendServers) == 0 {
		return // the policy names hosts by itself
	}
	for i := range cfg.Nginx.Listeners {
		for _, p := range cfg.Nginx.Listeners[i].Protocols {
			if !slices.ContainsFunc(cfg.Monitoring.BackendServers, func(b config.Backend) bool { return b.Protocol == p }) {
				g.warnings = append(g.warnings, fmt.Sprintf("nginx.listeners[%d].protocols: %s has no backend in backend_server_monitoring: its users are told to try later", i, p))
			}
		}
	}
}

func (g *generation) buildDirector(cfg *config.Config, p parts) (*luabridge.Director, error) {
	c := &cfg.Director
	filters, err := readFilters(c)
	if err != nil {
		return nil, err
	}
	for _, f := range filters {
		g.policies = append(g.policies, cmp.Or(f.Path, f.Name))
		g.filters = append(g.filters, f.Name)
	}
	features, inits, err := g.readScripts(c)
	if err != nil {
		return nil, err
	}
	poolSize := c.PoolSize
	if c.Network {
		if g.redis, err = modules.NewRedis(redisOptions(&cfg.Redis)); err != nil {
			return nil, err
		}
		poolSize = cmp.Or(poolSize, waitingStates*runtime.GOMAXPROCS(0))
	}
	return luabridge.New(luabridge.Options{
		Filters: filters, Features: features, Init: inits, PoolSize: poolSize, PackagePath: c.PackagePath,
		Limits:   budget.Limits{Steps: c.Steps, Memory: int(c.Memory), Time: c.Timeout},
		Observer: p.metrics, Probe: allUp(serversOf(cfg)),
		Deps: &modules.Deps{
			Log: p.log.Named("policy"), Checker: g.monitor, DenyUnlisted: c.UnlistedBackends == "deny", Env: c.Env,
			Debug: cfg.Log.Level == "debug", LogLevel: cfg.Log.Level, LogFormat: cfg.Log.Format,
			RedisPrefix: cfg.Redis.Prefix, Cache: p.policy.cache, Rotation: p.policy.turns, Maps: p.policy.maps,
			Prom: p.policy.prom, Nonce: p.policy.nonce, Workers: p.workers, Redis: g.redis,
			Network: c.Network, HTTP: p.policy.http, DNS: p.policy.dns, Meter: p.metrics,
		},
	})
}

// waitingStates is how many Lua states there are for each core where policies wait
// for the network.
const waitingStates = 64

func redisOptions(c *config.Redis) modules.RedisOptions {
	o := modules.RedisOptions{
		DB: c.DB, Username: c.Username, Password: c.Password, TLS: c.TLS, CA: c.CA, Cert: c.Cert, Key: c.Key,
		SentinelMaster: c.SentinelMaster, SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
	}
	for _, a := range c.Addresses {
		text := a.Addr
		if a.Network == "unix" {
			text = "unix:" + text
		}
		o.Addresses = append(o.Addresses, text)
	}
	return o
}

// director is what the pipeline asks: the built-in policy does not need its Lua.
func (*generation) director(cfg *config.Config, lua *luabridge.Director) proxy.Director {
	if cfg.Director.Script == "" && len(cfg.Director.Filters)+len(cfg.Director.Features) == 0 {
		return proxy.Builtin{}
	}
	return lua
}

// allUp is the inventory as the probe request sees it. For each SRV name, which DNS
// is not asked for here, a made-up backend stands.
func allUp(servers []*proxy.Server) *proxy.View {
	entries := make([]proxy.Entry, len(servers))
	for i, s := range servers {
		if s.Host == "" {
			probe := *s
			probe.Host, probe.Port = fmt.Sprintf("srv%d.invalid", i), 1
			s = &probe
		}
		entries[i] = proxy.Entry{Server: s, Health: proxy.Up}
	}
	return proxy.NewView(entries)
}

// acceptProbe refuses a generation whose policy raises an error for the probe
// request where that of the old one does not. Both may: there are policies that
// raise errors for users whom they don't know. So may the first: without it
// there would be no service at all.
func (g *generation) acceptProbe(old *generation, force bool) error {
	if g.probed == nil || old == nil || old.probed != nil || force {
		return nil
	}
	return fmt.Errorf("%w\nthe policy that runs raises none; usher reload --force takes this one all the same", g.probed)
}

// readScripts reads the features and init scripts.
func (g *generation) readScripts(c *config.Director) (features, inits []luabridge.Script, err error) {
	var faults []error
	for _, f := range c.Features {
		s, err := luabridge.ReadScript(f.Script)
		if err != nil {
			faults = append(faults, fmt.Errorf("director.features %q: %w", f.Name, err))
			continue
		}
		s.Name, s.NeedsPassword = f.Name, f.NeedsPassword
		features = append(features, s)
		g.policies = append(g.policies, s.Path)
		g.filters = append(g.filters, s.Name)
	}
	for _, path := range c.Init {
		s, err := luabridge.ReadScript(path)
		if err != nil {
			faults = append(faults, fmt.Errorf("director.init: %w", err))
			continue
		}
		inits = append(inits, s)
	}
	return features, inits, errors.Join(faults...)
}

// readFilters reads the policy's scripts: one that is not flagged runs as
// Nauthilus would run it; director.script in every mode but after a refused
// password.
func readFilters(c *config.Director) ([]luabridge.Filter, error) {
	if len(c.Filters) == 0 {
		f := luabridge.Filter{Name: "director", Path: "scripts/director.lua", Text: scripts.Director}
		if c.Script != "" {
			var err error
			if f, err = luabridge.ReadFilter(c.Script); err != nil {
				return nil, fmt.Errorf("director.script: %w", err)
			}
		}
		f.WhenAuthenticated, f.WhenNoAuth = true, true
		return []luabridge.Filter{f}, nil
	}
	var out []luabridge.Filter
	var faults []error
	for i := range c.Filters {
		fc := &c.Filters[i]
		f, err := luabridge.ReadFilter(fc.Script)
		if err != nil {
			faults = append(faults, fmt.Errorf("director.filters %q: %w", fc.Name, err))
			continue
		}
		f.Name = fc.Name
		f.WhenAuthenticated, f.WhenUnauthenticated, f.WhenNoAuth = fc.WhenAuthenticated, fc.WhenUnauthenticated, fc.WhenNoAuth
		if !fc.WhenAuthenticated && !fc.WhenUnauthenticated && !fc.WhenNoAuth {
			f.WhenAuthenticated, f.WhenUnauthenticated = true, true
		}
		f.NeedsPassword = fc.NeedsPassword
		out = append(out, f)
	}
	return out, errors.Join(faults...)
}

// start runs the generation's background work until stop.
func (g *generation) start() {
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.done = make(chan error, 1)
	g.work.Go(func() error { return g.resolver.Run(g.ctx) })
	g.work.Go(func() error { return g.monitor.Run(g.ctx) })
	for _, r := range g.runners {
		g.work.Go(func() error { return r.Run(g.ctx) })
	}
	g.inv.Lock()
	g.runExpander()
	g.inv.Unlock()
	go func() { g.done <- g.work.Wait() }()
}

// stop ends the background work once no request needs it any more: one that
// waits for a first check or for a name still gets its answer from here. Each
// of these waits is bounded; mostBusy bounds the whole.
func (g *generation) stop(mostBusy time.Duration) error {
	end := time.NewTimer(mostBusy)
	defer end.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
wait:
	for g.inFlight.Load() > 0 {
		select {
		case <-look.C:
		case <-end.C:
			break wait
		}
	}
	g.cancel()
	if g.redis != nil {
		g.redis.Close()
	}
	return <-g.done
}
