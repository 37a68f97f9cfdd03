package luabridge

import (
	"context"
	"errors"
	"testing"

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
