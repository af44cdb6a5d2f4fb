"""Hashes, lists, sets, sorted sets, a cache"""

import sys

from walrus import Walrus

db = Walrus(port=int(sys.argv[1]))
db.flushdb()
h = db.Hash("h")
h.update(a="1", b="2")
assert h.as_dict(decode=True) == {"a": "1", "b": "2"}
items = db.List("l")
items.extend(["x", "y", "z"])
assert items[1:] == [b"y", b"z"]
one, other = db.Set("{s}1"), db.Set("{s}2")
one.add("a", "b")
other.add("b", "c")
assert one & other == {b"b"}
z = db.ZSet("z")
z.add({"a": 1, "b": 2})
assert z[:1] == [b"a"]
cache = db.cache("cache")
cache.set("k", {"v": 1}, 30)
assert cache.get("k") == {"v": 1}
