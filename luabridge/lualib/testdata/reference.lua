-- Calls functions of string for the differential tests: reads a call a frame
-- from standard input, writes its results. A frame is a number of values, each
-- a line `TYPE LENGTH` and that many bytes. The first value names the function.

local function read()
  local n = tonumber(io.read("*l") or os.exit(0))
  local values = {}
  for i = 1, n do
    local kind, length = io.read("*l"):match("^(%a) (%d+)$")
    local bytes = length == "0" and "" or io.read(tonumber(length))
    if kind == "n" then
      values[i] = bytes == "inf" and 1/0 or bytes == "-inf" and -1/0 or bytes == "nan" and 0/0 or tonumber(bytes)
    elseif kind == "b" then
      values[i] = bytes == "true"
    elseif kind == "s" then
      values[i] = bytes
    end
  end
  return values, n
end

local function write(n, values)
  local out = {n}
  for i = 1, n do
    local v = values[i]
    local kind = type(v):sub(1, 1)
    local bytes = tostring(v)
    if kind == "n" and v ~= nil then
      bytes = ("%.17g"):format(v)
    elseif v == nil then
      kind, bytes = "z", ""
    end
    out[#out + 1] = ("%s %d"):format(kind, #bytes)
    out[#out + 1] = bytes
  end
  io.write(table.concat(out, "\n"), "\n")
  io.flush()
end

local calls = {
  run = function(source) return assert(loadstring(source))() end,
  gmatch_all = function(s, p)
    local all = {}
    for a, b, c in s:gmatch(p) do
      all[#all + 1] = tostring(a) .. "|" .. tostring(b) .. "|" .. tostring(c)
    end
    return table.concat(all, "\n")
  end,
  gsub_call = function(s, p, n)
    return s:gsub(p, function(a, b)
      if a == "" then return nil end
      return "<" .. tostring(a) .. "," .. tostring(b) .. ">"
    end, n)
  end,
  gsub_table = function(s, p)
    return s:gsub(p, {a = "1", b = 2, c = false, [1] = "one", [2] = "two"})
  end,
}

local function pack(...) return select("#", ...), {...} end

while true do
  local values, n = read()
  local f = calls[values[1]] or string[values[1]]
  write(pack(pcall(f, unpack(values, 2, n))))
end
