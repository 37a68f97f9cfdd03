---@meta nauthilus_opentelemetry
-- Written by make generate: do not edit.

---Makes spans.
---@class nauthilus_opentelemetry_tracer
local nauthilus_opentelemetry_tracer_methods = {}

---A span that does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:finish()
---print("finished") --> finished
---```
---@param name string
---@param options? table
---@return nauthilus_opentelemetry_span span
function nauthilus_opentelemetry_tracer_methods:start_span(name, options) end

---Calls f with a span, and returns what it returns.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---print(otel.default_tracer():with_span("look-up", function(span) return "north" end)) --> north
---```
---@param name string
---@param f function
---@param options? table
---@return any ...
function nauthilus_opentelemetry_tracer_methods:with_span(name, f, options) end

---Functions that each return an empty table.
---@class nauthilus_opentelemetry_semconv
---@field peer_service fun(...: any): table Always `{}`.
---@field http_client_attrs fun(...: any): table Always `{}`.
---@field db_attrs fun(...: any): table Always `{}`.
---@field net_attrs fun(...: any): table Always `{}`.

---A span that does nothing.
---@class nauthilus_opentelemetry_span
local nauthilus_opentelemetry_span_methods = {}

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:set_attribute("site", "north")
---print("done") --> done
---```
---@param key string
---@param value any
function nauthilus_opentelemetry_span_methods:set_attribute(key, value) end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:set_attributes({site = "north"})
---print("done") --> done
---```
---@param attributes table
function nauthilus_opentelemetry_span_methods:set_attributes(attributes) end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:add_event("asked")
---print("done") --> done
---```
---@param name string
---@param attributes? table
function nauthilus_opentelemetry_span_methods:add_event(name, attributes) end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:set_status("ok")
---print("done") --> done
---```
---@param code string
---@param text? string
function nauthilus_opentelemetry_span_methods:set_status(code, text) end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:record_error("away")
---print("done") --> done
---```
---@param err any
function nauthilus_opentelemetry_span_methods:record_error(err) end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local span = otel.default_tracer():start_span("look-up")
---span:finish()
---print("done") --> done
---```
function nauthilus_opentelemetry_span_methods:finish() end

---Stands in for Nauthilus' tracing: usher sends no traces, so all functions are there and do nothing, but for `with_span`,
---which calls the function.
---@class nauthilus_opentelemetrylib
---@field semconv nauthilus_opentelemetry_semconv Nauthilus' functions that make attributes of spans.
nauthilus_opentelemetry = {}

---Always false.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---print(otel.is_enabled()) --> false
---```
---@return boolean enabled
function nauthilus_opentelemetry.is_enabled() end

---A tracer.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---print(otel.tracer("site") ~= nil) --> true
---```
---@param scope? string
---@return nauthilus_opentelemetry_tracer tracer
function nauthilus_opentelemetry.tracer(scope) end

---A tracer.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---print(otel.default_tracer() ~= nil) --> true
---```
---@return nauthilus_opentelemetry_tracer tracer
function nauthilus_opentelemetry.default_tracer() end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---otel.baggage_set("site", "north")
---print(otel.baggage_get("site")) --> nil
---```
---@param key string
---@param value string
function nauthilus_opentelemetry.baggage_set(key, value) end

---Always nil.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---print(otel.baggage_get("site")) --> nil
---```
---@param key string
---@return string? value
function nauthilus_opentelemetry.baggage_get(key) end

---Always `{}`.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---print(next(otel.baggage_all())) --> nil
---```
---@return table all
function nauthilus_opentelemetry.baggage_all() end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---otel.baggage_clear()
---print("cleared") --> cleared
---```
function nauthilus_opentelemetry.baggage_clear() end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---local headers = {}
---otel.inject_headers(headers)
---print(next(headers)) --> nil
---```
---@param headers table
function nauthilus_opentelemetry.inject_headers(headers) end

---Does nothing.
---
---```lua
---local otel = require("nauthilus_opentelemetry")
---otel.extract_headers({})
---print("extracted") --> extracted
---```
---@param headers table
function nauthilus_opentelemetry.extract_headers(headers) end

return nauthilus_opentelemetry
