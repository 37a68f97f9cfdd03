given {
  policy = "redis_assignment.lua",
  backends = {
    {host = "192.0.2.11", protocols = {"imap", "pop3", "lmtp"}},
    {host = "192.0.2.12", protocols = {"imap", "pop3", "lmtp"}},
    {host = "192.0.2.30", protocol = "smtp"},
  },
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
    advance(7 * 86400 - 1)
    expect(redis("usher:home:bob@example.org")):to_be("192.0.2.12")
    login {user = "bob@example.org"}
    advance(7 * 86400 + 1)
    expect(redis("usher:home:bob@example.org")):to_be(nil)
  end)

  it("gives a user whose server is down another one", function()
    given {health = {["192.0.2.12"] = "down"}}
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.11")
    expect(redis("usher:home:bob@example.org")):to_be("192.0.2.11")
  end)

  it("goes by the final name, not by what was typed", function()
    expect(login {user = "bob", account = "Bob@example.org"}):to_route_to("192.0.2.12")
  end)

  it("notes nothing of mail that comes, and of what is no mailbox", function()
    expect(lookup {user = "alice@example.org"}.outcome):to_be("routed")
    expect(lookup {user = "alice@example.org", protocol = "doveadm"}.outcome):to_be("routed")
    expect(login {user = "alice@example.org", protocol = "submission"}):to_route_to("192.0.2.30")
    expect(redis("usher:home:alice@example.org")):to_be(nil)
    expect(login {user = "bob@example.org", protocol = "submission"}):to_route_to("192.0.2.30")
  end)

  it("takes mail where the user is, and to no second server", function()
    expect(lookup {user = "bob@example.org"}):to_route_to("192.0.2.12")
    given {health = {["192.0.2.12:24"] = "down"}}
    expect(lookup {user = "bob@example.org"}.error):to_contain("192.0.2.12 has no lmtp now")
    expect(login {user = "bob@example.org", protocol = "pop3"}):to_route_to("192.0.2.12")
  end)

  it("takes imap and pop3 together to another server", function()
    given {health = {["192.0.2.12:110"] = "down"}}
    expect(login {user = "bob@example.org", protocol = "pop3"}):to_route_to("192.0.2.11")
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.11")
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
