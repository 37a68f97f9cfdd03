package luabridge

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/proxy"
)

// The examples of the reference page, each as it stands there.
func TestReferenceExamples(t *testing.T) {
	const module = `local nauthilus_backend = require("nauthilus_backend") `
	tests := []struct {
		name, body string
		want       proxy.Verdict
	}{
		{"get_backend_servers", `
			local servers = nauthilus_backend.get_backend_servers()
			for i, server in ipairs(servers) do
			nauthilus_util.log_debug("Found server: " .. server.host .. ":" .. tostring(server.port))
			end`, proxy.Verdict{}},
		{"select_backend_server", `
			nauthilus_backend.select_backend_server("10.0.0.50", 993)`,
			proxy.Verdict{Selected: true, Host: "10.0.0.50", Port: 993, Reason: proxy.Selected, By: "policy:test"}},
		{"check_backend_connection", `
			local protocol, host, port, tls, skip_verify, haproxy_v2 = "imap", "10.0.0.50", 993, true, false, false
			local ok, err = nauthilus_backend.check_backend_connection(protocol, host, port, tls, skip_verify, haproxy_v2)
			assert(ok == true and err == nil)`, proxy.Verdict{}},
		{"apply_backend_result", `
			local b = nauthilus_backend_result.new()
			b:attributes({ custom_field = "new_value" })
			nauthilus_backend.apply_backend_result(b)`,
			proxy.Verdict{Changes: []proxy.Change{{Attr: proxy.Attr{Name: "custom_field", Value: "new_value"}}}}},
		{"remove_from_backend_result", `
			nauthilus_backend.remove_from_backend_result({"temp_attribute", "internal_id"})`,
			proxy.Verdict{Changes: []proxy.Change{
				{Attr: proxy.Attr{Name: "temp_attribute"}, Remove: true},
				{Attr: proxy.Attr{Name: "internal_id"}, Remove: true},
			}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(t, module+tt.body, query("alice"))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestServerProperties(t *testing.T) {
	q := query("alice")
	q.View = proxy.NewView([]proxy.Entry{{
		Server: &proxy.Server{
			Protocol: "http", Host: "mail.example.org.", Port: 8443, TLS: true, TLSSkipVerify: true, HAProxyV2: true,
			DeepCheck: true, RequestURI: "/ping", TestUsername: "probe", TestPassword: proxy.NewSecret("probe's"), Weight: 100,
		}, Health: proxy.Up, Addr: netip.MustParseAddr("192.0.2.1"),
	}, {
		Server: &proxy.Server{Protocol: "imap", Host: "::1", Port: 143, Weight: 100}, Health: proxy.Up,
	}})
	ask(t, `
		local function is(got, want) assert(got == want and type(got) == type(want), tostring(got) .. " is not " .. tostring(want)) end
		local s, plain = unpack(nauthilus_backend.get_backend_servers())
		assert(type(s) == "userdata")
		is(s.protocol, "http") is(s.host, "mail.example.org.") is(s.ip, s.host) is(s.port, 8443)
		is(s.request_uri, "/ping") is(s.test_username, "probe") is(s.test_password, "probe's")
		is(s.haproxy_v2, true) is(s.tls, true) is(s.tls_skip_verify, true) is(s.deep_check, true)
		is(plain.protocol, "imap") is(plain.host, "::1") is(plain.port, 143)
		is(plain.request_uri, "") is(plain.test_username, "") is(plain.test_password, "")
		is(plain.haproxy_v2, false) is(plain.tls, false) is(plain.tls_skip_verify, false) is(plain.deep_check, false)
		is(s.nothing, nil) is(s[1], nil)
		assert(not pcall(function() s.port = 1 end), "a field can be set")
		assert(not pcall(pairs, s) and not pcall(next, s), "pairs works")
		assert(nauthilus_backend.get_backend_servers()[1] ~= s, "two calls gave the same object")
	`, q)
}

// Only what is alive is listed, in the configuration's order, of every
// protocol; a drained host's entries only for its own users.
func TestGetBackendServers(t *testing.T) {
	entry := func(proto, host string, h proxy.Health, a proxy.Admin) proxy.Entry {
		return proxy.Entry{Server: &proxy.Server{Protocol: proto, Host: host, Port: 1, Weight: 1}, Health: h, Admin: a}
	}
	view := proxy.NewView([]proxy.Entry{
		entry("pop3", "d", proxy.Up, proxy.AdminUp),
		entry("imap", "c", proxy.Up, proxy.AdminUp),
		entry("imap", "b", proxy.Down, proxy.AdminUp),
		entry("pop3", "b", proxy.Up, proxy.AdminUp),
		entry("imap", "a", proxy.Up, proxy.AdminUp),
		entry("imap", "drained", proxy.Up, proxy.AdminDrain),
		entry("imap", "off", proxy.Up, proxy.AdminDown),
		entry("imap", "new", proxy.Unknown, proxy.AdminUp),
		entry("smtp", "a", proxy.Up, proxy.AdminUp),
	})
	for assigned, want := range map[string]string{
		"":        "pop3:d imap:c imap:a smtp:a",
		"drained": "pop3:d imap:c imap:a imap:drained smtp:a",
		"b":       "pop3:d imap:c imap:a smtp:a",
	} {
		q := query("alice")
		q.View, q.Assigned = view, assigned
		v := ask(t, `
			local seen = {}
			for i, s in ipairs(nauthilus_backend.get_backend_servers()) do seen[i] = s.protocol .. ":" .. s.host end
			nauthilus_builtin.custom_log_add("seen", table.concat(seen, " "))`, q)
		if got := v.Logs[0].Value; got != want {
			t.Errorf("assigned %q: got %s, want %s", assigned, got, want)
		}
	}
	q := query("alice")
	q.View = proxy.NewView(nil)
	ask(t, `assert(#nauthilus_backend.get_backend_servers() == 0)`, q)
}

func TestSelectBackendServer(t *testing.T) {
	const s = `local select = nauthilus_backend.select_backend_server `
	for name, tt := range map[string]struct {
		body string
		host string
		port int
	}{
		"last call wins":          {`select("a", 1) select("b", 2)`, "b", 2},
		"digits as text":          {`select("a", "993")`, "a", 993},
		"a server's own":          {`local x = nauthilus_backend.get_backend_servers()[2] select(x.host, x.port)`, "127.0.0.2", 110},
		"port 0":                  {`select("a", 0)`, "a", -1},
		"port 65535":              {`select("a", 65535)`, "a", 65535},
		"port 65536":              {`select("a", 65536)`, "a", -1},
		"port 99999 as text":      {`select("a", "99999")`, "a", -1},
		"negative port":           {`select("a", -1)`, "a", -1},
		"port with a fraction":    {`select("a", 143.5)`, "a", -1},
		"not a number":            {`select("a", 0/0)`, "a", -1},
		"infinite":                {`select("a", math.huge)`, "a", -1},
		"a bad host is recorded":  {`select("no host", 143)`, "no host", 143},
		"an empty host too":       {`select("", 143)`, "", 143},
		"an error keeps the last": {`select("a", 1) pcall(select, "b")`, "a", 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := ask(t, s+tt.body, query("alice"))
			if !v.Selected || v.Host != tt.host || v.Port != tt.port || v.Reason != proxy.Selected || v.By != "policy:test" {
				t.Errorf("verdict: %+v", v)
			}
		})
	}
}

func TestWrongArguments(t *testing.T) {
	for statement, want := range map[string]string{
		`nauthilus_backend.select_backend_server("a")`:                                           "bad argument #2 to select_backend_server (expected server (string) and port (number)), got 1 arguments",
		`nauthilus_backend.select_backend_server()`:                                              "bad argument #2 to select_backend_server (expected server (string) and port (number)), got 0 arguments",
		`nauthilus_backend.select_backend_server("a", 1, 2)`:                                     "bad argument #2 to select_backend_server (expected server (string) and port (number)), got 3 arguments",
		`nauthilus_backend.select_backend_server("a", "imap")`:                                   "bad argument #2 to select_backend_server (expected server (string) and port (number)), got string: \"imap\"",
		`nauthilus_backend.select_backend_server("a", " 993")`:                                   "bad argument #2 to select_backend_server (expected server (string) and port (number)), got string: \" 993\"",
		`nauthilus_backend.select_backend_server("a", nil)`:                                      "bad argument #2 to select_backend_server (expected server (string) and port (number)), got nil",
		`nauthilus_backend.select_backend_server("a", {})`:                                       "bad argument #2 to select_backend_server (expected server (string) and port (number)), got table",
		`nauthilus_backend.select_backend_server(143, 143)`:                                      "bad argument #1 to select_backend_server (expected server (string) and port (number)), got number: 143",
		`nauthilus_backend.select_backend_server(nauthilus_backend.get_backend_servers()[1], 1)`: "bad argument #1 to select_backend_server (expected server (string) and port (number)), got nauthilus_backend_server",

		`nauthilus_backend.check_backend_connection()`:                               "bad argument #1 to check_backend_connection (protocol (string) expected, got no value)",
		`nauthilus_backend.check_backend_connection(true, "a", 1)`:                   "bad argument #1 to check_backend_connection (protocol (string) expected, got boolean): true",
		`nauthilus_backend.check_backend_connection(nauthilus_backend_result.new())`: "bad argument #1 to check_backend_connection (protocol (string) expected, got nauthilus_backend_result)",
		`nauthilus_backend.check_backend_connection("imap", nil, 1)`:                 "bad argument #2 to check_backend_connection (host (string) expected, got nil)",
		`nauthilus_backend.check_backend_connection("imap", "a", "x")`:               "bad argument #3 to check_backend_connection (port (number) expected, got string): \"x\"",
		`nauthilus_backend.check_backend_connection("imap", "a", 1, "yes")`:          "bad argument #4 to check_backend_connection (boolean expected, got string): \"yes\"",
		`nauthilus_backend.check_backend_connection("imap", "a", 1, true, 1)`:        "bad argument #5 to check_backend_connection (boolean expected, got number): 1",
		`nauthilus_backend.check_backend_connection("imap", "a", 1, true, true, {})`: "bad argument #6 to check_backend_connection (boolean expected, got table)",
		`nauthilus_backend.check_backend_connection({host = "a"})`:                   "bad argument #1 to check_backend_connection (its port is a nil; number expected)",

		`nauthilus_backend.apply_backend_result()`:                                           "bad argument #1 to apply_backend_result (nauthilus_backend_result expected, got no value)",
		`nauthilus_backend.apply_backend_result({})`:                                         "bad argument #1 to apply_backend_result (nauthilus_backend_result expected, got table)",
		`nauthilus_backend.apply_backend_result(nauthilus_backend.get_backend_servers()[1])`: "bad argument #1 to apply_backend_result (nauthilus_backend_result expected, got nauthilus_backend_server)",
		`nauthilus_backend.remove_from_backend_result()`:                                     "bad argument #1 to remove_from_backend_result (table expected, got no value)",
		`nauthilus_backend.remove_from_backend_result("a")`:                                  "bad argument #1 to remove_from_backend_result (table expected, got string): \"a\"",

		`nauthilus_backend_result.new():user_found("x")`:                                                                     "bad argument #2 to user_found (boolean expected, got string): \"x\"",
		`nauthilus_backend_result.new():authenticated(nil)`:                                                                  "bad argument #2 to authenticated (boolean expected, got nil)",
		`nauthilus_backend_result.new():account_field({})`:                                                                   "bad argument #2 to account_field (string expected, got table)",
		`nauthilus_backend_result.new():attributes("x")`:                                                                     "bad argument #2 to attributes (table expected, got string): \"x\"",
		`nauthilus_backend_result.new().attributes()`:                                                                        "bad argument #1 to attributes (nauthilus_backend_result expected, got no value)",
		`nauthilus_backend_result.new().user_found({})`:                                                                      "bad argument #1 to user_found (nauthilus_backend_result expected, got table)",
		`local t = {} t.t = t nauthilus_backend_result.new():attributes(t)`:                                                  "a table is nested over 16 deep",
		`local t = {1} for i = 1, 15 do t = {t, t, t, t, t, t, t, t} end nauthilus_backend_result.new():attributes({t = t})`: "a table has over 4096 values",

		`nauthilus_builtin.status_message_set()`:      "bad argument #1 to status_message_set (string expected, got no value)",
		`nauthilus_builtin.custom_log_add({}, 2)`:     "bad argument #1 to custom_log_add (string expected, got table)",
		`nauthilus_util.log_error(request, nil, "x")`: "bad argument #2 to log_error (string or table expected, got nil)",
		`nauthilus_util.log_error()`:                  "bad argument #1 to log_error (string or table expected, got no value)",
		`usher.servers("ssd")`:                        "bad argument #1 to servers (table expected, got string): \"ssd\"",
		`usher.servers({tags = "ssd"})`:               `bad argument #1 to servers: unknown filter "tags"; expected tag or host, each a string, or tags, a list of strings`,
		`usher.servers({tag = 1})`:                    `bad argument #1 to servers: unknown filter "tag"; expected tag or host, each a string, or tags, a list of strings`,
		`usher.hash(1, {})`:                           "bad argument #1 to hash (string expected, got number): 1",
		`usher.hash("k")`:                             "bad argument #2 to hash (table of servers expected, got no value)",
		`usher.hash("k", {"a"})`:                      "bad argument #2 to hash (table of servers expected, its element 1 is a string)",
		`usher.sticky(nil)`:                           "bad argument #1 to sticky (table of servers expected, got nil)",
		`usher.select("a")`:                           "bad argument #1 to select (server expected, got string): \"a\"",
		`usher.deny(1)`:                               "bad argument #1 to deny (string expected, got number): 1",
		`usher.hold("1")`:                             "bad argument #1 to hold (number of seconds expected, got string): \"1\"",
		`usher.hold(0)`:                               "bad argument #1 to hold: 0 seconds; expected more than 0, at most 3600",
		`usher.hold(0/0)`:                             "bad argument #1 to hold: NaN seconds; expected more than 0, at most 3600",
		`usher.hold(3601)`:                            "bad argument #1 to hold: 3601 seconds; expected more than 0, at most 3600",
		`math.random(0)`:                              "bad argument #1 to random (interval is empty or too large)",
		`math.random(2, 1)`:                           "bad argument #2 to random (interval is empty or too large)",
		`require("nauthilus_backent")`:                `module "nauthilus_backent": not found: usher has no such module, and it is not in director.package_path`,
	} {
		t.Run(statement, func(t *testing.T) {
			if got := luaError(t, statement); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// checkerFunc is a Checker of one function.
type checkerFunc func(ctx context.Context, s *proxy.Server) error

func (f checkerFunc) CheckConnection(ctx context.Context, s *proxy.Server) error { return f(ctx, s) }

func TestCheckBackendConnection(t *testing.T) {
	tests := []struct {
		name, call string
		deny, dry  bool
		down       bool
		want       string        // ok, err
		asked      *proxy.Server // nil: no connection is tried
	}{
		{name: "up", call: `"imap", "192.0.2.1", 993, true, false, true`, want: "true nil",
			asked: &proxy.Server{Protocol: "imap", Host: "192.0.2.1", Port: 993, TLS: true, HAProxyV2: true}},
		{name: "flags in order", call: `"smtp", "mx.example.org", "25", false, true, false`, want: "true nil",
			asked: &proxy.Server{Protocol: "smtp", Host: "mx.example.org", Port: 25, TLSSkipVerify: true}},
		{name: "flags left out", call: `"imap", "192.0.2.1", 143`, want: "true nil",
			asked: &proxy.Server{Protocol: "imap", Host: "192.0.2.1", Port: 143}},
		{name: "down", call: `"imap", "192.0.2.1", 143, false, false, false`, down: true, want: "false connection refused",
			asked: &proxy.Server{Protocol: "imap", Host: "192.0.2.1", Port: 143}},
		{name: "unlisted allowed", call: `"imap", "192.0.2.1", 143`, want: "true nil",
			asked: &proxy.Server{Protocol: "imap", Host: "192.0.2.1", Port: 143}},
		{name: "unlisted denied", call: `"imap", "192.0.2.1", 143`, deny: true,
			want: "false 192.0.2.1:143 is not configured, and unlisted_backends is deny"},
		{name: "port not listed", call: `"imap", "127.0.0.2", 22`, deny: true,
			want: "false 127.0.0.2:22 is not configured, and unlisted_backends is deny"},
		{name: "listed, other spelling", call: `"imap", "::ffff:127.0.0.2", 143`, deny: true, want: "true nil",
			asked: &proxy.Server{Protocol: "imap", Host: "::ffff:127.0.0.2", Port: 143}},
		{name: "dry run", call: `"imap", "192.0.2.1", 143`, dry: true,
			want: "false not tried: a dry run reaches no network (usher route --network does)"},
		{name: "bad host", call: `"imap", "no host", 143`, want: "false no host name and no address"},
		{name: "bad port", call: `"imap", "192.0.2.1", 99999`, want: "false port is outside 1-65535"},

		{name: "a server", call: `nauthilus_backend.get_backend_servers()[1]`, deny: true, want: "true nil",
			asked: &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143, Weight: 100}},
		{name: "a server, down", call: `nauthilus_backend.get_backend_servers()[1]`, down: true, want: "false connection refused",
			asked: &proxy.Server{Protocol: "imap", Host: "127.0.0.2", Port: 143, Weight: 100}},
		{name: "until 1.3", call: `"192.0.2.1", 993, true, false`, want: "nil nil",
			asked: &proxy.Server{Host: "192.0.2.1", Port: 993, HAProxyV2: true}},
		{name: "until 1.3, down", call: `"192.0.2.1", 993, false, true`, down: true, want: "connection refused nil",
			asked: &proxy.Server{Host: "192.0.2.1", Port: 993, TLS: true}},
		{name: "until 1.3, denied", call: `"192.0.2.1", 993, false, true`, deny: true,
			want: "192.0.2.1:993 is not configured, and unlisted_backends is deny nil"},
		{name: "until 1.11", call: `{protocol = "imap", ip_address = "192.0.2.1", port = 993, tls = true, tls_skip_verify = true, haproxy_v2 = true}`,
			want: "nil nil", asked: &proxy.Server{Protocol: "imap", Host: "192.0.2.1", Port: 993, TLS: true, TLSSkipVerify: true, HAProxyV2: true}},
		{name: "until 1.11, down", call: `{protocol = "imap", host = "192.0.2.1", port = 143}`, down: true, want: "connection refused nil",
			asked: &proxy.Server{Protocol: "imap", Host: "192.0.2.1", Port: 143}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked *proxy.Server
			check := checkerFunc(func(ctx context.Context, s *proxy.Server) error {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("a connection is tried without a deadline")
				}
				asked = s
				if tt.down {
					return errors.New("connection refused")
				}
				return nil
			})
			q := query("alice")
			q.DryRun = tt.dry
			v := ask(t, `
				local ok, err = nauthilus_backend.check_backend_connection(`+tt.call+`)
				nauthilus_builtin.custom_log_add("got", tostring(ok) .. " " .. tostring(err))`, q, func(o *Options) {
				o.Deps.Checker, o.Deps.DenyUnlisted = check, tt.deny
			})
			if got := v.Logs[0].Value; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if diff := cmp.Diff(tt.asked, asked, cmpopts.IgnoreFields(proxy.Server{}, "TestPassword")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBackendResult(t *testing.T) {
	const have = `local b = nauthilus_backend_result.new() local apply = nauthilus_backend.apply_backend_result
		local remove = nauthilus_backend.remove_from_backend_result `
	set := func(name, value string) proxy.Change { return proxy.Change{Attr: proxy.Attr{Name: name, Value: value}} }
	bare := func(name string) proxy.Change { return proxy.Change{Attr: proxy.Attr{Name: name, Bare: true}} }
	gone := func(name string) proxy.Change { return proxy.Change{Attr: proxy.Attr{Name: name}, Remove: true} }
	list := func(name string) proxy.Change { return proxy.Change{Attr: proxy.Attr{Name: name}, List: true} }
	for name, tt := range map[string]struct {
		body string
		want []proxy.Change
	}{
		"nothing":               {`apply(b)`, nil},
		"empty table":           {`b:attributes({}) apply(b)`, nil},
		"order of the table":    {`b:attributes({z = "1", a = "2", m = "3", b = "4"}) apply(b)`, []proxy.Change{set("z", "1"), set("a", "2"), set("m", "3"), set("b", "4")}},
		"overwrites":            {`b:attributes({a = "1", b = "1"}) apply(b) b:attributes({a = "2"}) apply(b)`, []proxy.Change{set("a", "2"), set("b", "1")}},
		"remove after apply":    {`b:attributes({a = "1"}) apply(b) remove({"a"})`, []proxy.Change{gone("a")}},
		"apply after remove":    {`remove({"a", "b"}) b:attributes({a = "1"}) apply(b)`, []proxy.Change{set("a", "1"), gone("b")}},
		"names as text":         {`remove({1, true, "x"})`, []proxy.Change{gone("1"), gone("true"), gone("x")}},
		"true, false, nil":      {`b:attributes({t = true, f = false, n = nil}) apply(b)`, []proxy.Change{bare("t"), gone("f")}},
		"numbers":               {`b:attributes({a = 1000000, b = 1.5, c = -3}) apply(b)`, []proxy.Change{set("a", "1000000"), set("b", "1.5"), set("c", "-3")}},
		"list":                  {`b:attributes({l = {"a", "b"}}) apply(b)`, []proxy.Change{list("l")}},
		"what is no value":      {`b:attributes({f = print, u = b, [1] = "x", a = "1"}) apply(b)`, []proxy.Change{set("a", "1")}},
		"copied when set":       {`local t = {a = "1"} b:attributes(t) t.a = "2" t.b = "3" apply(b)`, []proxy.Change{set("a", "1")}},
		"copied when read":      {`b:attributes({a = "1"}) b:attributes().a = "2" apply(b)`, []proxy.Change{set("a", "1")}},
		"read and set again":    {`b:attributes({a = "1"}) local t = b:attributes() t.b = "2" b:attributes(t) apply(b)`, []proxy.Change{set("a", "1"), set("b", "2")}},
		"an error keeps it":     {`b:attributes({a = "1"}) pcall(b.attributes, b, "x") apply(b)`, []proxy.Change{set("a", "1")}},
		"new with colon":        {`b = nauthilus_backend_result:new() b:attributes({a = "1"}) apply(b)`, []proxy.Change{set("a", "1")}},
		"by require":            {`b = require("nauthilus_backend_result").new() b:attributes({a = "1"}) apply(b)`, []proxy.Change{set("a", "1")}},
		"by require with colon": {`b = require("nauthilus_backend_result"):new() b:attributes({a = "1"}) apply(b)`, []proxy.Change{set("a", "1")}},
		"flags": {`
			assert(b:authenticated() == false and b:user_found() == false)
			assert(select("#", b:authenticated(true)) == 0)
			assert(b:authenticated() == true and b:user_found() == false and b:authenticated(1, 2) == true)`, nil},
		"texts": {`
			for _, name in ipairs({"account_field", "totp_secret_field", "totp_recovery_field", "unique_user_id_field", "display_name_field"}) do
				assert(b[name](b) == "")
				assert(select("#", b[name](b, name)) == 0)
			end
			for _, name in ipairs({"account_field", "totp_secret_field", "totp_recovery_field", "unique_user_id_field", "display_name_field"}) do
				assert(b[name](b) == name)
			end`, nil},
		"unknown method, assignment": {`
			assert(b.nothing == nil and type(b) == "userdata")
			assert(not pcall(function() b.x = 1 end))`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := ask(t, have+tt.body, query("alice"))
			if diff := cmp.Diff(tt.want, v.Changes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChangesAreBounded(t *testing.T) {
	v := ask(t, `
		for i = 1, 1000 do
			local b = nauthilus_backend_result.new()
			b:attributes({["a" .. i] = "x"})
			nauthilus_backend.apply_backend_result(b)
		end`, query("alice"))
	if len(v.Changes) != 256 {
		t.Errorf("%d changes", len(v.Changes))
	}
}

// The trace of a dry run tells each step.
func TestTrace(t *testing.T) {
	var steps []string
	q := query("alice")
	q.Trace = func(step string) {
		steps = append(steps, regexp.MustCompile(` \(.*\d+ .?s\)$`).ReplaceAllString(step, ""))
	}
	ask(t, `
		local s = nauthilus_backend.get_backend_servers()[1]
		nauthilus_backend.check_backend_connection(s)
		nauthilus_backend.select_backend_server(s.host, s.port)
		nauthilus_backend.apply_backend_result(nauthilus_backend_result.new())`, q)
	want := []string{
		"test: get_backend_servers() -> 16 servers",
		"test: nauthilus_backend check_backend_connection imap 127.0.0.2:143: ok",
		"test: select 127.0.0.2:143 (selected)",
		"test: apply_backend_result: no attributes",
		"test: accepts, selects 127.0.0.2:143",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Error(strings.TrimSpace(diff))
	}
}
