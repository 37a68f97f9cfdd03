function nauthilus_call_filter(request)
  nauthilus_builtin.custom_log_add("list", nauthilus_context.context_get("blocklist") or "none")
  for _, server in ipairs(nauthilus_backend.get_backend_servers()) do
    if server.protocol == request.protocol then
      nauthilus_backend.select_backend_server(server.host, server.port)
      break
    end
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
