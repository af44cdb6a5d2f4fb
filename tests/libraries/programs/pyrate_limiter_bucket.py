"""A bucket in Redis"""

import sys

import redis
from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

client = redis.Redis(port=int(sys.argv[1]))
bucket = RedisBucket.init([Rate(2, Duration.MINUTE)], client, "bucket")
bucket.flush()
limiter = Limiter(bucket)
assert limiter.try_acquire("me", blocking=False)
assert limiter.try_acquire("me", blocking=False)
assert not limiter.try_acquire("me", blocking=False)
