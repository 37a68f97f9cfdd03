-- A password driver as for Nauthilus: who may log in, and as whom.
local password = "correct horse"
local users = {
  ["alice@example.org"] = {account = "alice@example.org", uid = "1000"},
  ["bob@example.org"] = {account = "robert@example.org", uid = "1001"},
}

local function lookup(request)
  local result = nauthilus_backend_result.new()
  local user = users[string.lower(request.username)]
  if user then
    result:user_found(true)
    result:account_field("account")
    result:attributes({account = user.account, uid = user.uid, gid = "8", home = "/srv/mail/" .. user.account})
  end
  return result, user ~= nil
end

function nauthilus_backend_verify_password(request)
  if request.username == "broken@example.org" then
    error("the database is away")
  end
  local result, found = lookup(request)
  if found and not request.no_auth then
    result:authenticated(request.password == password)
  end
  return nauthilus_builtin.BACKEND_RESULT_OK, result
end

function nauthilus_backend_list_accounts(request)
  local accounts = {}
  for _, user in pairs(users) do
    table.insert(accounts, user.account)
  end
  table.sort(accounts)
  return nauthilus_builtin.BACKEND_RESULT_OK, accounts
end
