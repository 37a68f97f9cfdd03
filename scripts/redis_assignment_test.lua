given {
  policy = "redis_assignment.lua",
  backends = {{host = "192.0.2.11"}, {host = "192.0.2.12"}},
  affinity = "off",
  redis = {["usher:home:bob@example.org"] = "192.0.2.12"},
}

describe("assignments in Redis", function()
  it("takes a user where Redis says", function()
    expect(login {user = "Bob@example.org"}):to_route_to("192.0.2.12")
  end)

  it("notes where a new user goes", function()
    local d = login {user = "alice@example.org"}
    expect(d.outcome):to_be("routed")
    expect(redis("usher:home:alice@example.org")):to_be(d.host)
    expect(login {user = "alice@example.org"}):to_route_to(d.host)
  end)

  it("forgets a user after the last login", function()
    login {user = "bob@example.org"}
    advance(899)
    expect(redis("usher:home:bob@example.org")):to_be("192.0.2.12")
    login {user = "bob@example.org"}
    advance(901)
    expect(redis("usher:home:bob@example.org")):to_be(nil)
  end)

  it("gives a user whose server is down another one", function()
    given {health = {["192.0.2.12"] = "down"}}
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.11")
    expect(redis("usher:home:bob@example.org")):to_be("192.0.2.11")
  end)

  it("tells users to try later when nothing is up", function()
    given {health = {["192.0.2.11"] = "down", ["192.0.2.12"] = "down"}}
    expect(login {user = "alice@example.org"}.error):to_contain("no server is up")
  end)

  it("tells users to try later when Redis is away", function()
    given {redis = "down"}
    local d = login {user = "bob@example.org"}
    expect(d):to_tempfail()
    expect(d.error):to_contain("redis: ")
  end)
end)
