package policytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"usher/luabridge"
	"usher/luabridge/budget"
	"usher/luabridge/maps"
	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/affinity"
	"usher/proxy/passdb"
)

// limits are what a request may use, as the configuration has them unless it says
// otherwise.
var limits = budget.Limits{Steps: 200_000, Memory: 16 << 20, Time: 2 * time.Second}

// expire is affinity.expire.
const expire = 15 * time.Minute

// begin is the time that a test begins at, unless it gives another.
var begin = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// A world is what one test has around its policy.
type world struct {
	given   given
	now     time.Time
	store   *affinity.Memory
	cache   *modules.Store
	turns   modules.Rotation
	missing notGiven
	trace   []string
	account string // final user name of the request that runs; "": as typed

	server *miniredis.Miniredis // nil: none
	redis  *modules.Redis

	view     *proxy.View
	pipeline *proxy.Pipeline
}

// newWorld makes what is given. close ends it.
func newWorld(ctx context.Context, g given) (*world, error) {
	w := &world{now: begin, cache: modules.NewStore()}
	if at, ok := g.plain["time"].(time.Time); ok {
		w.now = at
	}
	var err error
	w.store, err = affinity.NewMemory(affinity.MemoryOptions{Expire: expire, MaxEntries: 100_000, Now: w.clock})
	if err != nil {
		return nil, err
	}
	if err := w.apply(ctx, g, g); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) clock() time.Time { return w.now }

func (w *world) closeRedis() {
	if w.redis != nil {
		w.redis.Close()
	}
}

func (w *world) close() {
	w.closeRedis()
	if w.server != nil {
		w.server.Close()
	}
}

// apply makes the world as all says, with what is new in it; assignments and what
// Redis has go on.
func (w *world) apply(ctx context.Context, all, added given) error {
	w.given = all
	if at, ok := added.plain["time"].(time.Time); ok {
		if at.Before(w.now) {
			return fmt.Errorf("given.time: %s is before %s: the clock does not go back", at.Format(time.RFC3339), w.now.Format(time.RFC3339))
		}
		w.advance(at.Sub(w.now))
	}
	if err := w.buildView(); err != nil {
		return err
	}
	for user, host := range added.named["assigned"] {
		key := affinity.Key{Name: affinity.KeyName(user, "", affinity.ByUser)}
		seen, err := w.store.Lookup(ctx, key)
		if err == nil && host != nil {
			_, err = w.store.Claim(ctx, key, seen, proxy.CanonicalHost(host.(string)))
		}
		if err != nil {
			return err
		}
	}
	if err := w.buildRedis(added); err != nil {
		return err
	}
	return w.buildPipeline(ctx)
}

// advance moves the clock.
func (w *world) advance(d time.Duration) {
	w.now = w.now.Add(d)
	if w.server != nil {
		w.server.FastForward(d)
		w.server.SetTime(w.now)
	}
}

// buildView makes the inventory with its health.
func (w *world) buildView() error {
	servers, _ := w.given.plain["backends"].([]*proxy.Server)
	entries := make([]proxy.Entry, len(servers))
	known := map[string]bool{}
	for i, s := range servers {
		e := &entries[i]
		e.Server, e.Health, e.Since, e.CheckedAt = s, proxy.Up, w.now, w.now
		e.Addr, _ = w.Lookup(context.Background(), s.Host)
		for _, name := range []string{s.Host, s.Address()} {
			known[name] = true
			switch state, _ := w.given.named["health"][name].(string); state {
			case "down":
				e.Health = proxy.Down
			case "checking", "unknown":
				e.Health = proxy.Unknown
			case "stale":
				e.Health = proxy.Stale
			case "drain":
				e.Admin = proxy.AdminDrain
			}
		}
	}
	for name := range w.given.named["health"] {
		if !known[name] {
			return fmt.Errorf("given.health[%q]: no backend is named so%s", name, meant(name, keys(known)))
		}
	}
	w.view = proxy.NewView(entries)
	return nil
}

// nowhere is an address that nobody listens at.
var nowhere = filepath.Join(os.DevNull, "redis")

func (w *world) buildRedis(added given) error {
	keys, given := w.given.named["redis"], w.given.named["redis"] != nil || w.given.down
	if !given {
		return nil
	}
	if w.server == nil {
		w.server = miniredis.NewMiniRedis()
		if err := w.server.Start(); err != nil {
			return err
		}
		w.server.SetTime(w.now)
	} else {
		keys = added.named["redis"]
	}
	for key, v := range keys {
		if v == nil {
			w.server.Del(key)
		} else if err := v.(*stored).put(w.server, key); err != nil {
			return err
		}
	}
	w.closeRedis()
	addr := w.server.Addr()
	if w.given.down {
		addr = nowhere
	}
	var err error
	w.redis, err = modules.NewRedis(modules.RedisOptions{Addresses: []string{addr}})
	return err
}

// workers are shared: a test has no load.
var workers = passdb.NewWorkers()

func (w *world) buildPipeline(ctx context.Context) error {
	filters, _ := w.given.plain["policy"].([]luabridge.Filter)
	if filters == nil {
		filters, _ = w.given.plain["filters"].([]luabridge.Filter)
	}
	if len(filters) == 0 {
		return errors.New(`no policy is given: say given {policy = "FILE.lua"}`)
	}
	texts, env := map[string]string{}, w.given.named["env"]
	for name, text := range w.given.named["maps"] {
		texts[name] = text.(string)
	}
	registry, err := maps.Given(texts)
	if err != nil {
		return fmt.Errorf("given.maps: %w", err)
	}
	network, set := w.given.plain["network"].(bool)
	unlisted := w.given.plain["unlisted_backends"] == "deny"
	packagePath, _ := w.given.plain["package_path"].(string)
	director, err := luabridge.New(luabridge.Options{
		Filters: filters, Features: w.others("features"), Init: w.others("init"), Limits: limits, PoolSize: 1, Probe: w.view, PackagePath: packagePath,
		Deps: &modules.Deps{
			Log: zap.NewNop(), DenyUnlisted: unlisted, Cache: w.cache, Rotation: &w.turns, Maps: registry, Clock: w.clock, Network: network || !set,
			Redis: w.redis, HTTP: &web{w.given.named["http"], &w.missing}, DNS: &dns{w.given.named["dns"], &w.missing},
			Prom: modules.NewPrometheus(prometheus.NewRegistry()), Nonce: []byte("nonce"), Workers: workers, LogLevel: "info", LogFormat: "json",
			RedisPrefix: "usher:", Env: keys(env),
			Getenv: func(name string) (string, bool) { v, ok := env[name].(string); return v, ok },
		},
	})
	if err != nil {
		return err
	}
	if err := director.RunInit(ctx); err != nil {
		return err
	}
	mode, _ := w.given.plain["affinity"].(string)
	if mode == "" {
		mode = "policy"
	}
	attributes, _ := w.given.plain["host_attributes"].([]string)
	w.pipeline, err = proxy.New(proxy.Options{
		Verifier: verifier{w}, Director: traced{director, w}, Backends: w, Names: w, Assignments: w.store, Recorder: silent{},
		Affinity: proxy.AffinityMode(mode), KeyScope: affinity.ByUser, DenyUnlisted: unlisted, HostAttributes: attributes,
	})
	return err
}

// others are scripts besides the filters.
func (w *world) others(key string) (list []luabridge.Script) {
	scripts, _ := w.given.plain[key].([]luabridge.Filter)
	for _, f := range scripts {
		list = append(list, luabridge.Script{Name: f.Name, Path: f.Path, Text: f.Text, NeedsPassword: f.NeedsPassword})
	}
	return list
}

// View implements proxy.Backends.
func (w *world) View() *proxy.View { return w.view }

// WaitReady implements proxy.Backends.
func (w *world) WaitReady(context.Context) error { return nil }

// Lookup implements proxy.Names. The names of backends have addresses without
// being given any.
func (w *world) Lookup(_ context.Context, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a, nil
	}
	servers, _ := w.given.plain["backends"].([]*proxy.Server)
	for i, s := range servers {
		if proxy.CanonicalHost(s.Host) == proxy.CanonicalHost(host) {
			return netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + i%254)}), nil
		}
	}
	list, err := (&dns{w.given.named["dns"], &w.missing}).LookupNetIP(context.Background(), "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	return list[0], nil
}

// A traced Director tells the world each step.
type traced struct {
	*luabridge.Director
	w *world
}

// Direct implements proxy.Director.
func (t traced) Direct(ctx context.Context, q *proxy.Query) (proxy.Verdict, error) {
	q.Trace = t.w.note
	if q.Assigned != "" {
		t.w.note("assigned to " + q.Assigned)
	}
	return t.Director.Direct(ctx, q)
}

// Before implements proxy.Gate.
func (t traced) Before(ctx context.Context, q *proxy.Query) (proxy.Verdict, error) {
	q.Trace = t.w.note
	defer func() { q.Trace = nil }()
	return t.Director.Before(ctx, q)
}

func (w *world) note(step string) {
	w.trace = append(w.trace, strings.TrimSpace(step))
}

// silent records nothing.
type silent struct{}

func (silent) Decided(*proxy.Request, *proxy.Decision) {}
func (silent) PolicyRan(time.Duration, bool, error)    {}

// wrongPassword is the password of a login with authenticated = false. It has a
// byte that no login's password has.
const wrongPassword = "\x00wrong"

// verifier takes every other password, and knows every user.
type verifier struct{ w *world }

// Verify implements proxy.Verifier.
func (v verifier) Verify(ctx context.Context, r *proxy.Request) (proxy.Identity, error) {
	if r.Password.Reveal() == wrongPassword {
		return proxy.Identity{}, &proxy.Denial{By: "passdb:test", Reason: proxy.BadPassword}
	}
	return v.Find(ctx, r)
}

// Find implements proxy.Finder.
func (v verifier) Find(_ context.Context, r *proxy.Request) (proxy.Identity, error) {
	return proxy.Identity{User: cmp.Or(v.w.account, r.User), Driver: "test", Verified: true}, nil
}
