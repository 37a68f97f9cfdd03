-- An HTTP service says at which site a user's mail lies. While it is away, what it
-- said last counts; of whom it never spoke can log in later.
local http = require("glua_http")
local backend = require("nauthilus_backend")
local cache = require("nauthilus_cache")

local DIRECTORY = "http://DIRECTORY/users/"
local HOSTS = { north = "127.0.0.2", south = "127.0.0.3" }

local function escape(s)
  return (s:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function ask(account)
  local answer, err = http.get(DIRECTORY .. escape(account), { timeout = "500ms" })
  if not answer then
    return nil, err
  elseif answer.status_code == 404 then
    return "north"
  elseif answer.status_code ~= 200 then
    return nil, "the directory says " .. answer.status_code
  end
  return answer.body:match('"site"%s*:%s*"(%w+)"'), "the directory says no site"
end

function nauthilus_call_filter(request)
  if not request.authenticated then
    return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
  end
  local key = "site:" .. request.account
  local site, err = ask(request.account)
  if site then
    cache.cache_set(key, site, 86400)
  else
    nauthilus_util.log_warn(request, { caller = "site_by_http", status = "the directory is away" }, err)
    site = cache.cache_get(key) or error(err)
  end
  for _, server in ipairs(backend.get_backend_servers()) do
    if server.protocol == request.protocol and server.host == HOSTS[site] then
      backend.select_backend_server(server.host, server.port)
    end
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
