"""A cache of functions"""

import sys

import redis
from redis_lru import RedisLRU

cache = RedisLRU(redis.StrictRedis(port=int(sys.argv[1])))
calls = []


@cache
def double(number: int) -> int:
    calls.append(number)
    return 2 * number


double(4)
before = len(calls)
assert double(4) == 8
assert len(calls) == before
