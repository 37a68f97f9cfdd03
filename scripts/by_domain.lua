-- By domain: each domain has a site, which is a tag of its servers. Within the
-- site a user stays where he is, and is placed by hash otherwise.

local sites = { -- domains in lower case, and tags
  ["example.org"] = "north",
  ["example.net"] = "south",
}
local others = "north" -- the site of all other domains; nil: they are told to try later

local usher = require("usher")

function nauthilus_call_filter(request)
  local domain = request.account:lower():match("@([^@]+)$")
  local site = sites[domain] or others
  if not site then
    usher.tempfail("no site for this domain")
    return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
  end
  local server = usher.sticky(usher.servers({tag = site}))
  if server then
    usher.select(server)
  else
    usher.tempfail("no server of site " .. site .. " is up")
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
