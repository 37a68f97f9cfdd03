given {
  policy = "by_network.lua",
  backends = {
    {host = "192.0.2.11", tags = {"north"}},
    {host = "192.0.2.21", tags = {"south"}},
  },
}

describe("by network", function()
  it("takes a client to the site near it", function()
    expect(login {user = "alice", client_ip = "192.0.2.7"}):to_route_to("192.0.2.11")
    expect(login {user = "bob", client_ip = "198.51.100.7"}):to_route_to("192.0.2.21")
    expect(login {user = "carol", client_ip = "2001:db8:2::7"}):to_route_to("192.0.2.21")
  end)

  it("takes clients from elsewhere north", function()
    expect(login {user = "dave", client_ip = "203.0.113.7"}):to_route_to("192.0.2.11")
  end)

  it("leaves a user who travels where he is, until nothing of him is there", function()
    login {user = "alice", client_ip = "192.0.2.7"}
    expect(login {user = "alice", client_ip = "198.51.100.7"}):to_route_to("192.0.2.11")
    advance(16 * 60)
    expect(login {user = "alice", client_ip = "198.51.100.7"}):to_route_to("192.0.2.21")
  end)

  it("takes another site when the near one is down", function()
    given {health = {["192.0.2.21"] = "down"}}
    expect(login {user = "bob", client_ip = "198.51.100.7"}):to_route_to("192.0.2.11")
  end)

  it("takes a user whose server is down to the one near the client", function()
    given {health = {["192.0.2.11"] = "down"}, assigned = {bob = "192.0.2.11"}}
    expect(login {user = "bob", client_ip = "198.51.100.7"}):to_route_to("192.0.2.21")
  end)

  it("takes IPv4 in IPv6 form as IPv4", function()
    expect(login {user = "bob", client_ip = "::ffff:198.51.100.7"}):to_route_to("192.0.2.21")
  end)

  it("tells users to try later when all is down", function()
    given {health = {["192.0.2.11"] = "down", ["192.0.2.21"] = "down"}}
    expect(login {user = "bob", client_ip = "198.51.100.7"}.error):to_contain("no server of any site is up")
  end)
end)
