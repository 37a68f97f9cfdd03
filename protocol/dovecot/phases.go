package dovecot

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// lastWords is the time between the answers that end what Grace left open and
// the end of the connections.
const lastWords = time.Second

// errOutstanding is the cause of a request refused for want of room.
var errOutstanding = errors.New("too many requests outstanding on the connection (limits.outstanding_per_connection), or usher is ending")

// phases are how a Server ends.
type phases struct {
	serving context.Context // ends when Serve is told to: nothing is held any more
	grace   context.Context // ends when time is up: what is open is told to try later
	hard    context.Context // ends when connections are cut
}

// delays keep refusals back, a bounded number at a time: a flood of wrong
// passwords must not take the places of others.
type delays struct{ n atomic.Int32 }

// wait waits for d, unless most refusals wait already.
func (l *delays) wait(ctx context.Context, stop <-chan struct{}, d time.Duration, most int) {
	if int(l.n.Add(1)) <= most {
		pause(ctx, stop, d)
	}
	l.n.Add(-1)
}
