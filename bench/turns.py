"""`python -m bench.turns`: how long a command on a collection of 100,000 elements keeps its home (run, applied, packed
for the others), and another owner (unpacked, applied), beside what a redis-server says of itself (SLOWLOG)."""

from __future__ import annotations

import argparse
import contextlib
import gc
import random
import socket
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Final, cast

from bench.processes import redis
from peerkv.agreement.packing import pack_accepts, unpack_accepts
from peerkv.agreement.turn import Accepts
from peerkv.cbor import dump, load
from peerkv.commands.table import CHANCE_BYTES, find, find_part
from peerkv.kernel.slot import Copies, Slot
from peerkv.resp import Replies, Reply, ReplyError, encode_request
from peerkv.shell.process import GC_THRESHOLDS

ELEMENTS: Final = 100_000
NOW_MS: Final = 1_700_000_000_000
TURNS: Final = 9
"""Of each command; the median, and the longest."""
CASES: Final = (
    ("LPUSH l el1", "1"),
    ("RPOP l", "1"),
    ("LINDEX l ?", "n"),
    ("LRANGE l 50000 50009", "n"),
    ("LSET l ? el1", "n"),
    ("LINSERT l BEFORE el50000 new", "n"),
    ("LREM l 1 el?", "n"),
    ("LPOS l none", "n"),
    ("ZADD z ? new", "log n"),
    ("ZINCRBY z 1 el?", "log n"),
    ("ZREM z el?", "log n"),
    ("ZRANK z el?", "log n"),
    ("ZRANGE z 50000 50009", "log n"),
    ("ZCOUNT z 100 900000", "log n"),
    ("ZRANDMEMBER z 10", "1"),
    ("ZPOPMIN z", "log n"),
    ("ZSCAN z 0", "1"),
    ("ZINTERCARD 2 z y", "n"),
    ("ZREMRANGEBYRANK z 40000 41000", "log n + 1,000"),
    ("GEOADD g 10 50 new", "log n"),
    ("GEOSEARCH g FROMLONLAT 10 50 BYRADIUS 1000 km COUNT 10", "n"),
    ("GEOSEARCH g FROMLONLAT 10 50 BYRADIUS 1000 km COUNT 10 DESC", "n"),
    ("GEOSEARCH g FROMLONLAT 80 10 BYRADIUS 9000 km COUNT 10", "n"),
    ("GEOSEARCH g FROMLONLAT 80 10 BYRADIUS 9000 km COUNT 10 DESC", "n"),
    ("GEOSEARCH g FROMLONLAT 80 10 BYBOX 15000 9000 km COUNT 10 ASC", "n"),
    ("HSCAN h 0", "1"),
    ("SSCAN s 0", "1"),
    ("SPOP s", "1"),
    ("SRANDMEMBER s 10", "1"),
    ("HRANDFIELD h 10", "1"),
    ("SORT l ALPHA LIMIT 0 10", "n log n"),
    ("SORT z BY nosort LIMIT 50000 10", "n"),
    ("XPENDING x g IDLE 3600000 - + 10", "n"),
    ("XPENDING x g - + 10 nobody", "n"),
    ("XPENDING x g", "n"),
    ("XAUTOCLAIM x g d 3600000 0", "1"),
    ("XREADGROUP GROUP g c COUNT 10 STREAMS x 50000", "1"),
    ("XINFO STREAM x FULL", "1"),
    ("ZREMRANGEBYRANK t:z 0 49999", "log n + 50,000"),
    ("ZREMRANGEBYSCORE t:z 0 500000", "log n + 50,000"),
    ("LTRIM t:l 25000 74999", "50,000"),
    ("XTRIM t:x MAXLEN 50000", "50,000"),
    ("XGROUP DELCONSUMER t:x g c", "n"),
    ("XGROUP DESTROY t:x g", "n"),
    ("DEL t:z", "n"),
    ("ZREMRANGEBYRANK t:z 0 99899", "log n + 99,900"),
    ("SINTERCARD 2 s u", "n"),
    ("SUNIONSTORE c:s s u", "n"),
    ("ZUNIONSTORE c:z 2 z y", "n log n"),
    ("ZINTERSTORE c:z 2 z y", "n log n"),
    ("ZRANGESTORE c:z z 0 -1", "log n + n"),
    ("GEOSEARCHSTORE c:g g FROMLONLAT 10 50 BYRADIUS 1000 km", "n"),
    ("SORT l ALPHA STORE c:l", "n log n"),
    ("COPY z c:z", "n"),
    ("COPY l c:l", "n"),
    ("COPY h c:h", "n"),
    ("COPY s c:s", "n"),
    ("COPY x c:x", "n"),
)
"""A command, `?` some number, and Redis's O(). `t:z` is a copy of `z`, made anew each time, and `c:z` is dropped."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.turns", description=__doc__)
    parser.add_argument("--only", default="", help="commands that begin so")
    only = parser.parse_args().only
    rng = random.Random(1)
    home, other = Copies(1).add(0), Copies(1).add(0)
    with redis("--slowlog-log-slower-than", "0", "--slowlog-max-len", "1") as port, _connected(port) as theirs:
        for request in _filling(rng):
            theirs(*request)
            _run(home, other, rng, request)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        print(f"{'milliseconds':64}{'':16}{'home':>10}{'longest':>10}{'other':>10}{'longest':>10}{'Redis':>10}")
        for line, order in [case for case in CASES if case[0].startswith(only)]:
            turns = [_turn(home, other, rng, line) for _ in range(TURNS)]
            ours = [figure for side in zip(*turns, strict=True) for figure in (median(side), max(side))]
            beside = median([_their_turn(theirs, rng, line) for _ in range(TURNS)])
            times = "".join([f"{seconds * 1000:10.3f}" for seconds in (*ours, beside)])
            print(f"{line:64}{f'O({order})':16}{times}", flush=True)


def _filling(rng: random.Random) -> Iterator[list[bytes]]:
    elements = [b"el%d" % number for number in range(ELEMENTS)]
    yield [b"RPUSH", b"l", *elements]
    yield [b"SADD", b"s", *elements]
    yield [b"SADD", b"u", *[b"other%d" % number for number in range(ELEMENTS // 2)], *elements[: ELEMENTS // 2]]
    yield [b"HSET", b"h", *[word for element in elements for word in (element, b"v")]]
    for key in (b"z", b"y"):
        scores = [b"%d" % rng.randrange(1_000_000) for _ in elements]
        yield [b"ZADD", key, *[word for pair in zip(scores, elements, strict=True) for word in pair]]
    places = [(b"%f" % rng.gauss(10, 5), b"%f" % rng.gauss(50, 5), element) for element in elements]
    yield [b"GEOADD", b"g", *[word for place in places for word in place]]
    for number in range(1, ELEMENTS + 1):
        yield [b"XADD", b"x", b"%d-0" % number, b"field", b"value"]
    yield [b"XGROUP", b"CREATE", b"x", b"g", b"0"]
    yield [b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"%d" % ELEMENTS, b"STREAMS", b"x", b">"]


def _prepared(ask: Callable[..., object], rng: random.Random, line: str) -> list[bytes]:
    """The request, once the keys that it changes are as they must be."""
    for word in line.encode().split():
        if word.startswith(b"t:"):
            ask(b"COPY", word[2:], word, b"REPLACE")
        elif word.startswith(b"c:"):
            ask(b"DEL", word)
    number = b"%d" % rng.randrange(ELEMENTS)
    return [word.replace(b"?", number) for word in line.encode().split()]


def _turn(home: Slot, other: Slot, rng: random.Random, line: str) -> tuple[float, float]:
    return _run(home, other, rng, _prepared(lambda *words: _run(home, other, rng, list(words)), rng, line))


def _run(home: Slot, other: Slot, rng: random.Random, request: list[bytes]) -> tuple[float, float]:
    """Seconds, at the home and at another owner."""
    row = find(request[0])
    assert row is not None
    if row.spread is not None:
        parts = row.spread.split(request)
        assert isinstance(parts, list)
        ((_, request),) = parts
        row = find_part(request[0])
        assert row is not None
    assert row.run is not None
    if row.chance:
        request = [*request, rng.randbytes(CHANCE_BYTES)]
    began = perf_counter()
    changes, reply = row.run(home.cells, request, NOW_MS)
    assert not isinstance(reply, ReplyError), reply
    if not changes:
        return perf_counter() - began, 0.0
    to = home.position + 1
    home.apply(to, changes)
    change = changes[0] if len(changes) == 1 else ([item for change in changes for item in change], None, 0)
    columns = [[item] for item in (0, to, *change, reply)]
    payload = dump(pack_accepts(Accepts([(1, columns)], {}, {}, awaited=True)))
    sent = perf_counter()
    ((_, (_, (to,), (key,), (body,), (deadline,), _)),) = unpack_accepts(load(payload), 1).segments
    other.apply(to, [(key, body, deadline)] if type(key) is bytes else list(zip(*[iter(key)] * 3, strict=True)))
    return sent - began, perf_counter() - sent


@contextlib.contextmanager
def _connected(port: int) -> Iterator[Callable[..., Reply]]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        replies = Replies()

        def ask(*request: bytes) -> Reply:
            connection.sendall(encode_request(request))
            while True:
                found = replies.feed(connection.recv(1 << 20))
                if found:
                    return found[0]

        yield ask


def _their_turn(ask: Callable[..., Reply], rng: random.Random, line: str) -> float:
    """Seconds."""
    reply = ask(*_prepared(ask, rng, line))
    assert not isinstance(reply, ReplyError), reply
    ((_, _, microseconds, *_),) = cast(list[list[int]], ask(b"SLOWLOG", b"GET", b"1"))
    return microseconds / 1e6


if __name__ == "__main__":
    main()
