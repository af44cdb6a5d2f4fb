"""Its cache with patterns, time to live, and without locks"""

import sys

from django.conf import settings

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}/1",
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
        }
    }
)

from django.core.cache import cache  # noqa: E402

cache.clear()
cache.set("key", {"a": [1, 2]}, timeout=30)
assert cache.get("key") == {"a": [1, 2]}
assert 0 < cache.ttl("key") <= 30
assert cache.persist("key")
assert cache.expire("key", timeout=5)
assert cache.add("n", 5)
assert cache.get_many(["key", "n"]) == {"key": {"a": [1, 2]}, "n": 5}
assert sorted(cache.keys("*")) == ["key", "n"]
assert sorted(cache.iter_keys("k*")) == ["key"]
assert cache.delete_pattern("*") == 2
cache.sadd("t", "x", "y")
assert cache.smembers("t") == {"x", "y"}
assert cache.hset("h", "f", 1)
