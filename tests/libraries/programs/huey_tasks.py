"""Tasks with results, scheduled ones, done by a consumer in the same process"""

import sys

from huey import RedisHuey

huey = RedisHuey("app", port=int(sys.argv[1]))
huey.flush()


@huey.task()
def add(one: int, other: int) -> int:
    return one + other


result = add(1, 2)
later = add.schedule((3, 4), delay=600)
assert huey.execute(huey.dequeue()) == 3
assert result(blocking=True, timeout=5) == 3
huey.execute(huey.dequeue())
assert later() is None
assert huey.scheduled_count() == 1
