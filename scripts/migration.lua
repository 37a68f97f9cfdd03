-- Migration: a file lists the users whose mailboxes have moved to the new
-- cluster. All others are still on the old one. Nobody is ever sent to the
-- cluster where his mail is not, not even when his own is down.

local usher = require("usher")
local moved = usher.map("/etc/usher/moved") -- a user a line; @example.org is a whole domain
local moving = usher.map("/etc/usher/moving") -- those being copied just now: they wait
local new, old = "new", "old" -- tags of the clusters' servers

function nauthilus_call_filter(request)
  local user = request.username
  if moving:get(user) then
    usher.hold(5)
  end
  local cluster = moved:get(user) and new or old
  local server = usher.sticky(usher.servers({tag = cluster}))
  if server then
    usher.select(server)
  else
    usher.tempfail("no server of the " .. cluster .. " cluster is up")
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
