"""Dicts, lists, sets, counters"""

import sys

import redis
from redis_collections import Counter, Dict, List, Set

client = redis.Redis(port=int(sys.argv[1]))
client.flushdb()
d = Dict(redis=client, key="d")
d["a"] = 1
assert dict(d.items()) == {"a": 1}
items = List([1, 2, 3], redis=client, key="l")
assert list(items) == [1, 2, 3]
s = Set({1, 2}, redis=client, key="s")
assert 1 in s
c = Counter("aab", redis=client, key="c")
assert c["a"] == 2
