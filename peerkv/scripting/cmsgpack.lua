-- cmsgpack, as scripts know it: MessagePack out of values and back.

local tools = ...
local charge, fail, bad_argument = tools.charge, tools.fail, tools.bad_argument
local host, guarded = tools.host, tools.guarded
local byte, sub, char, concat, floor = string.byte, string.sub, string.char, table.concat, math.floor
local type, select, next, rawget, unpack, error, tonumber = type, select, next, rawget, unpack, error, tonumber
local pack_float, unpack_float = host.pack_float, host.unpack_float
local DEPTH_MAX = 16 -- what is deeper is packed as nil
local UNPACKED_DEPTH_MAX = 1000

local function big_endian(number, bytes)
  local found = {}
  for at = bytes, 1, -1 do
    found[at] = char(number % 256)
    number = floor(number / 256)
  end
  return concat(found)
end

local function integer(number)
  if number >= 0 then
    if number <= 127 then
      return char(number)
    elseif number <= 255 then
      return "\204" .. char(number)
    elseif number <= 65535 then
      return "\205" .. big_endian(number, 2)
    elseif number <= 4294967295 then
      return "\206" .. big_endian(number, 4)
    end
    return "\207" .. big_endian(number, 8)
  end
  if number >= -32 then
    return char(256 + number)
  elseif number >= -128 then
    return "\208" .. char(256 + number)
  elseif number >= -32768 then
    return "\209" .. big_endian(65536 + number, 2)
  elseif number >= -2147483648 then
    return "\210" .. big_endian(4294967296 + number, 4)
  end
  -- exact in halves: doubles are whole here
  local low = number % 4294967296
  local high = (number - low) / 4294967296
  return "\211" .. big_endian(high % 4294967296, 4) .. big_endian(low, 4)
end

local function head(count, fixed, fixed_max, short, middle, long)
  if count <= fixed_max then
    return char(fixed + count)
  elseif short and count <= 255 then
    return char(short) .. char(count)
  elseif count <= 65535 then
    return char(middle) .. big_endian(count, 2)
  end
  return char(long) .. big_endian(count, 4)
end

local pack_value

local function length_of(value)
  local most, count = 0, 0
  for key in next, value do
    if type(key) ~= "number" or key <= 0 or floor(key) ~= key then
      return nil
    end
    most = key > most and key or most
    count = count + 1
  end
  return most == count and most or nil, count
end

local function pack_table(pieces, value, depth)
  local length = length_of(value)
  if length then
    pieces[#pieces + 1] = head(length, 144, 15, nil, 220, 221)
    for at = 1, length do
      pack_value(pieces, rawget(value, at), depth + 1)
    end
    return
  end
  local count = 0
  for _ in next, value do
    count = count + 1
  end
  pieces[#pieces + 1] = head(count, 128, 15, nil, 222, 223)
  for key, item in next, value do
    pack_value(pieces, key, depth + 1)
    pack_value(pieces, item, depth + 1)
  end
end

function pack_value(pieces, value, depth)
  local kind = type(value)
  if kind == "string" then
    charge(floor(#value / 64))
    pieces[#pieces + 1] = head(#value, 160, 31, 217, 218, 219)
    pieces[#pieces + 1] = value
  elseif kind == "number" then
    if floor(value) == value and value >= -9223372036854775808 and value < 9223372036854775808 then
      pieces[#pieces + 1] = integer(value)
    else
      pieces[#pieces + 1] = pack_float(value)
    end
  elseif kind == "boolean" then
    pieces[#pieces + 1] = value and "\195" or "\194"
  elseif kind == "table" and depth < DEPTH_MAX then
    return pack_table(pieces, value, depth)
  else
    pieces[#pieces + 1] = "\192"
  end
end

-- ---- back

local function missing()
  return error({ "Missing bytes in input." }, 0)
end

local function malformed()
  return error({ "Bad data format in input." }, 0)
end

local function unsigned(text, at, bytes)
  if at + bytes - 1 > #text then
    return missing()
  end
  local value = 0
  for place = at, at + bytes - 1 do
    value = value * 256 + byte(text, place)
  end
  return value
end

local function signed(text, at, bytes)
  if bytes == 8 then
    local high = unsigned(text, at, 4)
    local low = unsigned(text, at + 4, 4)
    return (high >= 2147483648 and high - 4294967296 or high) * 4294967296 + low
  end
  local value = unsigned(text, at, bytes)
  local half = 2 ^ (8 * bytes - 1)
  return value >= half and value - 2 * half or value
end

local function text_at(text, at, length)
  if at + length - 1 > #text then
    return missing()
  end
  charge(floor(length / 64))
  return sub(text, at, at + length - 1), at + length
end

local unpack_value

local function array_at(text, at, count, depth)
  local found = {}
  for place = 1, count do
    found[place], at = unpack_value(text, at, depth + 1)
  end
  return found, at
end

local function map_at(text, at, count, depth)
  local found = {}
  for _ = 1, count do
    local key, value
    key, at = unpack_value(text, at, depth + 1)
    value, at = unpack_value(text, at, depth + 1)
    if key == nil or key ~= key then
      return error({ "table index is " .. (key == nil and "nil" or "NaN"), true }, 0)
    end
    found[key] = value
  end
  return found, at
end

local function float_at(text, at, bytes)
  if at + bytes - 1 > #text then
    return missing()
  end
  return unpack_float(sub(text, at, at + bytes - 1)), at + bytes
end

function unpack_value(text, at, depth)
  local code = byte(text, at)
  if code == nil then
    return missing()
  elseif depth > UNPACKED_DEPTH_MAX then
    return error({ "more than " .. UNPACKED_DEPTH_MAX .. " tables in one another" }, 0)
  end
  at = at + 1
  if code <= 127 then
    return code, at
  elseif code >= 224 then
    return code - 256, at
  elseif code <= 143 then
    return map_at(text, at, code - 128, depth)
  elseif code <= 159 then
    return array_at(text, at, code - 144, depth)
  elseif code <= 191 then
    return text_at(text, at, code - 160)
  elseif code == 192 then
    return nil, at
  elseif code == 194 or code == 195 then
    return code == 195, at
  elseif code >= 204 and code <= 207 then
    local bytes = 2 ^ (code - 204) -- eight are read with a sign, too
    return (bytes == 8 and signed or unsigned)(text, at, bytes), at + bytes
  elseif code >= 208 and code <= 211 then
    local bytes = 2 ^ (code - 208)
    return signed(text, at, bytes), at + bytes
  elseif code == 202 then
    return float_at(text, at, 4)
  elseif code == 203 then
    return float_at(text, at, 8)
  elseif code >= 217 and code <= 219 then
    local bytes = 2 ^ (code - 217)
    return text_at(text, at + bytes, unsigned(text, at, bytes))
  elseif code == 220 or code == 221 then
    local bytes = code == 220 and 2 or 4
    return array_at(text, at + bytes, unsigned(text, at, bytes), depth)
  elseif code == 222 or code == 223 then
    local bytes = code == 222 and 2 or 4
    return map_at(text, at + bytes, unsigned(text, at, bytes), depth)
  end
  return malformed()
end

-- ---- the library

local library = { _NAME = "cmsgpack", _VERSION = "lua-cmsgpack 0.4.0" }
library._COPYRIGHT, library._DESCRIPTION = "", "MessagePack C implementation for Lua"

local function run(f, ...)
  local ok, found, at = guarded(f, ...)
  if ok then
    return found, at
  end
  if type(found) == "table" then
    if found[2] then
      return error(found[1], 0)
    end
    fail(found[1])
  end
  return error(found, 0)
end

function library.pack(...)
  local count = select("#", ...)
  if count == 0 then
    bad_argument(0, "pack", "MessagePack pack needs input.")
  end
  local pieces = {}
  for at = 1, count do
    run(pack_value, pieces, (select(at, ...)), 0)
  end
  return concat(pieces)
end

local function text_of(name, ...)
  local text = ...
  if type(text) == "number" then
    return text .. ""
  elseif type(text) ~= "string" then
    bad_argument(1, name, "string expected, got " .. (select("#", ...) == 0 and "no value" or type(text)))
  end
  return text
end

-- Up to `most` values from `at` on, and where the next one begins.
local function several(text, at, most)
  local found, count = {}, 0
  while at <= #text and count < most do
    if count >= 4096 then
      fail("more than 4096 values at once")
    end
    count = count + 1
    found[count], at = run(unpack_value, text, at, 0)
  end
  return found, count, at
end

function library.unpack(...)
  local text = text_of("unpack", ...)
  local found, count = several(text, 1, 2147483647)
  return unpack(found, 1, count)
end

local function checked(...)
  return ...
end

local function some(text, most, offset)
  if offset < 0 or most < 0 then
    fail("Invalid request to unpack with offset of " .. offset .. " and limit of " .. #text .. ".")
  elseif offset > #text then
    fail("Start offset " .. offset .. " greater than input length " .. #text .. ".")
  end
  local found, count, at = several(text, offset + 1, most == 0 and 2147483647 or most)
  return at > #text and -1 or at - 1, unpack(found, 1, count)
end

local function number_of(name, number, count, value, default)
  if value == nil and default then
    return default
  end
  local found = tonumber(value)
  if found == nil then
    bad_argument(number, name, "number expected, got " .. (count < number and "no value" or type(value)))
  end
  return floor(found)
end

function library.unpack_one(...)
  local text = text_of("unpack_one", ...)
  local count, _, offset = select("#", ...), ...
  return checked(some(text, 1, number_of("unpack_one", 2, count, offset, 0)))
end

function library.unpack_limit(...)
  local text = text_of("unpack_limit", ...)
  local count, _, limit, offset = select("#", ...), ...
  limit = number_of("unpack_limit", 2, count, limit)
  return checked(some(text, limit, number_of("unpack_limit", 3, count, offset, 0)))
end

return library
