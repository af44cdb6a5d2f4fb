"""Dicts, lists, sets, counters, a bloom filter"""

import sys

import redis
from pottery import NextID, RedisCounter, RedisDict, RedisList, RedisSet

client = redis.Redis(port=int(sys.argv[1]))
client.flushdb()
d = RedisDict({"a": 1}, redis=client, key="d")
assert d.to_dict() == {"a": 1}
items = RedisList([1, 2], redis=client, key="l")
assert list(items) == [1, 2]
s = RedisSet({1, 2}, redis=client, key="s")
assert 1 in s
c = RedisCounter("aab", redis=client, key="c")
assert c["a"] == 2
ids = NextID(key="n", masters={client})
assert [next(ids), next(ids)] == [1, 2]
