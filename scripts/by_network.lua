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
  local servers = usher.servers()
  if not usher.assigned() then
    local here = usher.servers({tag = near(request.client_ip)})
    if #here > 0 then -- else the site is down, and any will do
      servers = here
    end
  end
  local server = usher.sticky(servers)
  if server then
    usher.select(server)
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
