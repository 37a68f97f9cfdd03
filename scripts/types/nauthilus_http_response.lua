---@meta nauthilus_http_response
-- Written by make generate: do not edit.

---Headers of the answer to nginx, besides those that usher writes: never `Auth-…`, and only what has room in the 1 KiB that
---nginx reads. For Dovecot, whose protocol has no headers, the functions do nothing.
---@class nauthilus_http_responselib
nauthilus_http_response = {}

nauthilus_http_response.STATUS_CONTINUE = 100

nauthilus_http_response.STATUS_SWITCHING_PROTOCOLS = 101

nauthilus_http_response.STATUS_PROCESSING = 102

nauthilus_http_response.STATUS_EARLY_HINTS = 103

nauthilus_http_response.STATUS_OK = 200

nauthilus_http_response.STATUS_CREATED = 201

nauthilus_http_response.STATUS_ACCEPTED = 202

nauthilus_http_response.STATUS_NON_AUTHORITATIVE_INFORMATION = 203

nauthilus_http_response.STATUS_NO_CONTENT = 204

nauthilus_http_response.STATUS_RESET_CONTENT = 205

nauthilus_http_response.STATUS_PARTIAL_CONTENT = 206

nauthilus_http_response.STATUS_MULTI_STATUS = 207

nauthilus_http_response.STATUS_ALREADY_REPORTED = 208

nauthilus_http_response.STATUS_IM_USED = 226

nauthilus_http_response.STATUS_MULTIPLE_CHOICES = 300

nauthilus_http_response.STATUS_MOVED_PERMANENTLY = 301

nauthilus_http_response.STATUS_FOUND = 302

nauthilus_http_response.STATUS_SEE_OTHER = 303

nauthilus_http_response.STATUS_NOT_MODIFIED = 304

nauthilus_http_response.STATUS_USE_PROXY = 305

nauthilus_http_response.STATUS_TEMPORARY_REDIRECT = 307

nauthilus_http_response.STATUS_PERMANENT_REDIRECT = 308

nauthilus_http_response.STATUS_BAD_REQUEST = 400

nauthilus_http_response.STATUS_UNAUTHORIZED = 401

nauthilus_http_response.STATUS_PAYMENT_REQUIRED = 402

nauthilus_http_response.STATUS_FORBIDDEN = 403

nauthilus_http_response.STATUS_NOT_FOUND = 404

nauthilus_http_response.STATUS_METHOD_NOT_ALLOWED = 405

nauthilus_http_response.STATUS_NOT_ACCEPTABLE = 406

nauthilus_http_response.STATUS_PROXY_AUTHENTICATION_REQUIRED = 407

nauthilus_http_response.STATUS_REQUEST_TIMEOUT = 408

nauthilus_http_response.STATUS_CONFLICT = 409

nauthilus_http_response.STATUS_GONE = 410

nauthilus_http_response.STATUS_LENGTH_REQUIRED = 411

nauthilus_http_response.STATUS_PRECONDITION_FAILED = 412

nauthilus_http_response.STATUS_REQUEST_ENTITY_TOO_LARGE = 413

nauthilus_http_response.STATUS_REQUEST_URI_TOO_LONG = 414

nauthilus_http_response.STATUS_UNSUPPORTED_MEDIA_TYPE = 415

nauthilus_http_response.STATUS_REQUESTED_RANGE_NOT_SATISFIABLE = 416

nauthilus_http_response.STATUS_EXPECTATION_FAILED = 417

nauthilus_http_response.STATUS_IM_A_TEAPOT = 418

nauthilus_http_response.STATUS_MISDIRECTED_REQUEST = 421

nauthilus_http_response.STATUS_UNPROCESSABLE_ENTITY = 422

nauthilus_http_response.STATUS_LOCKED = 423

nauthilus_http_response.STATUS_FAILED_DEPENDENCY = 424

nauthilus_http_response.STATUS_TOO_EARLY = 425

nauthilus_http_response.STATUS_UPGRADE_REQUIRED = 426

nauthilus_http_response.STATUS_PRECONDITION_REQUIRED = 428

nauthilus_http_response.STATUS_TOO_MANY_REQUESTS = 429

nauthilus_http_response.STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE = 431

nauthilus_http_response.STATUS_UNAVAILABLE_FOR_LEGAL_REASONS = 451

nauthilus_http_response.STATUS_INTERNAL_SERVER_ERROR = 500

nauthilus_http_response.STATUS_NOT_IMPLEMENTED = 501

nauthilus_http_response.STATUS_BAD_GATEWAY = 502

nauthilus_http_response.STATUS_SERVICE_UNAVAILABLE = 503

nauthilus_http_response.STATUS_GATEWAY_TIMEOUT = 504

nauthilus_http_response.STATUS_HTTP_VERSION_NOT_SUPPORTED = 505

nauthilus_http_response.STATUS_VARIANT_ALSO_NEGOTIATES = 506

nauthilus_http_response.STATUS_INSUFFICIENT_STORAGE = 507

nauthilus_http_response.STATUS_LOOP_DETECTED = 508

nauthilus_http_response.STATUS_NOT_EXTENDED = 510

nauthilus_http_response.STATUS_NETWORK_AUTHENTICATION_REQUIRED = 511

---Sets a header, in place of those of the same name.
---
---```lua
---local http = require("nauthilus_http_response")
---http.set_http_response_header("X-Site", "north")
---print("set") --> set
---```
---@param name string
---@param value string
function nauthilus_http_response.set_http_response_header(name, value) end

---Adds a header to those of the same name.
---
---```lua
---local http = require("nauthilus_http_response")
---http.add_http_response_header("X-Site", "north")
---print("added") --> added
---```
---@param name string
---@param value string
function nauthilus_http_response.add_http_response_header(name, value) end

---Takes away what a script has set before.
---
---```lua
---local http = require("nauthilus_http_response")
---http.remove_http_response_header("X-Site")
---print("removed") --> removed
---```
---@param name string
function nauthilus_http_response.remove_http_response_header(name) end

---Sets the header Content-Type.
---
---```lua
---local http = require("nauthilus_http_response")
---http.set_http_content_type("text/plain")
---print("set") --> set
---```
---@param value string
function nauthilus_http_response.set_http_content_type(value) end

---Does nothing: nginx does not look at the status, which is always 200.
---
---```lua
---local http = require("nauthilus_http_response")
---http.set_http_status(http.STATUS_OK)
---print(http.STATUS_OK) --> 200
---```
---@param status integer
function nauthilus_http_response.set_http_status(status) end

---Raises an error: an answer to a mail proxy has no body.
---
---```lua
---local http = require("nauthilus_http_response")
---print((pcall(http.write_http_response_body, "text"))) --> false
---```
---@param ... any
function nauthilus_http_response.write_http_response_body(...) end

---Raises an error: an answer to a mail proxy has no body.
---
---```lua
---local http = require("nauthilus_http_response")
---print((pcall(http.string, "text"))) --> false
---```
---@param ... any
function nauthilus_http_response.string(...) end

---Raises an error: an answer to a mail proxy has no body.
---
---```lua
---local http = require("nauthilus_http_response")
---print((pcall(http.html, "text"))) --> false
---```
---@param ... any
function nauthilus_http_response.html(...) end

---Raises an error: an answer to a mail proxy has no body.
---
---```lua
---local http = require("nauthilus_http_response")
---print((pcall(http.data, "text"))) --> false
---```
---@param ... any
function nauthilus_http_response.data(...) end

---Raises an error: an answer to a mail proxy has no body.
---
---```lua
---local http = require("nauthilus_http_response")
---print((pcall(http.redirect, "text"))) --> false
---```
---@param ... any
function nauthilus_http_response.redirect(...) end

return nauthilus_http_response
