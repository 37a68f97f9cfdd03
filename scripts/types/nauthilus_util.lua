---@meta nauthilus_util
-- Written by make generate: do not edit.

---Small helpers, and the log. A log function takes `(logging, text or table[, err])`, where logging is `request` or
---`request.logging`, or a text alone; what is below `logging.log_level` is dropped.
---@class nauthilus_utillib
nauthilus_util = {}

---The environment variable, if `director.env` names it and it is set; else the default. The answer, the default too, is kept
---in nauthilus_cache as `env:NAME` until the next reload.
---
---```lua
---local util = require("nauthilus_util")
---print(util.getenv("NO_SUCH_VARIABLE", "north")) --> north
---```
---@param name string
---@param default? any
---@return any value
function nauthilus_util.getenv(name, default) end

---The key with `request.redis_prefix` before it; as it is without a request or prefix.
---
---```lua
---local util = require("nauthilus_util")
---print(util.get_redis_key({redis_prefix = "nt:"}, "DS:alice")) --> nt:DS:alice
---```
---@param request table?
---@param key string
---@return string key
function nauthilus_util.get_redis_key(request, key) end

---Whether a value is in a table, under whatever key.
---
---```lua
---local util = require("nauthilus_util")
---print(util.exists_in_table({"imap", "pop3"}, request.protocol)) --> true
---```
---@param t table
---@param value any
---@return boolean found
function nauthilus_util.exists_in_table(t, value) end

---How many keys a table has, those that are no numbers too.
---
---```lua
---local util = require("nauthilus_util")
---print(util.table_length({1, 2, a = 3})) --> 3
---```
---@param t table
---@return integer n
function nauthilus_util.table_length(t) end

---Whether a value is a table.
---
---```lua
---local util = require("nauthilus_util")
---print(util.is_table({}), util.is_table("")) --> true	false
---```
---@param x any
---@return boolean yes
function nauthilus_util.is_table(x) end

---Whether a value is a string.
---
---```lua
---local util = require("nauthilus_util")
---print(util.is_string(request.username)) --> true
---```
---@param x any
---@return boolean yes
function nauthilus_util.is_string(x) end

---Whether a value is a number.
---
---```lua
---local util = require("nauthilus_util")
---print(util.is_number(143), util.is_number("143")) --> true	false
---```
---@param x any
---@return boolean yes
function nauthilus_util.is_number(x) end

---A text of random letters and digits, fit for a secret; 4096 bytes at most.
---
---```lua
---local util = require("nauthilus_util")
---print(#util.generate_random_string(8)) --> 8
---```
---@param length integer
---@return string text
function nauthilus_util.generate_random_string(length) end

---False for `""`, `0` and `false`, in any case; true for all else. nil raises an error.
---
---```lua
---local util = require("nauthilus_util")
---print(util.toboolean("False"), util.toboolean("1")) --> false	true
---```
---@param text string|number|boolean
---@return boolean value
function nauthilus_util.toboolean(text) end

---Raises the error, unless it is nil, false, `redis: nil` or `OK`: the login is told to try later.
---
---```lua
---local util = require("nauthilus_util")
---util.if_error_raise("redis: nil")
---print(pcall(util.if_error_raise, "away")) --> false	away
---```
---@param err any
function nauthilus_util.if_error_raise(err) end

---The time as `2026-01-21T15:00:00 +01:00`, in the zone that the environment variable TZ names, else UTC.
---
---```lua
---local util = require("nauthilus_util")
---print(#util.get_current_timestamp()) --> 26
---```
---@return string time
function nauthilus_util.get_current_timestamp() end

---Whether an address is one of the public internet: false for private, local, documentation and multicast ones, and for what
---is no address.
---
---```lua
---local util = require("nauthilus_util")
---print(util.is_routable_ip("9.9.9.9"), util.is_routable_ip("10.1.2.3")) --> true	false
---```
---@param ip string
---@return boolean yes
function nauthilus_util.is_routable_ip(ip) end

---Logs a text, or the fields of a table, those that are tables as JSON, at level `debug`.
---
---```lua
---local util = require("nauthilus_util")
---util.log_debug(request.logging, {site = "north"})
---util.log_debug("a text will do")
---print("logged") --> logged
---```
---@param logging table
---@param what string|table
---@param err? any
---@overload fun(text: string, err?: any)
function nauthilus_util.log_debug(logging, what, err) end

---Logs a text, or the fields of a table, those that are tables as JSON, at level `info`.
---
---```lua
---local util = require("nauthilus_util")
---util.log_info(request.logging, {site = "north"})
---util.log_info("a text will do")
---print("logged") --> logged
---```
---@param logging table
---@param what string|table
---@param err? any
---@overload fun(text: string, err?: any)
function nauthilus_util.log_info(logging, what, err) end

---Logs a text, or the fields of a table, those that are tables as JSON, at level `info`.
---
---```lua
---local util = require("nauthilus_util")
---util.log_notice(request.logging, {site = "north"})
---util.log_notice("a text will do")
---print("logged") --> logged
---```
---@param logging table
---@param what string|table
---@param err? any
---@overload fun(text: string, err?: any)
function nauthilus_util.log_notice(logging, what, err) end

---Logs a text, or the fields of a table, those that are tables as JSON, at level `warn`.
---
---```lua
---local util = require("nauthilus_util")
---util.log_warn(request.logging, {site = "north"})
---util.log_warn("a text will do")
---print("logged") --> logged
---```
---@param logging table
---@param what string|table
---@param err? any
---@overload fun(text: string, err?: any)
function nauthilus_util.log_warn(logging, what, err) end

---Logs a text, or the fields of a table, those that are tables as JSON, at level `error`.
---
---```lua
---local util = require("nauthilus_util")
---util.log_error(request.logging, {site = "north"})
---util.log_error("a text will do")
---print("logged") --> logged
---```
---@param logging table
---@param what string|table
---@param err? any
---@overload fun(text: string, err?: any)
function nauthilus_util.log_error(logging, what, err) end

---Logs at a level by its name: debug, info, notice, warn or error; an unknown one is info.
---
---```lua
---local util = require("nauthilus_util")
---util.log(request.logging, "info", {site = "north"})
---print("logged") --> logged
---```
---@param logging table
---@param level string
---@param what string|table
---@param err? any
function nauthilus_util.log(logging, level, what, err) end

---Logs whatever `logging.log_level` says.
---
---```lua
---local util = require("nauthilus_util")
---util.print_result(request.logging, {site = "north"})
---print("logged") --> logged
---```
---@param logging table
---@param what string|table
---@param err? any
function nauthilus_util.print_result(logging, what, err) end

return nauthilus_util
