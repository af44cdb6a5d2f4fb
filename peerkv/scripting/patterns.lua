-- Finding patterns in texts without taking longer than a script's steps allow.
--
-- C's matcher goes back and forth within one step of the machine: `.-.-.-x` takes a day for some kilobytes. What it may
-- take at most is estimated from the pattern; where that is much, a matcher in Lua does the same, whose steps count.

local byte, sub, char, concat, floor = string.byte, string.sub, string.char, table.concat, math.floor
local c_find, c_match, c_gmatch, c_gsub = string.find, string.match, string.gmatch, string.gsub
local type, tostring, tonumber, select, unpack, ipairs = type, tostring, tonumber, select, unpack, ipairs
local COST_MAX = 200000 -- comparisons that C may do, about a millisecond
local COST_OF_STEP = 32
local PATTERN_MAX = 512 -- bytes; C goes as deep as a pattern is long
local CAPTURES_MAX = 32
local PERCENT, OPEN, CLOSE, HAT, DOLLAR, DOT = 37, 91, 93, 94, 36, 46
local STAR, PLUS, MINUS, QUESTION, LEFT, RIGHT = 42, 43, 45, 63, 40, 41

-- The end of the set that begins at `at`, or of what is in its place; the place behind it.
local function behind_set(p, at)
  at = at + 1
  if byte(p, at) == HAT then
    at = at + 1
  end
  repeat
    local c = byte(p, at)
    if c == nil then
      return nil
    end
    at = at + 1
    if c == PERCENT then
      at = at + 1
    end
  until byte(p, at) == CLOSE
  return at + 1
end

-- How often a matcher may look at a character of a text of `n` bytes, at most.
local function cost_of(p, n)
  local at, length = 1, #p
  local repeats, options, trailing = 0, 0, false
  local anchored = byte(p, 1) == HAT
  if anchored then
    at = 2
  end
  while at <= length do
    local c = byte(p, at)
    local item = true
    if c == PERCENT then
      local following = byte(p, at + 1)
      if following == 98 then -- %b
        repeats, at, item, trailing = repeats + 1, at + 4, false, false
      elseif following == 102 then -- %f
        at, item = at + 2, false
      elseif following and following >= 48 and following <= 57 then
        repeats, at, item, trailing = repeats + 1, at + 2, false, false
      else
        at = at + 2
      end
    elseif c == OPEN then
      at = behind_set(p, at) or length + 1
    elseif c == LEFT or c == RIGHT then
      at, item = at + 1, false
    else
      at = at + 1
    end
    if item then
      local suffix = byte(p, at)
      trailing = false
      if suffix == STAR or suffix == PLUS or suffix == MINUS then
        repeats, at, trailing = repeats + 1, at + 1, true
      elseif suffix == QUESTION then
        options, at = options + 1, at + 1
      end
    end
  end
  if trailing then
    repeats = repeats - 1
  end
  return n ^ (repeats + (anchored and 0 or 1)) * 2 ^ options * (length + 1)
end

return function(strings, charge, fail, no_string, host_find)
  -- ---- the matcher in Lua: `m` is (text, pattern, their lengths, captures)

  local function class_end(m, at)
    local c = byte(m.p, at)
    if c == PERCENT then
      if at + 1 > m.p_length then
        fail("malformed pattern (ends with '%')")
      end
      return at + 2
    elseif c == OPEN then
      local behind = behind_set(m.p, at)
      if behind == nil or behind > m.p_length + 1 then
        fail("malformed pattern (missing ']')")
      end
      return behind
    end
    return at + 1
  end

  local classes = {}
  for _, name in ipairs({ "a", "c", "d", "l", "p", "s", "u", "w", "x", "z" }) do
    local has, hasnt = {}, {}
    for c = 0, 255 do
      local is = c_find(char(c), "%" .. name) ~= nil
      has[c], hasnt[c] = is, not is
    end
    classes[byte(name)], classes[byte(name) - 32] = has, hasnt
  end

  local function of_class(c, class)
    local of = classes[class]
    if of then
      return of[c]
    end
    return c == class
  end

  local function of_set(m, c, at, last) -- from `[` to `]`
    local p, sign = m.p, true
    at = at + 1
    if byte(p, at) == HAT then
      sign, at = false, at + 1
    end
    while at < last do
      local d = byte(p, at)
      if d == PERCENT then
        at = at + 1
        if of_class(c, byte(p, at)) then
          return sign
        end
        at = at + 1
      elseif byte(p, at + 1) == MINUS and at + 2 < last then
        if d <= c and c <= byte(p, at + 2) then
          return sign
        end
        at = at + 3
      else
        if d == c then
          return sign
        end
        at = at + 1
      end
    end
    return not sign
  end

  local function single(m, si, pi, behind)
    local c = byte(m.s, si)
    if c == nil then
      return false
    end
    local d = byte(m.p, pi)
    if d == DOT then
      return true
    elseif d == PERCENT then
      return of_class(c, byte(m.p, pi + 1))
    elseif d == OPEN then
      return of_set(m, c, pi, behind - 1)
    end
    return c == d
  end

  local match

  local function close(m, si, pi)
    for level = m.level, 1, -1 do
      if m.lengths[level] == -1 then
        m.lengths[level] = si - m.starts[level]
        local found = match(m, si, pi + 1)
        if not found then
          m.lengths[level] = -1
        end
        return found
      end
    end
    fail("invalid pattern capture")
  end

  local function open(m, si, pi, length)
    if m.level >= CAPTURES_MAX then
      fail("too many captures")
    end
    m.level = m.level + 1
    m.starts[m.level], m.lengths[m.level] = si, length
    local found = match(m, si, pi)
    if not found then
      m.level = m.level - 1
    end
    return found
  end

  local function balanced(m, si, pi)
    local first, last = byte(m.p, pi), byte(m.p, pi + 1)
    if last == nil then
      fail("unbalanced pattern")
    end
    if byte(m.s, si) ~= first then
      return nil
    end
    local depth = 1
    for at = si + 1, m.s_length do
      local c = byte(m.s, at)
      if c == last then
        depth = depth - 1
        if depth == 0 then
          return at + 1
        end
      elseif c == first then
        depth = depth + 1
      end
    end
  end

  function match(m, si, pi)
    while true do
      if pi > m.p_length then
        return si
      end
      local c = byte(m.p, pi)
      if c == LEFT then
        if byte(m.p, pi + 1) == RIGHT then
          return open(m, si, pi + 2, -2)
        end
        return open(m, si, pi + 1, -1)
      elseif c == RIGHT then
        return close(m, si, pi)
      elseif c == DOLLAR and pi == m.p_length then
        return si == m.s_length + 1 and si or nil
      end
      local following = c == PERCENT and byte(m.p, pi + 1)
      if following == 98 then
        si = balanced(m, si, pi + 2)
        if not si then
          return nil
        end
        pi = pi + 4
      elseif following == 102 then
        pi = pi + 2
        if byte(m.p, pi) ~= OPEN then
          fail("missing '[' after '%f' in pattern")
        end
        local behind = class_end(m, pi)
        if
          of_set(m, byte(m.s, si - 1) or 0, pi, behind - 1)
          or not of_set(m, byte(m.s, si) or 0, pi, behind - 1)
        then
          return nil
        end
        pi = behind
      elseif following and following >= 48 and following <= 57 then
        local level = following - 48
        if level < 1 or level > m.level or m.lengths[level] == -1 then
          fail("invalid capture index")
        end
        local length = m.lengths[level]
        if length < 0 then -- a place is no text
          return nil
        end
        charge(floor(length / 64))
        if sub(m.s, m.starts[level], m.starts[level] + length - 1) ~= sub(m.s, si, si + length - 1) then
          return nil
        end
        si, pi = si + length, pi + 2
      else
        local behind = class_end(m, pi)
        local suffix = byte(m.p, behind)
        if suffix == QUESTION then
          if single(m, si, pi, behind) then
            local found = match(m, si + 1, behind + 1)
            if found then
              return found
            end
          end
          pi = behind + 1
        elseif suffix == STAR or suffix == PLUS then
          local many = 0
          while single(m, si + many, pi, behind) do
            many = many + 1
          end
          for taken = many, suffix == PLUS and 1 or 0, -1 do
            local found = match(m, si + taken, behind + 1)
            if found then
              return found
            end
          end
          return nil
        elseif suffix == MINUS then
          while true do
            local found = match(m, si, behind + 1)
            if found then
              return found
            elseif not single(m, si, pi, behind) then
              return nil
            end
            si = si + 1
          end
        else
          if not single(m, si, pi, behind) then
            return nil
          end
          si, pi = si + 1, behind
        end
      end
    end
  end

  local function matcher(s, p)
    return { s = s, p = p, s_length = #s, p_length = #p, level = 0, starts = {}, lengths = {} }
  end

  local function capture(m, level, from, behind)
    if level > m.level then
      if level ~= 1 then
        fail("invalid capture index")
      end
      return sub(m.s, from, behind - 1)
    end
    local length = m.lengths[level]
    if length == -1 then
      fail("unfinished capture")
    elseif length == -2 then
      return m.starts[level]
    end
    return sub(m.s, m.starts[level], m.starts[level] + length - 1)
  end

  local function captures(m, from, behind, whole)
    local count = (m.level == 0 and whole) and 1 or m.level
    local found = {}
    for level = 1, count do
      found[level] = capture(m, level, from, behind)
    end
    return unpack(found, 1, count)
  end

  local function search(m, init)
    local anchored = byte(m.p, 1) == HAT
    for si = init, m.s_length + 1 do
      m.level = 0
      local behind = match(m, si, anchored and 2 or 1)
      if behind then
        return si, behind
      elseif anchored then
        return nil
      end
    end
  end

  -- ---- what scripts call

  -- Text and pattern as strings, and whether C may do it.
  local function taken(name, count, s, p)
    if type(s) ~= "string" then
      if type(s) ~= "number" then
        no_string(1, name, count, s)
      end
      s = tostring(s)
    end
    if type(p) ~= "string" then
      if type(p) ~= "number" then
        no_string(2, name, count, p)
      end
      p = tostring(p)
    end
    local n, length = #s, #p
    if length > PATTERN_MAX then
      fail("a pattern is at most " .. PATTERN_MAX .. " bytes long")
    end
    if not c_find(p, "[%*%+%-%?%%]") then -- nothing that is repeated
      local cost = n * (length + 1)
      charge(floor(cost / 64))
      return s, p, cost <= COST_MAX * 16
    end
    local cost = cost_of(p, n)
    if cost > COST_MAX then
      charge(floor(n / 64))
      return s, p, n * length <= COST_MAX and cost <= COST_MAX
    end
    charge(floor(cost / COST_OF_STEP))
    return s, p, true
  end

  local function start(s, init)
    init = tonumber(init) or 1
    if init ~= init then
      init = 1
    end
    init = init < 0 and -floor(-init) or floor(init)
    if init < 0 then
      init = #s + init + 1
    end
    return init < 1 and 1 or init > #s + 1 and #s + 1 or init
  end

  function strings.find(...)
    local s, p, init, is_plain = ...
    if is_plain or (type(p) == "string" and not c_find(p, "[%^%$%*%+%?%.%(%[%%%-]")) then
      if type(s) ~= "string" and type(s) ~= "number" then
        no_string(1, "find", select("#", ...), s)
      elseif type(p) ~= "string" and type(p) ~= "number" then
        no_string(2, "find", select("#", ...), p)
      end
      s, p = tostring(s), tostring(p)
      charge(floor(#s / 64))
      if #s * #p <= COST_MAX * 16 then
        return c_find(s, p, start(s, init), true)
      end
      local from = start(s, init)
      local at = host_find(s, p, from - 1)
      if at < 0 then
        return nil
      end
      return at + 1, at + #p
    end
    local by_c
    s, p, by_c = taken("find", select("#", ...), s, p)
    if by_c then
      return c_find(s, p, start(s, init))
    end
    local m = matcher(s, p)
    local from, behind = search(m, start(s, init))
    if from == nil then
      return nil
    end
    return from, behind - 1, captures(m, from, behind, false)
  end

  function strings.match(...)
    local s, p, init = ...
    local by_c
    s, p, by_c = taken("match", select("#", ...), s, p)
    if by_c then
      return c_match(s, p, start(s, init))
    end
    local m = matcher(s, p)
    local from, behind = search(m, start(s, init))
    if from == nil then
      return nil
    end
    return captures(m, from, behind, true)
  end

  function strings.gmatch(...)
    local s, p, by_c = taken("gmatch", select("#", ...), ...)
    if by_c then
      return c_gmatch(s, p)
    end
    local at = 1
    return function()
      local m = matcher(s, p)
      for si = at, m.s_length + 1 do -- a `^` is no anchor here
        m.level = 0
        local behind = match(m, si, 1)
        if behind then
          at = behind == si and behind + 1 or behind
          return captures(m, si, behind, true)
        end
      end
      at = m.s_length + 2
    end
  end

  local function replaced(m, from, behind, by)
    local kind = type(by)
    local value
    if kind == "function" then
      value = by(captures(m, from, behind, true))
    elseif kind == "table" then
      value = by[capture(m, 1, from, behind)]
    else
      local pieces, at = {}, 1
      by = tostring(by)
      while at <= #by do
        local next_percent = c_find(by, "%", at, true)
        if not next_percent then
          pieces[#pieces + 1] = sub(by, at)
          break
        end
        pieces[#pieces + 1] = sub(by, at, next_percent - 1)
        local c = byte(by, next_percent + 1)
        if c == 48 then
          pieces[#pieces + 1] = sub(m.s, from, behind - 1)
        elseif c and c >= 49 and c <= 57 then
          pieces[#pieces + 1] = tostring(capture(m, c - 48, from, behind))
        elseif c then
          pieces[#pieces + 1] = char(c)
        end
        at = next_percent + 2
      end
      return concat(pieces)
    end
    if not value then
      return sub(m.s, from, behind - 1)
    elseif type(value) ~= "string" and type(value) ~= "number" then
      fail("invalid replacement value (a " .. type(value) .. ")")
    end
    return tostring(value)
  end

  function strings.gsub(...)
    local s, p, by, most = ...
    local count = select("#", ...)
    local by_c
    s, p, by_c = taken("gsub", count, s, p)
    local kind = type(by)
    if kind ~= "string" and kind ~= "number" and kind ~= "table" and kind ~= "function" then
      fail("bad argument #3 to 'gsub' (string/function/table expected)")
    end
    if kind == "string" then
      charge(floor(#by * #s / 64))
    end
    if by_c then
      if most == nil then
        return c_gsub(s, p, by)
      end
      return c_gsub(s, p, by, tonumber(most) or fail("bad argument #4 to 'gsub' (number expected, got " .. type(most) .. ")"))
    end
    most = tonumber(most) or #s + 1
    local anchored = byte(p, 1) == HAT
    local m = matcher(s, p)
    local pieces, at, done = {}, 1, 0
    while done < most do
      m.level = 0
      local behind = match(m, at, anchored and 2 or 1)
      if behind then
        done = done + 1
        pieces[#pieces + 1] = replaced(m, at, behind, by)
      end
      if behind and behind > at then
        at = behind
      elseif at <= m.s_length then
        pieces[#pieces + 1] = sub(s, at, at)
        at = at + 1
      else
        break
      end
      if anchored then
        break
      end
    end
    pieces[#pieces + 1] = sub(s, at)
    return concat(pieces), done
  end
end
