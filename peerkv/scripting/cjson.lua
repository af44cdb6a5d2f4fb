-- cjson, as scripts know it: JSON out of values and back.

local tools = ...
local null, charge, fail, bad_argument, kind_of = tools.null, tools.charge, tools.fail, tools.bad_argument, tools.kind_of
local byte, sub, char, format, find = string.byte, string.sub, string.char, string.format, string.find
local gsub, gmatch, lower, match = string.gsub, string.gmatch, string.lower, string.match
local concat, floor, huge = table.concat, math.floor, math.huge
local type, tostring, tonumber, select, next, pairs = type, tostring, tonumber, select, next, pairs
local rawget, error = rawget, error
local guarded = tools.guarded

local ESCAPES = { [34] = '\\"', [92] = "\\\\", [47] = "\\/", [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f" }
ESCAPES[13], ESCAPES[127] = "\\r", "\\u007f"
for code = 0, 31 do
  ESCAPES[code] = ESCAPES[code] or format("\\u%04x", code)
end
local ESCAPED = {}
for code, text in pairs(ESCAPES) do
  ESCAPED[char(code)] = text
end
local UNESCAPED = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function defaults()
  return {
    sparse_convert = false,
    sparse_ratio = 2,
    sparse_safe = 10,
    encode_depth = 1000,
    decode_depth = 1000,
    encode_invalid = false,
    decode_invalid = true,
    keep_buffer = true,
    precision = 14,
    number = "%.14g",
  }
end

local function wrong(message)
  return error({ message }, 0)
end

-- ---- encoding

local encode_value

local function put_text(pieces, text)
  charge(floor(#text / 16))
  if find(text, '[%c"\\/\127]') or find(text, "\0", 1, true) then
    text = gsub(text, '[%z\1-\31"\\/\127]', ESCAPED)
  end
  pieces[#pieces + 1] = '"' .. text .. '"'
end

local function put_number(pieces, options, number)
  if number ~= number or number == huge or number == -huge then
    if options.encode_invalid == "null" then
      pieces[#pieces + 1] = "null"
      return
    elseif not options.encode_invalid then
      return wrong("Cannot serialise number: must not be NaN or Inf")
    end
    pieces[#pieces + 1] = number ~= number and "nan" or number > 0 and "inf" or "-inf"
    return
  end
  pieces[#pieces + 1] = format(options.number, number)
end

-- The length of an array; nil for what is none.
local function array_length(options, value)
  local most, count = 0, 0
  for key in next, value do
    if type(key) ~= "number" or key < 1 or floor(key) ~= key then
      return nil
    end
    most = key > most and key or most
    count = count + 1
  end
  if
    options.sparse_ratio > 0
    and most > count * options.sparse_ratio
    and most > options.sparse_safe
  then
    if not options.sparse_convert then
      return wrong("Cannot serialise table: excessively sparse array")
    end
    return nil
  end
  return count > 0 and most or nil
end

local function put_table(pieces, options, value, depth)
  depth = depth + 1
  if depth > options.encode_depth then
    return wrong("Cannot serialise, excessive nesting (" .. depth .. ")")
  end
  local length = array_length(options, value)
  if length then
    pieces[#pieces + 1] = "["
    for at = 1, length do
      if at > 1 then
        pieces[#pieces + 1] = ","
      end
      encode_value(pieces, options, rawget(value, at), depth)
    end
    pieces[#pieces + 1] = "]"
    return
  end
  pieces[#pieces + 1] = "{"
  local begun = false
  for key, item in next, value do
    if begun then
      pieces[#pieces + 1] = ","
    end
    begun = true
    if type(key) == "number" then
      pieces[#pieces + 1] = '"'
      put_number(pieces, options, key)
      pieces[#pieces + 1] = '":'
    elseif type(key) == "string" then
      put_text(pieces, key)
      pieces[#pieces + 1] = ":"
    else
      return wrong("Cannot serialise " .. type(key) .. ": table key must be a number or string")
    end
    encode_value(pieces, options, item, depth)
  end
  pieces[#pieces + 1] = "}"
end

function encode_value(pieces, options, value, depth)
  local kind = type(value)
  if kind == "string" then
    return put_text(pieces, value)
  elseif kind == "number" then
    return put_number(pieces, options, value)
  elseif kind == "boolean" then
    pieces[#pieces + 1] = value and "true" or "false"
  elseif kind == "table" then
    return put_table(pieces, options, value, depth)
  elseif value == nil or value == null then
    pieces[#pieces + 1] = "null"
  else
    return wrong("Cannot serialise " .. kind .. ": type not supported")
  end
end

local function encoded(options, value)
  local pieces = {}
  encode_value(pieces, options, value, 0)
  return concat(pieces)
end

-- ---- decoding

-- The next token: what it is, its value (for an error: its name), where it begins, where the one behind it may begin.
local KINDS = {
  ["{"] = "T_OBJ_BEGIN",
  ["}"] = "T_OBJ_END",
  ["["] = "T_ARR_BEGIN",
  ["]"] = "T_ARR_END",
  [","] = "T_COMMA",
  [":"] = "T_COLON",
}

local function utf8(code)
  if code < 128 then
    return char(code)
  elseif code < 2048 then
    return char(192 + floor(code / 64), 128 + code % 64)
  elseif code < 65536 then
    return char(224 + floor(code / 4096), 128 + floor(code / 64) % 64, 128 + code % 64)
  end
  return char(240 + floor(code / 262144), 128 + floor(code / 4096) % 64, 128 + floor(code / 64) % 64, 128 + code % 64)
end

local function unicode(text, at)
  local digits = match(text, "^%x%x%x%x", at)
  return digits and tonumber(digits, 16)
end

local function text_token(text, from)
  local pieces, at = nil, from + 1
  while true do
    local stop = find(text, '["\\%z]', at)
    if stop == nil then
      return "error", "unexpected end of string", #text + 1
    end
    local c = byte(text, stop)
    if c == 34 then
      charge(floor((stop - from) / 16))
      local rest = sub(text, at, stop - 1)
      if pieces then
        pieces[#pieces + 1] = rest
        rest = concat(pieces)
      end
      return "T_STRING", rest, from, stop + 1
    elseif c == 0 then
      return "error", "unexpected end of string", stop
    end
    pieces = pieces or {}
    pieces[#pieces + 1] = sub(text, at, stop - 1)
    local escape = sub(text, stop + 1, stop + 1)
    if escape == "u" then
      local code = unicode(text, stop + 2)
      at = stop + 6
      if code and code >= 0xD800 and code <= 0xDFFF then
        local second = code < 0xDC00 and sub(text, at, at + 1) == "\\u" and unicode(text, at + 2)
        if second and second >= 0xDC00 and second <= 0xDFFF then
          code = 0x10000 + (code - 0xD800) * 1024 + (second - 0xDC00)
          at = at + 6
        else
          code = nil
        end
      end
      if code == nil then
        return "error", "invalid unicode escape code", stop
      end
      pieces[#pieces + 1] = utf8(code)
    else
      local meant = UNESCAPED[escape]
      if meant == nil then
        return "error", "invalid escape code", stop
      end
      pieces[#pieces + 1] = meant
      at = stop + 2
    end
  end
end

-- As strtod reads one: the longest beginning that is a number.
local function number_at(text, at)
  local from, to = find(text, "^[+-]?0[xX]%x+", at)
  if from then
    local sign, digits = match(sub(text, from, to), "^([+-]?)0[xX](%x+)$")
    local point = match(text, "^%.(%x*)", to + 1)
    local value = 0
    for digit in gmatch(digits, ".") do
      value = value * 16 + tonumber(digit, 16)
    end
    if point then
      local scale = 1
      for digit in gmatch(point, ".") do
        scale = scale / 16
        value = value + tonumber(digit, 16) * scale
      end
      to = to + 1 + #point
    end
    local power = match(text, "^[pP]([+-]?%d+)", to + 1)
    if power then
      value = value * 2 ^ tonumber(power)
      to = to + 1 + #power
    end
    return sign == "-" and -value or value, to + 1
  end
  local head = match(text, "^[+-]?%d+%.?%d*", at) or match(text, "^[+-]?%.%d+", at)
  if head then
    local power = match(text, "^[eE][+-]?%d+", at + #head)
    local whole = head .. (power or "")
    return tonumber(whole), at + #whole
  end
  local word = lower(sub(text, at, at + 8))
  local sign, name = match(word, "^([+-]?)(infinity)")
  if not sign then
    sign, name = match(word, "^([+-]?)(inf)")
  end
  if sign then
    return sign == "-" and -huge or huge, at + #sign + #name
  end
  sign = match(word, "^([+-]?)nan")
  if sign then
    local behind = at + #sign + 3
    local more = match(text, "^%([%w_]*%)", behind)
    return -(0 / 0), behind + (more and #more or 0)
  end
end

local function number_token(text, at, options)
  if not options.decode_invalid then
    local rest = sub(text, at, at + 4)
    if byte(rest) == 43 then
      return "error", "invalid token", at
    end
    if
      match(rest, "^-?0[xX%d]")
      or match(lower(rest), "^-?inf")
      or match(lower(rest), "^-?nan")
    then
      return "error", "invalid number", at
    end
  end
  local number, behind = number_at(text, at)
  if number == nil then
    return "error", "invalid number", at
  end
  return "T_NUMBER", number, at, behind
end

local function token(text, at, options)
  at = find(text, "[^ \t\n\r]", at) or #text + 1
  local c = sub(text, at, at)
  local kind = KINDS[c]
  if kind then
    return kind, nil, at, at + 1
  elseif c == '"' then
    return text_token(text, at)
  elseif c == "" or c == "\0" then
    return "T_END", nil, at, at
  elseif find(c, "[-%d+]") then
    return number_token(text, at, options)
  elseif sub(text, at, at + 3) == "true" then
    return "T_BOOLEAN", true, at, at + 4
  elseif sub(text, at, at + 4) == "false" then
    return "T_BOOLEAN", false, at, at + 5
  elseif sub(text, at, at + 3) == "null" then
    return "T_NULL", null, at, at + 4
  elseif options.decode_invalid and find(lower(sub(text, at, at + 2)), "^[in]") then
    local word = lower(sub(text, at, at + 2))
    if word == "inf" or word == "nan" then
      return number_token(text, at, options)
    end
  end
  return "error", "invalid token", at
end

local function unexpected(expected, kind, value, at)
  return wrong("Expected " .. expected .. " but found " .. (kind == "error" and value or kind) .. " at character " .. at)
end

local decode_value

local function deeper(options, depth, at)
  if depth > options.decode_depth then
    return wrong("Found too many nested data structures (" .. depth .. ") at character " .. at)
  end
end

local function decode_array(text, at, options, depth, opened)
  deeper(options, depth, opened)
  local found, count = {}, 0
  local kind, value, from, behind = token(text, at, options)
  if kind == "T_ARR_END" then
    return found, behind
  end
  while true do
    count = count + 1
    found[count], behind = decode_value(text, options, depth, kind, value, from, behind)
    kind, value, from, behind = token(text, behind, options)
    if kind == "T_ARR_END" then
      return found, behind
    elseif kind ~= "T_COMMA" then
      return unexpected("comma or array end", kind, value, from)
    end
    kind, value, from, behind = token(text, behind, options)
  end
end

local function decode_object(text, at, options, depth, opened)
  deeper(options, depth, opened)
  local found = {}
  local kind, value, from, behind = token(text, at, options)
  if kind == "T_OBJ_END" then
    return found, behind
  end
  while true do
    if kind ~= "T_STRING" then
      return unexpected("object key string", kind, value, from)
    end
    local key = value
    kind, value, from, behind = token(text, behind, options)
    if kind ~= "T_COLON" then
      return unexpected("colon", kind, value, from)
    end
    kind, value, from, behind = token(text, behind, options)
    found[key], behind = decode_value(text, options, depth, kind, value, from, behind)
    kind, value, from, behind = token(text, behind, options)
    if kind == "T_OBJ_END" then
      return found, behind
    elseif kind ~= "T_COMMA" then
      return unexpected("comma or object end", kind, value, from)
    end
    kind, value, from, behind = token(text, behind, options)
  end
end

function decode_value(text, options, depth, kind, value, from, behind)
  if kind == "T_STRING" or kind == "T_NUMBER" or kind == "T_BOOLEAN" or kind == "T_NULL" then
    return value, behind
  elseif kind == "T_OBJ_BEGIN" then
    return decode_object(text, behind, options, depth + 1, from)
  elseif kind == "T_ARR_BEGIN" then
    return decode_array(text, behind, options, depth + 1, from)
  end
  return unexpected("value", kind, value, from)
end

local function decoded(options, text)
  if #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
    return wrong("JSON parser does not support UTF-16 or UTF-32")
  end
  local kind, value, from, behind = token(text, 1, options)
  local found
  found, behind = decode_value(text, options, 0, kind, value, from, behind)
  kind, value, from = token(text, behind, options)
  if kind ~= "T_END" then
    return unexpected("the end", kind, value, from)
  end
  return found
end

-- ---- the library

local function run(f, options, value)
  local ok, found = guarded(f, options, value)
  if ok then
    return found
  end
  if type(found) == "table" then
    fail(found[1])
  end
  return error(found, 0)
end

local function made()
  local options = defaults()
  local library = { null = null, _NAME = "cjson", _VERSION = "2.1.0" }
  local changed = false

  local function integer(name, number, value, low, high)
    if type(value) ~= "number" and tonumber(value) == nil then
      bad_argument(number, name, "number expected, got " .. type(value))
    end
    value = tonumber(value)
    if not (value >= low and value <= high) then
      bad_argument(number, name, "expected integer between " .. low .. " and " .. high)
    end
    changed = true
    return floor(value)
  end

  local function choice(name, number, value, has_null)
    if value == true or value == "on" then
      value = true
    elseif value == false or value == "off" then
      value = false
    elseif not (has_null and value == "null") then
      if type(value) ~= "string" and type(value) ~= "number" then
        bad_argument(number, name, "string expected, got " .. type(value))
      end
      bad_argument(number, name, "invalid option '" .. tostring(value) .. "'")
    end
    changed = true
    return value
  end

  local function at_most(name, most, ...)
    if select("#", ...) > most then
      bad_argument(most + 1, name, "found too many arguments")
    end
  end

  function library.encode(...)
    if select("#", ...) ~= 1 then
      bad_argument(1, "encode", "expected 1 argument")
    end
    local text = run(encoded, options, (...)) -- no tail call: `fail` looks for who has called us
    return text
  end

  function library.decode(...)
    local text = ...
    if select("#", ...) ~= 1 then
      bad_argument(1, "decode", "expected 1 argument")
    elseif type(text) == "number" then
      text = tostring(text)
    elseif type(text) ~= "string" then
      bad_argument(1, "decode", "string expected, got " .. type(text))
    end
    local value = run(decoded, options, text)
    return value
  end

  function library.encode_sparse_array(...)
    at_most("encode_sparse_array", 3, ...)
    local convert, ratio, safe = ...
    if convert ~= nil then
      options.sparse_convert = choice("encode_sparse_array", 1, convert)
    end
    if ratio ~= nil then
      options.sparse_ratio = integer("encode_sparse_array", 2, ratio, 0, 2147483647)
    end
    if safe ~= nil then
      options.sparse_safe = integer("encode_sparse_array", 3, safe, 0, 2147483647)
    end
    return options.sparse_convert, options.sparse_ratio, options.sparse_safe
  end

  local function number_option(name, field, low, high)
    library[name] = function(...)
      at_most(name, 1, ...)
      local value = ...
      if value ~= nil then
        options[field] = integer(name, 1, value, low, high)
        options.number = "%." .. options.precision .. "g"
      end
      return options[field]
    end
  end
  number_option("encode_max_depth", "encode_depth", 1, 2147483647)
  number_option("decode_max_depth", "decode_depth", 1, 2147483647)
  number_option("encode_number_precision", "precision", 1, 14)

  local function choice_option(name, field, has_null)
    library[name] = function(...)
      at_most(name, 1, ...)
      local value = ...
      if value ~= nil then
        options[field] = choice(name, 1, value, has_null)
      end
      return options[field]
    end
  end
  choice_option("encode_keep_buffer", "keep_buffer", false)
  choice_option("encode_invalid_numbers", "encode_invalid", true)
  choice_option("decode_invalid_numbers", "decode_invalid", false)

  function library.new()
    return (made())
  end

  local function reset()
    if changed then
      options, changed = defaults(), false
    end
  end
  return library, reset
end

return made()
