-- Goes before Nauthilus' filter monitoring.lua, which keeps a user together by
-- a hash in Redis with a field for each session, and leaves it to a hook to
-- remove those that ended. usher has no hooks: this keeps the hash small.

local most = 100 -- sessions of a user; then all but the host is forgotten
local life = 30 * 86400 -- seconds that a user is remembered after the last login
local pool = "default" -- or a name of register_redis_pool, as in CUSTOM_REDIS_POOL_NAME

local redis = require("nauthilus_redis")
local util = require("nauthilus_util")

local trim = [[
  local n = redis.call("HLEN", KEYS[1])
  if n > tonumber(ARGV[1]) then
    local hosts = redis.call("HVALS", KEYS[1])
    redis.call("DEL", KEYS[1])
    redis.call("HSET", KEYS[1], "kept", hosts[1])
  end
  redis.call("EXPIRE", KEYS[1], ARGV[2])
  return n]]

function nauthilus_call_filter(request)
  if request.authenticated and request.service == "dovecot" then
    local handle = redis.get_redis_connection(pool)
    local key = util.get_redis_key(request, "DS:" .. request.account)
    local n, err = redis.redis_run_script(handle, trim, "", {key}, most, life)
    if err then
      util.log_warn(request, {caller = "nauthilus_sessions"}, err) -- monitoring.lua decides what that means
    elseif n > most then -- and the list of all sessions, which is the hook's alone
      redis.redis_del(handle, util.get_redis_key(request, "DS_ACCOUNT"))
    end
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
