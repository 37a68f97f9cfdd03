package main

import (
	"path/filepath"
	"strings"
	"testing"

	"usher/control"
)

// A policy that looks at who asks must see in a dry run what it will see.
func TestRoute_Adapter(t *testing.T) {
	dir := shortDir(t)
	script := filepath.Join(dir, "policy.lua")
	write(t, script, `
local http = require("nauthilus_http_request")
function nauthilus_call_filter(request)
	local service = http.get_http_request_header("X-Nauthilus-Service")
	local user = http.get_http_request_header("Auth-User")
	nauthilus_builtin.status_message_set(request.service .. " " .. tostring(service[1]) .. " " .. tostring(user[1]) .. " " .. tostring(request.no_auth))
	return true, 0
end
`)
	const nginx = "nginx: {listeners: [{address: \"unix:%/n\"}]}\n"
	const dovecot = "dovecot: {listeners: [{address: \"unix:%/d\", kind: auth}]}\n"
	for _, test := range []struct {
		name, listeners string
		q               control.RouteQuery
		want            string
	}{
		{"Dovecot alone", dovecot, control.RouteQuery{}, "dovecot Dovecot nil false"},
		{"nginx alone", nginx, control.RouteQuery{}, "nginx nil alice false"},
		{"both", dovecot + nginx, control.RouteQuery{}, "dovecot Dovecot nil false"},
		{"both, nginx", dovecot + nginx, control.RouteQuery{Adapter: "nginx"}, "nginx nil alice false"},
		{"a look-up", nginx, control.RouteQuery{Protocol: "lmtp"}, "dovecot Dovecot nil true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := shortDir(t)
			a := runApp(t, dir, strings.ReplaceAll(test.listeners, "%", dir)+`
control: {address: "", http: ""}
director: {script: "`+script+`"}
backend_server_monitoring: {backend_servers: [{protocol: imap, host: 127.0.0.2, port: 1}]}
`)
			q := test.q
			q.User = "alice"
			if q.Protocol == "" {
				q.Protocol = "imap"
			}
			got, err := a.Route(t.Context(), q)
			if err != nil || got.Outcome != "denied" || got.Text != test.want {
				t.Errorf("%+v, %v; want %s", got, err, test.want)
			}
		})
	}
	for want, q := range map[string]control.RouteQuery{
		`adapter "exim": expected dovecot or nginx`:    {User: "alice", Protocol: "imap", Adapter: "exim"},
		`protocol "lmtp": nginx has none of that name`: {User: "alice", Protocol: "lmtp", Adapter: "nginx"},
	} {
		if _, err := dryRequest(q); err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
}
