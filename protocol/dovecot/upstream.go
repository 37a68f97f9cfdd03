package dovecot

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// maxUpstreamLine bounds a line of the auth server: an OK may be longer
	// than what clients may send.
	maxUpstreamLine = 64 << 10
	// dialTimeout bounds one attempt to connect.
	dialTimeout = 5 * time.Second
	// firstRetry and lastRetry are how long after a failure the next attempt
	// comes: twice as long each time.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
	// complainEvery is how often at most an absent upstream is logged, which
	// every connection meets.
	complainEvery = 5 * time.Second
)

// An upstream is an auth server that we connect to.
type upstream struct {
	address string // a path of a unix socket, or host:port
	log     *zap.Logger

	away atomic.Bool
	last atomic.Int64 // UnixNano of the last complaint
}

func newUpstream(address string, log *zap.Logger) *upstream {
	return &upstream{address: address, log: log}
}

// dial connects to the upstream once.
func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(u.address, "/") {
		network = "unix"
	}
	var d net.Dialer
	return d.DialContext(ctx, network, u.address)
}

// keep connects to the upstream, again and again, and has each connection served
// to its end, until ctx ends; once stop is closed it begins none. answered tells
// that the upstream was what it should be.
func (u *upstream) keep(ctx context.Context, stop <-chan struct{}, serve func(context.Context, net.Conn) (answered bool, err error)) {
	var retry backOff
	for ctx.Err() == nil && !ended(stop) {
		answered, err := u.once(ctx, serve)
		if answered {
			retry = 0
		}
		if ctx.Err() != nil || ended(stop) {
			return
		}
		u.isAway(err)
		pause(ctx, stop, retry.next())
	}
}

func (u *upstream) once(ctx context.Context, serve func(context.Context, net.Conn) (bool, error)) (answered bool, err error) {
	conn, err := u.dial(ctx)
	if err != nil {
		return false, err
	}
	return u.use(ctx, conn, serve)
}

// use has a connection served to its end, or to ctx's.
func (u *upstream) use(ctx context.Context, conn net.Conn, serve func(context.Context, net.Conn) (bool, error)) (answered bool, err error) {
	defer closeQuietly(conn)
	defer context.AfterFunc(ctx, func() { closeQuietly(conn) })()
	return serve(ctx, conn)
}

// A backOff tells how long to wait before the next attempt: with a part that is
// random, so that thousands of connections do not come at the same moment.
type backOff time.Duration

func (b *backOff) next() time.Duration {
	*b = min(max(2**b, backOff(firstRetry)), backOff(lastRetry))
	half := time.Duration(*b) / 2
	return half + rand.N(half)
}

// isAway says that the upstream is away, and isBack that it is back, for all
// connections together.
func (u *upstream) isAway(err error) {
	now := time.Now().UnixNano()
	last := u.last.Load()
	if u.away.Swap(true) && now-last < int64(complainEvery) || !u.last.CompareAndSwap(last, now) {
		return
	}
	u.log.Warn("upstream is away", zap.String("upstream", u.address), zap.Error(err))
}

func (u *upstream) isBack() {
	if u.away.Load() && u.away.Swap(false) {
		u.log.Info("upstream answers again", zap.String("upstream", u.address))
	}
}
