---@meta nauthilus_psnet
-- Written by make generate: do not edit.

---Stands in for Nauthilus' watch over its network connections.
---@class nauthilus_psnetlib
nauthilus_psnet = {}

---Does nothing.
---
---```lua
---local psnet = require("nauthilus_psnet")
---psnet.register_connection_target("directory.example.org:443", "remote", "directory")
---print("registered") --> registered
---```
---@param target string
---@param direction string
---@param description string
function nauthilus_psnet.register_connection_target(target, direction, description) end

return nauthilus_psnet
