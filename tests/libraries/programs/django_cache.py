"""Django's own Redis cache: get, set, add, incr, touch, many keys, versions"""

import sys

from django.conf import settings

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}",
        }
    }
)

from django.core.cache import cache  # noqa: E402

cache.clear()
cache.set("key", {"a": [1, 2]}, 30)
assert cache.get("key") == {"a": [1, 2]}
assert not cache.add("key", 1)
assert cache.add("other", 1)
assert cache.incr("other") == 2
assert cache.touch("other", 60)
assert cache.get_many(["key", "none"]) == {"key": {"a": [1, 2]}}
assert cache.get_or_set("made", lambda: 7) == 7
assert "made" in cache
assert cache.delete("made")
assert cache.get("key", version=2) is None
cache.set_many({"x": 1, "y": 2}, 30)
assert cache.get_many(["x", "y"]) == {"x": 1, "y": 2}
cache.delete_many(["x", "y"])
assert cache.get("x") is None
