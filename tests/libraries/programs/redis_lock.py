"""redis-py's Lock: taken, held against others, extended, given back"""

import sys

import redis

with redis.Redis(port=int(sys.argv[1])) as client, redis.Redis(port=int(sys.argv[-1])) as other:
    client.flushdb()
    with client.lock("lock", timeout=10) as lock:
        assert not other.lock("lock").acquire(blocking=False)
        assert lock.extend(10)
    assert other.lock("lock").acquire(blocking=False)
