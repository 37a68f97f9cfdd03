-- By tag: servers are in groups, of which the first that has a server up takes
-- the user. All groups must reach the same mailboxes.

local groups = {"ssd", "disk"} -- tags, the best first
local stay = true -- who is somewhere stays while that is up; false: back to the best at once

local usher = require("usher")

function nauthilus_call_filter(request)
  local home = stay and usher.assigned()
  local server = home and usher.sticky(usher.servers({host = home}))
  for _, tag in ipairs(groups) do
    server = server or usher.sticky(usher.servers({tag = tag}))
  end
  if server then
    usher.select(server)
  else
    usher.tempfail("no server of any group is up")
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
