package luabridge

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/luabridge/budget"
	"usher/luabridge/maps"
	"usher/luabridge/modules"
)

func given(t testing.TB, texts map[string]string) func(*Options) {
	t.Helper()
	r, err := maps.Given(texts)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Deps.Maps = r }
}

func TestUsher_Map(t *testing.T) {
	m := given(t, map[string]string{"m": "alice@example.org north\nlisted\n@example.org domain\n192.0.2.0/24 net\n"})
	for body, want := range map[string]string{
		`say(usher.map("m"):get("Alice@Example.org"))`:                                                   "north",
		`local m = usher.map("m") say(m("alice@example.org") .. m("192.0.2.7") .. m("bob@example.org"))`: "northnetdomain",
		`say(usher.map("m"):get("nobody"))`:                                                              "nil",
		`say(usher.map("m"):get("nobody", 5) + 1)`:                                                       "6",
		`say(usher.map("m")("nobody", "south"))`:                                                         "south",
		`say(usher.map("m"):get("listed", "x") == "")`:                                                   "true",
		`say(usher.map("m"):get(("x"):rep(1e6)))`:                                                        "nil",
		`say(usher.map("m"):get(""))`:                                                                    "nil",
		`say(usher.map("m").nothing)`:                                                                    "nil",
		`say(getmetatable(usher.map("m")))`:                                                              "nil",
		`say(pcall(function() usher.map("m").x = 1 end))`:                                                "false",
	} {
		if got := said(t, body, query("alice"), m); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
	for statement, want := range map[string]string{
		`usher.map()`:                 "bad argument #1 to map (string expected, got no value)",
		`usher.map("n")`:              `usher.map: no map "n" is given`,
		`usher.map("../m")`:           `usher.map: the file's name "../m" has a part .. in it`,
		`usher.map("m"):get()`:        "bad argument #2 to get (string expected, got no value)",
		`usher.map("m"):get(1)`:       "bad argument #2 to get (string expected, got number): 1",
		`usher.map("m").get({}, "x")`: "bad argument #1 to get (usher_map expected, got table)",
	} {
		if got := luaError(t, statement, m); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
	if got := luaError(t, `usher.map("m")`); got != "usher.map: there are no maps here" {
		t.Error(got)
	}
}

// Files are found from the script's folder, in dry runs too, and a changed one is
// seen by the next request.
func TestUsher_MapFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "moved.map")
	if err := os.WriteFile(file, []byte("alice 127.0.0.3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	registry := maps.New(zap.NewNop())
	change := func(o *Options) {
		o.Filters[0].Path, o.Deps.Maps = filepath.Join(dir, "test.lua"), registry
	}
	const text = `
		local moved = usher.map("moved.map")
		function nauthilus_call_filter(request)
			local host = moved(request.username)
			if host then nauthilus_backend.select_backend_server(host, 143) end
		end`
	d := newDirector(t, text, change)
	q := query("alice")
	if v := direct(t, d, q); v.Host != "127.0.0.3" {
		t.Errorf("%+v", v)
	}
	q.DryRun = true
	var steps []string
	q.Trace = func(s string) { steps = append(steps, s) }
	if v := direct(t, d, q); v.Host != "127.0.0.3" {
		t.Errorf("a dry run: %+v", v)
	}
	if !slices.Contains(steps, "test: map "+file+": alice -> 127.0.0.3 (line 1)") {
		t.Errorf("steps %q", steps)
	}
	steps = nil
	q.Request.User = "bob"
	direct(t, d, q)
	if !slices.Contains(steps, "test: map "+file+": bob is not there") {
		t.Errorf("steps %q", steps)
	}
}

// A map that is broken or missing when the script starts stops the start.
func TestUsher_MapStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m"), []byte("a\n@ b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"m": "/m:2: expected a domain after @", "n": "/n: no such file or directory"} {
		_, err := New(Options{
			Filters: []Filter{{Name: "x", Path: filepath.Join(dir, "x.lua"), Text: `local m = usher.map("` + name + `")` + inFilter("")}},
			Deps:    &modules.Deps{Log: zap.NewNop(), Cache: modules.NewStore(), Maps: maps.New(zap.NewNop())},
			Limits:  budget.Limits{Steps: 1000, Memory: 1 << 20, Time: time.Second},
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The start waits for a map that takes longer to read than a request may take; a
// request does not, and the next one has it.
func TestUsher_MapSlow(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m"), []byte(strings.Repeat("somebody somewhere\n", 400_000)+"alice here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hasty := func(o *Options) {
		o.Filters[0].Path, o.Deps.Maps, o.Limits.Time = filepath.Join(dir, "test.lua"), maps.New(zap.NewNop()), 25*time.Millisecond
	}
	d := newDirector(t, `local m = usher.map("m") `+inFilter(`assert(m(request.username) == "here")`), hasty)
	direct(t, d, query("alice"))

	d = newDirector(t, inFilter(`if request.username == "alice" then assert(usher.map("m")(request.username) == "here") end`), hasty)
	askFault(t, d, query("alice"))
	for range 200 {
		time.Sleep(10 * time.Millisecond)
		if _, err := d.Direct(context.Background(), query("alice")); err == nil {
			return
		}
	}
	t.Error("the map never came")
}

func TestUsher_CIDR(t *testing.T) {
	for args, want := range map[string]string{
		`"192.0.2.0/24", "192.0.2.7"`:                      "true",
		`"192.0.2.0/24", "192.0.3.7"`:                      "false",
		`{"198.51.100.0/24", "192.0.2.0/24"}, "192.0.2.7"`: "true",
		`{}, "192.0.2.7"`:                                  "false",
		`"192.0.2.7", "192.0.2.7"`:                         "true",
		`"192.0.2.9/24", "192.0.2.7"`:                      "true",
		`"192.0.2.0/24", "::ffff:192.0.2.7"`:               "true",
		`"::ffff:192.0.2.0/120", "192.0.2.7"`:              "true",
		`"::ffff:192.0.2.7", "192.0.2.7"`:                  "true",
		`"0.0.0.0/0", "2001:db8::1"`:                       "false",
		`"::/0", "192.0.2.7"`:                              "false",
		`"2001:db8::/32", "2001:DB8::1"`:                   "true",
		`"fe80::/10", "fe80::1%eth0"`:                      "true",
		`"0.0.0.0/0", ""`:                                  "false",
		`"0.0.0.0/0", "example.org"`:                       "false",
		`"0.0.0.0/0", ("1"):rep(1e5)`:                      "false",
		`"192.0.2.0/24", request.client_ip`:                "true",
	} {
		if got := said(t, `say(usher.cidr(`+args+`))`, query("alice")); got != want {
			t.Errorf("cidr(%s) = %s, want %s", args, got, want)
		}
	}
	const expected = "is no network and no address; expected 192.0.2.0/24 or the like"
	for statement, want := range map[string]string{
		`usher.cidr("192.0.2.0/33", "192.0.2.7")`: `bad argument #1 to cidr: "192.0.2.0/33" ` + expected,
		`usher.cidr({"10.0.0.0/8", "x"}, "")`:     `bad argument #1 to cidr: "x" ` + expected,
		`usher.cidr({1}, "")`:                     "bad argument #1 to cidr (list of strings expected, its element 1 is a number)",
		`usher.cidr(nil, "")`:                     "bad argument #1 to cidr (string or list of strings expected, got nil)",
		`usher.cidr("10.0.0.0/8")`:                "bad argument #2 to cidr (string expected, got no value)",
	} {
		if got := luaError(t, statement); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
	q := query("alice")
	var steps []string
	q.Trace = func(s string) { steps = append(steps, s) }
	ask(t, `usher.cidr({"10.0.0.0/8", "192.0.2.0/24"}, request.client_ip) usher.cidr("10.0.0.0/8", request.client_ip)`, q)
	if !slices.Contains(steps, "test: cidr: 192.0.2.7 is in 192.0.2.0/24") || !slices.Contains(steps, "test: cidr: 192.0.2.7 is in none of the networks") {
		t.Errorf("steps %q", steps)
	}
}
