---@meta nauthilus_util
-- Written by make generate: do not edit.

---@class nauthilus_utillib
nauthilus_util = {}

---
---```lua
---
---```
function nauthilus_util.log_debug() end

---
---```lua
---
---```
function nauthilus_util.log_info() end

---
---```lua
---
---```
function nauthilus_util.log_notice() end

---
---```lua
---
---```
function nauthilus_util.log_warn() end

---
---```lua
---
---```
function nauthilus_util.log_error() end

---
---```lua
---
---```
function nauthilus_util.log() end

---
---```lua
---
---```
function nauthilus_util.print_result() end

return nauthilus_util
