---@meta nauthilus_cache
-- Written by make generate: do not edit.

---What requests are meant to share; all else that one leaves behind is gone. One map for the process, kept by a reload and
---lost by a restart. It has 100,000 entries and 64 MiB at most, beyond which old ones go. Tables are copied both ways. A dry
---run works on a copy.
---@class nauthilus_cachelib
nauthilus_cache = {}

---Keeps a value under a key, for `ttl` whole seconds; without `ttl`, or with one under 1, for good. Tables are copied;
---functions and userdata raise an error. A nil is kept too: `cache_exists` says so. Keys have 1024 bytes at most, values 4
---MiB.
---
---```lua
---local cache = require("nauthilus_cache")
---print(cache.cache_set("site:alice", {name = "north"}, 300)) --> OK
---print(cache.cache_get("site:alice").name) --> north
---```
---@param key string|number
---@param value string|number|boolean|table|nil
---@param ttl? number
---@return "OK" ok
function nauthilus_cache.cache_set(key, value, ttl) end

---Returns the value, of a table a copy; nil if there is none, or none any more.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_set("tries", 3)
---print(cache.cache_get("tries"), cache.cache_get("other")) --> 3 nil
---```
---@param key string|number
---@return any value
function nauthilus_cache.cache_get(key) end

---Removes a key. Returns whether there was one.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_set("tries", 3)
---print(cache.cache_delete("tries"), cache.cache_delete("tries")) --> true false
---```
---@param key string|number
---@return boolean deleted
function nauthilus_cache.cache_delete(key) end

---Returns whether there is such a key; a value may be false or nil.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_set("moved", false)
---print(cache.cache_exists("moved"), cache.cache_exists("other")) --> true false
---```
---@param key string|number
---@return boolean exists
function nauthilus_cache.cache_exists(key) end

---Makes `f(old)` the value, and returns it; `old` is nil where there is none. nil removes the key; its end stays. Was
---another request faster, `f` runs again.
---
---```lua
---local cache = require("nauthilus_cache")
---local function count(old)
---  return (old or 0) + 1
---end
---cache.cache_update("logins", count)
---print(cache.cache_update("logins", count)) --> 2
---```
---@param key string|number
---@param f fun(old: any): any
---@return any value
function nauthilus_cache.cache_update(key, f) end

---Appends to the list under a key, and returns its length. What is there and is no list becomes its first element.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_push("recent", "alice")
---print(cache.cache_push("recent", "bob")) --> 2
---```
---@param key string|number
---@param value string|number|boolean|table
---@return integer length
function nauthilus_cache.cache_push(key, value) end

---Takes the list under a key away, and returns it; `{}` if there is none. What is no list comes back as the only element of
---one.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_push("recent", "alice")
---cache.cache_push("recent", "bob")
---print(table.concat(cache.cache_pop_all("recent"), " ")) --> alice bob
---print(#cache.cache_pop_all("recent")) --> 0
---```
---@param key string|number
---@return any[] list
function nauthilus_cache.cache_pop_all(key) end

---Returns the keys, sorted.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_set("b", 1)
---cache.cache_set("a", 1)
---print(table.concat(cache.cache_keys(), " ")) --> a b
---```
---@return string[] keys
function nauthilus_cache.cache_keys() end

---Returns the number of entries.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_set("a", 1)
---print(cache.cache_size()) --> 1
---```
---@return integer n
function nauthilus_cache.cache_size() end

---Removes all entries.
---
---```lua
---local cache = require("nauthilus_cache")
---cache.cache_set("a", 1)
---cache.cache_flush()
---print(cache.cache_size()) --> 0
---```
function nauthilus_cache.cache_flush() end

return nauthilus_cache
