---@meta nauthilus_context
-- Written by make generate: do not edit.

---What the scripts of one request tell each other: features, password drivers and filters, in their order. It ends with the
---request. Tables are copied both ways; a function or userdata becomes text.
---@class nauthilus_contextlib
nauthilus_context = {}

---Keeps a value for the scripts after this one; nil removes it. A request keeps 1000 values at most, keys have 1024 bytes at
---most.
---
---```lua
---local context = require("nauthilus_context")
---context.context_set("site", {name = "north"})
---print(context.context_get("site").name) --> north
---```
---@param key string|number
---@param value any
function nauthilus_context.context_set(key, value) end

---Returns the value, of a table a copy; nil if there is none.
---
---```lua
---local context = require("nauthilus_context")
---context.context_set("tries", 3)
---print(context.context_get("tries"), context.context_get("other")) --> 3 nil
---```
---@param key string|number
---@return any value
function nauthilus_context.context_get(key) end

---Removes a value; one that is not there does nothing.
---
---```lua
---local context = require("nauthilus_context")
---context.context_set("tries", 3)
---context.context_delete("tries")
---print(context.context_get("tries")) --> nil
---```
---@param key string|number
function nauthilus_context.context_delete(key) end

return nauthilus_context
