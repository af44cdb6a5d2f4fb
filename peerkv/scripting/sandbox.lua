-- What scripts see of Lua, how one is run, and what it returns.
--
-- Everything that a script could use to catch an error (pcall, xpcall, coroutines) looks at `aborted` first, so that a
-- run which must end does end, whatever the script does about it. What takes long without a step of the machine
-- (patterns, sorting, repeating) is charged in steps. Scripts get proxies of the tables of libraries, which `reals`
-- resolves; nothing of what is local here can be reached from them. Errors of ours that the caller's place belongs in
-- front of are raised by `fail`, which, as functions of ours are Lua's here and C's in Redis, must look for that place.

local host = ...
local STRIDE = 250 -- steps of the machine between two looks
local LOOK_STEPS = 5000 -- between two questions whether the run is to end
local CHANGED_KB = 256 -- of memory between two looks
local SORT_MAX = 64 -- elements that C's sort may compare as it likes
local TOKENS_MAX = 1048576 -- in what a script returns
local DEPTH_MAX = 128 -- of that
local REPLY_BYTES_MAX = 67108864
local REPEATED_BYTES_MAX = 67108864

local assert, c_error, getinfo, sethook = assert, error, debug.getinfo, debug.sethook
local c_getmetatable, c_setmetatable, c_rawget, c_rawset = getmetatable, setmetatable, rawget, rawset
local c_next, c_pairs, c_pcall, c_xpcall, c_loadstring = next, pairs, pcall, xpcall, loadstring
local c_tostring, tonumber, type, select, unpack, ipairs = tostring, tonumber, type, select, unpack, ipairs
local string, table, math, coroutine, setfenv, newproxy = string, table, math, coroutine, setfenv, newproxy
local c_rep, c_byte, c_sub, c_find, c_dump = string.rep, string.byte, string.sub, string.find, string.dump
local c_concat, c_insert, c_remove, c_sort = table.concat, table.insert, table.remove, table.sort
local c_create, c_resume, floor = coroutine.create, coroutine.resume, math.floor
local host_call, host_look, memory_kb_max = host.call, host.look, host.memory_kb_max
local c_collectgarbage = collectgarbage
local PRELUDE = getinfo(1, "S").source

local ABORT = newproxy()
local null = newproxy(true)
c_getmetatable(null).__tostring = function()
  return "userdata: (nil)"
end
local aborted = false -- why the run must end
local steps, steps_max, look_at = 0, 0, 0
local memory_kb_before = 0
local chunk_now -- what is run
local protocol = 2

-- ---- limits

local function abort(why)
  aborted = aborted or why
  return c_error(ABORT, 0)
end

local function charge(count)
  steps = steps + count
  if steps > steps_max then
    return abort("steps")
  end
end

local function look()
  look_at = steps + LOOK_STEPS
  local why = host_look()
  if why then
    return abort(why)
  end
end

local function hook()
  if aborted then
    return c_error(ABORT, 0)
  end
  local memory_kb = c_collectgarbage("count")
  local changed_kb = memory_kb - memory_kb_before
  memory_kb_before = memory_kb
  steps = steps + STRIDE
  if changed_kb > CHANGED_KB or changed_kb < -CHANGED_KB then -- long strings are made: that takes longer than steps
    steps = steps + floor((changed_kb < 0 and -changed_kb or changed_kb) * 16)
    look_at = 0
  end
  if steps > steps_max then
    return abort("steps")
  end
  if memory_kb > memory_kb_max then
    return abort("memory")
  end
  if steps >= look_at then
    return look()
  end
end

-- Python puts what it returns where a lack of memory is no error but the end of the process: there must be enough.
local function roomy(f)
  return function(...)
    if c_collectgarbage("count") > memory_kb_max then
      return abort("memory")
    end
    return f(...)
  end
end
for name, f in c_pairs(host.functions) do
  host[name] = roomy(f)
end
local host_log, host_sha1, host_register = host.log, host.sha1, host.register

-- ---- errors

local function last_line(f)
  local last = 0
  for line in c_pairs(getinfo(f, "L").activelines) do
    if line > last then
      last = line
    end
  end
  return last
end

-- The first frame of a script, from `level` of who calls this: source, its short form, line.
local function place(level)
  while true do
    level = level + 1
    local info = getinfo(level, "Sl")
    if info == nil or info.what == "tail" then -- `return redis.call(...)` has left no frame: mostly the last line
      info = getinfo(chunk_now, "S")
      return info.source, info.short_src, last_line(chunk_now)
    end
    if info.what ~= "C" and info.source ~= PRELUDE then
      return info.source, info.short_src, info.currentline
    end
  end
end

-- What stands before an error's text: nothing if C has called us (`pcall(cjson.decode, ...)`). It must not be reached by
-- tail calls of ours, which look like a script's.
local function origin()
  local level = 1
  local info
  repeat
    level = level + 1
    info = getinfo(level, "Sl")
  until info == nil or info.source ~= PRELUDE
  if info == nil or info.what == "tail" then
    local _, short, line = place(level)
    return short .. ":" .. line .. ": "
  end
  return info.what ~= "C" and info.short_src .. ":" .. info.currentline .. ": " or nil
end

local function fail(message)
  local before = origin()
  c_error((before or "") .. message, 0)
end

local function bad_argument(number, name, what)
  local before = origin()
  c_error((before or "") .. "bad argument #" .. number .. " to '" .. (before and name or "?") .. "' (" .. what .. ")", 0)
end

local function kind_of(count, number, value)
  return count < number and "no value" or type(value)
end

local function no_table(name, count, value)
  bad_argument(1, name, "table expected, got " .. kind_of(count, 1, value))
end

local function no_string(number, name, count, value)
  bad_argument(number, name, "string expected, got " .. kind_of(count, number, value))
end

-- The text of an error that C has raised within a function of ours, without our place.
local function bare(err)
  if type(err) == "string" and c_byte(err) == 40 then
    local _, last = c_find(err, "^%(peerkv%):%d+: ")
    if last then
      return c_sub(err, last + 1), true
    end
  end
  return err, false
end

local function settled(ok, err, ...)
  if aborted then
    return c_error(ABORT, 0)
  end
  if not ok then
    err = bare(err)
    if err == "not enough memory" then
      return abort("memory")
    end
    if type(err) == "userdata" and err ~= null then
      return abort("fault")
    end
  end
  return ok, err, ...
end

local function plain(ok, err, ...)
  if not ok and type(err) == "table" then
    local message = c_rawget(err, "err")
    if message ~= nil then
      return ok, message, ...
    end
  end
  return ok, err, ...
end

local function pcall(...)
  if select("#", ...) == 0 then
    bad_argument(1, "pcall", "value expected")
  end
  return plain(settled(c_pcall(...)))
end

local function xpcall(f, h)
  return settled(c_xpcall(f, function(err)
    if aborted or err == ABORT then
      return err
    end
    return h(err)
  end))
end

-- ---- tables that are only read

local reals = c_setmetatable({}, { __mode = "k" })
local READONLY = "Attempt to modify a readonly table"

local function readonly()
  fail(READONLY)
end

local function protect(real)
  local proxy = {}
  reals[proxy] = real
  return c_setmetatable(proxy, { __index = real, __newindex = readonly, __metatable = false })
end

local function getmetatable(...)
  local value = ...
  local kind = type(value)
  if kind == "table" then
    if reals[value] then
      return nil
    end
    return c_getmetatable(value)
  elseif kind == "string" then
    return c_getmetatable(value)
  elseif select("#", ...) == 0 then
    bad_argument(1, "getmetatable", "value expected")
  end
end

local function setmetatable(...)
  local target, meta = ...
  if type(target) ~= "table" then
    no_table("setmetatable", select("#", ...), target)
  elseif reals[target] then
    return c_error(READONLY, 0)
  elseif type(meta) ~= "table" and (meta ~= nil or select("#", ...) < 2) then
    bad_argument(2, "setmetatable", "nil or table expected")
  end
  local old = c_getmetatable(target)
  if old ~= nil and (type(old) ~= "table" or c_rawget(old, "__metatable") ~= nil) then
    fail("cannot change a protected metatable")
  end
  return c_setmetatable(target, meta)
end

local function rawset(...)
  local target, key, value = ...
  if type(target) ~= "table" then
    no_table("rawset", select("#", ...), target)
  elseif reals[target] then
    return c_error(READONLY, 0)
  elseif key == nil or key ~= key then
    fail("table index is " .. (key == nil and "nil" or "NaN"))
  end
  return c_rawset(target, key, value)
end

local function rawget(...)
  local target, key = ...
  if type(target) ~= "table" then
    no_table("rawget", select("#", ...), target)
  end
  return c_rawget(reals[target] or target, key)
end

local function next(...)
  local target, key = ...
  if type(target) ~= "table" then
    no_table("next", select("#", ...), target)
  end
  return c_next(reals[target] or target, key)
end

local function pairs(...)
  local target = ...
  if type(target) ~= "table" then
    no_table("pairs", select("#", ...), target)
  end
  if reals[target] then
    return next, target, nil
  end
  return c_pairs(target)
end

-- ---- code out of strings

local globals = {} -- what `env` stands for
local env = protect(globals)
c_setmetatable(globals, {
  __index = function(_, key)
    fail("Script attempted to access nonexistent global variable '" .. c_tostring(key) .. "'")
  end,
})

local function loadstring(...)
  local code, name = ...
  if type(code) == "number" then
    code = c_tostring(code)
  elseif type(code) ~= "string" then
    no_string(1, "loadstring", select("#", ...), code)
  end
  if c_byte(code) == 27 then
    return nil, "code that is compiled already is not taken"
  end
  charge(#code)
  if name ~= nil then
    name = c_tostring(name)
  else
    name = code
  end
  local f, err = c_loadstring(code, name)
  if f == nil then
    if err == "not enough memory" then
      return abort("memory")
    end
    return nil, err
  end
  return setfenv(f, env)
end

local function load(...)
  local reader, name = ...
  if type(reader) ~= "function" then
    bad_argument(1, "load", "function expected, got " .. kind_of(select("#", ...), 1, reader))
  end
  local pieces, count = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then
      break
    end
    if type(piece) ~= "string" then
      return nil, "reader function must return a string"
    end
    count = count + 1
    pieces[count] = piece
  end
  return loadstring(c_concat(pieces), name == nil and "=(load)" or name)
end

-- ---- libraries of Lua

local strings, tables, maths, coroutines = {}, {}, {}, {}
for name, f in c_pairs(string) do
  strings[name] = f
end
strings.dump = nil
for name, f in c_pairs(table) do
  tables[name] = f
end
for name, f in c_pairs(math) do
  maths[name] = f
end

function strings.rep(...)
  local text, count = ...
  if type(text) ~= "string" and type(text) ~= "number" then
    no_string(1, "rep", select("#", ...), text)
  elseif tonumber(count) == nil then
    bad_argument(2, "rep", "number expected, got " .. kind_of(select("#", ...), 2, count))
  end
  text, count = c_tostring(text), tonumber(count)
  local size = #text * count
  if count < 1 or size <= 0 then
    return ""
  elseif not (size <= REPEATED_BYTES_MAX) then
    fail("resulting string too large")
  end
  charge(floor(size / 64) + floor(count / 8))
  return c_rep(text, count)
end

host.patterns(strings, charge, fail, no_string, host.find)
strings.gfind = strings.gmatch

function tables.concat(...)
  local target = ...
  if type(target) ~= "table" then
    no_table("concat", select("#", ...), target)
  end
  charge(floor(#target / 4))
  local ok, text = c_pcall(c_concat, ...)
  if not ok then
    settled(ok, text)
    fail((text:gsub("'%?'", "'concat'")))
  end
  return text
end

function tables.insert(...)
  local target = ...
  local count = select("#", ...)
  if type(target) ~= "table" then
    no_table("insert", count, target)
  elseif reals[target] then
    return c_error(READONLY, 0)
  end
  if count == 2 then
    local _, value = ...
    return c_insert(target, value)
  elseif count ~= 3 then
    fail("wrong number of arguments to 'insert'")
  end
  local _, at, value = ...
  if tonumber(at) == nil then
    bad_argument(2, "insert", "number expected, got " .. type(at))
  end
  local moved = #target - at
  if moved > 64 then
    charge(floor(moved / 8))
  elseif not (moved >= -1048576) then
    bad_argument(2, "insert", "position out of bounds")
  end
  return c_insert(target, at, value)
end

function tables.remove(...)
  local target, at = ...
  if type(target) ~= "table" then
    no_table("remove", select("#", ...), target)
  elseif reals[target] then
    return c_error(READONLY, 0)
  end
  if at == nil then
    return c_remove(target)
  elseif tonumber(at) == nil then
    bad_argument(2, "remove", "number expected, got " .. type(at))
  end
  local moved = #target - at
  if moved > 64 then
    charge(floor(moved / 8))
  end
  return c_remove(target, at)
end

local function less(a, b)
  return a < b
end

function tables.sort(...)
  local target, before = ...
  if type(target) ~= "table" then
    no_table("sort", select("#", ...), target)
  elseif reals[target] then
    return c_error(READONLY, 0)
  elseif before ~= nil and type(before) ~= "function" then
    bad_argument(2, "sort", "function expected, got " .. type(before))
  end
  if before == nil and #target > SORT_MAX then
    before = less
  end
  if before == nil then
    return c_sort(target)
  end
  return c_sort(target, before)
end

function tables.foreach(t, f)
  for key, value in pairs(t) do
    local found = f(key, value)
    if found ~= nil then
      return found
    end
  end
end

function tables.setn()
  fail("'setn' is obsolete")
end

function tables.maxn(...)
  local target = ...
  if type(target) ~= "table" then
    no_table("maxn", select("#", ...), target)
  end
  local most = 0
  for key in c_pairs(reals[target] or target) do
    if type(key) == "number" and key > most then
      most = key
    end
  end
  return most
end

function coroutines.create(...)
  local f = ...
  if type(f) ~= "function" then
    bad_argument(1, "create", "Lua function expected")
  end
  charge(STRIDE) -- what a short one does is not counted
  local ok, co = c_pcall(c_create, f)
  if not ok then
    settled(ok, co)
    bad_argument(1, "create", "Lua function expected")
  end
  sethook(co, hook, "", STRIDE)
  return co
end

function coroutines.resume(...)
  if type((...)) ~= "thread" then
    bad_argument(1, "resume", "coroutine expected")
  end
  return settled(c_resume(...))
end

local function unwrapped(ok, err, ...)
  if ok then
    return err, ...
  end
  if type(err) == "string" then
    fail(err)
  end
  return c_error(err, 0)
end

function coroutines.wrap(...)
  local f = ...
  if type(f) ~= "function" then
    bad_argument(1, "wrap", "Lua function expected")
  end
  local co = coroutines.create(f)
  return function(...)
    return unwrapped(settled(c_resume(co, ...)))
  end
end
coroutines.status, coroutines.yield, coroutines.running = coroutine.status, coroutine.yield, coroutine.running

-- Two multiplicative generators together (L'Ecuyer 1988), exact in doubles.
local first, second = 1, 1

local function draw()
  first = first * 40014 % 2147483563
  second = second * 40692 % 2147483399
  return (first - second) % 2147483562 / 2147483562
end

function maths.randomseed(...)
  local seed = tonumber((...))
  if seed == nil then
    bad_argument(1, "randomseed", "number expected, got " .. kind_of(select("#", ...), 1, (...)))
  end
  if not (seed > -2 ^ 53 and seed < 2 ^ 53) then
    seed = 0
  end
  seed = floor(seed)
  first, second = seed % 2147483562 + 1, floor(seed / 2147483562) % 2147483398 + 1
  for _ = 1, 4 do
    draw()
  end
end

function maths.random(...)
  local count, low, high = select("#", ...), ...
  if count == 0 then
    return draw()
  elseif count > 2 then
    fail("wrong number of arguments")
  end
  low = tonumber(low)
  if low == nil then
    bad_argument(1, "random", "number expected, got " .. type((...)))
  end
  if count == 1 then
    low, high = 1, low
  else
    high = tonumber(high)
    if high == nil then
      bad_argument(2, "random", "number expected, got " .. type((select(2, ...))))
    end
  end
  low, high = floor(low), floor(high)
  if not (low <= high) then
    bad_argument(count, "random", "interval is empty")
  end
  return low + floor(draw() * (high - low + 1))
end

local function tostring(...)
  if select("#", ...) == 0 then
    bad_argument(1, "tostring", "value expected")
  end
  return c_tostring((...))
end

local function collectgarbage(option)
  return 0 -- what memory is used is no business of a script's, which is to do the same everywhere
end

-- ---- redis

local redis = {}

local function raised(message)
  return c_error({ err = message, ignore_error_stats_update = true }, 0)
end

function redis.call(...)
  if c_collectgarbage("count") > memory_kb_max then
    return abort("memory")
  end
  local value, special = host_call(protocol, ...)
  if special == nil then
    return value
  elseif special == "ok" then
    return { ok = value }
  elseif special == "err" then
    return raised(value)
  end
  return abort("out")
end

function redis.pcall(...)
  if c_collectgarbage("count") > memory_kb_max then
    return abort("memory")
  end
  local value, special = host_call(protocol, ...)
  if special == nil then
    return value
  elseif special == "ok" then
    return { ok = value }
  elseif special == "err" then
    return { err = value, ignore_error_stats_update = true }
  end
  return abort("out")
end

local function single(field)
  return function(...)
    local text = ...
    if select("#", ...) ~= 1 or type(text) ~= "string" then
      return { err = "ERR wrong number or type of arguments" }
    end
    return { [field] = text }
  end
end
redis.status_reply = single("ok")

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  text = text:gsub("^%-", ""):gsub("[\r\n]+$", "")
  if not c_find(text, " ", 1, true) then
    text = "ERR " .. text
  end
  return { err = text, ignore_error_stats_update = true }
end

function redis.sha1hex(...)
  local text = ...
  if select("#", ...) ~= 1 then
    return raised("ERR wrong number of arguments")
  end
  if type(text) == "number" then
    text = c_tostring(text)
  elseif type(text) ~= "string" then
    text = ""
  end
  charge(floor(#text / 64))
  return host_sha1(text)
end

function redis.log(...)
  local count, level = select("#", ...), ...
  if count < 2 then
    return raised("ERR redis.log() requires two arguments or more.")
  elseif type(level) ~= "number" then
    return raised("ERR First argument must be a number (log level).")
  elseif level < 0 or level > 3 then
    return raised("ERR Invalid debug level.")
  end
  local words, found = {}, 0
  for at = 2, count do
    local word = select(at, ...)
    if type(word) == "string" or type(word) == "number" then
      found = found + 1
      words[found] = word
    end
  end
  host_log(floor(level), c_concat(words, " "))
end

function redis.setresp(...)
  local wanted = tonumber((...))
  if select("#", ...) ~= 1 then
    return raised("ERR redis.setresp() requires one argument.")
  elseif wanted ~= 2 and wanted ~= 3 then
    return raised("ERR RESP version must be 2 or 3.")
  end
  protocol = wanted
end

function redis.set_repl(...)
  local flags = tonumber((...))
  if select("#", ...) ~= 1 then
    return raised("ERR redis.set_repl() requires one argument.")
  elseif flags == nil or flags < 0 or flags > 3 then
    return raised("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

function redis.replicate_commands()
  return true
end

function redis.breakpoint()
  return false
end

function redis.debug() end

function redis.acl_check_cmd(...)
  if select("#", ...) == 0 then
    return raised("ERR Please specify at least one argument for this redis.acl_check_cmd() call")
  end
  local known = host.known(...)
  if not known then
    return raised("ERR Invalid command passed to redis.acl_check_cmd()")
  end
  return true
end

redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING = 0, 1, 2, 3
redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL = 0, 1, 2, 2, 3
redis.REDIS_VERSION, redis.REDIS_VERSION_NUM = host.version, host.version_number

-- ---- libraries of ours

local tools = {
  null = null,
  charge = charge,
  fail = fail,
  bad_argument = bad_argument,
  kind_of = kind_of,
  protect = protect,
  host = host,
  guarded = function(f, ...)
    return settled(c_pcall(f, ...))
  end,
}
local cjson, reset_cjson = host.cjson(tools)
local cmsgpack = host.cmsgpack(tools)

-- A library of functions that are the host's: what is wrong is answered with the number of the argument, or 0.
local function foreign(names, prefix)
  local library = {}
  for name in names:gmatch("%S+") do
    local f = host[prefix .. name]
    local is_structure = prefix == "struct_"
    library[name] = function(...)
      if is_structure and type((...)) == "string" then
        charge(16 * #(...))
      end
      local found = { f(...) }
      local wrong = found[1]
      if wrong then
        if found[2] == 0 then
          fail(wrong)
        end
        bad_argument(found[2], name, wrong)
      end
      return unpack(found, 2)
    end
  end
  return library
end
local struct = foreign("pack unpack size", "struct_")
local bit = foreign("tobit bnot band bor bxor lshift rshift arshift rol ror bswap tohex", "bit_")

-- ---- what scripts see

local os = {
  clock = function()
    return steps / 100000000
  end,
}
for name, value in c_pairs({
  _G = env,
  _VERSION = _VERSION,
  string = protect(strings),
  table = protect(tables),
  math = protect(maths),
  coroutine = protect(coroutines),
  redis = protect(redis),
  cjson = protect(cjson),
  cmsgpack = protect(cmsgpack),
  struct = protect(struct),
  bit = protect(bit),
  os = protect(os),
  assert = assert,
  collectgarbage = collectgarbage,
  error = error,
  gcinfo = collectgarbage,
  getmetatable = getmetatable,
  ipairs = ipairs,
  load = load,
  loadstring = loadstring,
  next = next,
  pairs = pairs,
  pcall = pcall,
  rawequal = rawequal,
  rawget = rawget,
  rawset = rawset,
  select = select,
  setmetatable = setmetatable,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = unpack,
  xpcall = xpcall,
}) do
  c_rawset(globals, name, value)
end
local of_strings = c_getmetatable("")
of_strings.__index = strings
of_strings.__metatable = protect({ __index = globals.string })

-- Nothing of what was here before is left, should somebody come to the real globals after all.
local real_globals = _G
for name in c_pairs(real_globals) do
  c_rawset(real_globals, name, nil)
end

-- ---- libraries of functions

local of_load = {
  log = redis.log,
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  REDIS_VERSION = redis.REDIS_VERSION,
  REDIS_VERSION_NUM = redis.REDIS_VERSION_NUM,
  register_function = function(...)
    local message = host_register(...)
    if message then
      return raised(message)
    end
  end,
}
c_setmetatable(of_load, c_getmetatable(globals))
local on_load = protect(of_load)
local loading = protect(c_setmetatable({ redis = on_load }, { __index = globals }))

-- ---- one run

local function found(err)
  if aborted or err == ABORT then
    return err
  end
  local source, short, line = place(1)
  if type(err) == "table" then
    err = c_rawget(err, "err")
    if type(err) ~= "string" then -- no `__tostring` of a script's is asked: nothing would end it
      err = type(err) == "number" and c_tostring(err) or "ERR unknown error"
    end
  else
    local text, is_ours = bare(err)
    err = is_ours and short .. ":" .. line .. ": " .. text or c_tostring(err)
    err = "ERR " .. err
  end
  return { err, source, line }
end

local out, count, size

local function put(value)
  count = count + 1
  out[count] = value
end

local function weigh(text)
  size = size + #text
  if size > REPLY_BYTES_MAX then
    return c_error({ "ERR the script returns too much: at most " .. REPLY_BYTES_MAX .. " bytes are allowed" }, 0)
  end
end

local function put_text(code, text)
  weigh(text)
  put(true)
  put(code)
  put(text)
end

local function text_in(value, field)
  local text = c_rawget(value, field)
  return type(text) == "string" and text or nil
end

local flatten

local function flatten_table(value, depth)
  if depth > DEPTH_MAX then
    return c_error({ "ERR reached lua stack limit" }, 0)
  end
  local text = text_in(value, "err")
  if text then
    return put_text(5, text)
  end
  text = text_in(value, "ok")
  if text then
    return put_text(4, text)
  end
  local number = c_rawget(value, "double")
  if type(number) == "number" then
    put(true)
    put(6)
    return put(number)
  end
  local map = c_rawget(value, "map")
  if type(map) == "table" then
    put(true)
    put(7)
    put(0)
    local at, entries = count, 0
    for key, item in c_pairs(map) do
      flatten(key, depth + 1)
      flatten(item, depth + 1)
      entries = entries + 1
    end
    out[at] = entries
    return
  end
  local set = c_rawget(value, "set")
  if type(set) == "table" then
    put(true)
    put(8)
    put(0)
    local at, entries = count, 0
    for key in c_pairs(set) do
      flatten(key, depth + 1)
      entries = entries + 1
    end
    out[at] = entries
    return
  end
  text = text_in(value, "big_number")
  if text then
    return put_text(9, text)
  end
  local verbatim = c_rawget(value, "verbatim_string")
  if type(verbatim) == "table" then
    text = text_in(verbatim, "string")
    if text and text_in(verbatim, "format") then
      return put_text(10, text)
    end
  end
  put(true)
  put(3)
  put(0)
  local at, entries = count, 0
  while true do
    local item = c_rawget(value, entries + 1)
    if item == nil then
      break
    end
    flatten(item, depth + 1)
    entries = entries + 1
  end
  out[at] = entries
end

function flatten(value, depth)
  if count > TOKENS_MAX then
    return c_error({ "ERR the script returns too much: at most " .. TOKENS_MAX .. " values are allowed" }, 0)
  end
  local kind = type(value)
  if kind == "string" then
    weigh(value)
    return put(value)
  elseif kind == "number" then
    return put(value)
  elseif kind == "table" then
    return flatten_table(value, depth)
  elseif kind == "boolean" then
    put(true)
    if protocol == 3 then
      return put(value and 1 or 2)
    elseif value then
      count = count - 1
      return put(1)
    end
    return put(0)
  end
  put(true)
  return put(0)
end

local function returned(value)
  local kind = type(value)
  if kind == "number" or kind == "string" then
    return 0, value
  elseif kind == "nil" or (kind == "boolean" and protocol == 2) then
    return 0, value and 1 or nil
  end
  out, count, size = {}, 0, 0
  local ok, err = c_pcall(flatten, value, 0)
  if not ok then
    out = nil
    if type(err) == "table" then
      return 3, err[1]
    end
    return 2, "memory"
  end
  if count <= 200 then
    local tokens = out
    out = nil
    return 4, unpack(tokens, 1, count)
  end
  return 5, count
end

local function begin(chunk, most, seed_low, seed_high)
  aborted, steps, steps_max, look_at, protocol, chunk_now = false, 0, most, LOOK_STEPS, 2, chunk
  memory_kb_before = c_collectgarbage("count")
  first, second = seed_low % 2147483562 + 1, seed_high % 2147483398 + 1
  reset_cjson()
end

local function ended(ok, ...)
  sethook()
  if aborted then
    out = nil
    return 2, aborted
  end
  if ok then
    return returned(...)
  end
  local err = ...
  if type(err) ~= "table" then
    return 2, err == "not enough memory" and "memory" or "fault", c_tostring(err)
  end
  return 1, err[1], err[2], err[3]
end

local keys_fed, argv_fed = {}, {}

local function arguments(key_count, ...)
  local keys, argv
  if key_count < 0 then
    keys, argv = keys_fed, argv_fed
    keys_fed, argv_fed = {}, {}
  else
    local all = { ... }
    local total = #all
    if total == key_count then
      keys, argv = all, {}
    elseif key_count == 0 then
      keys, argv = {}, all
    else
      keys, argv = {}, {}
      for at = 1, key_count do
        keys[at] = all[at]
      end
      for at = key_count + 1, total do
        argv[at - key_count] = all[at]
      end
    end
  end
  return keys, argv
end

local api = {}

-- Compile; nil and a message if that fails.
function api.compile(code, name)
  if c_byte(code) == 27 then
    return nil, "code that is compiled already is not taken"
  end
  local f, err = c_loadstring(code, name)
  if f == nil then
    return nil, err
  end
  return setfenv(f, env)
end

function api.compile_library(code, name)
  local f, err = api.compile(code, name)
  if f == nil then
    return nil, err
  end
  return setfenv(f, loading)
end

-- Arguments in portions, where they are too many for one call.
function api.feed(keys, ...)
  local target = keys and keys_fed or argv_fed
  local have = #target
  for at = 1, select("#", ...) do
    target[have + at] = (select(at, ...))
  end
end

function api.starve()
  keys_fed, argv_fed, out = {}, {}, nil
end

-- How it ends: 0: a number, text or nothing; 1: an error, its source and line; 2: aborted, why; 3: an error of the
-- reply; 4: tokens; 5: so many tokens, to be fetched.
function api.run(chunk, most, seed_low, seed_high, key_count, ...)
  begin(chunk, most, seed_low, seed_high)
  local keys, argv = arguments(key_count, ...)
  c_rawset(globals, "KEYS", keys)
  c_rawset(globals, "ARGV", argv)
  sethook(hook, "", STRIDE)
  return ended(c_xpcall(chunk, found))
end

function api.load(chunk, most)
  begin(chunk, most, 0, 0)
  c_rawset(globals, "KEYS", nil)
  c_rawset(globals, "ARGV", nil)
  sethook(hook, "", STRIDE)
  return ended(c_xpcall(chunk, found))
end

-- The rest of a run that has begun with `load`.
function api.call(f, most, seed_low, seed_high, key_count, ...)
  begin(f, most, seed_low, seed_high)
  local keys, argv = arguments(key_count, ...)
  c_rawset(reals[loading], "redis", globals.redis)
  sethook(hook, "", STRIDE)
  local function finish(...)
    c_rawset(reals[loading], "redis", on_load)
    return ...
  end
  return finish(ended(c_xpcall(function()
    return (f(keys, argv))
  end, found)))
end

function api.fetch(from, to)
  return unpack(out, from, to)
end

return api
