-- Keeps each user's sessions together, in Redis: the host of a user's first session
-- is that of all later ones, for as long as it is up.
local CLAIM = "ClaimHost"
local ACCEPT = nauthilus_builtin.FILTER_ACCEPT

local function header(name)
  return nauthilus_http_request.get_http_request_header(name)[1] or ""
end

local function connection()
  local name = nauthilus_util.getenv("CUSTOM_REDIS_POOL_NAME", "default")
  if name == "default" then
    return name
  end
  local pool, err = nauthilus_redis.get_redis_connection(name)
  nauthilus_util.if_error_raise(err)
  return pool
end

local function candidates(request)
  local hosts = {}
  for _, server in ipairs(nauthilus_backend.get_backend_servers()) do
    if server.protocol == request.protocol then
      table.insert(hosts, server.host)
    end
  end
  return hosts
end

-- What is known of the session, or else of any of the user's.
local function known(pool, key, session)
  local host, err = nauthilus_redis.redis_hget(pool, key, session)
  nauthilus_util.if_error_raise(err)
  if host then
    return host
  end
  local all
  all, err = nauthilus_redis.redis_hgetall(pool, key)
  nauthilus_util.if_error_raise(err)
  local _, any = next(all)
  return any
end

function nauthilus_call_filter(request)
  if not request.authenticated or header("X-Nauthilus-Service") ~= "Dovecot" then
    return ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
  end
  local hosts = candidates(request)
  if nauthilus_util.table_length(hosts) == 0 then
    return ACCEPT, nauthilus_builtin.FILTER_RESULT_FAIL
  end
  local pool, session = connection(), header("X-Dovecot-Proxy-Target")
  local key = nauthilus_util.get_redis_key(request, "DS:" .. request.account)
  local host, err = known(pool, key, session), nil
  if host and not nauthilus_util.exists_in_table(hosts, host) then
    nauthilus_util.log_notice(request, { caller = "sessions_in_redis", gone = host })
    host = nil
  end
  -- Of two that come at once, one is first.
  local arguments = { session, host or hosts[math.random(#hosts)], unpack(hosts) }
  host, err = nauthilus_redis.redis_run_script(pool, "", CLAIM, { key }, arguments)
  nauthilus_util.if_error_raise(err)
  _, err = nauthilus_redis.redis_hset(pool, nauthilus_util.get_redis_key(request, "DS_ACCOUNT"), session, request.account)
  nauthilus_util.if_error_raise(err)

  local result = nauthilus_backend_result.new()
  result:attributes({ ["Proxy-Host"] = host })
  nauthilus_backend.apply_backend_result(result)
  return ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
