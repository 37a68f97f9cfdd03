---@meta nauthilus_mail
-- Written by make generate: do not edit.

---Empty: usher sends no mail.
---@class nauthilus_maillib
nauthilus_mail = {}

return nauthilus_mail
