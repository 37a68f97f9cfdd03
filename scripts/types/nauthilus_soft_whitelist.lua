---@meta nauthilus_soft_whitelist
-- Written by make generate: do not edit.

---Empty: usher keeps no lists of trusted networks; see `usher.map` and `usher.cidr`.
---@class nauthilus_soft_whitelistlib
nauthilus_soft_whitelist = {}

return nauthilus_soft_whitelist
