"""What there is to tell of commands: beside a real redis-server's notifications where it has them, else by a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import redis

from peerkv.commands.events import _TELLS, events_of, flags_of, letters_of
from peerkv.commands.running import run_on
from peerkv.commands.table import _PARTS, COMMANDS, Kind, find_part
from peerkv.databases import in_database
from peerkv.store.cell import Cells
from peerkv.store.scratch import Scratch
from tests.commands.keyspace import NOW, Theirs, requests_of, sequences

CLASSES = b"KEg$lshztnm"
TELL_NOTHING = {
    "xack",
    "sort_ro",
    "peerkv.exec",
    "peerkv.hold",
    "peerkv.try",
    "peerkv.commit",
    "peerkv.decide",
    "peerkv.release",
}
TELL_NOTHING |= {"peerkv.forget", "peerkv.keep", "peerkv.library", "peerkv.clear"}
"""WRITE commands, and parts of commands, by themselves; what FLUSHALL does Redis does not tell either."""

AS_REDIS = sequences("""
sadd s a b c
spop s
spop s 0
spop s 5
spop s

rpush l a b c d
blpop l 0
brpop none l 0
blmpop 0 2 none l right count 5

rpush l a b
blmove l m left right 0
brpoplpush l m 0
lmove m m left right
lmpop 2 l m left count 2

zadd z 1 a 2 b 3 c 4 d
bzpopmin z 0
bzpopmax none z 0
bzmpop 0 1 z max count 5
zmpop 1 z min

zadd z 0 a 0 b 0 c
zremrangebylex z [a [a
zrangestore y z [b + bylex
zremrangebylex z - +
zremrangebylex z - +
zrangestore y z - + bylex

xadd x 1-1 a b
xadd x maxlen 1 1-2 a b
xadd x nomkstream minid 1-3 1-3 a b
xtrim x maxlen 5
xtrim x maxlen 0
xadd none nomkstream 1-1 a b

xadd x 1-1 a b
xgroup create x g 0
xgroup create x g 0
xgroup create y g 0 mkstream
xreadgroup group g me streams x >
xreadgroup group g me streams x >
xclaim x g you 0 1-1
xautoclaim x g they 0 0
xack x g 1-1
xgroup createconsumer x g me
xgroup delconsumer x g me
xgroup delconsumer x g me
xgroup setid x g 0
xgroup destroy x g
xgroup destroy x g
xdel x 1-1
xdel x 1-1

set a 1 ex 100
set a 2 keepttl
set a 3 keepttl get
setex a 100 keepttl
psetex a 100000 x
getex a persist
getex a persist
getex a ex 100
getex a pxat 1
getdel a

set a 1
expire a 100
expire a 100 nx
persist a
persist a
pexpireat a 1
expire a 100

mset a 1 b 2 a 3
msetnx a 1 c 2
msetnx c 1 d 2
del a b none a
unlink c c

set a 1
copy a b
copy a b
copy a b replace
rename a b
rename b b
renamenx b c
rename none d

rpush l 3 1 2
sort l store m
sort none store m
sort none store m

setbit b 7 1
setbit b 7 1
setbit b 7 0
bitfield b set u8 0 5
bitfield b set u8 0 5
bitfield b get u8 0
bitop and c b none
bitop and c none
bitop and c none

pfadd p a
pfadd p a
pfmerge q p
pfmerge q p

geoadd g 1 2 a
geosearchstore h g fromlonlat 1 2 byradius 1 m
georadius g 1 2 1 m store i
geosearchstore h none fromlonlat 1 2 byradius 1 m

get a
mget a b a
strlen a
getset a x
getset a y
getdel b
getex b ex 10
set b x get
set c x
set c y get
lcs none nothing
exists none a nothing
type none
ttl none
touch none a
object encoding none
memory usage none
dump none
sort none
sort_ro none by w* get g*

append none x
setrange nothing 0 x
bitop and d e f
bitop not d e
bitfield e get u8 0
bitfield f set u8 0 1
getbit g 0
bitcount g
bitpos g 1
pfcount g h
pfmerge i g h

llen none
lrange none 0 1
lpos none x
lpop none
lset none 0 x
lmove none l left left
smembers none
sismember none x
srandmember none
srandmember none 2
sscan none 0
spop none
sinter none nothing
sintercard 2 none nothing
sdiffstore d none nothing
sunionstore d none nothing
hget none f
hgetall none
hrandfield none
hscan none 0
hdel none f

zscore none x
zrange none 0 1
zrandmember none
zinter 2 none nothing
zunionstore d 2 none nothing
zdiffstore d 2 none nothing
zrangestore d none 0 1
zpopmin none
zscan none 0
geopos none x
geosearch none fromlonlat 1 1 byradius 1 km
georadius none 1 1 1 km store d
geosearchstore d none fromlonlat 1 1 byradius 1 km

xlen none
xrange none - +
xreadgroup group g me streams none >
xpending none g
xinfo stream none
xinfo groups none
xack none g 1-1
xclaim none g me 0 1-1
xautoclaim none g me 0 0
xdel none 1-1
xgroup destroy none g
copy none other
rename none other
move none 1
set a x get get qx
xrange none x y
""")


class Ours:
    """Commands on a scratch that tells of them."""

    def __init__(self) -> None:
        self.scratch = Scratch({}, NOW, observed=True)

    def told(self, request: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        events = self.scratch.events
        assert events is not None
        events.clear()
        row = find_part(request[0])
        assert row is not None
        run_on(self.scratch, [*request, bytes(8)] if row.chance else request, NOW)
        return [(key, name) for _, name, key in events]


@pytest.fixture
def listener(theirs: Theirs) -> Iterator[redis.client.PubSub]:
    theirs.ask(b"CONFIG", b"SET", b"notify-keyspace-events", CLASSES)
    client = redis.Redis(port=theirs.port)
    listening = client.pubsub(ignore_subscribe_messages=True)
    listening.psubscribe("__keyspace@*__:*")
    listening.get_message(timeout=1)
    yield listening
    listening.close()
    client.close()
    theirs.ask(b"CONFIG", b"SET", b"notify-keyspace-events", b"")


def _heard(theirs: Theirs, listener: redis.client.PubSub) -> list[tuple[bytes, bytes]]:
    """What has come until now."""
    theirs.ask(b"PUBLISH", b"__keyspace@0__:", b"end")
    found: list[tuple[bytes, bytes]] = []
    while True:
        message = listener.get_message(timeout=5)
        assert message is not None
        if message["data"] == b"end":
            return found
        found.append((message["channel"].partition(b"__:")[2], message["data"]))


@pytest.mark.parametrize("sequence", AS_REDIS, ids=lambda sequence: sequence[:40])
def test_the_same_is_told_in_the_same_order(theirs: Theirs, listener: redis.client.PubSub, sequence: str) -> None:
    ours = Ours()
    for request in requests_of(sequence):
        theirs.ask(*request)
        assert ours.told(request) == _heard(theirs, listener), request


def test_every_command_that_writes_tells_or_is_known_to_tell_nothing() -> None:
    """A new one would be forgotten here."""
    writes = {name for name, row in COMMANDS.items() if row.kind is Kind.WRITE}
    writes |= {row.name for row in _PARTS.values() if row.kind is Kind.WRITE}
    assert writes == _TELLS.keys() | {name for name in writes if name.lower() in TELL_NOTHING}


def test_commands_that_redis_does_not_have_tell_as_their_like() -> None:
    ours = Ours()
    assert ours.told([b"SET", b"a", b"1"])[-1] == (b"a", b"set")
    assert ours.told([b"SET", b"a", b"2", b"IFEQ", b"1"]) == [(b"a", b"set")]
    assert ours.told([b"SET", b"a", b"2", b"IFEQ", b"1"]) == []
    assert ours.told([b"DELIFEQ", b"a", b"1"]) == []
    assert ours.told([b"DELIFEQ", b"a", b"2"]) == [(b"a", b"del")]
    ours.told([b"HSET", b"h", b"f", b"1", b"g", b"2"])
    assert ours.told([b"HEXPIRE", b"h", b"10", b"FIELDS", b"1", b"f"]) == [(b"h", b"hexpire")]
    assert ours.told([b"HPERSIST", b"h", b"FIELDS", b"1", b"f"]) == [(b"h", b"hpersist")]
    assert ours.told([b"HEXPIRE", b"h", b"0", b"FIELDS", b"1", b"f"]) == [(b"h", b"hdel")]
    assert ours.told([b"HPEXPIREAT", b"h", b"1", b"FIELDS", b"1", b"g"]) == [(b"h", b"hdel"), (b"h", b"del")]
    ours.told([b"XADD", b"x", b"1-1", b"a", b"b"])
    assert ours.told([b"XSETID", b"x", b"2-1"]) == [(b"x", b"xsetid")]


def test_a_key_that_goes_to_another_database_is_told_of_in_both() -> None:
    ours = Ours()
    ours.told([b"SET", b"a", b"1"])
    target = in_database(b"a", 3)
    assert ours.told([b"MOVE", b"a", b"3"]) == [(target, b"new"), (b"a", b"move_from"), (target, b"move_to")]


def test_what_has_expired_is_told_before_what_was_found_so() -> None:
    cells: Cells = {b"a": (1, b"1", NOW - 1)}
    ours = Ours()
    ours.scratch = Scratch(cells, NOW, observed=True)
    assert ours.told([b"INCR", b"a"]) == [(b"a", b"expired"), (b"a", b"new"), (b"a", b"incrby")]


def test_what_is_wrong_tells_nothing() -> None:
    ours = Ours()
    for request in (
        [b"SET", b"a", b"1", b"QX"],
        [b"XGROUP", b"NONE"],
        [b"LMPOP", b"x", b"a", b"LEFT"],
        [b"BLMPOP", b"0", b"9", b"a"],
    ):
        ours.told(request)
        assert ours.scratch.events == []
    assert events_of({}, [b"NOTHING", b"a"], [(b"a", b"1", 0)], 1, NOW) == ()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("AKE", "AKE"),
        ("g$lshzxetdKE", "AKE"),
        ("KA", "AK"),
        ("", ""),
        ("$KEn", "$nKE"),
        ("AKEnm", "AKEm"),
        ("mx", "xm"),
    ],
)
def test_classes_are_written_as_redis_does(said: str, shown: str) -> None:
    flags = flags_of(said)
    assert flags is not None
    assert letters_of(flags) == shown
    assert flags_of(said + "q") is None
