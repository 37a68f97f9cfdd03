-- By network: where the client is says which site is near. All sites must reach
-- the same mailboxes. A user who is somewhere already stays there.

local sites = { -- tags, and the clients' networks; the first that fits counts
  {tag = "north", networks = {"192.0.2.0/24", "2001:db8:1::/48"}},
  {tag = "south", networks = {"198.51.100.0/24", "2001:db8:2::/48"}},
}
local others = "north" -- the site of all other clients

local usher = require("usher")

local function near(ip)
  for _, site in ipairs(sites) do
    if usher.cidr(site.networks, ip) then
      return site.tag
    end
  end
  return others
end

function nauthilus_call_filter(request)
  local home = usher.assigned()
  local server = home and usher.sticky(usher.servers({host = home}))
  if not server then
    server = usher.sticky(usher.servers({tag = near(request.client_ip)}))
  end
  for _, site in ipairs(sites) do -- the near one is down: the first that is up
    server = server or usher.sticky(usher.servers({tag = site.tag}))
  end
  if server then
    usher.select(server)
  else
    usher.tempfail("no server of any site is up")
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
