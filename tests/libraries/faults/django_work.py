"""Django's own Redis cache: counts, values of many keys, and what is set once, from two nodes."""

import sys
import threading
import time

from django.conf import settings

UNTIL = time.monotonic() + float(sys.argv[3])
BACKEND = "django.core.cache.backends.redis.RedisCache"
settings.configure(
    CACHES={
        name: {"BACKEND": BACKEND, "LOCATION": f"redis://127.0.0.1:{port}"}
        for name, port in zip(("default", "other"), sys.argv[1:3], strict=True)
    }
)

from django.core.cache import caches  # noqa: E402

faults: list[BaseException] = []
turns: dict[int, int] = {}
firsts: list[int] = []


def work(number: int) -> None:
    try:
        cache = caches["default" if number % 2 else "other"]
        turn = 0
        while time.monotonic() < UNTIL:
            values = {f"{number}:{name}": turn for name in "abcdef"}
            cache.set_many(values, 300)
            assert cache.get_many(values) == values
            cache.incr("count")
            turn += 1
            if cache.add(f"turn:{turn}", number, 300):
                firsts.append(turn)
        turns[number] = turn
    except BaseException as fault:
        faults.append(fault)
        raise


caches["default"].clear()
caches["default"].set("count", 0)
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
print("going", flush=True)
for thread in threads:
    thread.join()
assert not faults, faults
assert caches["other"].get("count") == sum(turns.values()) > 8
assert sorted(firsts) == list(range(1, max(turns.values()) + 1)), "added twice, or never"
