given {
  policy = "migration.lua",
  backends = {
    {host = "192.0.2.11", protocols = {"imap", "lmtp"}, tags = {"old"}},
    {host = "192.0.2.21", tags = {"new"}},
  },
  maps = {["/etc/usher/migration"] = {
    "bob@example.org    new",
    "@example.net       new",
    "erin@example.net   old",
    "carol@example.org  moving",
    "frank@example.org  nwe",
  }},
}

describe("migration", function()
  it("takes who has moved to the new cluster, and all others to the old one", function()
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
    expect(login {user = "Bob@example.org"}):to_route_to("192.0.2.21")
    expect(login {user = "dave@example.net"}):to_route_to("192.0.2.21")
    expect(login {user = "erin@example.net"}):to_route_to("192.0.2.11")
    expect(lookup {user = "bob@example.org"}):to_tempfail() -- no LMTP on the new one, so none at all
  end)

  it("goes by the final name, not by what was typed", function()
    expect(login {user = "bob", account = "bob@example.org"}):to_route_to("192.0.2.21")
    expect(lookup {user = "bob", account = "bob@example.org", protocol = "doveadm"}):to_route_to("192.0.2.21")
  end)

  it("takes a user over as soon as the file has him", function()
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
    given {maps = {["/etc/usher/migration"] = {"alice@example.org new"}}}
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.21")
  end)

  it("lets a user wait while his mailbox is copied", function()
    expect(login {user = "carol@example.org"}):to_be_held(5)
    expect(lookup {user = "carol@example.org", protocol = "lmtp"}):to_be_held(5)
    given {maps = {["/etc/usher/migration"] = {"carol@example.org new"}}}
    expect(login {user = "carol@example.org"}):to_route_to("192.0.2.21")
  end)

  it("sends nobody to the cluster where his mail is not", function()
    given {health = {["192.0.2.21"] = "down"}}
    local d = login {user = "bob@example.org"}
    expect(d):to_tempfail()
    expect(d.error):to_contain("no server of the new cluster is up")
  end)

  it("sends nobody anywhere whose line nobody understands", function()
    expect(login {user = "frank@example.org"}.error):to_contain('the file says "nwe"')
  end)

  it("does not start without the list", function()
    expect(function() given {maps = {["/etc/usher/migration"] = false}} end):to_raise("/etc/usher/migration")
  end)
end)
