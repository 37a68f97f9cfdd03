given {
  policy = "maintenance.lua",
  backends = {{host = "192.0.2.11", protocols = {"imap", "lmtp"}}},
  time = "2026-03-01T01:59:58Z",
}

describe("maintenance", function()
  it("lets everybody in before it", function()
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
  end)

  it("holds logins until it is over", function()
    advance(2)
    expect(login {user = "alice@example.org"}):to_be_held(10)
    advance(90 * 60 - 1)
    expect(login {user = "alice@example.org"}):to_be_held()
    advance(1)
    expect(login {user = "alice@example.org"}):to_route_to("192.0.2.11")
  end)

  it("lets those in who are exempt", function()
    given {time = "2026-03-01T02:30:00Z"}
    expect(login {user = "Postmaster@example.org"}):to_route_to("192.0.2.11")
    expect(login {user = "postmaster", account = "postmaster@example.org"}):to_route_to("192.0.2.11")
  end)

  it("lets mail wait, and doveadm through", function()
    given {time = "2026-03-01T02:30:00Z"}
    expect(lookup {user = "alice@example.org", protocol = "lmtp"}):to_be_held()
    expect(lookup {user = "alice@example.org", protocol = "doveadm"}):to_route_to("192.0.2.11")
  end)

  it("goes by UTC", function()
    given {time = "2026-03-01T03:30:00+01:00"}
    expect(login {user = "alice@example.org"}):to_be_held()
  end)

  it("tells users to try later when the server is down outside of it", function()
    given {health = {["192.0.2.11"] = "down"}}
    expect(login {user = "alice@example.org"}):to_tempfail("no_backend")
  end)
end)
