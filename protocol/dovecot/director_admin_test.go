package dovecot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// told is a DirectorAdmin that writes down its orders, and fails those of a host
// or user in errs.
type told struct {
	hosts []DirectorHost
	errs  map[string]error
	gate  chan struct{} // if any: an order waits until it is closed, or ctx ends

	mu    sync.Mutex
	calls []string
}

func newTold() *told {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	return &told{
		hosts: []DirectorHost{
			{Name: "mail10.example.org", Addrs: addrs("192.0.2.10", "2001:db8::10"), Vhosts: 100, Users: 7},
			{Name: "six.example.org", Addrs: addrs("2001:db8::2"), Tag: "t\tb", Vhosts: 50},
			{Name: "192.0.2.9", Addrs: addrs("192.0.2.9"), Tag: "ssd", Vhosts: 0, Down: true, Changed: time.Unix(1700000000, 0)},
			{Name: "lost.example.org", Vhosts: 100, Users: 1},
			{Name: "gone.example.org", Addrs: addrs("192.0.2.8"), Vhosts: 100, Removed: true},
			{Name: "twin-b", Addrs: addrs("192.0.2.20"), Vhosts: 1},
			{Name: "twin-a", Addrs: addrs("192.0.2.20"), Vhosts: 2},
		},
		errs: map[string]error{},
	}
}

func (d *told) order(ctx context.Context, about, format string, args ...any) error {
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return fmt.Errorf("the order: %w", ctx.Err())
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
	return d.errs[about]
}

func (d *told) Hosts(context.Context) ([]DirectorHost, error) { return d.hosts, d.errs["hosts"] }

func (d *told) User(_ context.Context, user, tag string) (DirectorUser, error) {
	if user == "new" {
		return DirectorUser{Expires: time.Unix(1, 0), Hashed: "six.example.org"}, nil
	}
	return DirectorUser{"mail10.example.org", time.Unix(1700000900, 0), "192.0.2.9", "lost.example.org"}, d.errs[user+tag]
}

func (d *told) UserByHash(_ context.Context, hash uint32, tag string) (DirectorUser, error) {
	return DirectorUser{"mail10.example.org", time.Unix(int64(hash), 0), "192.0.2.9", "elsewhere" + tag}, nil
}

func (d *told) Users(_ context.Context, host string, yield func(uint32, time.Time, string) bool) error {
	if host == "twin-a" {
		for i := uint32(0); yield(i, time.Unix(1700000000, 0), host); i++ {
		}
		return nil
	}
	for i, h := range d.hosts {
		if host == "" || host == h.Name {
			yield(uint32(i), time.Unix(1<<40, 0), h.Name)
		}
	}
	return d.errs["users"]
}

func (d *told) SetHost(ctx context.Context, host, tag string, vhosts *int) error {
	if vhosts == nil {
		return d.order(ctx, host, "set %s %q", host, tag)
	}
	return d.order(ctx, host, "set %s %q %d", host, tag, *vhosts)
}

func (d *told) UpdateHost(ctx context.Context, host, tag string, vhosts int) error {
	return d.order(ctx, host, "update %s %q %d", host, tag, vhosts)
}

func (d *told) HostUp(ctx context.Context, host string) error {
	return d.order(ctx, host, "up %s", host)
}

func (d *told) HostDown(ctx context.Context, host string) error {
	return d.order(ctx, host, "down %s", host)
}

func (d *told) RemoveHost(ctx context.Context, host string) error {
	return d.order(ctx, host, "remove %s", host)
}

func (d *told) Flush(ctx context.Context, host string, parallel int) error {
	return d.order(ctx, host, "flush %q %d", host, parallel)
}

func (d *told) Forget(ctx context.Context, host string) error {
	return d.order(ctx, host, "forget %q", host)
}

func (d *told) Move(ctx context.Context, hash uint32, host string) error {
	return d.order(ctx, host, "move %d %s", hash, host)
}

func (d *told) Kick(ctx context.Context, user string, nowait bool) error {
	return d.order(ctx, user, "kick %q %t", user, nowait)
}

func (d *told) KickAlt(ctx context.Context, field, value string) error {
	return d.order(ctx, field, "kick %s=%s", field, value)
}

func (d *told) Ring(context.Context) ([]DirectorNode, error) {
	return []DirectorNode{
		{netip.MustParseAddrPort("192.0.2.1:24242"), "self", time.Time{}, "ring synced"},
		{netip.MustParseAddrPort("[2001:db8::1]:24242"), "", time.Unix(1700000000, 0), "away"},
	}, d.errs["ring"]
}

// adminPipe serves one connection to d and returns the client's end.
func adminPipe(t testing.TB, d DirectorAdmin, log *zap.Logger) net.Conn {
	t.Helper()
	s, err := NewDirectorAdmin(Options{Director: d, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.directorAdmin(phases{ctx, ctx, ctx}, server)
		server.Close()
	}()
	t.Cleanup(func() {
		client.Close()
		cancel()
		<-done
		s.work.close()
	})
	return client
}

// adminDialogue says lines, then something that ends the connection, and returns what
// was answered between the greeting and that.
func adminDialogue(t testing.TB, d DirectorAdmin, log *zap.Logger, lines ...string) string {
	t.Helper()
	c := adminPipe(t, d, log)
	go io.WriteString(c, adminGreeting+strings.Join(append(lines, "BYE"), "\n")+"\n") // it may be hung up on before the last byte
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	answer, greeted := strings.CutPrefix(string(b), adminGreeting)
	if !greeted {
		t.Errorf("greeted with %.60q", b)
	}
	return answer
}

func TestDirectorAdmin_Requests(t *testing.T) {
	for _, tc := range []struct {
		line, want string
		calls      []string
	}{
		{"HOST-LIST", "192.0.2.9\t0\t0\tssd\tD\t1700000000\n192.0.2.10\t100\t7\t\tU\t0\n192.0.2.20\t2\t0\t\tU\t0\n192.0.2.20\t1\t0\t\tU\t0\n" +
			"2001:db8::2\t50\t0\tt\x01tb\tU\t0\nlost.example.org\t100\t1\t\tU\t0\n\n", nil},
		{"HOST-LIST-REMOVED", "192.0.2.8\n\n", nil},
		{"DIRECTOR-LIST", "192.0.2.1\t24242\tself\t0\tring synced\t0\n2001:db8::1\t24242\t\t1700000000\taway\t0\n\n", nil},

		{"USER-LOOKUP\talice\t", "192.0.2.10\t1700000900\t192.0.2.9\tlost.example.org\n", nil},
		{"USER-LOOKUP\tnew", "\t0\t2001:db8::2\t\n", nil},
		{"USER-LOOKUP\t4294967295\tx\tmore", "192.0.2.10\t4294967295\t192.0.2.9\telsewherex\n", nil},
		{"USER-LOOKUP\t4294967296\t", "192.0.2.10\t1700000900\t192.0.2.9\tlost.example.org\n", nil},
		{"USER-LIST\t192.0.2.10", "0\t4294967295\t192.0.2.10\n\n", nil},
		{"USER-LIST\t192.0.2.77", "\n", nil},
		{"USER-LIST\tlost.example.org", "3\t4294967295\tlost.example.org\n\n", nil},

		{"HOST-SET\t192.0.2.77", "OK\n", []string{`set 192.0.2.77 ""`}},
		{"HOST-SET\t192.0.2.77@ssd\t0", "OK\n", []string{`set 192.0.2.77 "ssd" 0`}},
		{"HOST-SET\t[2001:DB8::10]@\t1000", "OK\n", []string{`set mail10.example.org "" 1000`}},
		{"HOST-SET\t::ffff:192.0.2.8\t5", "OK\n", []string{`set gone.example.org "" 5`}},
		{"HOST-SET\t192.0.2.10\t1001", "vhost count too large\n", nil},
		{"HOST-UPDATE\t192.0.2.10@x\t7", "OK\n", []string{`update mail10.example.org "x" 7`}},
		{"HOST-UPDATE\t192.0.2.77\t7", "NOTFOUND\n", nil},
		{"HOST-UPDATE\t192.0.2.77\t1001", "vhost count too large\n", nil},
		{"HOST-UP\t192.0.2.10", "OK\n", []string{"up mail10.example.org"}},
		{"HOST-DOWN\t2001:db8::10\r", "OK\n", []string{"down mail10.example.org"}},
		{"HOST-DOWN\t192.0.2.20", "OK\n", []string{"down twin-a", "down twin-b"}},
		{"HOST-DOWN\tLOST.example.org", "OK\n", []string{"down lost.example.org"}},
		{"HOST-DOWN\t192.0.2.8", "NOTFOUND\n", nil},
		{"HOST-REMOVE\t2001:db8::2", "OK\n", []string{"remove six.example.org"}},

		{"HOST-RESET-USERS", "OK\n", []string{`flush "" 0`}},
		{"HOST-RESET-USERS\t\t5", "OK\n", []string{`flush "" 5`}},
		{"HOST-RESET-USERS\t192.0.2.10\t5", "OK\n", []string{`flush "mail10.example.org" 5`}},
		{"HOST-RESET-USERS\t192.0.2.77", "NOTFOUND\n", nil},
		{"HOST-FLUSH", "OK\n", []string{`forget ""`}},
		{"HOST-FLUSH\t192.0.2.10", "OK\n", []string{`forget "mail10.example.org"`}},

		{"USER-MOVE\t4227319470\t192.0.2.20", "OK\n", []string{"move 4227319470 twin-a"}},
		{"USER-MOVE\tAlice@example.org\t192.0.2.10", "OK\n", []string{"move 4227319470 mail10.example.org"}},
		{"USER-MOVE\t1\t192.0.2.77", "NOTFOUND\n", nil},
		{"USER-KICK\tnowait", "OK\n", []string{`kick "nowait" false`}},
		{"USER-KICK\talice\tnowait", "OK\n", []string{`kick "alice" true`}},
		{"USER-KICK-ALT\tfield\tvalue", "OK\n", []string{"kick field=value"}},
		{"DIRECTOR-ADD\t192.0.2.2", string(nodesFixed) + "\n", nil},
		{"DIRECTOR-REMOVE\t192.0.2.2\t24242", string(nodesFixed) + "\n", nil},
	} {
		t.Run(tc.line, func(t *testing.T) {
			d := newTold()
			if diff := cmp.Diff(tc.want, adminDialogue(t, d, nil, tc.line)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.calls, d.calls); diff != "" {
				t.Errorf("orders (-want +got):\n%s", diff)
			}
		})
	}
}

// For what is no request the director closes the connection; so it is here. The
// answers to earlier ones stand.
func TestDirectorAdmin_BadRequests(t *testing.T) {
	for _, line := range []string{
		"", "\t", "FOO", "host-list", "HOST-LIST\x00", "VERSION\tdirector-doveadm\t1\t0", strings.Repeat("x", maxAdminLine),
		"HOST-SET", "HOST-SET\thost", "HOST-SET\tfe80::1%lo", "HOST-SET\t0.0.0.0", "HOST-SET\t192.0.2.77\t", "HOST-SET\t192.0.2.77\t-1",
		"HOST-SET\t192.0.2.77\t5x", "HOST-SET\t192.0.2.77\t4294967296", "HOST-SET\t192.0.2.77@a\x010",
		"HOST-UPDATE", "HOST-UPDATE\t192.0.2.10", "HOST-UP", "HOST-UP\tx y", "HOST-UP\tunknown", "HOST-DOWN\t", "HOST-REMOVE",
		"HOST-FLUSH\tx", "HOST-RESET-USERS\tx", "HOST-RESET-USERS\t\t0", "HOST-RESET-USERS\t\tx", "HOST-RESET-USERS\t192.0.2.10\t-1",
		"USER-LIST\tx", "USER-LOOKUP", "USER-LOOKUP\ta\x01nb\t", "USER-LOOKUP\ta\t\x01t", "USER-LOOKUP\t" + strings.Repeat("x", 5000),
		"USER-MOVE", "USER-MOVE\t1", "USER-MOVE\t1\t", "USER-MOVE\t\t192.0.2.10",
		"USER-KICK", "USER-KICK\ta\x010b", "USER-KICK-ALT", "USER-KICK-ALT\tfield",
		"DIRECTOR-ADD", "DIRECTOR-ADD\tlost.example.org", "DIRECTOR-ADD\t192.0.2.2\t0", "DIRECTOR-ADD\t192.0.2.2\t70000",
	} {
		t.Run(fmt.Sprintf("%.40q", line), func(t *testing.T) {
			d := newTold()
			core, logs := observer.New(zap.WarnLevel)
			if got := adminDialogue(t, d, zap.New(core), "HOST-UP\t192.0.2.10", line, "HOST-UP\t192.0.2.9"); got != "OK\n" {
				t.Errorf("answered %q", got)
			}
			if diff := cmp.Diff([]string{"up mail10.example.org"}, d.calls); diff != "" {
				t.Errorf("orders (-want +got):\n%s", diff)
			}
			if logs.Len() != 1 {
				t.Errorf("%d lines in the log, want 1", logs.Len())
			}
		})
	}
}

func TestDirectorAdmin_Handshake(t *testing.T) {
	for line, served := range map[string]bool{
		"VERSION\tdirector-doveadm\t1\t0": true, "VERSION\tdirector-doveadm\t1\t7": true, "VERSION\tdirector-doveadm\t1\t0\r": true,
		"VERSION\tdirector-doveadm\t2\t0": false, "VERSION\tdirector-doveadm\t1": false, "VERSION\tdirector-doveadm\t1\t": false,
		"VERSION\tdirector-doveadm\t1\t0\tx": false, "VERSION\tdoveadm-server\t1\t0": false, "HOST-UP\t192.0.2.10": false, "": false,
	} {
		t.Run(line, func(t *testing.T) {
			d := newTold()
			c := adminPipe(t, d, nil)
			go io.WriteString(c, line+"\nHOST-UP\t192.0.2.10\nBYE\n")
			b, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]string{true: adminGreeting + "OK\n", false: adminGreeting}[served]; string(b) != want || len(d.calls) == 1 != served {
				t.Errorf("answered %q, orders %q", b, d.calls)
			}
		})
	}
}

func TestDirectorAdmin_Errors(t *testing.T) {
	const down = "HOST-DOWN\t192.0.2.10"
	for _, tc := range []struct {
		name, about, line string
		err               error
		want              string
		logged            int // besides the connection's end
	}{
		{"not found", "mail10.example.org", down, fmt.Errorf("order: %w", ErrNotFound), "NOTFOUND\n", 0},
		{"try again", "alice", "USER-KICK\talice\tnowait", ErrTryAgain, "TRYAGAIN\n", 0},
		{"tag", "mail10.example.org", "HOST-SET\t192.0.2.10@x", fmt.Errorf("order: %w", ErrTagFixed), "host tag can't be changed\n", 0},
		{"busy", "mail10.example.org", "HOST-SET\t192.0.2.10", ErrHostBusy, "host is already being updated - try again later\n", 0},
		{"refused", "mail10.example.org", down, Refusal("no\nOK"), "no OK\n", 0},
		{"ending", "mail10.example.org", down, context.Canceled, "usher is ending - try again later\n", 0},
		{"another", "mail10.example.org", down, errors.New("disk\nfull " + strings.Repeat("x", 500)), oneLine("usher: disk full "+strings.Repeat("x", 500)) + "\n", 1},
		{"first of two", "twin-a", "HOST-DOWN\t192.0.2.20", ErrTryAgain, "TRYAGAIN\n", 0},
		{"hosts unknown", "hosts", down, errors.New("away"), "usher: away\n", 1},
		{"hosts unknown to a list", "hosts", "HOST-LIST", errors.New("away"), "", 0},
		{"hosts unknown to a list of the removed", "hosts", "HOST-LIST-REMOVED", errors.New("away"), "", 0},
		{"hosts unknown to a look-up", "hosts", "USER-LOOKUP\talice\t", errors.New("away"), "", 0},
		{"look-up", "alicex", "USER-LOOKUP\talice\tx", errors.New("away"), "", 0},
		{"users", "users", "USER-LIST\t192.0.2.10", errors.New("away"), "", 0},
		{"ring", "ring", "DIRECTOR-LIST", errors.New("away"), "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newTold()
			d.errs[tc.about] = tc.err
			core, logs := observer.New(zap.WarnLevel)
			if diff := cmp.Diff(tc.want, adminDialogue(t, d, zap.New(core), tc.line)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if logs.Len() != tc.logged+1 {
				t.Errorf("%d lines in the log, want %d", logs.Len(), tc.logged+1)
			}
		})
	}
}

// serveAdmin serves d on a unix socket until the test ends, or stop is called,
// which waits for the server.
func serveAdmin(t *testing.T, d DirectorAdmin, grace time.Duration) (dial func() net.Conn, stop func()) {
	t.Helper()
	s, err := NewDirectorAdmin(Options{Director: d, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return func() net.Conn {
		c, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}, stop
}

// poolmon reads the greeting, gives its orders and hangs up. They are carried out,
// also when their answers can't be written any more.
func TestDirectorAdmin_HangUp(t *testing.T) {
	d := newTold()
	d.gate = make(chan struct{})
	dial, stop := serveAdmin(t, d, 10*time.Second)
	c := dial()
	say(t, c, adminGreeting)
	if got := hear(t, bufio.NewReader(c)) + "\n"; got != adminGreeting {
		t.Fatalf("greeted with %q", got)
	}
	say(t, c, "HOST-LIST\n", "HOST-DOWN\t192.0.2.10\n", "USER-LIST\t192.0.2.20\n", "HOST-FLUSH\t192.0.2.10\n", "HOST-UP\t192.0.2.9\n")
	c.Close()
	close(d.gate)
	stop()
	if diff := cmp.Diff([]string{"down mail10.example.org", `forget "mail10.example.org"`, "up 192.0.2.9"}, d.calls); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

// When usher ends, an order in flight is carried out and answered; one that takes
// too long is given up, and what has not begun is not.
func TestDirectorAdmin_End(t *testing.T) {
	for _, tc := range []struct {
		name   string
		grace  time.Duration
		finish bool
		want   string
	}{
		{"in time", 10 * time.Second, true, "OK"},
		{"too late", 50 * time.Millisecond, false, "usher is ending - try again later"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newTold()
			d.gate = make(chan struct{})
			dial, stop := serveAdmin(t, d, tc.grace)
			idle, c := dial(), dial()
			say(t, idle, adminGreeting)
			say(t, c, adminGreeting, "HOST-DOWN\t192.0.2.10\n")
			in := bufio.NewReader(c)
			hear(t, in)
			hear(t, bufio.NewReader(idle))
			stopped := make(chan struct{})
			go func() { defer close(stopped); stop() }()
			if _, err := io.ReadAll(idle); err != nil {
				t.Errorf("idle connection: %v", err)
			}
			if tc.finish {
				close(d.gate)
			}
			if got := hear(t, in); got != tc.want {
				t.Errorf("answered %q, want %q", got, tc.want)
			}
			if _, err := in.ReadByte(); err != io.EOF {
				t.Errorf("then %v, want the end", err)
			}
			<-stopped
			if got := len(d.calls) == 1; got != tc.finish {
				t.Errorf("orders %q", d.calls)
			}
		})
	}
}

// Who greets and says nothing, does not greet, does not end its line or does not
// read is hung up on in time.
func TestDirectorAdmin_Silence(t *testing.T) {
	for _, tc := range []struct {
		name, says string
		reads      bool
		after      time.Duration
	}{
		{"no greeting", "", true, lineTimeout},
		{"no request", adminGreeting, true, adminIdle},
		{"no end of the line", adminGreeting + "HOST-DOWN\t192.0.2.10", true, lineTimeout},
		{"reads nothing", "", false, writeTimeout},
		{"does not read on", adminGreeting + "USER-LIST\t192.0.2.20\n", false, writeTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newTold()
				c := adminPipe(t, d, nil)
				began := time.Now()
				if tc.says != "" {
					hear(t, bufio.NewReaderSize(c, len(adminGreeting)))
					say(t, c, tc.says)
				}
				if tc.reads {
					if _, err := io.ReadAll(c); err != nil {
						t.Error(err)
					}
				} else {
					synctest.Wait()
					time.Sleep(tc.after + time.Millisecond)
					synctest.Wait()
					if _, err := c.Write([]byte("x")); err == nil {
						t.Error("it is still served")
					}
				}
				if took := time.Since(began); took < tc.after || took > tc.after+time.Second {
					t.Errorf("hung up after %s, want %s", took, tc.after)
				}
				if len(d.calls) > 0 {
					t.Errorf("orders %q", d.calls)
				}
			})
		})
	}
}

// A list of users leaves as it is read, and without end it can be read for as long
// as the client likes.
func TestDirectorAdmin_LongList(t *testing.T) {
	dial, _ := serveAdmin(t, newTold(), time.Second)
	c := dial()
	say(t, c, adminGreeting, "USER-LIST\t192.0.2.20\n")
	in := bufio.NewReader(c)
	hear(t, in)
	for i := range 100_000 {
		if got, want := hear(t, in), fmt.Sprintf("%d\t1700000000\t192.0.2.20", i); got != want {
			t.Fatalf("row %q, want %q", got, want)
		}
	}
}

func TestNewDirectorAdmin(t *testing.T) {
	if _, err := NewDirectorAdmin(Options{}); err == nil {
		t.Error("a server without a director was made")
	}
}
