---@meta nauthilus_http_request
-- Written by make generate: do not edit.

---The HTTP request by which nginx asked, without the password, the shared secret, `Authorization`, `Proxy-Authorization` and
---`Cookie`. Requests of Dovecot have two headers made up, which Nauthilus' filters look for: `X-Nauthilus-Service: Dovecot`
---and `X-Dovecot-Proxy-Target` with the client's address and port.
---@class nauthilus_http_requestlib
nauthilus_http_request = {}

---All headers; the names in lower case, the values a list each.
---
---```lua
---local http = require("nauthilus_http_request")
---print(http.get_all_http_request_headers()["x-nauthilus-service"][1]) --> Dovecot
---```
---@return table<string, string[]> headers
function nauthilus_http_request.get_all_http_request_headers() end

---The values of one header, whatever the case of its name; `{}` if there is none.
---
---```lua
---local http = require("nauthilus_http_request")
---print(http.get_http_request_header("X-Nauthilus-Service")[1]) --> Dovecot
---```
---@param name string
---@return string[] values
function nauthilus_http_request.get_http_request_header(name) end

---Always `""`: neither nginx nor Dovecot sends one.
---
---```lua
---local http = require("nauthilus_http_request")
---print(http.get_http_request_body() == "") --> true
---```
---@return string body
function nauthilus_http_request.get_http_request_body() end

---`GET`; `""` for Dovecot.
---
---```lua
---local http = require("nauthilus_http_request")
---print(http.get_http_method() == "") --> true
---```
---@return string method
function nauthilus_http_request.get_http_method() end

---The path that nginx asked for; `""` for Dovecot.
---
---```lua
---local http = require("nauthilus_http_request")
---print(http.get_http_path() == "") --> true
---```
---@return string path
function nauthilus_http_request.get_http_path() end

---The first value of a parameter behind the path in nginx's `auth_http`, or `""`.
---
---```lua
---local http = require("nauthilus_http_request")
---print(http.get_http_query_param("x") == "") --> true
---```
---@param name string
---@return string value
function nauthilus_http_request.get_http_query_param(name) end

return nauthilus_http_request
