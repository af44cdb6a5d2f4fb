"""Scripts that have broken interpreters, or try what nobody should: they end, in whatever way, and leave nothing."""

from __future__ import annotations

from typing import Final

ODD: Final = r"""
local t = {} for i=1,1e5 do t[i]=coroutine.create(function() coroutine.yield() end) coroutine.resume(t[i]) end return #t
local function f(n) if n==0 then return 1 end return coroutine.wrap(function() return f(n-1) end)() end return f(1000)
local function f(n) return pcall(function() return f(n+1) end) end return f(0)
local t=setmetatable({},{__index=function(t,k) return t[k+1] end}) return t[1]
local t={} t=setmetatable(t,{__index=t}) return t.x
local t=setmetatable({},{}) getmetatable(t).__index=t return t.x
local t=setmetatable({},{__tostring=function() return 5 end}) return tostring(t)
local t=setmetatable({},{__metatable=5}) return getmetatable(t)
return string.format('%s', setmetatable({},{__tostring=function() return 'x' end}))
return string.format('%d', 'x')
return string.format('%q', ('\0"\n\\'):rep(10))
return string.format('%c%c', 0, 256)
return string.format(('%s'):rep(300), unpack({}, 1, 200))
return string.format('%5000s', 'x')
return string.format('%.20f %e %g %a', 1/3, 1e300, 5, 1)
return string.format('%99.99f', 1e308)
return ('x'):rep(2^31)
return ('x'):rep(2^53)
return ('x'):rep(-2^63)
return ('x'):rep(0/0)
return ('x'):byte(1, 2^31)
return ('x'):rep(1e6):byte(1, -1)
return string.char(unpack({}, 1, 100))
return string.char(-1)
return ('x'):sub(-2^63, 2^63)
return table.concat({}, 'x', 1, 2^31)
return table.concat({'a'}, 'x', -2^31, 1)
return unpack({}, 2^31, 2^31+10)
return unpack({}, -2^31, 2^31)
return unpack({}, 1, 7998)
return select(-1, 1, 2)
return select(2^31, 1)
return select(-2^31, 1)
return table.insert({}, 2^31, 1)
return table.insert({}, -5, 1)
return table.insert({1,2,3}, 0/0, 1)
return table.remove({1,2,3}, 2^53)
return table.remove({1,2,3}, -1)
return table.sort({3,2,1,nil,5}, function() return true end)
local t={} for i=1,1000 do t[i]=i%3 end table.sort(t, function() return true end) return #t
local t={} for i=1,100 do t[i]=i end table.sort(t, function(a,b) t[50]=nil return a<b end) return #t
local t={} for i=1,100 do t[i]={} end table.sort(t) return 1
return table.getn({1,2})..table.maxn({1,2,[7]=1})
return table.foreachi({1,2,3}, function(i,v) return v end)
return math.floor(0/0)
return math.random(2^53)
return math.random(-2^60, 2^60)
return math.fmod(1, 0)
return math.ldexp(1, 2^31)
return tonumber('1e1000')..tonumber('0x', 16)
return tonumber('zz', 36) .. tostring(tonumber('9', 8))
return tonumber('10', 99)
return tonumber({}, 10)
for i=1,math.huge do end
for i=1,0,0 do end
local i = 0 repeat i = i + 1 until false
return #redis
return redis()
redis[1] = 2
return next(redis) ~= nil
return next({}, 'nokey')
for k in next, _G do k = nil end return 1
return rawequal(redis, redis)
return rawget(redis, 'call') == redis.call
return ipairs(_G)(_G, 0)
return getmetatable(redis)
return getmetatable(function() end)
return tostring(getmetatable('').__index.rep == string.rep)
return getmetatable('').__name
local m = getmetatable('') m.__index = nil
('x').y = 1
return ('x').y
return ('x') + 1
return 'a' < 1
return {} < {}
return -{}
return #5
return nil .. 'x'
return cjson.encode(_G)
return cjson.encode(redis)
return cmsgpack.pack(redis)
return cjson.decode('{"__index":1}')
return setmetatable(cjson.decode('{}'), {__index=redis}).call('GET','x')
return cjson.decode(('['):rep(1000)..(']'):rep(1000)) ~= nil
return cjson.encode({[0/0==0]=1})
return cmsgpack.unpack(('\145'):rep(100000))
return cmsgpack.unpack(('\129\1'):rep(5000))
return cmsgpack.unpack('\221\255\255\255\255')
return cmsgpack.unpack('\223\255\255\255\255')
return cmsgpack.unpack('\219\255\255\255\255')
return struct.pack('c70000000', 'x')
return struct.pack(('x'):rep(1e6))
return struct.pack('i99999999999', 1)
return struct.unpack(('b'):rep(5000), ('x'):rep(5000))
return struct.pack('!99999999i', 1)
return struct.unpack('c0', 'x')
return struct.unpack('dc0', struct.pack('d', 0/0)..'x')
return bit.lshift(1, -1)
return bit.tohex(1, 2^31)
return bit.tohex(1, -2^31)
return bit.band(unpack({}, 1, 250))
return redis.call(unpack({}, 1, 250))
local t={} for i=1,7000 do t[i]='x' end return redis.call('del', unpack(t))
local t={} for i=1,7000 do t[i]='x' end return bit.band(unpack(t))
local t={} for i=1,7000 do t[i]=1 end return bit.band(unpack(t))
local t={} for i=1,7000 do t[i]=1 end return cmsgpack.pack(unpack(t)) ~= nil
local t={} for i=1,7000 do t[i]=1 end return #struct.pack(('b'):rep(7000), unpack(t))
local t={} for i=1,7900 do t[i]='x' end return redis.log(2, unpack(t))
return redis.sha1hex(('x'):rep(1e7))
return redis.call('set', 'k', ('x'):rep(6e7)) and #redis.call('get','k')
redis.call('set', 'k', ('x'):rep(6e7)) local t={} for i=1,20 do t[i]=redis.call('get','k')..i end return #t
redis.call('set', 'k', ('x'):rep(6e7)) return redis.call('mget','k','k','k','k','k','k')
return redis.call({'get'}, 'x')
return redis.call('get', cjson.null)
return redis.call('get', function() end)
return redis.call('get', coroutine.create(function() end))
return redis.call('get', redis)
return redis.error_reply({})
return redis.log(0/0, 'x')
return redis.log(2, nil, {}, 'x')
return redis.setresp('3')
return redis.acl_check_cmd({})
return redis.acl_check_cmd(nil)
return load(function() return nil end)
return load(function() return {} end)
return load(function() error('x') end)
local n=0 return load(function() n=n+1 if n<1e5 then return ' ' end end)
return loadstring(nil)
return loadstring(('{'):rep(300))
return loadstring('return ' .. ('-'):rep(3e4) .. '1')
return loadstring('local a ' .. ('= a '):rep(300))
local s='return {' .. ('1,'):rep(3e5) .. '}' return #loadstring(s)()
local t={} for i=1,300 do t[i]='local a'..i..'=1' end return loadstring(table.concat(t,' '))
return pcall()
return pcall(nil)
return xpcall()
return xpcall(nil, nil)
return xpcall(error, error)
return xpcall(function() error({}) end, function(e) return e end)
return error()
error(nil)
error(cjson.null)
error(function() end)
error(setmetatable({}, {__tostring=function() error('x') end}))
error(setmetatable({}, {__tostring=function() while true do end end}))
error(setmetatable({}, {__index=function() error('x') end}))
error({err=5})
error({err={}})
error({err=setmetatable({}, {__tostring=function() error('y') end})})
error({})
return setmetatable({}, {__index=function() error('x') end})
return setmetatable({err=nil}, {__index=function(t,k) return 'x' end})
return {err='a', ok='b'}
return {double=1/0}
return {double=0/0}
return {map={[{}]=1}}
return {set={[redis]=true}}
return {big_number='abc'}
return {verbatim_string={format='abcd',string='x'}}
return coroutine.yield(1)
coroutine.yield()
return coroutine.resume(coroutine.running())
return coroutine.running()
local co co = coroutine.wrap(function() return co() end) return co()
local co = coroutine.create(function() error({}) end) return coroutine.resume(co)
return coroutine.status(coroutine.create(print or function() end))
return coroutine.wrap(pcall)(error)
return coroutine.wrap(redis.call)('get','x')
return coroutine.create(redis.call) ~= nil
return coroutine.create(string.rep)
return coroutine.wrap(string.upper)('x')
return coroutine.resume(coroutine.create(string.gsub), 'x','x', coroutine.yield)
table.sort({3,1,2}, coroutine.yield)
local co=coroutine.create(function() table.sort({3,1,2}, coroutine.yield) end) return coroutine.resume(co)
local co=coroutine.create(function() return redis.call('ping') end) return select(2, coroutine.resume(co))
collectgarbage('collect') return gcinfo()
return os.clock() < 1
return string.gfind('abc', 'b')()
for w in ('a b c'):gmatch('%a') do w = 1 end return 1
return ('abc'):gsub('%w', '%%1')
return ('abc'):gsub('%w', '%2')
return ('abc'):gsub('', '-')
return ('abc'):gsub('b', {b=false})
return ('abc'):gsub('b', function() return {} end)
return ('abc'):find('[')
return ('abc'):find('%')
return ('abc'):find('b', nil, true)
return ('abc'):find('b', 'x')
return ('a.c'):find('.', 2, true)
return ('abc'):match('()b()')
return ('x'):rep(100):find(('(x'):rep(40))
return #('x'):rep(100):gsub('x', ('y'):rep(1e6))
local s=('x'):rep(1e6) return #s:gsub('x', s)
return ('x'):rep(5e7) .. ('y'):rep(5e7) == 1
return #(('x'):rep(6e7):upper():lower():reverse())
error({err=setmetatable({}, {__tostring=function() while true do end end})})
return pcall(string.gsub, 'abc', '%w', '%2')
""".strip().splitlines()
