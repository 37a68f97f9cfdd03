given {
  policy = "canary.lua",
  backends = {
    {host = "192.0.2.11", tags = {"stable"}},
    {host = "192.0.2.12", tags = {"canary"}},
  },
}

describe("canary", function()
  it("takes about five of a hundred users to the new servers", function()
    local new = 0
    for i = 1, 200 do
      if login {user = "user" .. i .. "@example.org"}.host == "192.0.2.12" then
        new = new + 1
      end
    end
    expect(new >= 3 and new <= 20):to_be(true)
  end)

  it("takes a user to the same ones each time, however he writes his name", function()
    local d = login {user = "alice@example.org"}
    advance(3600)
    expect(login {user = "Alice@Example.org"}):to_route_to(d.host)
  end)

  it("takes those who always go", function()
    expect(login {user = "postmaster@example.org"}):to_route_to("192.0.2.12")
  end)

  it("goes by the final name, not by what was typed", function()
    expect(login {user = "postmaster", account = "postmaster@example.org"}):to_route_to("192.0.2.12")
  end)

  it("takes everybody to the old ones when the new ones are down", function()
    given {health = {["192.0.2.12"] = "down"}}
    expect(login {user = "postmaster@example.org"}):to_route_to("192.0.2.11")
  end)

  it("does not take the others to the new ones when the old ones are down", function()
    given {health = {["192.0.2.11"] = "down"}}
    local d = login {user = "alice@example.org"}
    expect(d):to_tempfail()
    expect(d.error):to_contain("stable")
  end)
end)
