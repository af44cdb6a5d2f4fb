"""A rate limit of Starlette's and FastAPI's views"""

import sys

from slowapi import Limiter

limiter = Limiter(key_func=lambda: "me", storage_uri=f"redis://127.0.0.1:{sys.argv[1]}")
limiter.reset()
strategy = limiter.limiter
from limits import parse  # noqa: E402

assert [strategy.hit(parse("2/minute"), "slowapi") for _ in range(3)] == [True, True, False]
