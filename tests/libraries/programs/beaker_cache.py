"""Its redis backend for caches"""

import sys

from beaker.cache import CacheManager

manager = CacheManager(type="ext:redis", url=f"redis://127.0.0.1:{sys.argv[1]}", lock_dir="/tmp")
cache = manager.get_cache("name", expire=30)
cache.clear()
assert cache.get(key="a", createfunc=lambda: 7) == 7
assert cache.get(key="a", createfunc=lambda: 8) == 7
cache.put("b", 1)
assert cache.has_key("b")
cache.remove_value("b")
assert not cache.has_key("b")
