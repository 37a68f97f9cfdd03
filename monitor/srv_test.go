package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
	"usher/test/servers"
)

// srvZone is a DNS of the test's own.
type srvZone struct {
	mu      sync.Mutex
	records map[string][]*net.SRV
	ttl     time.Duration
	errs    map[string]error
	hangs   bool
	asked   map[string]int
}

func newSRVZone() *srvZone {
	return &srvZone{records: map[string][]*net.SRV{}, errs: map[string]error{}, asked: map[string]int{}}
}

// say makes this the answer for a name.
func (z *srvZone) say(t *testing.T, name string, err error, lines ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[name], z.errs[name] = srv(t, lines...), err
}

func (z *srvZone) lookup(ctx context.Context, name string) ([]*net.SRV, time.Duration, error) {
	z.mu.Lock()
	z.asked[name]++
	records, ttl, err, hangs := z.records[name], z.ttl, z.errs[name], z.hangs
	z.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	return records, ttl, err
}

// count returns how many questions there were for each name.
func (z *srvZone) count() map[string]int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return maps.Clone(z.asked)
}

// changes are what OnChange was told.
type changes struct {
	mu   sync.Mutex
	list []string
}

func (c *changes) add(list []*proxy.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, show(list))
}

// take returns them and forgets them.
func (c *changes) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

func newExpander(t *testing.T, z *srvZone, inventory []*proxy.Server, change ...func(*ExpanderOptions)) *Expander {
	t.Helper()
	opt := ExpanderOptions{Lookup: z.lookup}
	for _, c := range change {
		c(&opt)
	}
	e, err := NewExpander(inventory, opt)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestNewExpander_Faults(t *testing.T) {
	_, err := NewExpander([]*proxy.Server{nil, template("imap", "a b", 1), server("imap", "a b", 1)},
		ExpanderOptions{Timeout: -1, Servers: []string{"x"}})
	want := `monitor: "x" is no address of a name server; expected IP:PORT
monitor: srv: a bound is less than zero
monitor: backend 1 is nil
monitor: backend 2: "a b" is no SRV name`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

// Without SRV names nothing is asked, and the inventory is what it was.
func TestExpander_NothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := server("imap", "a", 143), server("imap", "b", 143)
		b.SRV = "_imap._tcp.example.org" // of an expansion that somebody else did
		z := newSRVZone()
		e := newExpander(t, z, []*proxy.Server{a, b}, func(o *ExpanderOptions) {
			o.OnChange = func([]*proxy.Server) { t.Error("there is no change") }
		})
		stop := start(t, e.Run)
		time.Sleep(3 * time.Hour)
		if got := e.Servers(); len(got) != 2 || got[0] != a || got[1] != b || !e.Complete() || len(z.count()) > 0 {
			t.Errorf("%v, complete %t, asked %v", got, e.Complete(), z.count())
		}
		stop()
		if err := e.Run(t.Context()); err == nil {
			t.Error("a second Run must be refused")
		}
	})
}

func TestExpander(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		z := newSRVZone()
		z.ttl = 10 * time.Second
		z.say(t, "_imap", nil, "0 1 143 a.", "0 1 143 b.")
		var told changes
		var e *Expander
		e = newExpander(t, z, []*proxy.Server{template("imap", "_IMAP", 100)}, func(o *ExpanderOptions) {
			o.Logger = zap.New(core)
			o.OnChange = func(list []*proxy.Server) {
				if diff := cmp.Diff(show(e.Servers()), show(list)); diff != "" || !e.Complete() {
					t.Errorf("told before it is so: %s", diff)
				}
				told.add(list)
			}
		})
		if e.Complete() || len(e.Servers()) != 0 {
			t.Error("complete before the first question")
		}
		stop := start(t, e.Run)
		const two = "imap a:143 100 of _IMAP\nimap b:143 100 of _IMAP\n"
		servfail := &net.DNSError{Err: "server misbehaving", Name: "_imap", IsTemporary: true}
		steps := []struct {
			name string
			do   func()
			want string
			told int
			logs []string
		}{
			{"at the start", func() {}, two, 1, nil},
			{"turned", func() { z.say(t, "_imap", nil, "0 1 143 b.", "0 1 143 a.") }, two, 0, nil},
			{"DNS fails", func() { z.say(t, "_imap", servfail) }, two, 0,
				[]string{"SRV name has no answer, its last backends stand: lookup _imap: server misbehaving"}},
			{"an empty answer", func() { z.say(t, "_imap", nil) }, two, 0, nil},
			{"no service", func() { z.say(t, "_imap", nil, "0 0 0 .") }, two, 0, nil},
			{"no such name", func() { z.say(t, "_imap", &net.DNSError{Err: "no such host", IsNotFound: true}) }, two, 0, nil},
			{"nothing usable", func() { z.say(t, "_imap", nil, "0 0 0 a.", "0 0 143 -b.") }, two, 0, nil},
			{"one goes, one comes", func() { z.say(t, "_imap", nil, "0 1 143 b.", "0 1 143 c.") }, "imap b:143 100 of _IMAP\nimap c:143 100 of _IMAP\n", 1,
				[]string{"SRV name has an answer again", "SRV name has other records, new 0 1 143 c, gone 0 1 143 a"}},
			{"good ones with an error", func() { z.say(t, "_imap", errors.New("malformed records"), "0 1 143 b.", "0 1 143 1.2.3.") }, "imap b:143 100 of _IMAP\n", 1,
				[]string{"records of the SRV name are left out: 0 1 143 1.2.3., malformed records", "SRV name has other records, new , gone 0 1 143 c"}},
			{"and stay so", func() {}, "imap b:143 100 of _IMAP\n", 0, nil},
			{"weights that change nothing", func() { z.say(t, "_imap", nil, "0 7 143 b.") }, "imap b:143 100 of _IMAP\n", 0,
				[]string{"SRV name has other records, new 0 7 143 b, gone 0 1 143 b"}},
		}
		for _, s := range steps {
			told.take()
			logs.TakeAll()
			s.do()
			time.Sleep(15 * time.Second)
			synctest.Wait()
			if diff := cmp.Diff(s.want, show(e.Servers())); diff != "" {
				t.Errorf("%s: %s", s.name, diff)
			}
			if n := len(told.take()); n != s.told {
				t.Errorf("%s: told %d times, want %d", s.name, n, s.told)
			}
			var lines []string
			for _, l := range logs.All() {
				line := l.Message
				f := l.ContextMap()
				if err, ok := f["error"]; ok {
					line += fmt.Sprint(": ", err)
				}
				if r, ok := f["records"].(string); ok {
					line += ": " + r
				}
				if _, ok := f["new"]; ok {
					line += fmt.Sprint(", new ", f["new"], ", gone ", f["gone"])
				}
				lines = append(lines, line)
			}
			if diff := cmp.Diff(s.logs, lines); diff != "" {
				t.Errorf("%s: %s", s.name, diff)
			}
		}
		stop()
		if len(z.count()) != 1 {
			t.Errorf("asked for %v", z.count())
		}
	})
}

// One that failed is complete too; who has the same name shares its question.
func TestExpander_Complete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newSRVZone()
		z.hangs = true
		var told changes
		e := newExpander(t, z, []*proxy.Server{template("imap", "_a", 1), template("pop3", "_A", 1), template("lmtp", "_b", 1)},
			func(o *ExpanderOptions) { o.OnChange = told.add })
		defer start(t, e.Run)()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if e.Complete() || told.take() != nil {
			t.Error("complete too soon")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{""}, told.take()); diff != "" || !e.Complete() || len(e.Servers()) != 0 {
			t.Errorf("complete: %t, told %s", e.Complete(), diff)
		}
		if diff := cmp.Diff(map[string]int{"_a": 1, "_b": 1}, z.count()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExpander_Previous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newSRVZone()
		z.ttl = time.Minute
		z.say(t, "_a", nil, "0 1 143 a.")
		z.say(t, "_b", nil, "0 1 143 b.")
		old := newExpander(t, z, []*proxy.Server{template("imap", "_a", 1)})
		stop := start(t, old.Run)
		synctest.Wait()
		z.say(t, "_a", errServfail)

		same := newExpander(t, z, []*proxy.Server{template("imap", "_a", 5)}, func(o *ExpanderOptions) { o.Previous = old })
		if got := show(same.Servers()); got != "imap a:143 5 of _a\n" || !same.Complete() {
			t.Errorf("%s, complete %t", got, same.Complete())
		}
		var told changes
		more := newExpander(t, z, []*proxy.Server{template("imap", "_a", 1), template("imap", "_b", 1)}, func(o *ExpanderOptions) {
			o.Previous = old
			o.OnChange = told.add
		})
		stop()
		if got := show(more.Servers()); got != "imap a:143 1 of _a\n" || more.Complete() {
			t.Errorf("%s, complete %t", got, more.Complete())
		}
		defer start(t, more.Run)()
		synctest.Wait()
		if diff := cmp.Diff([]string{"imap a:143 1 of _a\nimap b:143 1 of _b\n"}, told.take()); diff != "" || !more.Complete() {
			t.Errorf("%s, complete %t", diff, more.Complete())
		}
	})
}

// More names than questions at once: all get their turn, and the end of Run cuts
// them off.
func TestExpander_ManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newSRVZone()
		z.hangs = true
		var inventory []*proxy.Server
		for i := range 3 * maxQueries {
			inventory = append(inventory, template("imap", fmt.Sprintf("_n%d", i), 1))
		}
		core, logs := observer.New(zapcore.WarnLevel)
		e := newExpander(t, z, inventory, func(o *ExpanderOptions) { o.Logger = zap.New(core) })
		stop := start(t, e.Run)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(z.count()) != maxQueries {
			t.Errorf("%d questions at once", len(z.count()))
		}
		time.Sleep(14500 * time.Millisecond)
		synctest.Wait()
		if n := len(z.count()); !e.Complete() || n != len(inventory) {
			t.Errorf("%d names were asked for", n)
		}
		logs.TakeAll()
		stop()
		if n := logs.Len(); n > 0 {
			t.Errorf("%d warnings at the end", n)
		}
	})
}

// expanderOf makes an Expander of one entry that asks dns.
func expanderOf(t *testing.T, dns *servers.DNS, srv string) *Expander {
	t.Helper()
	e, err := NewExpander([]*proxy.Server{template("imap", srv, 100)},
		ExpanderOptions{Servers: []string{dns.Addr}, Timeout: time.Second, Refresh: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExpander_DNS(t *testing.T) {
	t.Parallel()
	const name = "_imap._tcp.example.org."
	dns := servers.StartDNS(t, name+" 1 SRV 10 60 143 a.example.org.", name+" 1 SRV 10 30 143 B.example.org.", name+" 1 SRV 20 0 143 c.example.org.")
	e := expanderOf(t, dns, name)
	defer start(t, e.Run)()
	shows := func(lines ...string) func() bool {
		want := ""
		for _, l := range lines {
			want += "imap " + l + " of " + name + "\n"
		}
		return func() bool { return show(e.Servers()) == want }
	}
	within(t, 2*time.Second, "the records", shows("a.example.org:143 100", "b.example.org:143 50", "c.example.org:143 100"))
	dns.Set(t, name+" 1 SRV 10 30 143 b.example.org.", name+" 1 SRV 10 30 993 d.example.org.")
	now := shows("b.example.org:143 100", "d.example.org:993 100")
	within(t, 3*time.Second, "other records", now)
	b := e.Servers()[0]
	for _, mode := range []servers.DNSMode{servers.DNSEmpty, servers.DNSNXDomain, servers.DNSServfail, servers.DNSSilent, servers.DNSHangsUp} {
		dns.Mode(mode)
		time.Sleep(1200 * time.Millisecond)
		if !now() {
			t.Errorf("mode %d: %s", mode, show(e.Servers()))
		}
	}
	dns.Close()
	time.Sleep(time.Second)
	if !now() {
		t.Errorf("while DNS is away: %s", show(e.Servers()))
	}
	dns.Set(t, name+" 1 SRV 0 0 0 .")
	dns.Mode(servers.DNSTruncates)
	dns.Start(t)
	time.Sleep(1500 * time.Millisecond)
	if !now() {
		t.Errorf("no service: %s", show(e.Servers()))
	}
	dns.Set(t, name+" 60 SRV 10 30 143 b.example.org.")
	within(t, 3*time.Second, "an answer by TCP", shows("b.example.org:143 100"))
	if e.Servers()[0] != b {
		t.Error("who was there all the time has another pointer")
	}
	questions := len(dns.Asked())
	time.Sleep(1500 * time.Millisecond)
	if n := len(dns.Asked()) - questions; n > 0 {
		t.Errorf("asked %d times more while the TTL is a minute", n)
	}
}

// More records than a packet takes.
func TestExpander_LargeAnswer(t *testing.T) {
	const name = "_imap._tcp.example.org."
	var records []string
	for i := range 1500 {
		records = append(records, fmt.Sprintf("%s 60 SRV 10 0 143 h%d.", name, i))
	}
	dns := servers.StartDNS(t, records...)
	e := expanderOf(t, dns, name)
	defer start(t, e.Run)()
	within(t, 5*time.Second, "1,500 backends", func() bool { return len(e.Servers()) == 1500 })
	if got := strings.Join(dns.Asked(), ", "); got != "udp SRV "+name+", tcp SRV "+name {
		t.Error(got)
	}
}
