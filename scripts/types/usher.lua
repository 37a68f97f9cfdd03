---@meta usher
-- Written by make generate: do not edit.

---@class usherlib
usher = {}

---
---```lua
---
---```
function usher.servers() end

---
---```lua
---
---```
function usher.assigned() end

---
---```lua
---
---```
function usher.hash() end

---
---```lua
---
---```
function usher.sticky() end

---
---```lua
---
---```
function usher.select() end

---
---```lua
---
---```
function usher.deny() end

---
---```lua
---
---```
function usher.hold() end

---
---```lua
---
---```
function usher.log() end

return usher
