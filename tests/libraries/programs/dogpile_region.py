"""Regions, many keys, values made once"""

import sys

from dogpile.cache import make_region

region = make_region().configure(
    "dogpile.cache.redis",
    expiration_time=30,
    arguments={"port": int(sys.argv[1]), "redis_expiration_time": 60, "distributed_lock": False},
)
calls = []


@region.cache_on_arguments()
def double(number: int) -> int:
    calls.append(number)
    return 2 * number


double.invalidate(4)
assert double(4) == double(4) == 8
assert calls == [4]
region.set_multi({"a": 1, "b": 2})
assert region.get_multi(["a", "b"]) == [1, 2]
region.delete_multi(["a", "b"])
assert not region.get("a")
