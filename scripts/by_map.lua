-- By map: a file says which server a user's mailbox is on. Whom it does not
-- name is placed by hash, on the servers of one tag or on all.

local usher = require("usher")
local homes = usher.map("/etc/usher/homes") -- lines: alice@example.org 192.0.2.11
local rest = nil -- a tag: users who are not in the file go to its servers; nil: to any

local function to(servers, text)
  local server = usher.sticky(servers)
  if server then
    usher.select(server)
  else
    usher.tempfail(text)
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end

function nauthilus_call_filter(request)
  local home = homes:get(request.account)
  if home then
    -- His mail is there and nowhere else: is the server down, he has to wait.
    return to(usher.servers({host = home}), "his server " .. home .. " is down, or none of ours")
  end
  return to(usher.servers(rest and {tag = rest}), "no server is up")
end
