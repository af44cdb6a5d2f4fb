"""Fixed and moving windows"""

import sys

from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

storage = RedisStorage(f"redis://127.0.0.1:{sys.argv[1]}")
storage.reset()
for kind in (FixedWindowRateLimiter, MovingWindowRateLimiter):
    limiter = kind(storage)
    assert [limiter.hit(parse("2/minute"), kind.__name__) for _ in range(3)] == [True, True, False]
