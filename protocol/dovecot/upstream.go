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

// dial connects to the upstream once.
func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(s.opt.Upstream, "/") {
		network = "unix"
	}
	var d net.Dialer
	return d.DialContext(ctx, network, s.opt.Upstream)
}

// A backOff tells how long to wait before the next attempt: with a part that is
// random, so that thousands of connections do not come at the same moment.
type backOff struct{ wait time.Duration }

func (b *backOff) next() time.Duration {
	b.wait = min(max(2*b.wait, firstRetry), lastRetry)
	return b.wait/2 + rand.N(b.wait/2)
}

func (b *backOff) reset() { b.wait = 0 }

// upstreamLog says that the upstream is away, and that it is back, for all
// connections together.
type upstreamLog struct {
	away atomic.Bool
	last atomic.Int64 // UnixNano of the last complaint
}

func (s *Server) upstreamAway(what string, err error) {
	now := time.Now().UnixNano()
	last := s.seen.last.Load()
	if s.seen.away.Swap(true) && now-last < int64(complainEvery) || !s.seen.last.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn(what, zap.String("upstream", s.opt.Upstream), zap.Error(err))
}

func (s *Server) upstreamBack() {
	if s.seen.away.Load() && s.seen.away.Swap(false) {
		s.log.Info("upstream answers again", zap.String("upstream", s.opt.Upstream))
	}
}
