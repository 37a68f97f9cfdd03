local function sessions(n, host)
  local all = {}
  for i = 1, n do
    all["192.0.2.7:" .. i] = host
  end
  return all
end

local key = "usher:DS:alice@example.org"

given {
  filters = {{name = "sessions", script = "nauthilus_sessions.lua"}, {name = "route", script = "director.lua"}},
  backends = {{host = "192.0.2.11"}},
  redis = {[key] = sessions(101, "192.0.2.11"), ["usher:DS_ACCOUNT"] = {["192.0.2.7:1"] = "alice@example.org"}},
}

describe("Nauthilus' sessions", function()
  it("are forgotten when they are many, but not where they are", function()
    expect(login {user = "alice@example.org"}.outcome):to_be("routed")
    expect(redis(key)):to_be({kept = "192.0.2.11"})
    expect(redis("usher:DS_ACCOUNT")):to_be(nil)
  end)

  it("stay when they are few", function()
    given {redis = {[key] = sessions(100, "192.0.2.11")}}
    login {user = "alice@example.org"}
    expect(redis(key)):to_be(sessions(100, "192.0.2.11"))
    expect(redis("usher:DS_ACCOUNT")["192.0.2.7:1"]):to_be("alice@example.org")
  end)

  it("end a month after the last login", function()
    login {user = "alice@example.org"}
    advance(30 * 86400 - 1)
    expect(redis(key).kept):to_be("192.0.2.11")
    login {user = "alice@example.org"}
    advance(30 * 86400 + 1)
    expect(redis(key)):to_be(nil)
  end)

  it("are left alone by others than Dovecot, and after a wrong password", function()
    nginx {user = "alice@example.org"}
    login {user = "alice@example.org", authenticated = false}
    expect(redis(key)):to_be(sessions(101, "192.0.2.11"))
  end)

  it("keep nobody from his mail when Redis is away", function()
    given {redis = "down"}
    expect(login {user = "alice@example.org"}.outcome):to_be("routed")
  end)
end)
