package moves

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// kickEvery is how often a session that lives on is kicked.
	kickEvery = time.Second
	// firstLook is how long after a kick the list is looked at. Each further look
	// comes after twice the time, until the next kick.
	firstLook = 50 * time.Millisecond
)

var (
	errNobody  = errors.New("moves: kick: no user is named")
	errNowhere = errors.New("moves: kick: no server is named where sessions could be seen")
)

// Kick ends the sessions that the users have at all kickers, at the same time, and
// looks at the lists until none is left or timeout is over. host, an IP address,
// means only sessions that are proxied to it, and those of which that is unknown;
// "": all. gone says that each list was seen and none was left; then err is nil.
// left are the sessions that were seen last, in the order of the kickers. An error
// names the server that could not be asked, or that takes kicks and ends nothing;
// the others were asked all the same. Nothing is asked twice of a server that
// failed.
func Kick(ctx context.Context, kickers []Kicker, users []string, host string, timeout time.Duration) (gone bool, left []Session, err error) {
	switch {
	case len(users) == 0:
		return false, nil, errNobody
	case len(kickers) == 0:
		return false, nil, errNowhere
	case host != "":
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return false, nil, fmt.Errorf("moves: kick: %.80q is no IP address", host)
		}
		host = addr.Unmap().String()
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	lefts, errs := make([][]Session, len(kickers)), make([]error, len(kickers))
	var all sync.WaitGroup
	for i, k := range kickers {
		all.Go(func() { lefts[i], errs[i] = kickAt(ctx, k, users, host) })
	}
	all.Wait()
	left, err = slices.Concat(lefts...), errors.Join(append(errs, asked.Err())...)
	return len(left) == 0 && err == nil, left, err
}

// kickAt is Kick at one server, until ctx ends.
func kickAt(ctx context.Context, k Kicker, users []string, host string) (left []Session, err error) {
	kicked := false
	for {
		seen, err := look(ctx, k, users, host)
		switch {
		case err != nil && kicked && ctx.Err() != nil:
			return left, doubt(k) // the time was over while it was asked
		case err != nil || len(seen) == 0:
			return left, err
		}
		left = seen
		if err := k.Kick(ctx, owners(seen), host); err != nil {
			if kicked && ctx.Err() != nil {
				return left, doubt(k)
			}
			return left, err
		}
		kicked = true
		until := time.Now().Add(kickEvery)
		for wait := firstLook; time.Now().Before(until); wait *= 2 {
			if !sleep(ctx, min(wait, time.Until(until))) {
				return left, doubt(k)
			}
			seen, err := look(ctx, k, users, host)
			switch {
			case err != nil && ctx.Err() != nil:
				return left, doubt(k)
			case err != nil:
				return left, err
			case len(seen) == 0:
				return nil, nil
			}
			left = seen
		}
	}
}

// look returns what is still to be ended.
func look(ctx context.Context, k Kicker, users []string, host string) ([]Session, error) {
	seen, err := k.Sessions(ctx, users)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(seen, func(s Session) bool { return host != "" && s.Host != "" && s.Host != host }), nil
}

// owners returns the users of sessions, each once, sorted.
func owners(sessions []Session) []string {
	var users []string
	for _, s := range sessions {
		users = append(users, s.User)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// doubt is why sessions are left at a server, where it knows.
func doubt(k Kicker) error {
	if d, ok := k.(Doubter); ok {
		if words := d.Doubt(); words != "" {
			return fmt.Errorf("moves: kick: %s", words)
		}
	}
	return nil
}

// sleep waits, and returns false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
