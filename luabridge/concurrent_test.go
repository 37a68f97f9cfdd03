package luabridge

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"usher/proxy"
)

// Many requests at once on few states: each gets its own user's verdict.
func TestConcurrentUsers(t *testing.T) {
	const users, rounds = 16, 25
	d := newDirector(t, `
		local seen
		function nauthilus_call_filter(request)
			assert(seen == nil and last == nil)
			seen, last = request.username, request.username
			string.last = last
			for k in pairs(request) do last = k end
			local co = coroutine.wrap(function() coroutine.yield(request.account) end)
			local host = co() .. ".example.org"
			for _, s in ipairs(nauthilus_backend.get_backend_servers()) do assert(s.host and s.port and s.nothing == nil) end
			local b = nauthilus_backend_result.new()
			b:attributes({who = request.username})
			nauthilus_backend.apply_backend_result(b)
			nauthilus_builtin.status_message_set(seen)
			nauthilus_backend.select_backend_server(host, #host)
			usher.sticky(usher.servers())
			if request.username == "user7" then error("user7") end
			if request.username == "user8" then while true do end end
		end`, func(o *Options) { o.PoolSize, o.Limits.Steps = 2, 5000 })
	view := backends(8)
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			name := fmt.Sprintf("user%d", i)
			q := query(name)
			q.View = view
			for range rounds {
				v, err := d.Direct(t.Context(), q)
				if name == "user7" || name == "user8" {
					if f := (*proxy.PolicyFault)(nil); !errors.As(err, &f) {
						t.Errorf("%s: got %+v, %v", name, v, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				host := name + ".example.org"
				if v.Host != host || v.Port != len(host) || v.Text != name || len(v.Changes) != 1 || v.Changes[0].Value != name {
					t.Errorf("%s got another's verdict: %+v", name, v)
				}
			}
		})
	}
	wg.Wait()
}
