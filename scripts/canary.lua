-- Canary: a part of the users goes to servers with something new on them. It is
-- always the same part; a greater percentage adds users and takes none away. All
-- servers must reach the same mailboxes.

local percent = 5
local new = "canary" -- the tag of the new servers
local old = "stable" -- the tag of the others
local always = { -- these go to the new ones whatever the percentage
  ["postmaster@example.org"] = true,
}

local usher = require("usher")

-- Where a user stands among all, from 0 to 99.99, by the letters of the name.
local function share(user)
  local n = 7
  for i = 1, #user do
    n = (n * 131 + user:byte(i)) % 1000003
  end
  return n % 10000 / 100
end

function nauthilus_call_filter(request)
  local user = request.account:lower()
  local chosen = (always[user] or share(user) < percent) and new or old
  local server = usher.sticky(usher.servers({tag = chosen}))
  if not server and chosen == new then
    server = usher.sticky(usher.servers({tag = old})) -- the new ones are down
  end
  if server then
    usher.select(server)
  else
    usher.tempfail("no server with tag " .. chosen .. " is up")
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
