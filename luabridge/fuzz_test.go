package luabridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"usher/luabridge/budget"
	"usher/luabridge/lualib"
	"usher/proxy"
)

// FuzzPolicyUser gives a filter that uses what clients say in the usual ways
// hostile words: there is a verdict or a PolicyFault, never a panic.
func FuzzPolicyUser(f *testing.F) {
	d := newDirector(f, `
		local backend = require("nauthilus_backend")
		function nauthilus_call_filter(request)
			local name, domain = request.username:match("^([^@]*)@(.*)$")
			local key = string.format("%s|%s|%q", request.account:lower(), request.client_id, request.client_hostname)
			nauthilus_util.log_info(request, {user = request.username, key = key}, request.ssl_client_dn)
			nauthilus_builtin.custom_log_add(request.client_id, request.username)
			nauthilus_builtin.status_message_set(request.username .. ": " .. (domain or "no domain"))
			if request.client_id:find("bad client", 1, true) then return true end
			local b = nauthilus_backend_result.new()
			b:attributes({[request.client_id] = request.username, n = tonumber(request.client_port)})
			backend.apply_backend_result(b)
			backend.remove_from_backend_result({request.client_hostname})
			if domain == "select.example.org" then
				backend.select_backend_server(name, request.client_id)
			else
				usher.select(usher.hash(key, usher.servers()))
			end
			if request.password == "raise" then error(request.username) end
			for k, v in pairs(request) do assert(type(k) == "string" and v ~= nil) end
		end`, func(o *Options) { o.Filters[0].NeedsPassword = true })
	view := backends(8)
	f.Add("alice@example.org", "s3cret", "mutt", "client.example.org", "CN=a")
	f.Add("a@select.example.org", "", "143", "", "")
	f.Add("a@select.example.org", "raise", "99999999999", "%s%d%q", "\x00")
	f.Add("%s%n(((.-)x", "raise", "bad client", "\xff\xfe", "\\\"\n")
	f.Add("@", "@", "@", "@", "@")
	f.Fuzz(func(t *testing.T, user, password, id, host, dn string) {
		q := query(user)
		q.View = view
		q.Request.Password = proxy.NewSecret(password)
		q.Request.ClientID, q.Request.ClientHost, q.Request.TLS.ClientDN = id, host, dn
		v, err := d.Direct(context.Background(), q)
		var fault *proxy.PolicyFault
		switch {
		case err != nil && !errors.As(err, &fault):
			t.Errorf("error %T: %v", err, err)
		case err == nil && v.Selected == v.Refused:
			t.Errorf("verdict: %+v", v)
		}
	})
}

// FuzzScript runs hostile scripts within small budgets: none gets out of them,
// none ends the process, and the next request on that state is answered rightly.
func FuzzScript(f *testing.F) {
	f.Add("while true do end")
	f.Add("local s = 'x' while true do s = s .. s end")
	f.Add("local t = {} for i = 1, 1e9 do t[i] = {i, [i] = i, x = i} end")
	f.Add("local t = setmetatable({}, {__index = function(t, k) return t[k .. k] end}) return t.x")
	f.Add("return coroutine.wrap(function(...) local a = {...} coroutine.yield(unpack(a)) error(a) end)(1, 2, 3)")
	f.Add("return pcall(string.rep, 'x', 1e9), xpcall(error, function(e) return e .. e end), select(-1, 1, 2)")
	f.Add("for k, v in pairs(request) do request[k] = nil end for a, b in ('a=b'):gmatch('(%w)=(%w)') do print(a, b, #a) end")
	f.Add("local a, b = 1 return a.x.y, b:z(), -{}, a .. nil, #5, {} < {}, 'a' + 1")
	f.Add("return load(function() return 'return ...' end)(1), loadstring('x =')")
	f.Add("string.x = 1 setmetatable(_G, {__newindex = function(t, k, v) rawset(t, k, v) end}) y = 2 goto done ::done::")
	f.Add("table.sort({3, 2, 1}, function(a, b) coroutine.yield() return a < b end)")
	f.Add("nauthilus_cache.cache_set('k', {1}) nauthilus_cache.cache_update('k', function(t) t[2] = t return t end)")
	probe := inFilter(`
		assert(leak == nil and string.x == nil and tostring(12) == "12" and request.username == "bob" and ("x"):rep(2) == "xx")
		usher.select(usher.servers()[1])`)
	f.Fuzz(func(t *testing.T, body string) {
		if _, err := lualib.Compile("test.lua", inFilter(body)); err != nil || len(body) > 1000 {
			t.Skip()
		}
		d := newDirector(t, probe, func(o *Options) {
			o.Limits = budget.Limits{Steps: 20000, Memory: 1 << 20, Time: 10 * time.Second}
			o.Filters[0].WhenNoAuth = false
			o.Filters = append(o.Filters, Filter{Name: "hostile", Path: "hostile.lua", Text: inFilter(body), WhenNoAuth: true})
		})
		for range 2 {
			q := query("mallory")
			q.Request.NoAuth = true
			began := time.Now()
			_, err := d.Direct(context.Background(), q)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if fault := (*proxy.PolicyFault)(nil); err != nil && (!errors.As(err, &fault) || strings.Contains(err.Error(), "panic in the Lua bridge")) {
				t.Errorf("error %v", err)
			}
			if v := direct(t, d, query("bob")); !v.Selected {
				t.Errorf("after it: %+v", v)
			}
		}
	})
}
