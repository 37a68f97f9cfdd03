package luabridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"usher/luabridge/modules"
	"usher/proxy"
	"usher/proxy/affinity"
)

// fakeOthers answers about assignments: users' and keys' by name, counts by host.
type fakeOthers struct {
	users, keys map[string]string
	counts      map[string]int
	err         error
}

func (f fakeOthers) AssignedUser(_ context.Context, user string) (string, error) {
	return f.users[user], f.err
}
func (f fakeOthers) AssignedKey(_ context.Context, key string) (string, error) {
	return f.keys[key], f.err
}
func (f fakeOthers) Assigned(host string) int { return f.counts[host] }

func imapServer(host string, weight int, tags ...string) proxy.Entry {
	return proxy.Entry{Server: &proxy.Server{Protocol: "imap", Host: host, Port: 143, Weight: weight, Tags: tags}, Health: proxy.Up}
}

// said runs a body that ends in say(text) and returns the text.
func said(t testing.TB, body string, q *proxy.Query, change ...func(*Options)) string {
	t.Helper()
	v := ask(t, `local function say(x) nauthilus_builtin.custom_log_add("said", tostring(x)) end `+body, q, change...)
	if len(v.Logs) != 1 {
		t.Fatalf("%s: said %v", body, v.Logs)
	}
	return v.Logs[0].Value
}

func TestUsher_ServerFields(t *testing.T) {
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{imapServer("a.example.org", 50, "ssd", "eu"), imapServer("B.example.org.", 0)})
	q.Others = fakeOthers{counts: map[string]int{"b.example.org": 7}}
	for body, want := range map[string]string{
		`local s = usher.servers()[1] say(s.weight .. " " .. table.concat(s.tags, ",") .. " " .. s.assigned)`:                   "50 ssd,eu 0",
		`local s = usher.servers()[2] say(s.weight .. " " .. #s.tags .. " " .. s.assigned .. " " .. s.host)`:                    "0 0 7 B.example.org.",
		`local s = nauthilus_backend.get_backend_servers()[2] say(s.assigned)`:                                                  "7",
		`local s = usher.servers()[1] s.tags[1] = "mine" say(s.tags[1])`:                                                        "ssd",
		`say(usher.servers()[1].nothing)`:                                                                                       "nil",
		`say(usher.servers()[1][1])`:                                                                                            "nil",
		`say(#usher.servers({tags = {"ssd", "eu"}}) .. #usher.servers({tags = {"ssd", "hdd"}}) .. #usher.servers({tags = {}}))`: "102",
	} {
		if got := said(t, body, q); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	q.Others = nil
	if got := said(t, `say(usher.servers()[2].assigned)`, q); got != "0" {
		t.Errorf("without assignments: %s assigned", got)
	}
}

func TestUsher_Choose(t *testing.T) {
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{imapServer("off", 0), imapServer("a", 100), imapServer("b", 200)})
	q.Others = fakeOthers{counts: map[string]int{"off": 0, "a": 10, "b": 19}}
	for body, want := range map[string]string{
		`say(usher.first(usher.servers()).host)`:                    "off",
		`say(usher.first({}))`:                                      "nil",
		`say(usher.random({}))`:                                     "nil",
		`say(usher.random(usher.servers{host = "off"}))`:            "nil",
		`say(usher.round_robin({}))`:                                "nil",
		`say(usher.round_robin(usher.servers{host = "off"}))`:       "nil",
		`say(usher.least_assigned({}))`:                             "nil",
		`say(usher.least_assigned(usher.servers{host = "off"}))`:    "nil",
		`say(usher.least_assigned(usher.servers()).host)`:           "b",
		`say(usher.least_assigned(usher.servers{host = "a"}).host)`: "a",
		`local s = {} for i = 1, 6 do s[i] = usher.round_robin(usher.servers()).host end say(table.concat(s))`:                          "babbab",
		`local n = 0 for i = 1, 3000 do if usher.random(usher.servers()).host == "b" then n = n + 1 end end say(n > 1850 and n < 2150)`: "true",
		`local function draw() math.randomseed(7) local s = {} for i = 1, 20 do s[i] = usher.random(usher.servers()).host end return table.concat(s) end
			say(draw() == draw())`: "true",
	} {
		if got := said(t, body, q, func(o *Options) { o.Limits.Steps *= 100; o.Limits.Memory *= 100 }); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
}

// What imap and pop3 users are taken to has both.
func TestUsher_Homes(t *testing.T) {
	pop := imapServer("b", 1)
	pop.Server = &proxy.Server{Protocol: "pop3", Host: "b", Port: 110, Weight: 1}
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{imapServer("a", 1000), imapServer("b", 1), pop})
	for _, f := range []string{"random", "round_robin", "least_assigned"} {
		if got := said(t, `say(usher.`+f+`(usher.servers()).host)`, q); got != "b" {
			t.Errorf("%s: %s", f, got)
		}
	}
	if got := said(t, `say(usher.first(usher.servers()).host)`, q); got != "a" {
		t.Errorf("first: %s", got)
	}
}

// Equals are chosen among by the user, so that many who come at once are spread.
func TestUsher_LeastAssignedSpreads(t *testing.T) {
	d := newDirector(t, inFilter(`usher.select(usher.least_assigned(usher.servers()))`))
	n := map[string]int{}
	for i := range 400 {
		n[direct(t, d, query(fmt.Sprint("user", i))).Host]++
	}
	for host, users := range n {
		if users < 25 || users > 90 {
			t.Errorf("%s has %d of 400 users", host, users)
		}
	}
	if len(n) != 8 {
		t.Errorf("%d hosts, want 8", len(n))
	}
}

// Turns go on over requests and reloads, apart for each script and protocol; a dry
// run takes none.
func TestUsher_RoundRobin(t *testing.T) {
	turns := &modules.Rotation{}
	shared := func(o *Options) { o.Deps.Rotation = turns }
	const body = `usher.select(usher.round_robin(usher.servers()))`
	d := newDirector(t, inFilter(body), shared)
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{imapServer("a", 100), imapServer("b", 100), imapServer("c", 100)})
	next := func(d *Director) string { return direct(t, d, q).Host }
	got := next(d)
	dry := *q
	dry.DryRun = true
	for range 3 {
		if v := direct(t, d, &dry); v.Host != "b" {
			t.Errorf("a dry run: %s", v.Host)
		}
	}
	got += next(newDirector(t, inFilter(body), shared)) // a reload
	got += next(newDirector(t, inFilter(body), shared, func(o *Options) { o.Filters[0].Name = "other" }))
	got += next(d) + next(d)
	if got != "abaca" {
		t.Errorf("turns %s, want ab, a of the other script, ca", got)
	}
}

func TestUsher_Sticky(t *testing.T) {
	drained := imapServer("d", 100, "ssd")
	drained.Admin = proxy.AdminDrain
	view := proxy.NewView([]proxy.Entry{imapServer("a", 100, "ssd"), imapServer("b", 100, "hdd"), drained})
	for name, tt := range map[string]struct {
		body     string
		others   proxy.Others
		assigned string // the user's own
		want     string // host reason, key and what was seen under it
	}{
		"without a key":        {body: `usher.select(usher.sticky(usher.servers()))`, assigned: "b", want: "b sticky  "},
		"a key, assigned":      {body: `usher.select(usher.sticky(usher.servers(), "Family"))`, assigned: "b", others: fakeOthers{keys: map[string]string{"family": "a"}}, want: "a sticky family a"},
		"a key, not assigned":  {body: `usher.select(usher.sticky(usher.servers{host = "a"}, "family"))`, assigned: "b", others: fakeOthers{}, want: "a hash family "},
		"affinity is off":      {body: `usher.select(usher.sticky(usher.servers{host = "a"}, "family"))`, want: "a hash family "},
		"a key's drained host": {body: `usher.select(usher.sticky(usher.servers(), "family"))`, others: fakeOthers{keys: map[string]string{"family": "d"}}, want: "d sticky family d"},
		"one with the tag":     {body: `usher.select(usher.sticky(usher.servers{tag = "ssd"}, "family"))`, others: fakeOthers{keys: map[string]string{"family": "d"}}, want: "d sticky family d"},
		"one without the tag":  {body: `usher.select(usher.sticky(usher.servers{tag = "hdd"}, "family"))`, others: fakeOthers{keys: map[string]string{"family": "d"}}, want: "b hash family d"},
		"one that is left out": {body: `usher.select(usher.sticky({usher.servers{host = "b"}[1]}, "family"))`, others: fakeOthers{keys: map[string]string{"family": "a"}}, want: "b hash family a"},
		"the last call counts": {body: `usher.sticky(usher.servers(), "family") usher.select(usher.sticky(usher.servers()))`, assigned: "b", others: fakeOthers{}, want: "b sticky  "},
		"assigned goes by the key": {
			body:   `usher.sticky(usher.servers(), "family") usher.select(usher.servers{host = usher.assigned()}[1])`,
			others: fakeOthers{keys: map[string]string{"family": "a"}}, assigned: "b", want: "a sticky family a",
		},
		"assigned, another user": {
			body:   `assert(usher.assigned("nobody") == nil and usher.assigned(("x"):rep(5000)) == nil) usher.select(usher.servers{host = usher.assigned("bob")}[1])`,
			others: fakeOthers{users: map[string]string{"bob": "a"}}, assigned: "b", want: "a selected  ",
		},
		"assigned, the store is away": {
			body:   `local host, err = usher.assigned("bob") assert(host == nil and err == "away") usher.select(usher.servers{host = "a"}[1])`,
			others: fakeOthers{err: errors.New("away")}, want: "a selected  ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := query("alice")
			q.View, q.Assigned, q.Others = view, tt.assigned, tt.others
			v := ask(t, tt.body, q)
			if got := fmt.Sprint(v.Host, " ", v.Reason, " ", v.Key, " ", v.KeyHost); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A key reaches the decision from whichever filter set it.
func TestUsher_KeyOfAnotherFilter(t *testing.T) {
	v := ask(t, `usher.sticky(usher.servers(), "family")`, query("alice"), func(o *Options) {
		o.Filters = append(o.Filters, Filter{Name: "second", Path: "second.lua", Text: inFilter(`assert(usher.assigned() == nil) usher.select(usher.servers()[1])`), WhenAuthenticated: true})
	})
	if v.Key != "family" || !v.Selected {
		t.Errorf("%+v", v)
	}
}

func TestUsher_Errors(t *testing.T) {
	for statement, want := range map[string]string{
		`usher.first()`:                                 "bad argument #1 to first (table of servers expected, got no value)",
		`usher.random({1})`:                             "bad argument #1 to random (table of servers expected, its element 1 is a number)",
		`usher.round_robin("x")`:                        "bad argument #1 to round_robin (table of servers expected, got string): \"x\"",
		`usher.least_assigned({usher.servers()})`:       "bad argument #1 to least_assigned (table of servers expected, its element 1 is a table)",
		`usher.sticky(usher.servers(), 1)`:              "bad argument #2 to sticky (string expected, got number): 1",
		`usher.sticky(usher.servers(), "")`:             "bad argument #2 to sticky: assignment key: bad user name: empty",
		`usher.sticky(usher.servers(), "a\0b")`:         "bad argument #2 to sticky: assignment key: bad user name: control byte 0x00 at 1",
		`usher.sticky(usher.servers(), ("x"):rep(1e6))`: "bad argument #2 to sticky: assignment key: bad user name: 1000000 bytes, at most 255",
		`usher.assigned({})`:                            "bad argument #1 to assigned (string expected, got table)",
		`usher.tempfail(1)`:                             "bad argument #1 to tempfail (string expected, got number): 1",
		`usher.servers({tags = {1}})`:                   "bad argument #1 to servers (tags: list of strings expected, its element 1 is a number)",
		`local t = {} for i = 1, 65 do t[i] = "x" end usher.servers({tags = t})`: "bad argument #1 to servers: 65 tags, at most 64",
	} {
		if got := luaError(t, statement); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

// Try later: no fault of the policy, above a selection and a hold, under a refusal.
func TestUsher_Tempfail(t *testing.T) {
	second := func(body string) func(*Options) {
		return func(o *Options) {
			o.Filters = append(o.Filters, Filter{Name: "second", Path: "second.lua", Text: inFilter(body), WhenAuthenticated: true})
		}
	}
	for _, tt := range []struct{ name, first, second, want string }{
		{"with a text", `usher.tempfail("moving s3cret")`, ``, "tempfail moving s3cret by policy:test"},
		{"without", `usher.tempfail()`, ``, "tempfail  by policy:test"},
		{"before a selection", `usher.tempfail("x")`, `usher.select(usher.servers()[1])`, "tempfail x by policy:test"},
		{"after a selection", `usher.select(usher.servers()[1])`, `usher.tempfail("x")`, "tempfail x by policy:second"},
		{"before a hold", `usher.tempfail("x")`, `usher.hold(1)`, "tempfail x by policy:test"},
		{"after a hold", `usher.hold(1)`, `usher.tempfail("x")`, "tempfail x by policy:second"},
		{"before a refusal", `usher.tempfail("x")`, `usher.deny()`, "refused by policy:second"},
		{"after a refusal", `usher.deny()`, `usher.tempfail("x")`, "refused by policy:test"},
		{"the first stays", `usher.tempfail("x")`, `usher.tempfail("y")`, "tempfail x by policy:test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := ask(t, tt.first, query("alice"), second(tt.second))
			got := "tempfail " + v.TempFailText + " by " + v.By
			if v.Refused {
				got = "refused by " + v.By
			}
			if got != tt.want || !v.Refused && !v.TempFail {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	v := ask(t, `usher.tempfail("it is " .. request.password)`, query("alice"), func(o *Options) { o.Filters[0].NeedsPassword = true })
	if v.TempFailText != "it is ********" {
		t.Errorf("a password in the text: %q", v.TempFailText)
	}
}

func TestUsher_Traces(t *testing.T) {
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{imapServer("a", 100, "ssd"), imapServer("b", 100)})
	q.Others = fakeOthers{keys: map[string]string{"family": "b"}, users: map[string]string{"bob": "a"}, counts: map[string]int{"a": 3, "b": 2}}
	q.Key = affinity.Key{Name: "alice"}
	var steps []string
	q.Trace = func(s string) { steps = append(steps, s) }
	ask(t, `
		local all = usher.servers()
		usher.servers{tag = "ssd"}
		usher.hash("alice", {all[1]})
		usher.first(all)
		usher.least_assigned(all)
		usher.sticky({all[2]})
		usher.sticky(all, "family")
		usher.sticky({all[1]}, "family")
		usher.sticky({})
		usher.assigned("bob")
		usher.tempfail("later")`, q)
	for _, want := range []string{
		"test: servers -> 2 of 2", "test: servers -> 1 of 2", "test: hash(alice) of 1 servers -> a",
		"test: least_assigned of 2 servers -> b, which has 2 users",
		`test: sticky of 1 servers -> b, by the hash: "alice" is not assigned`,
		`test: sticky of 2 servers -> b, where "family" is assigned`,
		`test: sticky of 1 servers -> a, by the hash: "family" is assigned to b, which is not among them`,
		"test: sticky of 0 servers -> none", "test: assigned(bob) -> a",
	} {
		if !slices.Contains(steps, want) {
			t.Errorf("no step %q in\n%s", want, strings.Join(steps, "\n"))
		}
	}
}
