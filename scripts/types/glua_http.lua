---@meta glua_http
-- Written by make generate: do not edit.

---An answer of an HTTP server. A field that it has not is nil.
---@class http.response
---@field status_code integer 200, 404 …
---@field body string "" if there is none.
---@field body_size integer Its length, in bytes.
---@field headers table<string, string> By name, written like `Content-Type`. Of several of one name the first.
---@field cookies table<string, string> That the server set, by name.
---@field url string What answered, after redirects; without user and password.

---Asks HTTP services, over connections that are kept between requests. Needs `director.network: true`. `options` are a
---table, each of them may be left out: `headers` (names and values; `Host` too), `query` (replaces the URL's), `body`,
---`form` (a body of a form's type), `timeout` (seconds, or a text like `"500ms"`), `auth` (`{user = "u", pass = "p"}`) and
---`cookies` (names and values). A call ends after three quarters of what is left of `director.timeout`, or `timeout`, or 30
---seconds, whichever comes first, so that the policy can still decide; of a server that answered nobody for a while one call
---at a time waits, and the others fail at once. A server that cannot be reached, a bad URL and a bad header field return
---`nil` and a text; answers of any status, 404 and 500 too, are answers. Only http and https, at most ten redirects, answers
---of at most 1 MiB (unpacked), URLs of at most 8 KiB; a redirect from https to http is not followed. Certificates must be
---valid.
---@class glua_httplib
local glua_http = {}

---Asks with `GET`. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local name = request.username:match("^[^@]*")
---local answer, err = http.get("http://directory.example.org/users/" .. name, {timeout = "500ms"})
---if not answer then
---  usher.log("no directory: " .. err)
---elseif answer.status_code == 200 then
---  print(answer.body) --> {"site":"north"}
---  print(answer.headers["X-Source"]) --> ldap
---end
---```
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.get(url, options) end

---Asks with `HEAD`: the answer has no body. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local answer = http.head("http://directory.example.org/users/nobody")
---print(answer.status_code) --> 404
---```
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.head(url, options) end

---Sends `body` or `form` with `POST`. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local answer = http.post("http://directory.example.org/logins", {
---  body = '{"user":"alice"}', headers = {["Content-Type"] = "application/json"},
---})
---print(answer.status_code) --> 404
---```
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.post(url, options) end

---Sends `body` or `form` with `PUT`. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local answer = http.put("http://directory.example.org/logins/1", {body = "imap", auth = {user = "usher", pass = "secret"}})
---print(answer.status_code) --> 404
---```
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.put(url, options) end

---Sends `body` or `form` with `PATCH`. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local answer = http.patch("http://directory.example.org/logins/1", {form = "state=open"})
---print(answer.status_code) --> 404
---```
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.patch(url, options) end

---Asks with `DELETE`. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local answer = http.delete("http://directory.example.org/logins/1")
---print(answer.status_code) --> 404
---```
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.delete(url, options) end

---Asks with any method, in upper or lower case. Returns the answer, or nil and what went wrong.
---
---```lua
---local http = require("glua_http")
---local answer, err = http.request("get", "ftp://directory.example.org/")
---print(err) --> glua_http: unsupported protocol scheme; expected http:// or https://
---```
---@param method string
---@param url string
---@param options? table
---@return http.response? answer
---@return string? err
function glua_http.request(method, url, options) end

---Is not in usher, and raises an error that says so: ask one after the other.
---
---```lua
---local http = require("glua_http")
---local ok = pcall(http.request_batch, {{"get", "http://directory.example.org/users/alice"}})
---print(ok) --> false
---```
---@param requests table
function glua_http.request_batch(requests) end

return glua_http
