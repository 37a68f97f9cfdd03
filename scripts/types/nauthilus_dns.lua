---@meta nauthilus_dns
-- Written by make generate: do not edit.

---Asks DNS, by the name servers of the system's `resolv.conf`. Needs `director.network: true`. A look-up ends after three
---quarters of what is left of `director.timeout`, or ten seconds, so that the policy can still decide. Nothing is cached.
---@class nauthilus_dnslib
nauthilus_dns = {}

---Returns the records of a name: for `A` (the default), `AAAA`, `NS` and `TXT` a list of strings; for `MX` a list of tables,
---the lowest `pref` first; for `CNAME` the name at the end of the chain, which is the name itself where there is none. `PTR`
---takes an address, or its name under `in-addr.arpa` or `ip6.arpa`. Names in answers end in a dot; end yours in one so that
---the system's search domains are not tried. Returns nil and a text if there is no such record, no answer in time, or the
---type is unknown; `{}` for `A` if the name has `AAAA` alone, and the other way round.
---
---```lua
---local addresses = nauthilus_dns.resolve("example.org")
---print(addresses[1]) --> 192.0.2.80
---local mx = nauthilus_dns.resolve("example.org", "MX")
---print(mx[1].pref .. " " .. mx[1].host) --> 10 mail.example.org.
---print(nauthilus_dns.resolve("example.org", "TXT")[1]) --> v=spf1 -all
---print(nauthilus_dns.resolve("www.example.org", "CNAME")) --> example.org.
---print(nauthilus_dns.resolve("192.0.2.80", "PTR")[1]) --> host80.example.org.
---local nothing, err = nauthilus_dns.resolve("example.org", "X25")
---print(err) --> nauthilus_dns: unsupported record type: X25
---```
---@param name string
---@param type? "A"|"AAAA"|"NS"|"TXT"|"MX"|"CNAME"|"PTR"
---@return string[]|{host: string, pref: integer}[]|string|nil records
---@return string? err
function nauthilus_dns.resolve(name, type) end

return nauthilus_dns
