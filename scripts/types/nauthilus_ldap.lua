---@meta nauthilus_ldap
-- Written by make generate: do not edit.

---Empty: usher asks no LDAP server.
---@class nauthilus_ldaplib
nauthilus_ldap = {}

return nauthilus_ldap
