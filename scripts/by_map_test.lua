given {
  policy = "by_map.lua",
  backends = {{host = "192.0.2.11"}, {host = "192.0.2.12"}},
  maps = {["/etc/usher/homes"] = {
    ["alice@example.org"] = "192.0.2.11",
    ["@example.net"] = "192.0.2.12",
    ["erin@example.org"] = "192.0.2.99",
  }},
}

describe("by map", function()
  it("takes a user where the file says", function()
    expect(login {user = "Alice@example.org"}):to_route_to("192.0.2.11")
    expect(login {user = "bob@example.net"}):to_route_to("192.0.2.12")
  end)

  it("goes by the final name, not by what was typed", function()
    expect(login {user = "bob", account = "bob@example.net"}):to_route_to("192.0.2.12")
  end)

  it("goes by the file, not by an old assignment", function()
    given {assigned = {["alice@example.org"] = "192.0.2.12"}}
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
  end)

  it("places by hash whom the file does not name", function()
    local d = login {user = "carol@example.org"}
    expect(d.outcome):to_be("routed")
    expect(login {user = "carol@example.org"}):to_route_to(d.host)
  end)

  it("takes nobody away from a home that is down", function()
    given {health = {["192.0.2.11"] = "down"}}
    expect(login {user = "alice@example.org"}.error):to_contain("192.0.2.11 is down")
    expect(login {user = "carol@example.org"}):to_route_to("192.0.2.12")
  end)

  it("does not know what to do with a home that there is not", function()
    expect(login {user = "erin@example.org"}):to_tempfail()
  end)
end)

describe("without the file", function()
  given {maps = {["/etc/usher/homes"] = ""}}
  it("an empty one names nobody", function()
    expect(login {user = "alice@example.org"}.outcome):to_be("routed")
  end)

  it("it does not start", function()
    expect(function() given {maps = {["/etc/usher/homes"] = false}} end):to_raise("/etc/usher/homes")
  end)
end)
