package policytest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The shelf passes its tests, and is short enough to be read.
func TestShelf(t *testing.T) {
	files, err := Files([]string{"../../scripts"})
	if err != nil {
		t.Fatal(err)
	}
	r := Run(context.Background(), files)
	if !r.OK() || r.Pending > 0 {
		t.Errorf("%s", printed(t, r))
	}
	policies, err := filepath.Glob("../../scripts/*.lua")
	if err != nil || len(policies) < 18 {
		t.Fatalf("%d files, %v", len(policies), err)
	}
	for _, path := range policies {
		if strings.HasSuffix(path, suffix) {
			continue
		}
		text, err := os.ReadFile(path)
		if lines := strings.Count(string(text), "\n"); err != nil || lines > 40 {
			t.Errorf("%s has %d lines, at most 40 are wanted; %v", path, lines, err)
		}
		if _, err := os.Stat(strings.TrimSuffix(path, ".lua") + suffix); err != nil {
			t.Errorf("a policy without tests: %v", err)
		}
	}
}

// What is wrong in a test is said with file and line.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct{ text, where, want string }{
		"syntax":                  {"it(\"x\", function(", "p_test.lua", "p_test.lua"},
		"unknown name":            {"\ndescirbe(\"x\", function() end)", "p_test.lua:2", `did you mean "describe"?`},
		"unknown key":             {`given {polcy = "p.lua"}`, "p_test.lua:1", `did you mean "policy"?`},
		"no such policy":          {`given {policy = "gone.lua"}`, "p_test.lua:1", "gone.lua"},
		"backend's key":           {`given {backends = {{hots = "x"}}}`, "p_test.lua:1", `[1]: a backend has no "hots"; did you mean "host"?`},
		"backend's protocol":      {`given {backends = {{host = "x", protocol = "impa"}}}`, "p_test.lua:1", `did you mean "imap"?`},
		"health word":             {`given {health = {x = "dwon"}}`, "p_test.lua:1", "expected one of up, down, checking, unknown, stale, drain"},
		"health of nobody":        {world1 + `given {health = {["192.0.2.13"] = "down"}} it("x", function() end)`, "p_test.lua:1", "no backend is named so"},
		"no policy":               {`it("x", function() end)`, "p_test.lua:1", "no policy is given"},
		"a name like no other":    {world1 + `it("x", function() require("json") end)`, "p_test.lua:1", `unknown name "require"`},
		"a key like no other":     {`given {zzz = 1}`, "p_test.lua:1", "expected one of affinity, assigned, backends"},
		"nil":                     {world1 + `it("x", function() local a a.b = 1 end)`, "p_test.lua:1", `attempt to index local a (a nil value) with key "b"`},
		"expectation":             {world1 + `it("x", function() expect(1):to_bee(1) end)`, "p_test.lua:1", `did you mean "to_be"?`},
		"dot":                     {world1 + `it("x", function() expect(1).to_be(1) end)`, "p_test.lua:1", "with a colon"},
		"login's key":             {world1 + `it("x", function() login {usr = "a"} end)`, "p_test.lua:1", `did you mean "user"?`},
		"login without user":      {world1 + `it("x", function() login {} end)`, "p_test.lua:1", "needs a user"},
		"decision's field":        {world1 + `it("x", function() local _ = login {user = "a"}.outcom end)`, "p_test.lua:1", `did you mean "outcome"?`},
		"login outside":           {world1 + `login {user = "a"}`, "p_test.lua:1", "stands inside of a test"},
		"it inside":               {world1 + `it("x", function() it("y", function() end) end)`, "p_test.lua:1", "stands outside of tests"},
		"time going back":         {world1 + `it("x", function() given {time = "2020-01-01T00:00:00Z"} end)`, "p_test.lua:1", "does not go back"},
		"endless test":            {world1 + "\nit(\"x\", function()\nwhile true do end end)", "p_test.lua:3", "does not end"},
		"endless file":            {"while true do end", "p_test.lua:1", "does not end"},
		"endless test, caught":    {world1 + `it("x", function() while true do pcall(function() while true do end end) end end)`, "p_test.lua:1", "does not end"},
		"too much memory":         {world1 + `it("x", function() local s = "x" while true do s = s .. s end end)`, "p_test.lua:1", "memory"},
		"error":                   {world1 + "it(\"x\", function()\nlocal a = nil; a.b = 1 end)", "p_test.lua:2", "nil"},
		"difference":              {world1 + `it("x", function() expect({a = {b = 1}, c = 2}):to_be({a = {b = 3}, c = 2}) end)`, "p_test.lua:1", "- a.b = 3\n+ a.b = 1"},
		"texts":                   {world1 + `it("x", function() expect("a"):to_be("b") end)`, "p_test.lua:1", "expected \"b\"\n     got \"a\""},
		"route":                   {world1 + `it("x", function() expect(login {user = "a"}):to_route_to("192.0.2.13", 143) end)`, "p_test.lua:1", "expected routed to 192.0.2.13:143\n     got routed to 192.0.2.1"},
		"no files":                {world1 + `it("x", function() dofile("p.lua") end)`, "p_test.lua:1", "dofile"},
		"raises nothing":          {world1 + `it("x", function() expect(function() end):to_raise() end)`, "p_test.lua:1", "there was none"},
		"number of arguments":     {world1 + `it("x", function() expect(1):to_be() end)`, "p_test.lua:1", "to_be: expected 1 arguments in the brackets, got 0"},
		"map that is broken":      {world1 + `given {maps = {m = "/(/ x"}} it("x", function() end)`, "p_test.lua:1", "given.maps: m:1"},
		"two answers, no network": {world1 + `given {http = {["GET http://a/"] = "dwn"}}`, "p_test.lua:1", "expected one of down, slow"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c.text)
			if r.Failed != 1 || r.OK() {
				t.Fatalf("%+v", r)
			}
			got := r.Tests[0]
			if !strings.HasPrefix(got.Where, c.where) || !strings.Contains(got.Where+": "+got.Message, c.want) {
				t.Errorf("at %s: %s\nwant it at %s, with %s", got.Where, got.Message, c.where, c.want)
			}
		})
	}
}

// A policy that does not end costs its request, not the test.
func TestPolicyFaults(t *testing.T) {
	for name, c := range map[string]struct{ policy, test string }{
		"endless": {`function nauthilus_call_filter() while usher.assigned() == nil do end end`, `expect(login {user = "a"}):to_tempfail("policy_budget")`},
		"raises":  {`function nauthilus_call_filter(r) if r.username == "a" then error("boom") end end`, `local d = login {user = "a"} expect(d):to_tempfail("policy_error") expect(d.error):to_match("boom")`},
		"refuses": {`function nauthilus_call_filter(r) usher.deny("closed") end`, `expect(login {user = "a"}):to_be_denied("closed")`},
		"logs": {
			`function nauthilus_call_filter(r) nauthilus_builtin.custom_log_add("site", os.getenv("SITE")) usher.select(usher.first(usher.servers())) end`,
			`given {env = {SITE = "north"}} expect(login {user = "a"}.logs):to_be {site = "north"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := runBeside(t, c.policy, world1+`it("x", function() `+c.test+` end)`)
			if !r.OK() {
				t.Error(printed(t, r))
			}
		})
	}
}

// asks is a policy that asks HTTP, DNS and Redis.
const asks = `local http = require("glua_http")
function nauthilus_call_filter(request)
  local log = nauthilus_builtin.custom_log_add
  if request.username == "web" then
    local answer, err = http.get("http://directory.example.org/web")
    log("said", answer and answer.body or err)
  else
    local list, err = nauthilus_dns.resolve("example.org", "TXT")
    log("said", list and list[1] or err)
  end
  usher.select(usher.first(usher.servers()))
end`

func TestNetwork(t *testing.T) {
	for name, c := range map[string]struct{ test, want string }{
		"http":           {`given {http = {["GET http://directory.example.org/web"] = {body = "north"}}} expect(login {user = "web"}.logs.said):to_be("north")`, ""},
		"http down":      {`given {http = {["GET http://directory.example.org/web"] = "down"}} expect(login {user = "web"}.logs.said):to_contain("refused")`, ""},
		"http slow":      {`given {http = {["GET http://directory.example.org/web"] = "slow"}} expect(login {user = "web"}.logs.said):to_contain("no answer in time")`, ""},
		"http not given": {`given {http = {["GET http://directory.example.org/wed"] = {}}} login {user = "web"}`, `http "GET http://directory.example.org/web" is not given; did you mean "GET http://directory.example.org/wed"?`},
		"dns":            {`given {dns = {["example.org TXT"] = {"v=spf1 -all"}}} expect(login {user = "dns"}.logs.said):to_be("v=spf1 -all")`, ""},
		"dns, no such":   {`given {dns = {["example.org A"] = {"192.0.2.80"}}} expect(login {user = "dns"}.logs.said):not_to_be(nil)`, ""},
		"dns not given":  {`login {user = "dns"}`, `dns "example.org TXT" is not given`},
	} {
		t.Run(name, func(t *testing.T) {
			r := runBeside(t, asks, world1+`it("x", function() `+c.test+` end)`)
			switch {
			case c.want == "" && !r.OK():
				t.Error(printed(t, r))
			case c.want != "" && !strings.Contains(r.Tests[0].Message, c.want):
				t.Errorf("%s\nwant %s", r.Tests[0].Message, c.want)
			}
		})
	}
}

// Tests see nothing of each other; inner givens go over outer ones.
func TestScopes(t *testing.T) {
	r := run(t, world1+`
local order = {}
before_each(function() table.insert(order, "outer") end)
describe("a", function()
  given {health = {["192.0.2.11"] = "down"}}
  before_each(function() table.insert(order, "inner") end)
  it("one", function()
    expect(order):to_be {"outer", "inner"}
    expect(login {user = "bob"}):to_route_to("192.0.2.12", 1143)
  end)
  it("two", function()
    given {health = {["192.0.2.11"] = "up", ["192.0.2.12"] = "down"}}
    expect(login {user = "bob"}):to_route_to("192.0.2.11")
  end)
end)
it("three", function()
  order = {}
  given {health = {["192.0.2.12"] = "down"}}
  expect(login {user = "bob"}):to_route_to("192.0.2.11")
end)
pending("four")
`)
	if r.Passed != 3 || r.Pending != 1 || r.Failed != 0 {
		t.Error(printed(t, r))
	}
	if got := printed(t, r); !strings.Contains(got, "p_test.lua\n  ✓ a › one\n  ✓ a › two\n  ✓ three\n  - four (pending)\n3 passed, 0 failed, 1 pending") {
		t.Error(got)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b_test.lua", "a.lua", "sub/a_test.lua"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Files([]string{dir, filepath.Join(dir, "b_test.lua")})
	if err != nil || len(files) != 2 {
		t.Errorf("%q, %v", files, err)
	}
	if _, err := Files([]string{filepath.Join(dir, "gone")}); err == nil {
		t.Error("a path that is not there is no error")
	}
	if _, err := Files([]string{filepath.Join(dir, "a.lua")}); err == nil || !strings.Contains(err.Error(), "no test file") {
		t.Errorf("a policy for a test: %v", err)
	}
	if r := Run(context.Background(), files); r.OK() {
		t.Error("no test is no success")
	}
}

// A change of the policy runs the tests again.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("p.lua", policy)
	write("p_test.lua", world1+`it("x", function() expect(login {user = "a"}.outcome):to_be("routed") end)`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	runs := 0
	err := Watch(ctx, []string{dir}, func(r Report, err error) {
		switch runs++; {
		case err != nil:
			t.Error(err)
		case runs == 1 && r.OK():
			write("p.lua", `function nauthilus_call_filter() end`)
		case runs == 2 && r.Failed == 1:
			cancel()
		default:
			t.Errorf("run %d: %+v", runs, r)
			cancel()
		}
	})
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
}
