package dovecot

import (
	"context"
	"errors"
	"net"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// maxNotifyLine is the longest line of proxy-notify in bytes: a user name, each
// byte of it maybe escaped, and an LF.
const maxNotifyLine = 2*proxy.MaxUserLen + 1

// notifyPatience is how long, when usher ends, a pipe is read that never is empty.
const notifyPatience = 2 * time.Second

// A Refresher keeps assignments alive. *proxy.Pipeline is one.
type Refresher interface {
	// Refresh prolongs the user's assignment, in every tag, if one lives.
	Refresh(ctx context.Context, user string) error
}

// A Notify reads proxy-notify, the FIFO into which login processes write, for
// each session that they proxy, a line with the escaped user name, every
// proxy_refresh seconds (login-proxy-state.c).
type Notify struct {
	users Refresher
	log   *zap.Logger

	complained time.Time // Serve's own
}

// NewNotify returns a Notify. log may be nil.
func NewNotify(users Refresher, log *zap.Logger) *Notify {
	return &Notify{users: users, log: named(log)}
}

// Serve reads what ln accepts until ctx ends. It closes ln. All that was written
// before is read: who fills the pipe waits, and its sessions with it.
func (n *Notify) Serve(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() {
		ln.Close() // Accept tells
	})()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		n.read(ctx, c)
	}
}

func (n *Notify) read(ctx context.Context, c net.Conn) {
	defer closeQuietly(c)
	in := newLineReader(c, maxNotifyLine)
	defer context.AfterFunc(ctx, in.wake)()
	var endedAt time.Time
	for {
		idle := time.Duration(0)
		if ctx.Err() != nil {
			idle = time.Millisecond
			switch {
			case endedAt.IsZero():
				endedAt = time.Now()
			case time.Since(endedAt) > notifyPatience:
				return
			}
		}
		line, tooLong, err := in.next(idle)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return
		case errors.Is(err, errIdle):
			continue
		default:
			// A line that does not end: one bad writer is not the end of all.
			n.complain(err)
			pause(ctx, nil, time.Second)
			in.r, in.w = 0, 0
			continue
		}
		err = proxy.ErrBadName
		if user := unescape(text(line)); !tooLong {
			if err = proxy.ValidUser(user); err == nil {
				// What was read is worked off, also when usher ends.
				err = n.users.Refresh(context.WithoutCancel(ctx), user)
			}
		}
		if err != nil {
			n.complain(err)
		}
	}
}

// complain logs now and then: there may be thousands of bad lines.
func (n *Notify) complain(err error) {
	if time.Since(n.complained) > complainEvery {
		n.complained = time.Now()
		n.log.Warn("proxy-notify", zap.Error(err))
	}
}
