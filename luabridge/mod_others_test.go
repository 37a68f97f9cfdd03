package luabridge

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/proxy"
)

func TestBuiltin(t *testing.T) {
	v := ask(t, `
		local b = nauthilus_builtin
		for name, want in pairs({
			FILTER_ACCEPT = false, FILTER_REJECT = true,
			FEATURE_TRIGGER_NO = false, FEATURE_TRIGGER_YES = true,
			FEATURES_ABORT_NO = false, FEATURES_ABORT_YES = true,
			FILTER_RESULT_OK = 0, FILTER_RESULT_FAIL = 1, FEATURE_RESULT_OK = 0, FEATURE_RESULT_FAIL = 1,
			BACKEND_RESULT_OK = 0, BACKEND_RESULT_FAIL = 1, ACTION_RESULT_OK = 0, ACTION_RESULT_FAIL = 1,
		}) do assert(b[name] == want, name) end
		assert(b.FEATURE_RESULT_YES == nil and b.nothing == nil)
		assert(require("nauthilus_builtin") == b)

		b.status_message_set("first")
		b.status_message_set("last")
		b.custom_log_add("text", "x")
		b.custom_log_add("text", "again")
		b.custom_log_add("number", 1000000)
		b.custom_log_add("fraction", 1.5)
		b.custom_log_add("yes", true)
		b.custom_log_add("no", false)
		b.custom_log_add("table", {})
		b.custom_log_add("nothing")
		b.custom_log_add(("k"):rep(100), ("v"):rep(2000))
		for i = 1, 100 do b.custom_log_add("more", i) end`, query("alice"))
	if v.Text != "last" || v.Refused {
		t.Errorf("verdict: %+v", v)
	}
	want := []proxy.Attr{
		{Name: "text", Value: "x"}, {Name: "text", Value: "again"}, {Name: "number", Value: "1000000"},
		{Name: "fraction", Value: "1.5"}, {Name: "yes", Value: "true"}, {Name: "no", Value: "false"},
		{Name: "table", Value: "UNSUPPORTED"}, {Name: "nothing", Value: "UNSUPPORTED"},
		{Name: strings.Repeat("k", 64), Value: strings.Repeat("v", 1024)},
	}
	if diff := cmp.Diff(want, v.Logs[:len(want)]); diff != "" {
		t.Error(diff)
	}
	if len(v.Logs) != 64 {
		t.Errorf("%d fields in one line", len(v.Logs))
	}
}

func TestLogging(t *testing.T) {
	type line struct {
		Level  zapcore.Level
		Fields map[string]any
	}
	for name, tt := range map[string]struct {
		call  string
		level zapcore.Level // of the log
		want  []line
	}{
		"text":               {`log_debug("hello")`, zap.DebugLevel, []line{{zap.DebugLevel, map[string]any{"text": "hello"}}}},
		"text and error":     {`log_error("hello", "broken")`, zap.DebugLevel, []line{{zap.ErrorLevel, map[string]any{"text": "hello", "error": "broken"}}}},
		"text, no error":     {`log_error("hello", nil)`, zap.DebugLevel, []line{{zap.ErrorLevel, map[string]any{"text": "hello"}}}},
		"a number":           {`log_info(7)`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "7"}}}},
		"a table alone":      {`log_info({a = 1})`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"a": 1.0}}}},
		"logging, table":     {`log_info(request.logging, {a = "x", b = 1000000, c = true})`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"a": "x", "b": 1e6, "c": true}}}},
		"request as such":    {`log_notice(request, {a = "x"})`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"a": "x"}}}},
		"tables in tables":   {`log_info({a = {1, {b = "x"}}, e = {}, g = setmetatable({}, {__tostring = function() return "mine" end})})`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"a": `[1,{"b":"x"}]`, "e": "[]", "g": "mine"}}}},
		"logging, text":      {`log_warn(request.logging, "x")`, zap.DebugLevel, []line{{zap.WarnLevel, map[string]any{"text": "x"}}}},
		"nil, text":          {`log_warn(nil, "x")`, zap.DebugLevel, []line{{zap.WarnLevel, map[string]any{"text": "x"}}}},
		"with error":         {`log_error(request, {a = "x"}, "broken")`, zap.DebugLevel, []line{{zap.ErrorLevel, map[string]any{"a": "x", "error": "broken"}}}},
		"error is nil":       {`log_error(request, {a = "x"}, nil)`, zap.DebugLevel, []line{{zap.ErrorLevel, map[string]any{"a": "x"}}}},
		"log with level":     {`log(request, "warn", {a = "x"}, "broken")`, zap.DebugLevel, []line{{zap.WarnLevel, map[string]any{"a": "x", "error": "broken"}}}},
		"log, odd level":     {`log(request, "loud", "x")`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "x"}}}},
		"log text":           {`log("x")`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "x"}}}},
		"print_result":       {`print_result(request, {a = "x"}, "broken")`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"a": "x", "error": "broken"}}}},
		"below the log":      {`log_info("x")`, zap.WarnLevel, nil},
		"below log_level":    {`log_info({log_level = "error"}, "x")`, zap.DebugLevel, nil},
		"above log_level":    {`log_error({log_level = "error"}, "x")`, zap.DebugLevel, []line{{zap.ErrorLevel, map[string]any{"text": "x"}}}},
		"unknown is info":    {`log_info({log_level = "loud"}, "x")`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "x"}}}},
		"print always":       {`print_result({log_level = "error"}, "x")`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "x"}}}},
		"long texts":         {`log_info(("x"):rep(10000))`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": strings.Repeat("x", 4096)}}}},
		"print":              {`log_info("a") print("b", 1, nil, true)`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "a"}}, {zap.InfoLevel, map[string]any{"text": "b\t1\tnil\ttrue"}}}},
		"print, long":        {`log_info("a") print(("x"):rep(10000))`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "a"}}, {zap.InfoLevel, map[string]any{"text": strings.Repeat("x", 4096)}}}},
		"usher.log":          {`log_info("a") usher.log("b")`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "a"}}, {zap.InfoLevel, map[string]any{"text": "b"}}}},
		"usher.log a number": {`log_info("a") usher.log(1)`, zap.DebugLevel, []line{{zap.InfoLevel, map[string]any{"text": "a"}}, {zap.InfoLevel, map[string]any{"text": "1"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			logs, to := logTo(tt.level)
			ask(t, "nauthilus_util."+tt.call, query("alice"), to)
			var got []line
			for _, e := range logs.All() {
				fields := e.ContextMap()
				if fields["script"] != "test" || fields["id"] != "01TEST" {
					t.Errorf("fields: %v", fields)
				}
				delete(fields, "script")
				delete(fields, "id")
				got = append(got, line{e.Level, fields})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLogLinesAreBounded(t *testing.T) {
	logs, to := logTo(zap.DebugLevel)
	ask(t, `for i = 1, 1000 do print(i) nauthilus_util.log_info("x") usher.log("y") end`, query("alice"), to)
	if n := logs.Len(); n != 100 {
		t.Fatalf("%d lines", n)
	}
	if fields := logs.All()[99].ContextMap(); fields["further_lines_dropped"] != true {
		t.Errorf("the last line does not say that others are missing: %v", fields)
	}
}

// Every field of Nauthilus 1.12's request, its type, and its value where a
// request has one.
func TestRequestFields(t *testing.T) {
	want := map[string]string{ // type and value
		"username": "string Alice", "password": "string ", "account": "string alice@example.org", "account_field": "string ",
		"unique_user_id": "string ", "display_name": "string ", "protocol": "string sieve", "service": "string nginx",
		"method": "string login", "session": "string 01TEST", "client_ip": "string 2001:db8::1", "client_port": "string 4711",
		"client_hostname": "string client.example.org", "client_host": "string client.example.org", "client_id": "string mutt",
		"user_agent": "string ", "local_ip": "string 198.51.100.1", "local_port": "string 4190", "client_net": "string ",
		"brute_force_bucket": "string ", "feature": "string ", "oidc_cid": "string ",
		"authenticated": "boolean true", "user_found": "boolean true", "no_auth": "boolean false",
		"debug": "boolean true", "repeating": "boolean false",
		"brute_force_counter": "number 0", "latency": "number 0", "http_status": "number 200", "status_message": "string ",
		"ssl": "string on", "ssl_protocol": "string TLSv1.3", "ssl_cipher": "string AES", "ssl_client_verify": "string SUCCESS",
		"ssl_client_dn": "string CN=a", "ssl_client_cn": "string a", "ssl_issuer": "string CN=ca", "ssl_serial": "string 01",
		"ssl_fingerprint": "string ff", "ssl_session_id": "string ", "ssl_client_not_before": "string ",
		"ssl_client_not_after": "string ", "ssl_subject_dn": "string ", "ssl_issuer_dn": "string ",
		"ssl_client_subject_dn": "string ", "ssl_client_issuer_dn": "string ",
		"redis_prefix": "string usher:", "log_format": "string json", "log_level": "string debug", "logging": "table json debug",
	}
	q := query("alice@example.org")
	q.Request = &proxy.Request{
		Adapter: "nginx", Session: "spans several", Service: "managesieve", Protocol: "sieve", Method: "login", User: "Alice",
		Password: proxy.NewSecret("s3cret"), Client: netip.MustParseAddrPort("[2001:db8::1]:4711"), Local: netip.MustParseAddrPort("198.51.100.1:4190"),
		ClientHost: "client.example.org", ClientID: "mutt",
		TLS: proxy.Transport{Secured: true, Protocol: "TLSv1.3", Cipher: "AES", ClientVerify: "SUCCESS", ClientDN: "CN=a", ClientCN: "a", ClientIssuer: "CN=ca", ClientSerial: "01", ClientFingerprint: "ff"},
	}
	const show = `
		local function show(k, v)
			if type(v) == "table" then v = v.log_format .. " " .. v.log_level end
			if k == "latency" and v >= 0 and v < 10000 then v = 0 end -- it is measured
			nauthilus_builtin.custom_log_add(k, type(request[k]) .. " " .. tostring(v))
		end `
	for name, walk := range map[string]string{
		"pairs":  `for k, v in pairs(request) do show(k, v) end`,
		"next":   `local k, v = next(request) while k do show(k, v) k, v = next(request, k) end`,
		"rawget": `for k in pairs(request) do show(k, rawget(request, k)) end`,
		"after reading some": `local _ = request.username .. request.session
			for k, v in pairs(request) do show(k, v) end`,
	} {
		t.Run(name, func(t *testing.T) {
			v := ask(t, show+walk, q, func(o *Options) { o.Deps.Debug, o.Deps.LogLevel = true, "debug" })
			got := map[string]string{}
			for _, a := range v.Logs {
				got[a.Name] = a.Value
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	var one strings.Builder
	for name, v := range want {
		kind, _, _ := strings.Cut(v, " ")
		fmt.Fprintf(&one, "assert(type(request.%s) == %q, %q)\n", name, kind, name)
		fmt.Fprintf(&one, "assert(rawget(request, %q) ~= nil)\n", name)
	}
	ask(t, one.String(), q)

	// What nobody knows is "", never nil.
	q = &proxy.Query{Request: &proxy.Request{User: "bob", NoAuth: true}, ID: "01X", View: proxy.NewView(nil)}
	ask(t, `
		for _, k in ipairs({"protocol", "service", "method", "client_ip", "client_port", "client_hostname", "client_host", "client_id",
			"local_ip", "local_port", "ssl", "ssl_protocol", "ssl_client_cn", "password"}) do
			assert(request[k] == "", k)
		end
		assert(request.account == "bob", "account is empty")
		assert(request.no_auth and not request.authenticated and request.http_status == 403)
		assert(request.nothing == nil and request.auth_login_attempt == nil and request[1] == nil and #request == 0)`, q)
}

// The request is the script's own table.
func TestRequestIsATable(t *testing.T) {
	ask(t, `
		assert(type(request) == "table" and getmetatable(request) == nil)
		request.account = "other" request.new = 1 request[1] = "x"
		assert(request.account == "other" and request.new == 1 and #request == 1)
		local seen = {}
		for k, v in pairs(request) do seen[k] = v end
		assert(seen.account == "other" and seen.new == 1 and seen.username == "alice")
		request.logging.log_level = "mine"
		assert(request.logging.log_level == "mine")
		setmetatable(request, {__index = function(_, k) return "no " .. k end})
		assert(request.nothing == "no nothing" and request.username == "alice")`, query("alice"))
	ask(t, `rawset(request, "username", "x") assert(request.username == "x" and request.protocol == "imap")`, query("alice"))
	ask(t, `local r = setmetatable({}, {__index = request}) assert(r.username == "alice")`, query("alice"))
}

func TestUsherModule(t *testing.T) {
	server := func(proto, host string, tags ...string) proxy.Entry {
		return proxy.Entry{Server: &proxy.Server{Protocol: proto, Host: host, Port: 143, Weight: 100, Tags: tags}, Health: proxy.Up}
	}
	view := proxy.NewView([]proxy.Entry{
		server("imap", "a.example.org", "ssd", "eu"), server("pop3", "a.example.org"),
		server("imap", "b.example.org", "hdd", "eu"), server("pop3", "b.example.org"),
		server("imap", "A.example.org."), // the first entry of a host counts
	})
	const have = `
		local usher = require("usher")
		local function hosts(list)
			local t = {}
			for i, s in ipairs(list) do t[i] = s.host end
			return table.concat(t, " ")
		end
		local function is(got, want) assert(got == want, tostring(got) .. " is not " .. tostring(want)) end `
	for name, tt := range map[string]struct {
		body   string
		change func(*proxy.Query)
		want   proxy.Verdict
	}{
		"servers":         {body: `is(hosts(usher.servers()), "a.example.org b.example.org") is(usher.servers()[1].protocol, "imap")`},
		"servers, tag":    {body: `is(hosts(usher.servers({tag = "ssd"})), "a.example.org") is(hosts(usher.servers{tag = "eu"}), "a.example.org b.example.org") is(#usher.servers{tag = "x"}, 0)`},
		"servers, host":   {body: `is(hosts(usher.servers({host = "B.example.org."})), "b.example.org") is(#usher.servers{host = "x"}, 0)`},
		"servers, both":   {body: `is(#usher.servers({host = "b.example.org", tag = "ssd"}), 0) is(#usher.servers({}), 2)`},
		"servers are own": {body: `table.remove(usher.servers()) is(#usher.servers(), 2)`},
		"an upstream's director_tag": {
			body:   `is(hosts(usher.servers()), "b.example.org") is(#usher.servers{tag = "ssd"}, 0)`,
			change: func(q *proxy.Query) { q.Key.Tag, q.Request.Upstream = "hdd", &proxy.Upstream{Tag: "hdd"} },
		},
		"an upstream without director_tag": {
			body:   `is(#usher.servers(), 0) is(#usher.servers({}), 0) is(hosts(usher.servers{tag = "ssd"}), "a.example.org") is(hosts(usher.servers{host = "b.example.org"}), "b.example.org")`,
			change: func(q *proxy.Query) { q.Request.Upstream = &proxy.Upstream{} },
		},
		"a service without entries": {
			body:   `is(hosts(usher.servers()), "a.example.org b.example.org") usher.select(usher.servers()[2])`,
			change: func(q *proxy.Query) { q.Request.Protocol = "doveadm" },
			want:   proxy.Verdict{Selected: true, Host: "b.example.org", Reason: proxy.Selected, By: "policy:test"},
		},
		"not assigned": {body: `is(usher.assigned(), nil)`},
		"assigned":     {body: `is(usher.assigned(), "b.example.org")`, change: func(q *proxy.Query) { q.Assigned = "b.example.org" }},
		"sticky": {
			body:   `usher.select(usher.sticky(usher.servers()))`,
			change: func(q *proxy.Query) { q.Assigned = "b.example.org" },
			want:   proxy.Verdict{Selected: true, Host: "b.example.org", Port: 143, Reason: proxy.Sticky, By: "policy:test"},
		},
		"sticky, its host not listed": {
			body:   `local s = usher.sticky(usher.servers({tag = "ssd"})) is(s.host, "a.example.org") usher.select(s)`,
			change: func(q *proxy.Query) { q.Assigned = "b.example.org" },
			want:   proxy.Verdict{Selected: true, Host: "a.example.org", Port: 143, Reason: proxy.Hashed, By: "policy:test"},
		},
		"sticky of none": {body: `is(usher.sticky({}), nil)`},
		"hash": {
			body: `local all, seen = usher.servers(), {}
				for i = 1, 100 do
					local s = usher.hash("user" .. i, all)
					is(usher.hash("user" .. i, all).host, s.host)
					seen[s.host] = (seen[s.host] or 0) + 1
				end
				assert(seen["a.example.org"] > 25 and seen["b.example.org"] > 25)
				is(usher.hash("x", {}), nil)
				usher.select(usher.hash("x", usher.servers{tag = "hdd"}))`,
			want: proxy.Verdict{Selected: true, Host: "b.example.org", Port: 143, Reason: proxy.Hashed, By: "policy:test"},
		},
		"hash, then by name": {
			body: `local s = usher.hash("x", usher.servers{tag = "hdd"}) nauthilus_backend.select_backend_server(s.host, s.port)`,
			want: proxy.Verdict{Selected: true, Host: "b.example.org", Port: 143, Reason: proxy.Hashed, By: "policy:test"},
		},
		"hash, then another": {
			body: `usher.hash("x", usher.servers{tag = "hdd"}) nauthilus_backend.select_backend_server("a.example.org", 143)`,
			want: proxy.Verdict{Selected: true, Host: "a.example.org", Port: 143, Reason: proxy.Selected, By: "policy:test"},
		},
		"deny":          {body: `usher.deny()`, want: proxy.Verdict{Refused: true, By: "policy:test"}},
		"deny, text":    {body: `usher.deny("no")`, want: proxy.Verdict{Refused: true, Text: "no", By: "policy:test"}},
		"deny, nothing": {body: `usher.deny(nil)`, want: proxy.Verdict{Refused: true, By: "policy:test"}},
		"hold":          {body: `usher.hold(1.5)`, want: proxy.Verdict{Hold: 1500 * time.Millisecond, By: "policy:test"}},
		"hold, the last": {
			body: `usher.hold(5) usher.hold(3600) usher.select(usher.servers()[1])`,
			want: proxy.Verdict{Hold: time.Hour, Selected: true, Host: "a.example.org", Port: 143, Reason: proxy.Selected, By: "policy:test"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := query("alice")
			q.View = view
			if tt.change != nil {
				tt.change(q)
			}
			if diff := cmp.Diff(tt.want, ask(t, have+tt.body, q)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// math.randomseed steers the request's own numbers.
func TestRandom(t *testing.T) {
	const body = `
		math.randomseed(42)
		local t = {}
		for i = 1, 5 do t[i] = math.random(1000000) end
		nauthilus_builtin.custom_log_add("n", table.concat(t, " "))`
	d := newDirector(t, inFilter(body))
	first := direct(t, d, query("alice")).Logs[0].Value
	if again := direct(t, d, query("bob")).Logs[0].Value; again != first {
		t.Errorf("the same seed gave %s, then %s", first, again)
	}
	ask(t, `
		for i = 1, 200 do
			local a, b, c = math.random(), math.random(3), math.random(-2, 2)
			assert(a >= 0 and a < 1 and b >= 1 and b <= 3 and b == math.floor(b) and c >= -2 and c <= 2)
		end
		assert(math.random(7, 7) == 7)`, query("alice"))
}

// Scripts that give texts methods of their own, list a module, or guard their
// globals work as in any Lua.
func TestLibrariesAreTheScriptsOwn(t *testing.T) {
	ask(t, `
		function string.trim(s) return (s:gsub("^%s+", ""):gsub("%s+$", "")) end
		function string:starts(p) return self:sub(1, #p) == p end
		assert((" x "):trim() == "x" and ("abc"):starts("ab") and string.starts("abc", "ab") and ("x"):upper() == "X")
		rawset(string, "twice", function(s) return s .. s end)
		assert(("x"):twice() == "xx" and ("x"):trim() == "x" and string.format("%d", 1) == "1")
		local n = 0
		for k in pairs(nauthilus_builtin) do n = n + 1 end
		assert(n == 16 and rawget(math, "pi") == math.pi and next(nauthilus_util))
		nauthilus_util.log_info = function() return "mine" end
		assert(require("nauthilus_util").log_info() == "mine")
		setmetatable(_G, {__index = function(_, k) error("no variable " .. k, 2) end})
		assert(print and string and nauthilus_backend.get_backend_servers and _G._G == _G and rawget(_G, "pairs"))
		local ok, err = pcall(function() return undefined end)
		assert(not ok and err:find("no variable undefined"), err)
		local names = {}
		for k in pairs(_G) do names[k] = true end
		assert(names.string and names.print and names.usher and names.nauthilus_call_filter)`, query("alice"))
}

func TestGlobalsDoNotShadowModules(t *testing.T) {
	d := newDirector(t, `
		usher = "mine"
		local module = require("usher")
		function nauthilus_call_filter(request)
			assert(usher == "mine" and module.select and require("usher") == module)
		end`)
	if _, err := d.Direct(context.Background(), query("alice")); err != nil {
		t.Fatal(err)
	}
}

func TestIpairs(t *testing.T) {
	ask(t, `
		local t, n = {}, 0
		for i = 1, 300 do t[i] = i * 2 end
		t[302] = "behind a hole"
		for i, v in ipairs(t) do n = n + 1 assert(i == n and v == 2 * i) end
		assert(n == 300)
		for _ in ipairs({}) do error("empty") end
		for i, v in ipairs({false, true}) do assert(v == (i == 2)) end
		assert(not pcall(ipairs) and not pcall(ipairs, "x"))
		assert(arg == nil)`, query("alice"))
}

func TestRequire_Absent(t *testing.T) {
	if got := luaError(t, `require("ioutil")`); got != `module "ioutil": usher leaves it out: what clients send could reach files by it` {
		t.Error(got)
	}
	if got := luaError(t, `require("nothing.of.the.kind")`); !strings.Contains(got, "director.package_path") {
		t.Error(got)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hex.lua"), []byte(`return {own = true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := luaError(t, `error(tostring(require("hex").own))`, func(o *Options) { o.PackagePath = dir }); got != "true" {
		t.Errorf("an own file of an absent module's name: %s", got)
	}
}
