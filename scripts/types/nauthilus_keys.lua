---@meta nauthilus_keys
-- Written by make generate: do not edit.

---Names of Redis keys as Nauthilus' scripts build them.
---@class nauthilus_keyslib
nauthilus_keys = {}

---`{acm-MD5}`, which keeps all keys of a user in one slot of a Redis Cluster; `""` for `""`, or where the environment
---variable USE_KEY_HASHTAGS is false. KEY_HASHTAG_PREFIX stands for `acm-`. `director.env` must name both.
---
---```lua
---local keys = require("nauthilus_keys")
---print(keys.account_tag("alice")) --> {acm-6384e2b2184bcbf58eccf10ca7a6563c}
---```
---@param user string
---@return string tag
function nauthilus_keys.account_tag(user) end

return nauthilus_keys
