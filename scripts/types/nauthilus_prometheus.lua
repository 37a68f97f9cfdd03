---@meta nauthilus_prometheus
-- Written by make generate: do not edit.

---A timer that runs.
---@class nauthilus_prometheus_timer

---Metrics of the script's own, at `/metrics` beside usher's. They stay over reloads. Make them in an init script. 200
---metrics at most, each with 1000 different label values: what is beyond is not counted. Names that begin with `usher_`,
---`go_`, `process_` or `promhttp_` are usher's.
---@class nauthilus_prometheuslib
nauthilus_prometheus = {}

---Makes a counter with these label names. One that is there already, with the same labels, stays. The help has 1024 bytes at
---most.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_counter_vec("site_counter", "Logins by site.", {"site"})
---prometheus.create_counter_vec("site_counter", "Logins by site.", {"site"})
---print("done") --> done
---```
---@param name string
---@param help string
---@param labels? string[]
function nauthilus_prometheus.create_counter_vec(name, help, labels) end

---Makes a gauge with these label names. One that is there already, with the same labels, stays. The help has 1024 bytes at
---most.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---print("done") --> done
---```
---@param name string
---@param help string
---@param labels? string[]
function nauthilus_prometheus.create_gauge_vec(name, help, labels) end

---Makes a histogram with these label names. One that is there already, with the same labels, stays. The help has 1024 bytes
---at most.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_histogram_vec("site_histogram", "Logins by site.", {"site"})
---prometheus.create_histogram_vec("site_histogram", "Logins by site.", {"site"})
---print("done") --> done
---```
---@param name string
---@param help string
---@param labels? string[]
function nauthilus_prometheus.create_histogram_vec(name, help, labels) end

---Makes a summary with these label names. One that is there already, with the same labels, stays. The help has 1024 bytes at
---most.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_summary_vec("site_summary", "Logins by site.", {"site"})
---prometheus.create_summary_vec("site_summary", "Logins by site.", {"site"})
---print("done") --> done
---```
---@param name string
---@param help string
---@param labels? string[]
function nauthilus_prometheus.create_summary_vec(name, help, labels) end

---Adds one to a counter. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_counter_vec("site_counter", "Logins by site.", {"site"})
---prometheus.increment_counter("site_counter", {site = "north"})
---print("done") --> done
---```
---@param name string
---@param labels? table<string, string>
function nauthilus_prometheus.increment_counter(name, labels) end

---Makes a counter appear, with the value 0. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_counter_vec("site_counter", "Logins by site.", {"site"})
---prometheus.touch_counter("site_counter", {site = "north"})
---print("done") --> done
---```
---@param name string
---@param labels? table<string, string>
function nauthilus_prometheus.touch_counter(name, labels) end

---Adds one to a gauge. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---prometheus.increment_gauge("site_gauge", {site = "north"})
---print("done") --> done
---```
---@param name string
---@param labels? table<string, string>
function nauthilus_prometheus.increment_gauge(name, labels) end

---Takes one from a gauge. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---prometheus.decrement_gauge("site_gauge", {site = "north"})
---print("done") --> done
---```
---@param name string
---@param labels? table<string, string>
function nauthilus_prometheus.decrement_gauge(name, labels) end

---Adds a number to a gauge. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---prometheus.add_gauge("site_gauge", 3, {site = "north"})
---print("done") --> done
---```
---@param name string
---@param n number
---@param labels? table<string, string>
function nauthilus_prometheus.add_gauge(name, n, labels) end

---Takes a number from a gauge. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---prometheus.sub_gauge("site_gauge", 3, {site = "north"})
---print("done") --> done
---```
---@param name string
---@param n number
---@param labels? table<string, string>
function nauthilus_prometheus.sub_gauge(name, n, labels) end

---Sets a gauge. All its labels must be given.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_gauge_vec("site_gauge", "Logins by site.", {"site"})
---prometheus.set_gauge("site_gauge", 3, {site = "north"})
---print("done") --> done
---```
---@param name string
---@param n number
---@param labels? table<string, string>
function nauthilus_prometheus.set_gauge(name, n, labels) end

---Starts a timer for a histogram; nil if there is no such metric.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_histogram_vec("site_histogram", "Logins by site.", {"site"})
---local timer = prometheus.start_histogram_timer("site_histogram", {site = "north"})
---prometheus.stop_timer(timer)
---print("done") --> done
---```
---@param name string
---@param labels? table<string, string>
---@return userdata? timer
function nauthilus_prometheus.start_histogram_timer(name, labels) end

---Starts a timer for a summary; nil if there is no such metric.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_summary_vec("site_summary", "Logins by site.", {"site"})
---local timer = prometheus.start_summary_timer("site_summary", {site = "north"})
---prometheus.stop_timer(timer)
---print("done") --> done
---```
---@param name string
---@param labels? table<string, string>
---@return userdata? timer
function nauthilus_prometheus.start_summary_timer(name, labels) end

---Adds the seconds since the timer's start to its histogram or summary. nil does nothing.
---
---```lua
---local prometheus = require("nauthilus_prometheus")
---prometheus.create_histogram_vec("site_seconds", "How long it took.", {"site"})
---local timer = prometheus.start_histogram_timer("site_seconds", {site = "north"})
---prometheus.stop_timer(timer)
---print("stopped") --> stopped
---```
---@param timer userdata?
function nauthilus_prometheus.stop_timer(timer) end

return nauthilus_prometheus
