-- DNS says where a domain's mail lies: the TXT record of _usher.DOMAIN, like
-- "backend=192.0.2.1", or else the first of its mail servers that is one of ours.
-- A domain that says nothing goes where usher puts it.
local dns = require("nauthilus_dns")
local backend = require("nauthilus_backend")

-- records are those of a name, {} if there are none, and an error if nobody knows.
local function records(name, kind)
  local found, err = dns.resolve(name .. ".", kind)
  if not found and not err:find("no such host", 1, true) then
    error(err)
  end
  return found or {}
end

local function candidates(domain)
  local hosts = {}
  for _, text in ipairs(records("_usher." .. domain, "TXT")) do
    hosts[#hosts + 1] = text:match("^backend=(%S+)$")
  end
  if #hosts == 0 then
    for _, mx in ipairs(records(domain, "MX")) do
      for _, address in ipairs(records((mx.host:gsub("%.$", "")), "A")) do
        hosts[#hosts + 1] = address
      end
    end
  end
  return hosts
end

function nauthilus_call_filter(request)
  local domain = request.username:match("@([%w.-]+)$")
  for _, host in ipairs(domain and candidates(domain) or {}) do
    for _, server in ipairs(backend.get_backend_servers()) do
      if server.host == host and server.protocol == request.protocol then
        backend.select_backend_server(host, server.port)
        return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
      end
    end
  end
  usher.select(usher.sticky(usher.servers()))
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
