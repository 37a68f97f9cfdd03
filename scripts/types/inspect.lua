---@meta inspect
-- Written by make generate: do not edit.

---Shows values to people. The module can be called like its one function: `inspect(value)`. Tables are nested 100 deep at
---most.
---@class inspectlib
local inspect = {}

---Stands last in the path of a key that `process` is called for.
inspect.KEY = nil

---Stands in the path of a metatable that `process` is called for.
inspect.METATABLE = nil

---A value as text: lists in a line, other keys sorted and one a line. Tables below `depth` are `{...}`. `process` is called
---for each value and key, and what it returns is shown instead; nil leaves it out.
---
---```lua
---local inspect = require("inspect")
---print(inspect({1, "a"})) --> { 1, "a" }
---print(inspect.inspect({a = {b = 1}}, {newline = "", indent = ""})) --> {a = {b = 1}}
---```
---@param value any
---@param options? {depth?: number, newline?: string, indent?: string, process?: fun(item: any, path: table): any}
---@return string text
function inspect.inspect(value, options) end

return inspect
