-- By tag: servers are in groups, of which the first that has a server up takes
-- the user. All groups must reach the same mailboxes.

local groups = {"ssd", "disk"} -- tags, the best first

local usher = require("usher")

function nauthilus_call_filter(request)
  for _, tag in ipairs(groups) do
    local server = usher.sticky(usher.servers({tag = tag}))
    if server then
      usher.select(server)
      return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
    end
  end
  usher.tempfail("no server of any group is up")
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
