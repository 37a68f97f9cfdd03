package modules

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"usher/proxy"
)

// RedisOptions name a Redis or Valkey: one server, a Cluster, or what Sentinels
// watch.
type RedisOptions struct {
	Kind      RedisKind
	Addresses []string // HOST:PORT, or /PATH of a unix socket
	DB        int
	Username  string
	Password  proxy.Secret
	TLS       *tls.Config // nil: none

	MasterName       string // of Sentinel
	SentinelUsername string
	SentinelPassword proxy.Secret

	PoolSize int // connections; 0: four
}

// A RedisKind is how servers belong together.
type RedisKind string

// The kinds, by the names that scripts have for them.
const (
	RedisStandalone      RedisKind = "standalone"
	RedisCluster         RedisKind = "cluster"
	RedisSentinel        RedisKind = "sentinel"
	RedisSentinelReplica RedisKind = "sentinel_replica" // read only
)

const (
	redisDial     = time.Second     // to connect
	redisStall    = 5 * time.Second // a connection that takes so long to write or to answer a ping is closed
	redisAgain    = time.Second     // after a failure to connect nobody tries for so long
	maxRedisPools = 64
)

// Redis is what nauthilus_redis works with: the configured server, the pools that
// scripts registered, and the scripts that they uploaded. Make it with NewRedis,
// and Close it when no request runs any more.
type Redis struct {
	standard *redisPool // nil: none is configured

	mu      sync.Mutex
	pools   map[string]*redisPool
	scripts map[string]string // by name: source
	closed  bool
}

// NewRedis connects to nothing yet. Options without addresses are those of a site
// that has no Redis.
func NewRedis(opt RedisOptions) (*Redis, error) {
	r := &Redis{pools: map[string]*redisPool{}, scripts: map[string]string{}}
	if len(opt.Addresses) == 0 {
		return r, nil
	}
	var err error
	r.standard, err = newRedisPool(opt)
	return r, err
}

// Close ends all connections.
func (r *Redis) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.standard != nil {
		r.standard.close()
	}
	for _, p := range r.pools {
		p.close()
	}
}

// register adds a pool of a script.
func (r *Redis) register(name string, opt RedisOptions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return errors.New("usher is ending")
	case r.pools[name] != nil:
		return errors.New("the pool is registered already")
	case len(r.pools) >= maxRedisPools:
		return fmt.Errorf("%d pools are registered, at most", maxRedisPools)
	}
	p, err := newRedisPool(opt)
	if err == nil {
		r.pools[name] = p
	}
	return err
}

func (r *Redis) pool(name string) *redisPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pools[name]
}

// keep remembers an uploaded script's source, so that a server that has lost it
// gets it again.
func (r *Redis) keep(name, source string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.scripts[name]; !known && len(r.scripts) >= maxRedisScripts {
		return fmt.Errorf("%d scripts are uploaded, at most", maxRedisScripts)
	}
	r.scripts[name] = source
	return nil
}

func (r *Redis) script(name string) (source string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	source, ok = r.scripts[name]
	return source, ok
}

const maxRedisScripts = 1000

// A redisPool is a client that is made when it is first needed: a server that is
// down at the start is no reason not to start.
type redisPool struct {
	opt valkey.ClientOption

	mu      sync.Mutex
	client  valkey.Client
	making  chan struct{} // closed when the attempt is over; nil: none runs
	err     error         // of the last attempt
	again   time.Time     // no other attempt before
	closing bool
	work    sync.WaitGroup
}

func newRedisPool(opt RedisOptions) (*redisPool, error) {
	if len(opt.Addresses) == 0 {
		return nil, errors.New("no address")
	}
	multiplex := 2 // four connections
	for n := 8; n <= opt.PoolSize && multiplex < valkey.MaxPipelineMultiplex-2; n *= 2 {
		multiplex++
	}
	o := valkey.ClientOption{
		InitAddress: opt.Addresses, Username: opt.Username, Password: opt.Password.Reveal(), SelectDB: opt.DB, TLSConfig: opt.TLS,
		ClientName: "usher", ClientSetInfo: valkey.DisableClientSetInfo,
		Dialer: net.Dialer{Timeout: redisDial}, DialCtxFn: dialRedis, ConnWriteTimeout: redisStall,
		PipelineMultiplex: multiplex, ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 32 << 10,
		// A script shall see a failure while it still has time to act on it.
		DisableRetry: true,
		// All versions answer RESP2 alike; nothing is cached at this end.
		AlwaysRESP2: true, DisableCache: true,
	}
	switch opt.Kind {
	case RedisStandalone, "":
		o.ForceSingleClient = true
	case RedisSentinel, RedisSentinelReplica:
		if opt.MasterName == "" {
			return nil, errors.New("no master_name")
		}
		o.Sentinel = valkey.SentinelOption{
			MasterSet: opt.MasterName, Username: opt.SentinelUsername, Password: opt.SentinelPassword.Reveal(),
			TLSConfig: opt.TLS, Dialer: o.Dialer, TopologyRefreshInterval: redisStall,
		}
		o.ReplicaOnly = opt.Kind == RedisSentinelReplica
	case RedisCluster:
		o.ClusterOption.ShardsRefreshInterval = redisStall
	default:
		return nil, fmt.Errorf("a pool of kind %.20q; expected standalone, cluster, sentinel or sentinel_replica", opt.Kind)
	}
	return &redisPool{opt: o}, nil
}

// dialRedis takes a path for a unix socket.
func dialRedis(ctx context.Context, address string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	if cfg != nil && network == "tcp" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName = host
		}
		return (&tls.Dialer{NetDialer: d, Config: cfg}).DialContext(ctx, network, address)
	}
	return d.DialContext(ctx, network, address)
}

// get returns the client, or makes it. All who wait for the same attempt get its
// error; so do those who come shortly after.
func (p *redisPool) get(ctx context.Context) (valkey.Client, error) {
	p.mu.Lock()
	switch {
	case p.closing:
		p.mu.Unlock()
		return nil, errors.New("usher is ending")
	case p.client != nil:
		defer p.mu.Unlock()
		return p.client, nil
	case p.err != nil && time.Now().Before(p.again):
		defer p.mu.Unlock()
		return nil, p.err
	}
	if p.making == nil {
		p.making = make(chan struct{})
		p.work.Go(p.connect)
	}
	making := p.making
	p.mu.Unlock()
	select {
	case <-making:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		return nil, p.err
	}
	return p.client, nil
}

func (p *redisPool) connect() {
	client, err := valkey.NewClient(p.opt)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.closing {
		client.Close()
		client, err = nil, errors.New("usher is ending")
	}
	if err != nil {
		client = nil // not an interface around a nil pointer
	}
	p.client, p.err, p.again = client, err, time.Now().Add(redisAgain)
	close(p.making)
	p.making = nil
}

func (p *redisPool) close() {
	p.mu.Lock()
	p.closing = true
	if p.client != nil {
		p.client.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}
