-- The policy of the end-to-end tests: the user name, up to its first "-", says
-- what shall happen.
local backend = require("nauthilus_backend")
local usher = require("usher")

local hosts = { two = "127.0.0.2", three = "127.0.0.3" }

local function select(protocol, host)
  for _, server in ipairs(backend.get_backend_servers()) do
    if server.protocol == protocol and server.host == host then
      backend.select_backend_server(server.host, server.port)
    end
  end
end

function nauthilus_call_filter(request)
  local order = request.account:match("^[^-]*")
  if order == "boom" then
    error("boom")
  elseif order == "refuse" then
    if request.account:match("^refuse%-7@") then
      nauthilus_builtin.status_message_set("Moved to mail.example.net")
    end
    return nauthilus_builtin.FILTER_REJECT, nauthilus_builtin.FILTER_RESULT_OK
  elseif order == "hold" then
    usher.hold(1)
  elseif order == "wait" then -- for two seconds of three
    if os.time() % 3 > 0 then
      usher.hold(1)
    end
    order = "three"
  elseif order == "slow" then
    print("slow login begins")
    local start = os.time()
    while os.time() < start + 3 do end
    order = "two"
  end
  if hosts[order] then
    select(request.protocol, hosts[order])
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
