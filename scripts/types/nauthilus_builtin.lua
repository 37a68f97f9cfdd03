---@meta nauthilus_builtin
-- Written by make generate: do not edit.

---What policies return, the text that a refused client is shown, and fields of the decision's log line.
---@class nauthilus_builtinlib
nauthilus_builtin = {}

---A filter's first result: go on.
nauthilus_builtin.FILTER_ACCEPT = false

---A filter's first result: refuse the login. The client sees a wrong password, or the text of `status_message_set`.
nauthilus_builtin.FILTER_REJECT = true

---A feature's first result: go on.
nauthilus_builtin.FEATURE_TRIGGER_NO = false

---A feature's first result: refuse the login.
nauthilus_builtin.FEATURE_TRIGGER_YES = true

---A feature's second result: ask the other features.
nauthilus_builtin.FEATURES_ABORT_NO = false

---A feature's second result: leave the other features out.
nauthilus_builtin.FEATURES_ABORT_YES = true

---A filter's second result: all went well.
nauthilus_builtin.FILTER_RESULT_OK = 0

---A filter's second result: something went wrong. It is logged and counted, no more.
nauthilus_builtin.FILTER_RESULT_FAIL = 1

---A feature's third result: all went well.
nauthilus_builtin.FEATURE_RESULT_OK = 0

---A feature's third result: something went wrong. It is logged and counted, no more.
nauthilus_builtin.FEATURE_RESULT_FAIL = 1

---A password driver's first result: the second is an answer.
nauthilus_builtin.BACKEND_RESULT_OK = 0

---A password driver's first result: a temporary failure.
nauthilus_builtin.BACKEND_RESULT_FAIL = 1

---Of Nauthilus' actions, which usher has not.
nauthilus_builtin.ACTION_RESULT_OK = 0

---Of Nauthilus' actions, which usher has not.
nauthilus_builtin.ACTION_RESULT_FAIL = 1

---Sets the text that the client is shown if it is refused; by itself it refuses nobody. The last call in a script counts,
---and of several scripts the first that set one. 4096 bytes at most.
---
---```lua
---nauthilus_builtin.status_message_set("Your mailbox is being moved")
---return nauthilus_builtin.FILTER_REJECT, nauthilus_builtin.FILTER_RESULT_OK
---```
---@param text string
function nauthilus_builtin.status_message_set(text) end

---Adds a field under `custom` to the decision's log line; any other value is `UNSUPPORTED`. Of a repeated key all are kept; 64
---fields a request, keys of 64 and values of 1024 bytes at most.
---
---```lua
---nauthilus_builtin.custom_log_add("site", "north")
---```
---@param key string
---@param value string|number|boolean
function nauthilus_builtin.custom_log_add(key, value) end

return nauthilus_builtin
