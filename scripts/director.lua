-- The built-in policy: what Dovecot's director did. A user stays on the host of
-- the live assignment while that host is up. Anybody else goes where weighted
-- rendezvous hashing of the assignment key points to, over the hosts that are
-- up: the same user, the same host, whatever the protocol and the proxy.

local usher = require("usher")

function nauthilus_call_filter(request)
  local server = usher.sticky(usher.servers())
  if server then
    usher.select(server)
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
