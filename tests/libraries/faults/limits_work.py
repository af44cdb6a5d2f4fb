"""limits: so many are let through in a window, and no more, whoever asks."""

import sys
import threading
import time

from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

UNTIL = time.monotonic() + float(sys.argv[3])
MOST = 150
storages = [RedisStorage(f"redis://127.0.0.1:{port}") for port in sys.argv[1:3]]
storages[0].reset()
kinds = (FixedWindowRateLimiter, MovingWindowRateLimiter)
passed = {kind.__name__: 0 for kind in kinds}
asked = {kind.__name__: 0 for kind in kinds}
guard = threading.Lock()
faults: list[BaseException] = []


def work(storage: RedisStorage) -> None:
    try:
        while time.monotonic() < UNTIL:
            for kind in kinds:
                through = kind(storage).hit(parse(f"{MOST}/day"), kind.__name__)
                with guard:
                    asked[kind.__name__] += 1
                    passed[kind.__name__] += through
    except BaseException as fault:
        faults.append(fault)
        raise


threads = [threading.Thread(target=work, args=(storage,)) for storage in storages * 2]
for thread in threads:
    thread.start()
print("going", flush=True)
for thread in threads:
    thread.join()
assert not faults, faults
assert passed == {name: min(MOST, asked[name]) for name in passed}, (asked, passed)
assert min(asked.values()) > 20
