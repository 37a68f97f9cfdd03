-- Migration: a file says which users have moved to the new cluster, and which
-- are moving. All others are still on the old one. Nobody is ever sent to the
-- cluster where his mail is not, not even when his own is down.

local usher = require("usher")
local users = usher.map("/etc/usher/migration") -- lines: alice@example.org new
-- The value is new or moving, and what follows @example.org is a whole domain's.
-- One file, so that nobody is ever between two.
local tags = {old = "old", moving = "old", new = "new"} -- of the clusters' servers

function nauthilus_call_filter(request)
  local state = users:get(request.account, "old")
  if state == "moving" then
    usher.hold(5)
  end
  local tag = tags[state]
  local server = tag and usher.sticky(usher.servers({tag = tag}))
  if server then
    usher.select(server)
  elseif tag then
    usher.tempfail("no server of the " .. tag .. " cluster is up")
  else
    usher.tempfail(("the file says %q, which is none of old, moving, new"):format(state))
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
