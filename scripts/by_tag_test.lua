given {
  policy = "by_tag.lua",
  backends = {
    {host = "192.0.2.11", tags = {"disk"}},
    {host = "192.0.2.12", tags = {"ssd"}},
    {host = "192.0.2.13", tags = {"fast", "ssd"}},
  },
}

describe("by tag", function()
  it("takes the first group", function()
    for i = 1, 10 do
      expect(login {user = "user" .. i}.host):to_be_one_of {"192.0.2.12", "192.0.2.13"}
    end
  end)

  it("takes the next one when all of it is down", function()
    given {health = {["192.0.2.12"] = "down"}}
    expect(login {user = "alice"}):to_route_to("192.0.2.13")
    given {health = {["192.0.2.13"] = "down"}}
    expect(login {user = "alice"}):to_route_to("192.0.2.11")
  end)

  it("leaves a user of the next one there, until nothing of him is left", function()
    given {assigned = {alice = "192.0.2.11"}}
    expect(login {user = "alice"}):to_route_to("192.0.2.11")
    advance(16 * 60)
    expect(login {user = "alice"}.host):to_be_one_of {"192.0.2.12", "192.0.2.13"}
  end)

  it("goes back when the server that he is on is down", function()
    given {assigned = {alice = "192.0.2.11"}, health = {["192.0.2.11"] = "down"}}
    expect(login {user = "alice"}.host):to_be_one_of {"192.0.2.12", "192.0.2.13"}
  end)

  it("says so when nothing is up", function()
    given {health = {["192.0.2.11"] = "down", ["192.0.2.12"] = "down", ["192.0.2.13"] = "down"}}
    local d = login {user = "alice"}
    expect(d):to_tempfail()
    expect(d.error):to_contain("no server of any group is up")
  end)
end)
