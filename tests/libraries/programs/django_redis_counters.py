"""Incr (a script) and its lock"""

import sys

from django.conf import settings

settings.configure(
    CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}/1"}}
)

from django.core.cache import cache  # noqa: E402

cache.clear()
cache.set("n", 5)
assert cache.incr("n") == 6
with cache.lock("lock", timeout=10):
    assert cache.get("n") == 6
