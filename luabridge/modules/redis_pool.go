package modules

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"usher/proxy"
)

const (
	redisDial   = time.Second // to connect, and to be greeted
	redisSilent = time.Second // of a connection: then it is asked whether it lives
	redisAnswer = 3 * time.Second
	// redisSulk is how long an address that could not be connected to is not tried
	// again.
	redisSulk    = time.Second
	redisRetries = 2 // of reads, on a new connection
)

// A redisPool is the connections to one Redis, shared by all requests. The client
// connects when it is asked first, once for all that wait, and again by itself
// when connections break.
type redisPool struct {
	made   RedisOptions
	again  bool // Redis.Again; guarded by its mu
	kind   RedisKind
	opt    valkey.ClientOption
	unix   map[string]bool   // addresses that are paths
	stars  *strings.Replacer // of what is secret: a server may repeat what it was sent
	ctx    context.Context   // ends with the pool; dialling is no request's own
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	client valkey.Client
	dial   *redisAttempt           // under way
	conns  map[*redisConn]struct{} // open
	sulks  map[string]redisRefusal // by address
	busy   sync.WaitGroup          // goroutines; added to under mu while not closed

	silence silence
}

type redisAttempt struct {
	done   chan struct{}
	client valkey.Client
	err    error
}

type redisRefusal struct {
	until time.Time
	err   error
}

func newRedisPool(o *RedisOptions) (*redisPool, error) {
	tlsConfig, err := o.TLSConfig()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	p := &redisPool{made: *o, kind: o.kind(), unix: map[string]bool{}, conns: map[*redisConn]struct{}{}, sulks: map[string]redisRefusal{}}
	p.stars = starsFor(o.Password, o.SentinelPassword)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	multiplex := 2
	if o.Connections > 0 {
		multiplex = min(bits.Len(uint(o.Connections))-1, 4)
	}
	p.opt = valkey.ClientOption{
		DialCtxFn: p.connect, TLSConfig: tlsConfig, Dialer: net.Dialer{Timeout: redisDial, KeepAlive: redisSilent},
		Username: o.Username, Password: o.Password.Reveal(), SelectDB: o.DB,
		ConnWriteTimeout: redisAnswer, PipelineMultiplex: multiplex, BlockingPipeline: -1,
		ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 32 << 10,
		DisableCache: true, ClientSetInfo: valkey.DisableClientSetInfo,
		// A connection that breaks is noticed at once, not by the next write.
		AlwaysPipelining: true,
		// Reads alone are tried again: a write may have been done.
		RetryDelay: func(attempts int, _ valkey.Completed, _ error) time.Duration {
			if attempts > redisRetries {
				return -1
			}
			return time.Duration(attempts) * 10 * time.Millisecond
		},
	}
	for _, a := range o.Addresses {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			a = path
			p.unix[a] = true
		}
		p.opt.InitAddress = append(p.opt.InitAddress, a)
	}
	switch p.kind {
	case RedisSentinel, RedisSentinelReplica:
		p.opt.Sentinel = valkey.SentinelOption{
			MasterSet: o.SentinelMaster, Username: o.SentinelUsername, Password: o.SentinelPassword.Reveal(),
			TLSConfig: tlsConfig, Dialer: p.opt.Dialer, TopologyRefreshInterval: 5 * time.Second,
		}
		p.opt.ReplicaOnly = p.kind == RedisSentinelReplica
	case RedisCluster:
		p.opt.ClusterOption = valkey.ClusterOption{ShardsRefreshInterval: 5 * time.Second, MaxMovedRedirections: 5}
		p.opt.ShuffleInit = true
	default:
		p.opt.ForceSingleClient = true
	}
	return p, nil
}

// connect opens a connection for the client. An address that failed a moment ago
// fails at once, so that a server that is away takes nobody's time.
func (p *redisPool) connect(ctx context.Context, addr string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
	p.mu.Lock()
	refusal, open := p.sulks[addr], !p.closed
	p.mu.Unlock()
	if !open {
		return nil, errRedisClosed
	}
	if time.Now().Before(refusal.until) {
		return nil, refusal.err
	}
	// One request that gives up must not fail the others that wait for the same
	// connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	network := "tcp"
	if p.unix[addr] {
		network = "unix"
	}
	var c net.Conn
	var err error
	if config != nil && network == "tcp" {
		c, err = (&tls.Dialer{NetDialer: d, Config: config}).DialContext(ctx, network, addr)
	} else {
		c, err = d.DialContext(ctx, network, addr)
	}
	if err != nil {
		p.sulk(addr, err)
		return nil, err
	}
	conn := &redisConn{Conn: c, pool: p, addr: addr}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return nil, errRedisClosed
	}
	p.conns[conn] = struct{}{}
	return conn, nil
}

func (p *redisPool) sulk(addr string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sulks) > 100 {
		clear(p.sulks)
	}
	p.sulks[addr] = redisRefusal{time.Now().Add(redisSulk), err}
}

// A redisConn notes whether the server ever said something: one that takes
// connections and is silent is as good as away.
type redisConn struct {
	net.Conn
	pool  *redisPool
	addr  string
	heard bool // by the one reader, before any other goroutine closes it
}

func (c *redisConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.heard {
		if c.heard = n > 0; !c.heard {
			c.pool.sulk(c.addr, fmt.Errorf("redis %s does not answer", c.addr))
		}
	}
	return n, err
}

func (c *redisConn) Close() error {
	c.pool.mu.Lock()
	delete(c.pool.conns, c)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}

// start runs f in a goroutine that close waits for.
func (p *redisPool) start(f func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errRedisClosed
	}
	p.busy.Go(f)
	return nil
}

// open returns the client, which the first who asks makes.
func (p *redisPool) open(ctx context.Context) (valkey.Client, error) {
	p.mu.Lock()
	if p.client != nil {
		defer p.mu.Unlock()
		return p.client, nil
	}
	a := p.dial
	if a == nil && !p.closed {
		a = &redisAttempt{done: make(chan struct{})}
		p.dial = a
		p.busy.Go(func() { p.attempt(a) })
	}
	p.mu.Unlock()
	if a == nil {
		return nil, errRedisClosed
	}
	select {
	case <-a.done:
		return a.client, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *redisPool) attempt(a *redisAttempt) {
	opt := p.opt
	opt.InitAddress = slices.Clone(opt.InitAddress)
	client, err := valkey.NewClient(opt)
	if err != nil && client != nil {
		client.Close() // a single one comes with the error
		client = nil
	}
	p.mu.Lock()
	p.dial = nil
	if p.closed && client != nil {
		defer client.Close()
		client, err = nil, errRedisClosed
	}
	p.client = client
	p.mu.Unlock()
	a.client, a.err = client, err
	close(a.done)
}

// ask runs f, which sends commands, and waits no longer than ctx. Of a server that
// is known to be silent it does not wait at all.
func (p *redisPool) ask(ctx context.Context, f func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult) ([]valkey.ValkeyResult, error) {
	done, ok := p.silence.begin()
	if !ok {
		return nil, errRedisSilent
	}
	answers, err := p.send(ctx, f)
	failed := err
	if err == nil && len(answers) > 0 {
		failed = answers[0].NonValkeyError() // what the server says is an answer
	}
	done(failed)
	return answers, err
}

func (p *redisPool) send(ctx context.Context, f func(ctx context.Context, client valkey.Client) []valkey.ValkeyResult) ([]valkey.ValkeyResult, error) {
	client, err := p.open(ctx)
	if err != nil {
		return nil, p.plain(err)
	}
	// The client waits for new connections without looking at the context, and gives
	// one up whose first request has no more time; others wait for it too.
	most := redisAnswer
	if end, ok := ctx.Deadline(); ok {
		most = max(time.Until(end), redisDial)
	}
	answers := make(chan []valkey.ValkeyResult, 1)
	if err := p.start(func() {
		ctx, cancel := context.WithTimeout(p.ctx, most)
		defer cancel()
		answers <- f(ctx, client)
	}); err != nil {
		return nil, err
	}
	select {
	case r := <-answers:
		return r, nil
	case <-ctx.Done():
		return nil, p.plain(ctx.Err())
	}
}

// plain says in words what became of a command.
func (p *redisPool) plain(err error) error {
	var said *valkey.ValkeyError
	switch {
	case err == nil:
		return nil
	case valkey.IsValkeyNil(err):
		return errRedisNil
	case errors.As(err, &said):
		text := p.stars.Replace(said.Error())
		if word, _, _ := strings.Cut(text, " "); word != strings.ToUpper(word) {
			text = "ERR " + text // which the client cuts off
		}
		return &redisError{text, err}
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("redis: no answer in time")
	case errors.Is(err, valkey.ErrClosing):
		return errRedisClosed
	case strings.HasPrefix(err.Error(), "redis"):
		return err
	}
	return &redisError{"redis: " + p.stars.Replace(err.Error()), err}
}

// starsFor makes what stars secrets.
func starsFor(secrets ...proxy.Secret) *strings.Replacer {
	var pairs []string
	for _, s := range secrets {
		if !s.IsEmpty() {
			pairs = append(pairs, s.Reveal(), "********")
		}
	}
	return strings.NewReplacer(pairs...)
}

// A redisError is what Redis said, in its words, or what came in between.
type redisError struct {
	text string
	err  error
}

func (e *redisError) Error() string { return e.text }
func (e *redisError) Unwrap() error { return e.err }

var errRedisNil = errors.New("redis: nil")

func (p *redisPool) close() {
	p.mu.Lock()
	p.closed = true
	client := p.client
	p.cancel()
	open := make([]*redisConn, 0, len(p.conns))
	for c := range p.conns {
		open = append(open, c)
	}
	p.mu.Unlock()
	// A server that is silent is not waited for.
	for _, c := range open {
		_ = c.Close()
	}
	if client != nil {
		client.Close()
	}
	p.busy.Wait()
}
