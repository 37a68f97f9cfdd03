-- KEYS[1] are the user's sessions; ARGV the session, the host that is proposed, and
-- all that are up. The host of another session that is up wins.
local SOURCE = [==[
  local up = {}
  for i = 3, #ARGV do up[ARGV[i]] = true end
  local host = ARGV[2]
  for _, other in ipairs(redis.call("HVALS", KEYS[1])) do
    if up[other] then
      host = other
    else
      redis.call("DEL", KEYS[1])
      break
    end
  end
  redis.call("HSET", KEYS[1], ARGV[1], host)
  return host
]==]

function nauthilus_run_hook(request)
  local name, pool, err = os.getenv("CUSTOM_REDIS_POOL_NAME"), "default", nil
  if name then
    _, err = nauthilus_redis.register_redis_pool(name, "standalone", OPTIONS)
    nauthilus_util.if_error_raise(err)
    pool, err = nauthilus_redis.get_redis_connection(name)
    nauthilus_util.if_error_raise(err)
  end
  _, err = nauthilus_redis.redis_upload_script(pool, SOURCE, "ClaimHost")
  nauthilus_util.if_error_raise(err)
end
