-- Assignments in Redis: where a user is stands in Redis, so that several ushers
-- agree on it, also over restarts. Needs director.network: true.

local prefix = "usher:home:" -- of the keys
local life = 900 -- seconds after the last login; 0: for good

local usher = require("usher")
local redis = require("nauthilus_redis")

local function later(why)
  usher.tempfail(why)
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end

function nauthilus_call_filter(request)
  local key, servers = prefix .. request.username:lower(), usher.servers()
  local home, err = redis.redis_get("default", key)
  if not home and err ~= "redis: nil" then
    return later("redis: " .. tostring(err))
  end
  local server = home and usher.first(usher.servers({host = home}))
  if not server then
    server = usher.hash(request.username:lower(), servers)
    if not server then return later("no server is up") end
    -- Somebody else may have been faster: what stands there then counts.
    home, err = redis.redis_run_script("default", [[
      local now = redis.call("GET", KEYS[1]) or ""
      if now == ARGV[1] then redis.call("SET", KEYS[1], ARGV[2]) return ARGV[2] end
      return now]], "", {key}, home or "", server.host)
    if not home then return later("redis: " .. tostring(err)) end
    server = usher.first(usher.servers({host = home}))
    if not server then return later("the server " .. home .. " is down") end
  end
  if life > 0 then redis.redis_expire("default", key, life) end
  usher.select(server)
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
