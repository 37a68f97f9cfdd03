given {
  policy = "director.lua",
  backends = {
    {host = "192.0.2.11", protocols = {"imap", "pop3"}},
    {host = "192.0.2.12", protocols = {"imap", "pop3"}},
  },
}

describe("the built-in policy", function()
  it("keeps a user where he is", function()
    local first = login {user = "alice@example.org"}
    expect(first.outcome):to_be("routed")
    expect(first.reason):to_be("hash")
    local second = login {user = "Alice@example.org", protocol = "pop3"}
    expect(second):to_route_to(first.host, 110)
    expect(second.reason):to_be("sticky")
  end)

  it("follows the assignment", function()
    given {assigned = {["bob@example.org"] = "192.0.2.12", ["carol@example.org"] = "192.0.2.11"}}
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.12")
    expect(login {user = "carol@example.org"}):to_route_to("192.0.2.11")
  end)

  it("moves a user whose server is down, and leaves him on the new one", function()
    given {assigned = {["bob@example.org"] = "192.0.2.12"}, health = {["192.0.2.12"] = "down"}}
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.11")
    given {health = {["192.0.2.12"] = "up"}}
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.11")
  end)

  it("leaves the users of a drained server there, and brings no new ones", function()
    given {assigned = {["bob@example.org"] = "192.0.2.12"}, health = {["192.0.2.12"] = "drain"}}
    expect(login {user = "bob@example.org"}):to_route_to("192.0.2.12")
    for i = 1, 10 do
      expect(login {user = "new" .. i}):to_route_to("192.0.2.11")
    end
  end)

  it("takes look-ups to the same server", function()
    local d = login {user = "alice@example.org"}
    expect(lookup {user = "alice@example.org", protocol = "imap"}):to_route_to(d.host)
    expect(nginx {user = "alice@example.org"}):to_route_to(d.host)
  end)

  it("tells users to try later when all is down", function()
    given {health = {["192.0.2.11"] = "down", ["192.0.2.12"] = "down"}}
    expect(login {user = "alice@example.org"}):to_tempfail("no_backend")
  end)

  it("is not asked about a wrong password", function()
    expect(login {user = "alice@example.org", authenticated = false}):to_be_denied()
  end)
end)
