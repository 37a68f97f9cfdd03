function nauthilus_run_hook(request)
  require("nauthilus_cache").cache_set("blocklist", {"closed@example.org"})
end
