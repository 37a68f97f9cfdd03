-- Assignments in Redis: where a user is stands in Redis, so that several ushers
-- agree on it, also over restarts. Needs director.network: true.

local prefix = "usher:home:" -- of the keys
local life = 7 * 86400 -- seconds after the last login, longer than sessions last; 0: for good

local usher = require("usher")
local redis = require("nauthilus_redis")
local notes = {imap = true, pop3 = true} -- logins that say where the user is
local claim = [[local now = redis.call("GET", KEYS[1]) or ""
  if now == ARGV[1] then redis.call("SET", KEYS[1], ARGV[2]) return ARGV[2] end
  return now]] -- somebody else may have been faster: what stands there then counts

local function to(server, why)
  if server then usher.select(server) else usher.tempfail(why) end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end

function nauthilus_call_filter(request)
  local user, protocol = request.account:lower(), request.protocol
  local home, err = redis.redis_get("default", prefix .. user)
  if not home and err ~= "redis: nil" then return to(nil, tostring(err)) end
  local server = home and usher.first(usher.servers({host = home}))
  for _, s in ipairs(home and not server and nauthilus_backend.get_backend_servers() or {}) do
    if s.host == home and protocol ~= "smtp" then return to(nil, home .. " has no " .. protocol .. " now") end
  end
  server = server or usher.hash(user, usher.servers())
  if not server or not notes[protocol] or request.no_auth then return to(server, "no server is up") end
  if server.host ~= home then
    home, err = redis.redis_run_script("default", claim, "", {prefix .. user}, home or "", server.host)
    if not home then return to(nil, tostring(err)) end
    server = usher.first(usher.servers({host = home}))
  end
  if life > 0 then redis.redis_expire("default", prefix .. user, life) end
  return to(server, "the server " .. home .. " is down")
end
