---@meta json
-- Written by make generate: do not edit.

---JSON (RFC 8259). Values are nested 16 deep at most, texts are 1 MiB at most, and a table has 4096 values at most when it
---is encoded.
---@class jsonlib
local json = {}

---Makes tables of objects and arrays; null is nil. nil and a text if it is no JSON.
---
---```lua
---local json = require("json")
---local value, err = json.decode('{"site": "north", "ports": [143, 993]}')
---print(value.site, value.ports[2]) --> north	993
---print((json.decode("{"))) --> nil
---```
---@param text string
---@return any value
---@return string? err
function json.decode(text) end

---A table with the keys 1 to n is an array, and so is an empty one; one with texts as keys an object, its keys sorted. nil
---and a text for a table that is both or has holes, and for functions and userdata.
---
---```lua
---local json = require("json")
---print(json.encode({1, 2})) --> [1,2]
---print(json.encode({site = "north"})) --> {"site":"north"}
---```
---@param value any
---@return string? text
---@return string? err
function json.encode(value) end

return json
