package modules

import (
	"crypto/sha1" //nolint:gosec // what Redis names scripts by
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"

	"usher/proxy"
)

// RedisKind is how a Redis is set up.
type RedisKind string

// The kinds, as register_redis_pool has them.
const (
	RedisStandalone      RedisKind = "standalone"
	RedisCluster         RedisKind = "cluster"
	RedisSentinel        RedisKind = "sentinel"
	RedisSentinelReplica RedisKind = "sentinel_replica"
)

// RedisOptions say which Redis or Valkey, and how to get there.
type RedisOptions struct {
	Kind RedisKind // "": cluster with several addresses, sentinel with SentinelMaster, else standalone
	// Addresses are HOST:PORT or unix:/PATH: of the server, of some nodes of the
	// Cluster, or of Sentinels. None: there is no default server.
	Addresses []string
	DB        int
	Username  string
	Password  proxy.Secret
	TLS       bool
	CA        string // file; "": the system's roots
	Cert, Key string // files of a client certificate

	SentinelMaster   string
	SentinelUsername string
	SentinelPassword proxy.Secret

	// Connections to each server; 0: 4. Rounded down to a power of two, 16 at most:
	// many requests share one.
	Connections int
}

func (o *RedisOptions) kind() RedisKind {
	switch {
	case o.Kind != "":
		return o.Kind
	case o.SentinelMaster != "":
		return RedisSentinel
	case len(o.Addresses) > 1:
		return RedisCluster
	}
	return RedisStandalone
}

// TLSConfig reads the files and returns nil where there is no TLS.
func (o *RedisOptions) TLSConfig() (*tls.Config, error) {
	if !o.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate", o.CA)
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// What scripts can make a Redis keep.
const (
	maxRedisPools   = 64
	maxRedisScripts = 256
	maxRedisSource  = 256 << 10 // bytes of one script
)

var (
	errNoRedis       = errors.New("redis.addresses is empty")
	errManyPools     = fmt.Errorf("%d pools are registered already", maxRedisPools)
	errManyScripts   = fmt.Errorf("%d scripts are uploaded already", maxRedisScripts)
	errRedisClosed   = errors.New("redis: closed by a reload")
	errPoolThere     = errors.New("a pool of that name is registered already")
	errUnknownScript = errors.New("no script of that name was uploaded")
)

// A Redis is what the policies of one configuration reach by nauthilus_redis:
// the server of the configuration, and those that scripts registered. Nothing is
// connected before it is asked.
type Redis struct {
	def *redisPool // nil: none is configured

	mu      sync.Mutex
	pools   map[string]*redisPool
	scripts map[string]redisScript
	closed  bool
}

// A redisScript is one that was uploaded.
type redisScript struct{ source, sha string }

func newRedisScript(source string) redisScript {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // what Redis names scripts by
	return redisScript{source, hex.EncodeToString(sum[:])}
}

// NewRedis makes one and connects to nothing. An error says which file could not
// be read.
func NewRedis(o RedisOptions) (*Redis, error) {
	r := &Redis{pools: map[string]*redisPool{}, scripts: map[string]redisScript{}}
	if len(o.Addresses) == 0 {
		return r, nil
	}
	var err error
	r.def, err = newRedisPool(&o)
	return r, err
}

// Close ends all connections. Who still waits gets an error.
func (r *Redis) Close() {
	r.mu.Lock()
	r.closed = true
	pools := make([]*redisPool, 0, len(r.pools)+1)
	for _, p := range r.pools {
		pools = append(pools, p)
	}
	r.mu.Unlock()
	if r.def != nil {
		pools = append(pools, r.def)
	}
	var all sync.WaitGroup
	for _, p := range pools {
		all.Go(p.close)
	}
	all.Wait()
}

// Again says that init scripts that failed are about to run again: the pools that
// they registered before may be registered once more as they are.
func (r *Redis) Again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pools {
		p.again = true
	}
}

// register adds a pool.
func (r *Redis) register(name string, o *RedisOptions) error {
	p, err := newRedisPool(o)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return errRedisClosed
	case r.pools[name] != nil && r.pools[name].again && reflect.DeepEqual(*o, r.pools[name].made):
		r.pools[name].again = false
		return nil
	case r.pools[name] != nil || name == defaultPool:
		return errPoolThere
	case len(r.pools) >= maxRedisPools:
		return errManyPools
	}
	r.pools[name] = p
	return nil
}

// pool returns the pool of that name.
func (r *Redis) pool(name string) (*redisPool, error) {
	if name == defaultPool {
		if r.def == nil {
			return nil, errNoRedis
		}
		return r.def, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pools[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no pool %q is registered", name)
}

// keep keeps a script's source under a name, whatever becomes of its upload.
func (r *Redis) keep(name string, s redisScript) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.scripts[name]; !ok && len(r.scripts) >= maxRedisScripts {
		return errManyScripts
	}
	r.scripts[name] = s
	return nil
}

func (r *Redis) script(name string) (redisScript, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.scripts[name]
	if !ok {
		return s, errUnknownScript
	}
	return s, nil
}
