-- A feature: it refuses whom the init script has put on a list.
local cache = require("nauthilus_cache")
local context = require("nauthilus_context")

function nauthilus_call_feature(request)
  local blocked = cache.cache_get("blocklist") or {}
  context.context_set("blocklist", #blocked)
  for _, name in ipairs(blocked) do
    if name == request.username then
      nauthilus_builtin.status_message_set("Closed")
      nauthilus_builtin.custom_log_add("blocklist", "yes")
      return nauthilus_builtin.FEATURE_TRIGGER_YES, nauthilus_builtin.FEATURES_ABORT_YES, nauthilus_builtin.FEATURE_RESULT_OK
    end
  end
  return nauthilus_builtin.FEATURE_TRIGGER_NO, nauthilus_builtin.FEATURES_ABORT_NO, nauthilus_builtin.FEATURE_RESULT_OK
end
