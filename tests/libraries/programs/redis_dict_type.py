"""A dictionary"""

import sys

from redis_dict import RedisDict

d = RedisDict(namespace="d", port=int(sys.argv[1]))
d.clear()
d["a"] = 1
d["b"] = [1, 2]
d["c"] = {"x": 1.5}
assert d["a"] == 1
assert d["b"] == [1, 2]
assert d["c"] == {"x": 1.5}
assert sorted(d) == ["a", "b", "c"]
assert len(d) == 3
del d["a"]
assert "a" not in d
with d.expire_at(60):
    d["e"] = 1
assert 0 < d.get_ttl("e") <= 60
