"""A lock that is waited for"""

import sys

import redis
import redis_lock

client = redis.Redis(port=int(sys.argv[1]))
redis_lock.reset_all(client)
with redis_lock.Lock(client, "name", expire=10):
    assert not redis_lock.Lock(client, "name").acquire(blocking=False)
assert redis_lock.Lock(client, "name").acquire(blocking=False)
