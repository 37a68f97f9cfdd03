given {
  policy = "by_domain.lua",
  backends = {
    {host = "192.0.2.11", tags = {"north"}},
    {host = "192.0.2.12", tags = {"north"}},
    {host = "192.0.2.21", tags = {"south"}},
  },
}

local north = {"192.0.2.11", "192.0.2.12"}

describe("by domain", function()
  it("takes example.org north and example.net south", function()
    expect(login {user = "alice@example.org"}.host):to_be_one_of(north)
    expect(login {user = "bob@Example.NET"}):to_route_to("192.0.2.21")
  end)

  it("takes other domains, and users without one, north", function()
    expect(login {user = "carol@example.com"}.host):to_be_one_of(north)
    expect(login {user = "dave"}.host):to_be_one_of(north)
  end)

  it("goes by the final name, not by what was typed", function()
    expect(login {user = "bob", account = "bob@example.net"}):to_route_to("192.0.2.21")
  end)

  it("keeps a user on one server of the site", function()
    given {assigned = {["alice@example.org"] = "192.0.2.12"}}
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.12")
  end)

  it("goes to the site's other server when one is down", function()
    given {health = {["192.0.2.11"] = "down"}, assigned = {["alice@example.org"] = "192.0.2.11"}}
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.12")
  end)

  it("takes nobody to another site", function()
    given {health = {["192.0.2.21"] = "down"}, assigned = {["bob@example.net"] = "192.0.2.11"}}
    local d = login {user = "bob@example.net"}
    expect(d):to_tempfail()
    expect(d.error):to_contain("no server of site south is up")
  end)
end)
