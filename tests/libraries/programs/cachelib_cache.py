"""RedisCache, one and many keys, counters"""

import sys

from cachelib import RedisCache

cache = RedisCache(port=int(sys.argv[1]), key_prefix="cachelib")
cache.clear()
assert cache.set("a", [1, 2], timeout=30)
assert cache.get("a") == [1, 2]
assert not cache.add("a", 1)
assert cache.set_many({"b": 1, "c": 2})
assert cache.get_many("b", "c", "d") == [1, 2, None]
assert cache.get_dict("b", "c") == {"b": 1, "c": 2}
assert cache.inc("n") == 1
assert cache.dec("n") == 0
assert cache.has("a")
assert cache.delete("a")
assert sorted(cache.delete_many("b", "c")) == ["b", "c"]
