"""The simulator's clients ask for what there is, and mostly of keys that hold it."""

from __future__ import annotations

from random import Random

from peerkv.resp import ReplyError
from tests.commands.keyspace import Ours
from tests.sim.requests import KINDS, STREAMS, usual

WRONG = ("WRONGTYPE", "BUSYKEY", "NOGROUP", "BUSYGROUP", "INVALIDOBJ")
"""What Redis says of what a key holds."""
OF_KEYS = (
    *("ERR no such key", "ERR index out of range", "ERR The XGROUP subcommand requires the key to exist"),
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    "ERR hash value is not a",
    "ERR value is not an integer",
    "ERR One or more scores can't be converted into double",
    "ERR could not decode requested zset member",
)


def asked(seed: int, count: int) -> dict[str, int]:
    """How often each command was answered, and by no error."""
    rng, ours = Random(seed), Ours(seed)
    kinds = (*KINDS, *STREAMS)
    dumped: dict[bytes, bytes] = {}
    done: dict[str, int] = {}
    for number in range(count):
        key = rng.choice(kinds) % (number // 2000)
        request = usual(rng, key, lambda: rng.choice(kinds) % 0, b"1.%d;" % number, number, dumped)
        reply = ours.ask(*request)
        name = request[0].decode()
        if not isinstance(reply, ReplyError):
            done[name] = done.get(name, 0) + 1
        else:
            assert reply.text.startswith((*WRONG, *OF_KEYS)), (request, reply)
        if name == "DUMP" and isinstance(reply, bytes):
            dumped[key[:2]] = reply
    return done


def test_what_is_asked_for_is_nearly_always_done() -> None:
    """A load that is only refused finds nothing; so every command that is asked for has its effect, and often."""
    done = asked(1, 8000)
    assert sum(done.values()) > 6500
    assert {"SETBIT", "BITFIELD", "BITOP", "PFADD", "PFMERGE", "PFCOUNT"} <= done.keys()
    assert {"GEOADD", "GEOSEARCHSTORE", "GEORADIUS", "DUMP", "RESTORE", "SORT", "LMPOP", "XAUTOCLAIM"} <= done.keys()
    assert min(done.values()) >= 5, done
