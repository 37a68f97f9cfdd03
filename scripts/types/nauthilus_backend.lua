---@meta nauthilus_backend
-- Written by make generate: do not edit.

---A backend: a host with one protocol. A field that it has not is nil; none can be set.
---@class nauthilus_backend_server
---@field protocol string `imap`, `pop3`, `smtp`, `lmtp`, `sieve` …
---@field host string Name or address, as configured.
---@field ip string The same as `host`, for scripts of Nauthilus before 1.12.
---@field port integer 1 to 65535. Another service's where `usher.servers` lists hosts for one without entries of its own (doveadm): `usher.select` leaves it out then.
---@field request_uri string For checks of http backends.
---@field test_username string Whom usher's checks log in as.
---@field test_password string Starred in logs.
---@field haproxy_v2 boolean It takes a PROXY header.
---@field tls boolean TLS from the first byte.
---@field tls_skip_verify boolean Its certificate is not checked.
---@field deep_check boolean usher's checks log in.
---@field weight integer Of its host, as configured or as an operator set it. 0: no new users.
---@field tags string[] Of its host; a new list at each read.
---@field assigned integer How many users are assigned to its host; one whose assignment has ended may count for another minute.

---The backends, where this request goes, and the fields of the answer to Dovecot.
---@class nauthilus_backendlib
nauthilus_backend = {}

---Returns the servers that are up, of every protocol, in the configuration's order; `{}` if there is none. A drained one is
---listed only for its own users. `usher.servers` returns only those that this request can go to.
---
---```lua
---local backend = require("nauthilus_backend")
---for _, server in ipairs(backend.get_backend_servers()) do
---  if server.protocol == request.protocol then
---    print(server.host, server.port) --> 192.0.2.11 143
---    backend.select_backend_server(server.host, server.port)
---    break
---  end
---end
---```
---@return nauthilus_backend_server[] servers
function nauthilus_backend.get_backend_servers() end

---Sends this request to a host, which need not be a configured one unless `unlisted_backends` is `deny`. The last call wins.
---A port may be digits in a text. A host that is no name or address, and a port outside of 1 to 65535, is a temporary
---failure of the login.
---
---```lua
---local backend = require("nauthilus_backend")
---if request.protocol == "imap" then
---  backend.select_backend_server("192.0.2.11", 143)
---end
---```
---@param host string
---@param port integer|string
function nauthilus_backend.select_backend_server(host, port) end

---Tries a connection, with the TLS handshake and the PROXY header that are asked for, and closes it again. Returns `true`,
---or `false` and what went wrong. It takes five seconds at most, and leaves a quarter of the request's time to the policy;
---usher's own checks know already which servers are up. The last two forms are those of Nauthilus before 1.12: they return
---nil, or what went wrong.
---
---```lua
---local backend = require("nauthilus_backend")
---local ok, err = backend.check_backend_connection("imap", "192.0.2.11", 143, false, false, false)
---print(ok, err) --> true nil
---local server = backend.get_backend_servers()[1]
---print((backend.check_backend_connection(server))) --> true
---print(backend.check_backend_connection("192.0.2.11", 143)) --> nil
---print(backend.check_backend_connection({protocol = "imap", host = "192.0.2.11", port = 143})) --> nil
---```
---@param protocol string
---@param host string
---@param port integer|string
---@param tls? boolean
---@param skip_verify? boolean
---@param haproxy_v2? boolean
---@return boolean ok
---@return string? err
---@overload fun(server: nauthilus_backend_server): boolean, string?
---@overload fun(host: string, port: integer, haproxy_v2?: boolean, tls?: boolean): string?
---@overload fun(server: {protocol?: string, host?: string, ip_address?: string, port: integer, tls?: boolean, tls_skip_verify?: boolean, haproxy_v2?: boolean}): string?
function nauthilus_backend.check_backend_connection(protocol, host, port, tls, skip_verify, haproxy_v2) end

---Puts the attributes of a result into the answer to Dovecot, over those of the same name; nginx has no such fields. `true`
---is a field without value, `false` takes one out, a list is a temporary failure. `user pass proxy host hostip port nologin
---proxy_refresh` are usher's own, and `master destuser` need `director.allow_identity`: setting them does nothing. When
---nothing is selected, the first attribute that `director.host_attributes` names is taken for the host.
---
---```lua
---local backend = require("nauthilus_backend")
---local result = nauthilus_backend_result.new()
---result:attributes({["Proxy-Host"] = "192.0.2.12", quota_rule = "*:storage=1G"})
---backend.apply_backend_result(result)
---```
---@param result nauthilus_backend_result
function nauthilus_backend.apply_backend_result(result) end

---Takes fields out of the answer to Dovecot. A name that is not there does nothing.
---
---```lua
---local backend = require("nauthilus_backend")
---backend.remove_from_backend_result({"quota_rule"})
---```
---@param names string[]
function nauthilus_backend.remove_from_backend_result(names) end

return nauthilus_backend
