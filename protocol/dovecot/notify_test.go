package dovecot

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// refreshed keeps the users that it is told; it can't refresh `away`.
type refreshed struct {
	mu    sync.Mutex
	users []string
}

func (r *refreshed) Refresh(_ context.Context, user string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users = append(r.users, user)
	if user == "away" {
		return errors.New("the store is away")
	}
	return nil
}

// oneConn is a listener as a FIFO's: of one connection.
type oneConn struct {
	c      chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.c:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return nil }

func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &refreshed{}
		core, logs := observer.New(zap.WarnLevel)
		n := NewNotify(r, zap.New(core))
		writer, reader := net.Pipe()
		ln := &oneConn{make(chan net.Conn, 1), make(chan struct{})}
		ln.c <- reader
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- n.Serve(ctx, ln) }()

		say(t, writer, "alice@example.org\nbob", "@example.org\n", "tab\x01there\n", "\n", "\x01r\x01n\n",
			strings.Repeat("x", 300)+"\n", strings.Repeat("y", 3000)+"\n", "away\n", "carol\n")
		synctest.Wait()
		want := []string{"alice@example.org", "bob@example.org", "away", "carol"}
		if diff := cmp.Diff(want, r.users); diff != "" {
			t.Errorf("refreshed (-want +got):\n%s", diff)
		}
		if got := logs.Len(); got != 1 {
			t.Errorf("%d complaints of five at once, want 1", got)
		}
		time.Sleep(complainEvery + time.Second)
		say(t, writer, "away\n")
		synctest.Wait()
		if got := logs.FilterField(zap.String("error", "the store is away")).Len() + logs.Len(); got < 2 {
			t.Errorf("a fault that stays is told once")
		}
		// A line that does not end is forgotten.
		say(t, writer, "half")
		time.Sleep(2 * lineTimeout)
		say(t, writer, "frank\n")
		synctest.Wait()
		if r.users[len(r.users)-1] != "frank" {
			t.Errorf("after a line without an end, the last refreshed is %q", r.users[len(r.users)-1])
		}
		// A line half written when usher ends is nobody's.
		say(t, writer, "dave\n", "eve")
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if r.users[len(r.users)-1] != "dave" {
			t.Errorf("the last refreshed is %q", r.users[len(r.users)-1])
		}
		writer.Close()
	})
}

// counted is a Refresher that keeps nothing.
type counted struct{ n atomic.Int64 }

func (c *counted) Refresh(context.Context, string) error { c.n.Add(1); return nil }

// A writer that never pauses does not keep usher from its end.
func TestNotify_FloodAtTheEnd(t *testing.T) {
	writer, reader := net.Pipe()
	ln := &oneConn{make(chan net.Conn, 1), make(chan struct{})}
	ln.c <- reader
	ctx, cancel := context.WithCancel(t.Context())
	users, served, wrote := &counted{}, make(chan error, 1), make(chan struct{})
	go func() { served <- NewNotify(users, nil).Serve(ctx, ln) }()
	go func() {
		defer close(wrote)
		for block := strings.Repeat("alice@example.org\n", 1000); ; {
			if _, err := writer.Write([]byte(block)); err != nil {
				return
			}
		}
	}()
	for users.n.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it is still read")
	}
	reader.Close()
	<-wrote
}
