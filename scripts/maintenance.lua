-- Maintenance: in a window of time nobody gets in. Outside of it a user stays
-- where he is, and is placed by hash otherwise.

local from, to = "02:00", "03:30" -- every day, UTC; it may go over midnight
local action = "hold" -- hold: logins wait; tempfail: try later; deny: the text is shown
local text = "Maintenance until 03:30 UTC"
local exempt = { -- these get in, to try whether all is well; in lower case
  ["postmaster@example.org"] = true,
}

local usher = require("usher")
local actions = {
  hold = function() usher.hold(10) end, -- and ask again; limits.hold says how long in all
  tempfail = function() usher.tempfail("maintenance") end,
  deny = function() usher.deny(text) end,
}
assert(actions[action], "maintenance: action is none of hold, tempfail, deny: " .. action)
for _, at in ipairs({from, to}) do
  assert(at:match("^[0-2]%d:[0-5]%d$"), "maintenance: a time like 02:00 is expected, not " .. at)
end

local function closed(now)
  if from <= to then
    return from <= now and now < to
  end
  return from <= now or now < to
end

function nauthilus_call_filter(request)
  if closed(os.date("!%H:%M")) and not exempt[request.account:lower()] then
    actions[action]()
  end
  local server = usher.sticky(usher.servers())
  if server then
    usher.select(server)
  end
  return nauthilus_builtin.FILTER_ACCEPT, nauthilus_builtin.FILTER_RESULT_OK
end
