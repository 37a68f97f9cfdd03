-- A careless policy: its pattern takes years for some names, and a name can make
-- it double a text again and again.
local usher = require("usher")

function nauthilus_call_filter(request)
  local name, domain = request.username:match("^(.-)(.-)(.-)(.-)@(%w+)%.org$")
  if request.username:find("^grow") then
    local text = "x"
    while true do
      text = text .. text
    end
  end
  if domain == nil and request.username:find("example") then
    return nauthilus_builtin.FILTER_REJECT
  end
  usher.select(usher.sticky(usher.servers()))
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK, name
end
