"""dogpile.cache with its distributed lock"""

import sys

from dogpile.cache import make_region

region = make_region().configure(
    "dogpile.cache.redis", arguments={"port": int(sys.argv[1]), "distributed_lock": True, "lock_timeout": 10}
)
region.delete("made")
assert region.get_or_create("made", lambda: 7) == region.get_or_create("made", lambda: 8) == 7
