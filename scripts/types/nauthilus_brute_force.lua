---@meta nauthilus_brute_force
-- Written by make generate: do not edit.

---Empty: usher counts no wrong passwords.
---@class nauthilus_brute_forcelib
nauthilus_brute_force = {}

return nauthilus_brute_force
