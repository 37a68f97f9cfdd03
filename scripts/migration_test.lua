given {
  policy = "migration.lua",
  backends = {
    {host = "192.0.2.11", tags = {"old"}},
    {host = "192.0.2.21", tags = {"new"}},
  },
  maps = {
    ["/etc/usher/moved"] = {"bob@example.org", "@example.net"},
    ["/etc/usher/moving"] = {"carol@example.org"},
  },
}

describe("migration", function()
  it("takes who has moved to the new cluster, and all others to the old one", function()
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
    expect(login {user = "Bob@example.org"}):to_route_to("192.0.2.21")
    expect(login {user = "dave@example.net"}):to_route_to("192.0.2.21")
  end)

  it("takes a user over as soon as the file has him", function()
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
    given {maps = {["/etc/usher/moved"] = {"alice@example.org"}}}
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.21")
  end)

  it("lets a user wait while his mailbox is copied", function()
    expect(login {user = "carol@example.org"}):to_be_held(5)
    given {maps = {["/etc/usher/moving"] = "", ["/etc/usher/moved"] = {"carol@example.org"}}}
    expect(login {user = "carol@example.org"}):to_route_to("192.0.2.21")
  end)

  it("sends nobody to the cluster where his mail is not", function()
    given {health = {["192.0.2.21"] = "down"}}
    local d = login {user = "bob@example.org"}
    expect(d):to_tempfail()
    expect(d.error):to_contain("no server of the new cluster is up")
  end)

  it("does not start without the list", function()
    expect(function() given {maps = {["/etc/usher/moved"] = false}} end):to_raise("/etc/usher/moved")
  end)
end)
