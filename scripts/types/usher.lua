---@meta usher
-- Written by make generate: do not edit.

---A file of keys and values, as `usher.map` returns it. `m(key, default)` is the same as `m:get(key, default)`.
---@class usher_map
---@operator call(string): any
local usher_map_methods = {}

---Returns the value of the line for a key, as a string; where there is none, the default, or nil. An exact line goes before
---a suffix, the longest suffix first, and both before a regular expression, the first one first; an address has its longest
---prefix. Case does not matter. A key is 1024 bytes at most; longer ones are in no line.
---
---```lua
---local usher = require("usher")
---local moved = usher.map("moved.map")
---print(moved:get("alice@example.org")) --> 192.0.2.12
---print(moved("carol@example.org", "192.0.2.11")) --> 192.0.2.11
---```
---@param key string
---@param default? any
---@return any value
function usher_map_methods:get(key, default) end

---What policies always need: the servers that a request can go to, ways to choose one, look-ups in files, and what becomes
---of the login. It is usher's own; Nauthilus has it not.
---@class usherlib
usher = {}

---Lists the servers to choose from: of the request's protocol, up, one a host, in the configuration's order; `{}` when there
---is none. A drained host is listed to its own users only. With `tag` only hosts with that tag, with `tags` those with all
---of them, with `host` that host. A service that no server is configured for (doveadm) gets one server of each host. Behind
---a Dovecot whose own auth server answers, all are of its `director_tag`, by their first tag; without a `director_tag` hosts
---with tags are listed by `tag`, `tags` and `host` only. Besides `host`, `port` and the like each has `weight`, `tags` (a
---new list at each read) and `assigned`, the number of users assigned to its host; one whose assignment has ended may count
---for another minute.
---
---```lua
---local usher = require("usher")
---local servers = usher.servers()
---print(#servers, servers[1].host, servers[1].port) --> 2	192.0.2.11	143
---print(servers[1].weight, #servers[1].tags, servers[1].assigned) --> 100	0	0
---print(#usher.servers({tag = "ssd"})) --> 0
---```
---@param filter? {tag?: string, tags?: string[], host?: string}
---@return nauthilus_backend_server[] servers
function usher.servers(filter) end

---Returns the first server of a list, or nil when it is empty.
---
---```lua
---local usher = require("usher")
---print(usher.first(usher.servers()).host) --> 192.0.2.11
---print(usher.first({})) --> nil
---```
---@param servers nauthilus_backend_server[]
---@return nauthilus_backend_server? server
function usher.first(servers) end

---Returns the server that the key belongs to by weighted rendezvous hashing, or nil when there is none: the same key gets
---the same server as long as that is in the list, and a server that goes moves only its own keys. The weight says how many
---keys a server gets; 0 gets none. For imap and pop3 only hosts count that have both, if the configuration has both.
---
---```lua
---local usher = require("usher")
---local servers = usher.servers()
---print(usher.hash("example.org", servers).host == usher.hash("example.org", servers).host) --> true
---print(usher.hash("example.org", {})) --> nil
---```
---@param key string
---@param servers nauthilus_backend_server[]
---@return nauthilus_backend_server? server
function usher.hash(key, servers) end

---Returns a server by chance, in proportion to the weights, or nil when there is none with a weight over 0. It draws as
---`math.random` does, so `math.randomseed` makes it repeat itself. For imap and pop3 only hosts count that have both, if the
---configuration has both.
---
---```lua
---local usher = require("usher")
---local server = usher.random(usher.servers())
---print(server.protocol) --> imap
---```
---@param servers nauthilus_backend_server[]
---@return nauthilus_backend_server? server
function usher.random(servers) end

---Returns one server after the other, each in proportion to its weight, or nil when there is none with a weight over 0.
---Whose turn it is is kept for each script and protocol, over requests and reloads; a dry run takes no turn. For imap and
---pop3 only hosts count that have both, if the configuration has both.
---
---```lua
---local usher = require("usher")
---local servers = usher.servers()
---local a, b = usher.round_robin(servers), usher.round_robin(servers)
---print(a.host ~= b.host) --> true
---```
---@param servers nauthilus_backend_server[]
---@return nauthilus_backend_server? server
function usher.round_robin(servers) end

---Returns the server whose host has the fewest assigned users for its weight, or nil when there is none with a weight over 0.
---Among equals the hash of the assignment key decides. For imap and pop3 only hosts count that have both, if the
---configuration has both.
---
---```lua
---local usher = require("usher")
---local server = usher.least_assigned(usher.servers())
---print(server.assigned) --> 0
---```
---@param servers nauthilus_backend_server[]
---@return nauthilus_backend_server? server
function usher.least_assigned(servers) end

---Returns the server that the user is assigned to if it is in the list, else what `usher.hash` gives for the user; nil when
---there is none. Is the host up, but not this protocol on it, selecting what is returned tells the user to try later: nobody
---goes to a second machine. With a `key` (a domain, a family; at most 255 bytes, case does not matter) all logins with that
---key share one assignment, and the user's own is neither looked at nor changed; the last call counts. A drained host keeps
---the key's users, unless the filter of the last `usher.servers` leaves it out. A session that goes on prolongs the user's
---own assignment, not the key's: that lives as long as logins come. Keys and users' names are of one kind: a user who is
---called `example.org` has the assignment of the key `example.org`. A policy that sets keys had better set one for each
---login, with a word before each kind: `"domain:" .. domain`, `"user:" .. request.account`.
---
---```lua
---local usher = require("usher")
---local server = usher.sticky(usher.servers(), "example.org")
---print(server.host == usher.hash("example.org", usher.servers()).host) --> true
---```
---@param servers nauthilus_backend_server[]
---@param key? string
---@return nauthilus_backend_server? server
function usher.sticky(servers, key) end

---Returns the host that the request is assigned to, by the key of `usher.sticky` if that set one; with `user` the host of
---that user. Returns nil when there is none, or `affinity.mode` is off, and nil and a text when the assignments cannot be
---read.
---
---```lua
---local usher = require("usher")
---print(usher.assigned()) --> nil
---print(usher.assigned("bob@example.org")) --> nil
---```
---@param user? string
---@return string? host
---@return string? err
function usher.assigned(user) end

---Returns the map of a file of keys and values (docs/maps.md says how they are written), relative to the script's folder. It
---is read once for the process, at best at the start: call it outside of functions. A file that changes is read anew within
---about two seconds; while it is broken or gone, the old content stays, and the log says why. Raises an error when the file
---was never good, and when a request may not wait until it is read: the next one finds it. A name must not contain `..`; a
---process has 1000 maps at most.
---
---```lua
---local usher = require("usher")
---local moved = usher.map("moved.map")
---print(moved("alice@example.org")) --> 192.0.2.12
---```
---@param file string
---@return usher_map map
function usher.map(file) end

---Reports whether an address is in a network, or in one of a list of networks; an address stands for itself. An IPv4 address
---in IPv6 form counts as IPv4. A text that is no address, and `""`, is in none; a network that is none raises an error.
---
---```lua
---local usher = require("usher")
---print(usher.cidr({"198.51.100.0/24", "192.0.2.0/28"}, request.client_ip)) --> true
---print(usher.cidr("2001:db8::/32", request.client_ip)) --> false
---```
---@param set string|string[]
---@param ip string
---@return boolean inside
function usher.cidr(set, ip) end

---Sends the request to a server, as `nauthilus_backend.select_backend_server` does with its host and port; the last
---selection counts.
---
---```lua
---local usher = require("usher")
---local server = usher.sticky(usher.servers())
---if server then usher.select(server) end
---```
---@param server nauthilus_backend_server
function usher.select(server) end

---Refuses the login. The client sees a wrong password, or the text, of which 4096 bytes are shown at most.
---
---```lua
---local usher = require("usher")
---if request.ssl == "" then usher.deny("Please turn TLS on") end
---```
---@param text? string
function usher.deny(text) end

---Lets the login wait, more than 0 and at most 3600 seconds, and asks the policy again then, until `limits.hold` is over and
---the login is told to try later. A refusal and `usher.tempfail` come first. Look-ups of doveadm do not wait.
---
---```lua
---local usher = require("usher")
---if #usher.servers() < 3 then usher.hold(2) end
---```
---@param seconds number
function usher.hold(seconds) end

---Tells the login to try later, whatever is selected; only a refusal comes first. The text, 4096 bytes at most, stands as
---`error` in the decision's log line; the client does not see it. It is no fault of the policy, and not counted as one.
---
---```lua
---local usher = require("usher")
---if #usher.servers() < 3 then usher.tempfail("half of the site is down") end
---```
---@param text? string
function usher.tempfail(text) end

---Writes a log line of level info, with the script's name and the decision's id; 4096 bytes of the text at most, and a
---hundred lines of one run.
---
---```lua
---local usher = require("usher")
---usher.log("asked about " .. request.account)
---print("logged") --> logged
---```
---@param text any
function usher.log(text) end

return usher
