package test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/control"
	"usher/test/servers"
)

// slack is how long what should be done at once may take on a busy machine.
const slack = 12 * time.Second

func named(prefix string, count int) (names []string) {
	for n := range count {
		names = append(names, fmt.Sprintf("%s-%d@example.org", prefix, n))
	}
	return names
}

// A user with live sessions through a Dovecot proxy and nginx is moved: they end,
// whoever logs in meanwhile waits and lands on the new host, the hook runs when no
// session is left, and nobody else notices.
func TestMove_LiveSession(t *testing.T) {
	t.Parallel()
	const who, kickDelay = "alice@example.org", time.Second
	others := named("other", 16)
	r := newMoveRig(t, "  kick_delay: 1s\n", append(others, who)...)
	old, host := r.home(t, who)
	other := r.homes(t, old, 1, others...)[0]
	alive, ending := r.sessions(t, other), r.sessions(t, who)
	open := r.gate(t, who)
	began := time.Now()
	m := r.begin(t, who, host)
	for _, c := range ending {
		expectEnd(t, c)
	}
	r.came(t, m.ID, "hooking")
	w := r.wait(t, who, "move")
	if s := r.status(t, who); s.Move == nil || s.Move.ID != m.ID || s.Move.State != "hooking" || s.Assigned != old {
		t.Errorf("status %+v, want the move %s, hooking, and %s", s, m.ID, old)
	}
	r.run(t, 1, "move", who, host) // there is one already
	opened := time.Now()
	open()
	w.land(t, host, kickDelay+slack)
	if took := time.Since(opened); took < kickDelay {
		t.Errorf("logins went on %s after the hook, want kick_delay, %s", took, kickDelay)
	}
	r.came(t, m.ID, "done")
	t.Logf("moved in %s, of which the hook waited until %s", time.Since(began), opened.Sub(began))

	args, seen := r.hooked(t, who)
	if want := fmt.Sprintf("3 %s %s %s %s %s  %s %s %s", who, old, host, who, who, old, host, m.ID); !slices.Equal(args, []string{want}) {
		t.Errorf("the hook ran with %q, want %q", args, want)
	}
	if !slices.Equal(seen, []string{other}) {
		t.Errorf("when the hook ran there were sessions of %q, want %s alone", seen, other)
	}
	expectAlive(t, alive, old)
	if got := r.backends[old].Who(t); slices.Contains(got, who) || len(got) != len(alive) {
		t.Errorf("sessions at %s: %q, want the %d of %s", old, got, len(alive), other)
	}
	if s := r.status(t, who); s.Assigned != host || s.Move != nil {
		t.Errorf("status %+v, want %s and no move", s, host)
	}
	if got, _ := r.home(t, other); got != old {
		t.Errorf("another user lives at %s", got)
	}
}

// Clients that log in all the time, and some of which stay, are all on the new host
// in the end, and none of those that come when the move was ordered on the old one.
func TestMove_Crowd(t *testing.T) {
	t.Parallel()
	const who = "alice@example.org"
	r := newMoveRig(t, "  kick_delay: 1s\n", who)
	old, host := r.home(t, who)
	c := r.load(t, who, old)
	c.landed(t, old, 8)
	ordered := time.Now()
	var m control.Move
	r.ask(t, &m, "move", who, host)
	if m.State != "done" || m.From != old || m.To != host {
		t.Errorf("%+v", m)
	}
	if took := m.Changed.Sub(m.Began); took < time.Second || took > time.Second+slack {
		t.Errorf("the move took %s, want kick_delay, 1s, and a bit", took)
	}
	if got := r.backends[old].Who(t); len(got) > 0 {
		t.Errorf("%d sessions of %q live at %s", len(got), got[0], old)
	}
	c.landed(t, host, 8)
	c.stop()
	t.Logf("moved in %s; logins: %v", time.Since(ordered), c)
	c.expect(t, m.Began, host)
}

// A loginLoad is clients that log a user in all the time, by all fronts and protocols.
// Half of those that land on the old host stay until they are thrown out.
type loginLoad struct {
	mu     sync.Mutex
	logins []loadLogin
	stop   func() // waits until they have ended
	fresh  chan struct{}
}

type loadLogin struct {
	protocol string
	began    time.Time
	told     string // the host, or a refusal
}

func (r *moveRig) load(t *testing.T, user, old string) *loginLoad {
	c := &loginLoad{fresh: make(chan struct{}, 1)}
	end := make(chan struct{})
	var wg sync.WaitGroup
	for _, f := range r.fronts {
		for _, protocol := range mailProtocols[:2] {
			for n := range 2 {
				wg.Go(func() {
					for {
						l := loadLogin{protocol: f.name + " " + protocol, began: time.Now()}
						client, refused := servers.TryDial(t, protocol, f.addr[protocol])
						l.told = refused
						if refused == "" {
							if l.told = client.Login(user, password); client.OK(l.told) {
								l.told = client.TryBackend()
							}
						}
						c.add(l)
						if l.told == old && n == 0 {
							_, _ = client.Read() // until the end of the session
						}
						client.Close()
						select {
						case <-end:
							return
						case <-time.After(20 * time.Millisecond):
						}
					}
				})
			}
		}
	}
	c.stop = sync.OnceFunc(func() {
		close(end)
		wg.Wait()
	})
	t.Cleanup(c.stop)
	return c
}

func (c *loginLoad) add(l loadLogin) {
	c.mu.Lock()
	c.logins = append(c.logins, l)
	c.mu.Unlock()
	select {
	case c.fresh <- struct{}{}:
	default:
	}
}

// landed waits for as many more logins that land on host.
func (c *loginLoad) landed(t *testing.T, host string, count int) {
	t.Helper()
	c.mu.Lock()
	from := len(c.logins)
	c.mu.Unlock()
	giveUp := time.After(20 * time.Second)
	for count > 0 {
		select {
		case <-c.fresh:
		case <-giveUp:
			t.Fatalf("%d more logins should land on %s: %v", count, host, c)
		}
		c.mu.Lock()
		for _, l := range c.logins[from:] {
			if l.told == host {
				count--
			}
		}
		from = len(c.logins)
		c.mu.Unlock()
	}
}

// expect expects all logins that began after a moment to have landed on host.
func (c *loginLoad) expect(t *testing.T, after time.Time, host string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.logins {
		if l.began.After(after) && l.told != host {
			t.Errorf("%s: a login %s later: %q, want %s", l.protocol, l.began.Sub(after), l.told, host)
		}
	}
}

// expectNowhere expects no login that began after a moment to have landed on host.
func (c *loginLoad) expectNowhere(t *testing.T, after time.Time, host string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.logins {
		if l.began.After(after) && l.told == host {
			t.Errorf("%s: a login %s later landed on %s", l.protocol, l.began.Sub(after), host)
		}
	}
}

func (c *loginLoad) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]int{}
	for _, l := range c.logins {
		counts[strings.TrimSpace(l.told)]++
	}
	return fmt.Sprint(counts)
}
