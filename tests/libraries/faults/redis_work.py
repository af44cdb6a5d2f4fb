"""redis-py: default pipelines, WATCH loops, scripts and locks, by two threads at each of two nodes."""

import sys
import threading
import time

import redis

PORTS = [int(port) for port in sys.argv[1:3]]
UNTIL = time.monotonic() + float(sys.argv[3])
faults: list[BaseException] = []
done = {"pipelines": 0, "watched": 0, "scripts": 0, "locked": 0}
guard = threading.Lock()


def work(port: int) -> None:
    with redis.Redis(port=port) as client:
        both = client.register_script("return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2])}")

        def move(pipeline: redis.client.Pipeline) -> None:
            one, two = int(pipeline.get("one")), int(pipeline.get("two"))
            pipeline.multi()
            pipeline.set("one", one - 1).set("two", two + 1)

        while time.monotonic() < UNTIL:
            with client.pipeline() as pipeline:
                first, second = pipeline.incr("first").incr("second").execute()
            assert first == second
            client.transaction(move, "one", "two")
            three, four = both(keys=["three", "four"])
            assert three == four
            with client.lock("lock", timeout=30, sleep=0.01):
                client.set("locked", int(client.get("locked")) + 1)  # nobody else does
            with guard:
                for kind in done:
                    done[kind] += 1


def guarded(port: int) -> None:
    try:
        work(port)
    except BaseException as fault:
        faults.append(fault)
        raise


with redis.Redis(port=PORTS[0]) as client:
    client.flushall()
    client.mset({"one": 0, "two": 0, "locked": 0})
    threads = [threading.Thread(target=guarded, args=(port,)) for port in PORTS * 2]
    for thread in threads:
        thread.start()
    print("going", flush=True)
    for thread in threads:
        thread.join()
    assert not faults, faults
    found = [int(value) for value in client.mget("first", "second", "one", "two", "three", "four", "locked")]
    turns = done["pipelines"]
    assert turns > 8, turns
    assert found == [turns, turns, -turns, turns, turns, turns, turns], (turns, found)
