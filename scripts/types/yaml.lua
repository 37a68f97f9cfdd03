---@meta yaml
-- Written by make generate: do not edit.

---YAML. Values are nested 16 deep at most, texts are 64 KiB at most, and 4096 values at most are read or written; what an
---alias stands for counts each time.
---@class yamllib
local yaml = {}

---Makes tables of mappings and sequences; null is nil, times are texts, and yes, no, on and off are booleans. Of several
---documents the first. nil and a text if it is no YAML.
---
---```lua
---local yaml = require("yaml")
---local value = yaml.decode("site: north\nports: [143, 993]")
---print(value.site, value.ports[2]) --> north	993
---print((yaml.decode("["))) --> nil
---```
---@param text string
---@return any value
---@return string? err
function yaml.decode(text) end

---A table with the keys 1 to n is a sequence, and so is an empty one; any other a mapping, its keys sorted. nil and a text
---for functions, userdata, and tables that stand in themselves.
---
---```lua
---local yaml = require("yaml")
---print((yaml.encode({1}))) --> - 1
---```
---@param value any
---@return string? text
---@return string? err
function yaml.encode(value) end

return yaml
