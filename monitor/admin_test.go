package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/wholefile"
	"usher/proxy"
)

// memoryAdmin is an AdminFile in a folder of the test's own.
func memoryAdmin(t *testing.T) *AdminFile {
	t.Helper()
	a, err := OpenAdminFile(filepath.Join(t.TempDir(), "state", "admin.json"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParseTarget(t *testing.T) {
	tests := map[string]string{
		"mail1":                  "mail1 0",
		"Mail1.Example.ORG.":     "mail1.example.org 0",
		"mail1:143":              "mail1 143",
		"192.0.2.1:65535":        "192.0.2.1 65535",
		"2001:db8::1":            "2001:db8::1 0",
		"[2001:DB8::1]":          "2001:db8::1 0",
		"[2001:db8::1]:993":      "2001:db8::1 993",
		"":                       "",
		"mail1:":                 "",
		"mail1:0":                "",
		"mail1:65536":            "",
		"mail1:imap":             "",
		"mail1:+143":             "",
		"[mail1]:143":            "",
		"[2001:db8::1":           "",
		"[2001:db8::1]x":         "",
		"a b":                    "",
		"mail1:143:143":          "",
		strings.Repeat("a", 300): "",
	}
	for in, want := range tests {
		got, err := ParseTarget(in)
		text := fmt.Sprint(got.Host, " ", got.Port)
		if err != nil {
			text = ""
			if !strings.Contains(err.Error(), "expected HOST or HOST:PORT") {
				t.Errorf("%q: %v", in, err)
			}
		}
		if text != want {
			t.Errorf("%q: %q, want %q", in, text, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"mail1:143", "[::1]:25", "[", "]:", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget(s)
		if err != nil {
			return
		}
		again, err := ParseTarget(got.String())
		if err != nil || again != got {
			t.Errorf("%q: %+v, and by its text %+v, %v", s, got, again, err)
		}
	})
}

// changeOf is the order of a line: `up|drain|down|N TARGET`.
func changeOf(t *testing.T, line string) Change {
	t.Helper()
	var word, target string
	if _, err := fmt.Sscan(line, &word, &target); err != nil {
		t.Fatal(err)
	}
	tg, err := ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	c := Change{Target: tg, Stamp: Stamp{By: "root", At: time.Unix(1e9, 0).UTC(), Reason: line}}
	if admin, ok := proxy.ParseAdmin(word); ok {
		c.State = &admin
		return c
	}
	c.Weight = new(int)
	if _, err := fmt.Sscan(word, c.Weight); err != nil {
		t.Fatal(err)
	}
	return c
}

// give gives the orders of a script.
func give(t *testing.T, a AdminState, script string) {
	t.Helper()
	for line := range strings.Lines(script) {
		if err := a.Order(t.Context(), changeOf(t, strings.TrimSuffix(line, "\n"))); err != nil {
			t.Fatal(err)
		}
	}
}

// pair is a host with imap and pop3, another with imap, and a relay.
func pair() []*proxy.Server {
	return []*proxy.Server{
		server("imap", "Mail1.example.org.", 143), server("pop3", "mail1.example.org", 110),
		server("imap", "192.0.2.2", 143), server("smtp", "192.0.2.2", 25),
	}
}

func TestOrders(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"none", "", "up 100, up 100, up 100, up 100"},
		{"a host", "drain mail1.example.org\n", "drain 100, drain 100, up 100, up 100"},
		{"one entry", "down MAIL1.example.org:110\n", "up 100, down 100, up 100, up 100"},
		{"an entry after its host", "down mail1.example.org\nup mail1.example.org:143\n", "up 100, down 100, up 100, up 100"},
		{"a host after its entry", "down mail1.example.org:110\nup mail1.example.org.\n", "up 100, up 100, up 100, up 100"},
		{"the last of two", "down 192.0.2.2\ndrain 192.0.2.2\n", "up 100, up 100, drain 100, drain 100"},
		{"a weight", "0 mail1.example.org\n", "up 0, up 0, up 100, up 100"},
		{"a weight is the host's", "1000 192.0.2.2:25\n", "up 100, up 100, up 1000, up 1000"},
		{"a weight beside a state", "down 192.0.2.2\n7 192.0.2.2\n", "up 100, up 100, down 7, down 7"},
		{"a host that is not there", "down 192.0.2.77\n", "up 100, up 100, up 100, up 100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := memoryAdmin(t)
			opt := options(pair()...)
			opt.Admin = a
			m, err := New(opt)
			if err != nil {
				t.Fatal(err)
			}
			show := func(m *Monitor) string {
				var words []string
				for _, e := range m.Status() {
					words = append(words, fmt.Sprint(e.Admin, " ", e.Weight))
				}
				return strings.Join(words, ", ")
			}
			stop := start(t, m.Run)
			synced := make(chan struct{})
			go func() { defer close(synced); _ = m.WaitReady(t.Context()) }()
			give(t, a, tt.script)
			<-synced
			m.rebuild()
			if got := show(m); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			stop()

			// A restart remembers; so does the view that stands before the first check.
			again, err := OpenAdminFile(a.path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a.Orders().byTarget, again.Orders().byTarget); diff != "" {
				t.Error(diff)
			}
			opt.Admin = again
			if m, err = New(opt); err != nil {
				t.Fatal(err)
			}
			if got := show(m); got != tt.want {
				t.Errorf("after a restart: %s\nwant %s", got, tt.want)
			}
		})
	}
}

// An order is in the view when it returns, and checks change nothing of it.
func TestOrders_Now(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := memoryAdmin(t), &fake{}
		opt := options(pair()...)
		opt.Admin = a
		opt.Names = namesFunc(func(context.Context, string) (netip.Addr, error) { return netip.MustParseAddr("192.0.2.77"), nil })
		m := fakeMonitor(t, f, opt)
		defer start(t, m.Run)()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"down", "drain", "up", "down"} {
			give(t, a, word+" 192.0.2.2\n")
			if got := m.View().Entries[2].Admin.String(); got != word {
				t.Errorf("%s, want %s", got, word)
			}
		}
		if n := len(m.View().Listed("", false)); n != 2 {
			t.Errorf("%d backends are listed", n)
		}
		f.set("192.0.2.2", errBroken)
		time.Sleep(time.Minute)
		f.set("192.0.2.2", nil)
		time.Sleep(time.Minute)
		if e := m.View().Entries[2]; e.Admin != proxy.AdminDown || e.Health != proxy.Up {
			t.Errorf("%s, %s", e.Admin, e.Health)
		}
		before := m.View().Entries[2].Server
		give(t, a, "5 192.0.2.2\n")
		e := m.View().Entries[2]
		if e.Weight != 5 || e.Machine().Weight != 5 || before.Weight != 100 {
			t.Errorf("weight %d, of the host %d, of the configuration %d", e.Weight, e.Machine().Weight, before.Weight)
		}
		give(t, a, "up 192.0.2.2\n")
		if m.View().Entries[2].Server != e.Server {
			t.Error("another Server, though the weight is the same")
		}
	})
}

func TestAdminFile_Refuses(t *testing.T) {
	a := memoryAdmin(t)
	tooMuch, odd := MaxWeight+1, proxy.Admin(9)
	for name, c := range map[string]Change{
		"nothing":       {},
		"weight":        {Weight: &tooMuch},
		"state":         {State: &odd},
		"line in words": {State: new(proxy.Admin), Stamp: Stamp{Reason: "a\nb"}},
	} {
		c.Target = Target{Host: "mail1"}
		if err := a.Order(t.Context(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if len(a.Orders().byTarget) > 0 {
		t.Errorf("%+v", a.Orders())
	}
}

// A disk that takes nothing: the order is not taken, and what stood stands.
func TestAdminFile_CannotWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := memoryAdmin(t)
	give(t, a, "drain mail1\n")
	called := 0
	defer a.Watch(func() { called++ })()
	a.path = filepath.Join(dir, "file", "admin.json") // a folder that can't be
	down := proxy.AdminDown
	err := a.Order(t.Context(), Change{Target: Target{Host: "mail1"}, State: &down})
	if err == nil || !strings.Contains(err.Error(), "is not taken") {
		t.Errorf("%v", err)
	}
	if got := a.Orders().For("mail1", 143).State; got != "drain" || called > 0 {
		t.Errorf("%q, %d calls", got, called)
	}
}

func TestOpenAdminFile_Damaged(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"empty":          {"", "line 1: EOF"},
		"cut off":        {"{\"version\": 1,\n\"orders\": {", "line 2: unexpected EOF"},
		"two of them":    {`{"version":1,"orders":{}}{}`, "something follows its end"},
		"another time":   {`{"version":2,"orders":{}}`, "version 2; expected 1"},
		"no state":       {`{"version":1,"orders":{"mail1":{"state":"off"}}}`, `order for "mail1": state "off"; expected up, drain or down`},
		"not canonical":  {`{"version":1,"orders":{"Mail1":{"state":"up"}}}`, `expected it as "mail1"`},
		"no backend":     {`{"version":1,"orders":{"a b":{"state":"up"}}}`, `"a b" is no backend`},
		"weight":         {`{"version":1,"orders":{"mail1":{"weight":-1}}}`, "weight -1; expected 0 to 1000"},
		"entry's weight": {`{"version":1,"orders":{"mail1:143":{"weight":1}}}`, "a weight for one entry"},
		"unknown field":  {`{"version":1,"order":{}}`, `unknown field "order"`},
		"binary":         {"\x00\xff", "line 1: invalid character"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "admin.json")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenAdminFile(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if kept, _ := os.ReadFile(path); string(kept) != tt.text {
				t.Error("the file was touched")
			}
		})
	}
}

func FuzzAdminFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"orders":{"mail1":{"state":"drain","state_by":{"by":"root","reason":"disk"},"weight":7}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := parseAdminFile(raw)
		if err != nil {
			return
		}
		for key := range o.byTarget {
			if _, err := ParseTarget(key); err != nil {
				t.Errorf("%q: %v", key, err)
			}
		}
	})
}

func TestMonitor_Find(t *testing.T) {
	m, err := New(options(pair()...))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"mail1.example.org":     "Mail1.example.org.:143 mail1.example.org:110",
		"mail1.example.org:110": "mail1.example.org:110",
		"192.0.2.2:143":         "192.0.2.2:143",
		"192.0.2.2:993":         "no such backend: 192.0.2.2:993; the host has 192.0.2.2:143, 192.0.2.2:25",
		"192.0.2.3":             "no such backend: 192.0.2.3",
	}
	for in, want := range tests {
		tg, err := ParseTarget(in)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := m.Find(tg)
		var got []string
		for _, e := range entries {
			got = append(got, e.Address())
		}
		if err != nil {
			got = []string{err.Error()}
			if !errors.Is(err, ErrNoBackend) {
				t.Errorf("%s: %v", in, err)
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", in, text, want)
		}
	}
}

// What is written can be read again: a file that grew too long would stop the
// next start.
func TestAdminFile_KeepsItsBound(t *testing.T) {
	a := memoryAdmin(t)
	give(t, a, "drain mail1\n")
	many := map[string]Order{}
	words := Stamp{By: strings.Repeat("<", maxWords), Reason: strings.Repeat("&", maxWords)}
	for i := range 3000 { // JSON takes six bytes for each of these
		many[fmt.Sprintf("mail%d", i)] = Order{State: "down", StateStamp: &words, Weight: new(int), WeightStamp: &words}
	}
	a.orders.Store(&Orders{many})
	down := proxy.AdminDown
	err := a.Order(t.Context(), Change{Target: Target{Host: "more"}, State: &down})
	if err == nil || !strings.Contains(err.Error(), "is not taken") {
		t.Errorf("%v", err)
	}
	if _, err := OpenAdminFile(a.path); err != nil {
		t.Error(err)
	}
}

// The disk fails when the file is in its place: what is there is what stands.
func TestAdminFile_CannotSync(t *testing.T) {
	a := memoryAdmin(t)
	broken := errors.New("input/output error")
	for _, before := range []string{"", "drain"} {
		if before != "" {
			give(t, a, before+" mail1\n")
		}
		a.syncDir = func(string) error { return broken }
		down := proxy.AdminDown
		if err := a.Order(t.Context(), Change{Target: Target{Host: "mail1"}, State: &down}); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		a.syncDir = wholefile.SyncDir
		again, err := OpenAdminFile(a.path)
		if err != nil {
			t.Fatal(err)
		}
		if now, then := a.Orders().For("mail1", 143).State, again.Orders().For("mail1", 143).State; now != before || then != before {
			t.Errorf("%q stood; %q stands, %q after a restart", before, now, then)
		}
		want := 1
		if before == "" { // no file stood either
			want = 0
		}
		if files, err := os.ReadDir(filepath.Dir(a.path)); err != nil || len(files) != want {
			t.Errorf("%v, %v", files, err)
		}
	}
}

// A disk that hangs keeps the order waiting, and not the monitor that a reload
// makes meanwhile.
func TestAdminFile_HangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memoryAdmin(t)
		hang := make(chan struct{})
		a.syncDir = func(string) error { <-hang; return nil }
		opt := options(server("imap", "mail1", 143))
		opt.Admin = a
		opt.Names = namesFunc(func(context.Context, string) (netip.Addr, error) { return netip.MustParseAddr("192.0.2.77"), nil })
		m := fakeMonitor(t, &fake{}, opt)
		ordered := make(chan error, 1)
		go func() { ordered <- a.Order(t.Context(), changeOf(t, "drain mail1")) }()
		synctest.Wait()
		stop := start(t, m.Run)
		time.Sleep(time.Second)
		if h := health(m, 0); h != proxy.Up {
			t.Errorf("%s a second after the begin", h)
		}
		close(hang)
		if err := <-ordered; err != nil || m.View().Entries[0].Admin != proxy.AdminDrain {
			t.Errorf("%v, %s", err, m.View().Entries[0].Admin)
		}
		stop()
	})
}
