"""DUMP and RESTORE beside a real redis-server: what one has written the other reads, of every type and encoding."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import pytest
from anycrc import CRC

from peerkv.commands.table import find
from peerkv.resp import Reply, ReplyError
from peerkv.store.rdb import VALUE_BYTES_MAX, Content, content_of, is_intact, payload_of
from tests.commands.keyspace import NOW, Ours, Theirs, plain, requests_of, same
from tests.commands.test_streams import masked

crc64 = CRC(width=64, poly=0xAD93D23594C935A9, init=0, refin=True, refout=True, xorout=0).calc
WRONG = ReplyError("ERR DUMP payload version or checksum are wrong")
BAD = ReplyError("ERR Bad data format")


def sealed(value: bytes, version: int = 9) -> bytes:
    """A payload of something."""
    value += struct.pack("<H", version)
    return value + struct.pack("<Q", crc64(value))


def counted(text: bytes) -> bytes:
    return struct.pack(">BI", 0x80, len(text)) + text


def listpack(*elements: bytes, head: int = 0) -> bytes:
    """Of elements in their encodings, each shorter than 128 bytes."""
    body = b"".join([element + bytes((len(element),)) for element in elements]) + b"\xff"
    return struct.pack("<IH", head or len(body) + 6, len(elements)) + body


def ziplist(*elements: bytes) -> bytes:
    body = b""
    before = last = 0
    for element in elements:
        entry = (bytes((before,)) if before < 254 else b"\xfe" + struct.pack("<I", before)) + element
        before, last = len(entry), 10 + len(body)
        body += entry
    return struct.pack("<IIH", len(body) + 11, last, len(elements)) + body + b"\xff"


ZIPLIST_ELEMENTS: list[tuple[bytes, bytes]] = [
    (b"\x03abc", b"abc"),
    (b"\x00", b""),
    (b"\x41\x2c" + b"x" * 300, b"x" * 300),
    (b"\x80\x00\x00\x00\x04long", b"long"),
    (b"\xc0" + struct.pack("<h", -3000), b"-3000"),
    (b"\xd0" + struct.pack("<i", 1 << 30), b"%d" % (1 << 30)),
    (b"\xe0" + struct.pack("<q", -(1 << 62)), b"%d" % -(1 << 62)),
    (b"\xf0" + (70_000).to_bytes(3, "little"), b"70000"),
    (b"\xfe\x80", b"-128"),
    (b"\xf1", b"0"),
    (b"\xfd", b"12"),
    (b"\x40\x05fives", b"fives"),
]

MAKE: dict[str, list[bytes]] = {
    "string": [b"SET", b"k"],
    "list": [b"RPUSH", b"k"],
    "set": [b"SADD", b"k"],
    "hash": [b"HSET", b"k"],
    "zset": [b"ZADD", b"k"],
}
ALL: dict[str, list[bytes]] = {
    "string": [b"GET", b"k"],
    "list": [b"LRANGE", b"k", b"0", b"-1"],
    "set": [b"SMEMBERS", b"k"],
    "hash": [b"HGETALL", b"k"],
    "zset": [b"ZRANGE", b"k", b"0", b"-1", b"WITHSCORES"],
}


def ordered(kind: str, reply: Reply) -> Reply:
    """What there is at a key, in an order of its own; scores as numbers, which Redis 7.0 prints with more digits."""
    reply = plain(reply)
    if kind in ("string", "list") or not isinstance(reply, list):
        return reply
    if kind == "zset":
        reply[1::2] = map(float, reply[1::2])  # type: ignore[arg-type]
    return sorted(zip(*[iter(reply)] * (1 if kind == "set" else 2), strict=True))  # type: ignore[type-var]


def everything() -> Iterator[tuple[str, list[bytes]]]:
    """Contents of all sizes, for every type: (type, arguments of the command that makes it)."""
    rng = random.Random(9)
    for text in (b"", b"1", b"-128", b"32767", b"2147483648", b"-9223372036854775808", b"007", b"x" * 63, b"y" * 64):
        yield "string", [text]
    yield "string", [b"abc" * 5000]
    yield "string", [rng.randbytes(20_000)]
    yield "string", [b"".join(rng.choices([b"one ", b"two ", b"three ", b"\0\0"], k=5000))]
    for count in (1, 3, 100, 600, 3000):
        numbers = [b"%d" % rng.randrange(-(1 << rng.choice((3, 7, 12, 15, 31, 62))), 1 << 13) for _ in range(count)]
        words = [b"%d:" % number + rng.randbytes(rng.choice((0, 5, 60, 70))) for number in range(count)]
        long = [b"%d" % number + b"long " * rng.choice((20, 900)) for number in range(min(count, 100))]
        for items in (numbers, words, long):
            yield "list", items
            yield "set", items
            yield "hash", [part for item in items for part in (item, item[::-1])]
            scores = [b"%r" % rng.choice((rng.random(), rng.randrange(1000), -1e300, 5e-324)) for _ in items]
            yield "zset", [part for pair in zip(scores, items, strict=True) for part in pair]
    yield "zset", [b"inf", b"a", b"-inf", b"b", b"-0", b"c", b"1e15", b"d", b"17", b"e"]


@pytest.mark.parametrize("kind", MAKE)
def test_values_go_to_redis_and_come_back(theirs: Theirs, kind: str) -> None:
    """In Redis's own encodings, LZF included, whichever it has chosen for them."""
    for of, arguments in everything():
        if of != kind:
            continue
        theirs.ask(b"DEL", b"k")
        theirs.ask(*MAKE[kind], *arguments)
        payload = theirs.ask(b"DUMP", b"k")
        assert isinstance(payload, bytes)
        ours = Ours()
        assert ours.ask(b"RESTORE", b"k", b"0", payload) == "OK"
        held = ordered(kind, theirs.ask(*ALL[kind]))
        assert ordered(kind, ours.ask(*ALL[kind])) == held
        back = ours.ask(b"DUMP", b"k")
        assert isinstance(back, bytes)
        theirs.ask(b"SET", b"k", b"old")
        assert theirs.ask(b"RESTORE", b"k", b"0", back, b"REPLACE") == b"OK"
        assert ordered(kind, theirs.ask(*ALL[kind])) == held


ENCODED: list[tuple[str, bytes]] = [
    ("list", b"\x0a" + counted(ziplist(*[coded for coded, _ in ZIPLIST_ELEMENTS]))),
    ("list", b"\x0e\x02" + 2 * counted(ziplist(*[coded for coded, _ in ZIPLIST_ELEMENTS]))),
    ("hash", b"\x0d" + counted(ziplist(*[coded for coded, _ in ZIPLIST_ELEMENTS]))),
    ("hash", b"\x09" + counted(b"\x02\x01a\x02\x03bbxyz\x00\x02\x00\xff")),
    ("zset", b"\x0c" + counted(ziplist(b"\x01a", b"\xf1", b"\x01b", b"\xc0\x10\x00", b"\x01c", b"\x042e10"))),
    ("zset", b"\x03\x05\x01a\x011\x01b\x042.25\x01c\xfe\x01d\xff\x01e\x07-17e-20"),
    ("set", b"\x0b" + counted(struct.pack("<IIqqq", 8, 3, -(1 << 40), 5, 1 << 40))),
    ("set", b"\x02\x03\x01a\xc0\x05\xc3\x04\x0a\x00x\x00"),
    ("list", b"\x12\x02\x01" + counted(b"plain") + b"\x02" + counted(listpack(b"\x05", b"\x81z", b"\xdf\xff"))),
    ("string", b"\x00\xc3\x05\x40\x50\x00a\xe0\x46\x00"),
]


@pytest.mark.parametrize(("kind", "value"), ENCODED, ids=range(len(ENCODED)))
def test_what_older_versions_have_written_is_read_as_redis_reads_it(theirs: Theirs, kind: str, value: bytes) -> None:
    """Ziplists, zipmaps and the like, made by hand."""
    ours = Ours()
    payload = sealed(value)
    replies = [side.ask(b"RESTORE", b"k", b"0", payload) for side in (ours, theirs)]
    assert replies[0] == replies[1].decode() if isinstance(replies[1], bytes) else same(*replies)
    assert ordered(kind, ours.ask(*ALL[kind])) == ordered(kind, theirs.ask(*ALL[kind]))


def test_elements_of_all_kinds_are_read() -> None:
    """Of ziplists and of the listpacks that Redis 7.2 has sets in."""
    found = content_of(sealed(b"\x0a" + counted(ziplist(*[coded for coded, _ in ZIPLIST_ELEMENTS]))))
    assert found == Content("list", [item for _, item in ZIPLIST_ELEMENTS], [])
    elements = [
        (b"\x7f", b"127"),
        (b"\x83abc", b"abc"),
        (b"\xc0\x80", b"128"),
        (b"\xdf\xfe", b"-2"),
        (b"\xe0\x05fives", b"fives"),
        (b"\xf0\x04\x00\x00\x00long", b"long"),
        (b"\xf1" + struct.pack("<h", -3000), b"-3000"),
        (b"\xf2" + (-70_000).to_bytes(3, "little", signed=True), b"-70000"),
        (b"\xf3" + struct.pack("<i", 1 << 30), b"%d" % (1 << 30)),
        (b"\xf4" + struct.pack("<q", -(1 << 62)), b"%d" % -(1 << 62)),
        (b"\x80", b""),
    ]
    packed = listpack(*[coded for coded, _ in elements])
    assert content_of(sealed(b"\x14" + counted(packed), 11)) == Content("set", [item for _, item in elements], [])


def test_fields_keep_their_deadlines() -> None:
    """As Redis 7.4 writes them: relative to the first one, or within a listpack."""
    content = Content("hash", [b"a", b"1", b"b", b"2", b"c", b"3"], [b"a", NOW + 500, b"c", NOW + 100])
    assert content_of(payload_of(content)) == content
    stamp = b"\xf4" + struct.pack("<q", NOW + 100)
    packed = struct.pack("<Q", NOW + 100) + counted(listpack(b"\x81a", b"\x811", stamp, b"\x81b", b"\x812", b"\x00"))
    expected = Content("hash", [b"a", b"1", b"b", b"2"], [b"a", NOW + 100])
    assert content_of(sealed(b"\x19" + packed, 12)) == expected


def test_deadlines_of_fields_are_in_wall_time_without() -> None:
    """A cluster's clock may be behind the wall's; a payload is read elsewhere."""
    ours = Ours()
    dump, restore = find(b"DUMP"), find(b"RESTORE")
    assert dump is not None
    assert restore is not None
    assert dump.dated is not None
    assert restore.dated is not None
    wall = payload_of(Content("hash", [b"a", b"1", b"b", b"2"], [b"a", NOW + 5000]))
    request = restore.dated([b"RESTORE", b"k", b"%d" % (NOW + 9000), wall, b"ABSTTL"], 1000)
    assert ours.ask(*request) == "OK"
    assert ours.ask(b"PTTL", b"k") == 8000
    assert ours.ask(*b"HPTTL k FIELDS 2 a b".split()) == [4000, -1]
    assert dump.run is not None
    assert dump.run(ours.cells, dump.dated([b"DUMP", b"k"], 1000), ours.now) == ((), wall)
    ours.now += 4000
    assert dump.run(ours.cells, [b"DUMP", b"k"], ours.now) == ((), payload_of(Content("hash", [b"b", b"2"], [])))


def test_a_hash_that_has_expired_is_none() -> None:
    ours = Ours()
    ours.ask(*b"HSET k a 1".split())
    ours.ask(*b"HPEXPIRE k 10 FIELDS 1 a".split())
    ours.now += 10
    assert ours.ask(b"DUMP", b"k") is None


SEQUENCES = [
    "dump none|dump|restore k 0 P|get k|restore k 0 P|restore k 0 P replace|restore k 0 P REPLACE ABSTTL|pexpiretime k",
    (
        "restore k 1900000000000 P absttl|pexpiretime k|restore k 1 P absttl replace|exists k|"
        "restore k 1 P absttl|exists k"
    ),
    "restore k x P|restore k -1 P|restore k 0 P foo|restore k 0 P idletime|restore k 0 P idletime x|restore k 0",
    "restore k 0 P idletime -1|restore k 0 P freq 256|restore k 0 P freq -1|restore k 0 P idletime 5 freq 5|exists k",
    (
        "restore k 0 P freq 5 freq 7|restore k 0 P idletime 5 idletime 6 replace|restore k x W replace|"
        "restore k -1 W replace"
    ),
    "restore k 0 W|restore k 0 W replace|restore k 0 B|set k 1|restore k x W|restore k 0 B replace|get k|restore k 0 E",
    "restore k 9223372036854775807 P|exists k|restore k 9223372036854775807 P absttl|pexpiretime k|restore k 0 S",
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence[:60])
def test_sequences(theirs: Theirs, sequence: str) -> None:
    ours = Ours()
    payloads = {
        b"P": sealed(b"\x00\x05value"),
        b"W": sealed(b"\x00\x05value")[:-1] + b"\0",
        b"B": sealed(b"\x63\x05value"),
        b"E": b"",
        b"S": sealed(b""),
    }
    for line in sequence.split("|"):
        words = line.encode().split(b" ")
        request = [payloads.get(word, word) for word in words]
        mine, other = ours.ask(*request), theirs.ask(*request)
        assert same(mine, other), f"{line}: {mine!r}, Redis says {other!r}"


WRONG_VALUES: list[bytes] = [
    b"\x00",
    b"\x00\x05valu",
    b"\x00\xc4",
    b"\x00\xc3\x02\x08\x01ab",
    b"\x00\xc3\x03\x08\x20\x05a",
    b"\x00\xc3\x02\x02\xe0\x00",
    b"\x00\x90",
    b"\x01\x00",
    b"\x01\x81" + b"\xff" * 8 + b"\x01a",
    b"\x02\x02\x01a\x01a",
    b"\x04\x01\x01a",
    b"\x04\x02\x01a\x01b\x01a\x01c",
    b"\x05\x01\x01a" + struct.pack("<d", float("nan")),
    b"\x03\x01\x01a\xfd",
    b"\x03\x01\x01a\x03abc",
    b"\x09" + counted(b"\x01\x01a\xff"),
    b"\x0a" + counted(ziplist(b"\x05ab")),
    b"\x0a" + counted(ziplist(b"\xff")),
    b"\x0a" + counted(ziplist()[:-1]),
    b"\x0b" + counted(struct.pack("<II", 3, 0)),
    b"\x0b" + counted(struct.pack("<IIh", 2, 2, 1)),
    b"\x10" + counted(listpack(b"\x81a")),
    b"\x10" + counted(listpack(b"\x81a", b"\x81b", head=99)),
    b"\x10" + counted(listpack(b"\xf5a", b"\x81b")),
    b"\x11" + counted(listpack(b"\x81a", b"\x81b")),
    b"\x12\x01\x03\x01a",
    b"\x0f\x01",
    b"\xff",
]


@pytest.mark.parametrize("value", WRONG_VALUES, ids=range(len(WRONG_VALUES)))
def test_what_holds_nothing_is_bad_data(theirs: Theirs, value: bytes) -> None:
    """Whatever stands in it, a key is made of all of it or not at all."""
    ours = Ours()
    assert ours.ask(b"RESTORE", b"k", b"0", sealed(value)) == BAD
    assert ours.ask(b"EXISTS", b"k") == 0


def test_payloads_that_are_cut_or_changed_are_never_taken() -> None:
    """What has a checksum that fits, and is wrong nevertheless, raises ValueError and nothing else."""
    rng = random.Random(4)
    values = [value for _, value in ENCODED]
    for _ in range(3000):
        value = bytearray(rng.choice(values))
        for _ in range(rng.randrange(1, 4)):
            match rng.randrange(3):
                case 0:
                    value[rng.randrange(len(value))] = rng.randrange(256)
                case 1:
                    del value[rng.randrange(1, len(value) + 1) :]
                case _:
                    value[rng.randrange(len(value) + 1) : 0] = rng.randbytes(2)
            value = value or bytearray(1)
        payload = sealed(bytes(value))
        assert is_intact(payload)
        try:
            content = content_of(payload)
        except ValueError:
            continue
        assert content_of(payload_of(content)).items == content.items
    whole = sealed(values[0])
    assert not any(is_intact(whole[:end]) for end in range(len(whole)))
    assert not is_intact(sealed(values[0], 13))


@pytest.mark.parametrize("of", [lambda: b"\x00", lambda: b"\x0b"], ids=["string", "intset"])
def test_a_short_payload_cannot_become_a_large_value(of: Callable[[], bytes]) -> None:
    """88 bytes can be one in LZF."""
    length = VALUE_BYTES_MAX + 1
    payload = sealed(of() + b"\xc3\x03" + struct.pack(">BI", 0x80, length) + b"\x00a\xe0")
    with pytest.raises(ValueError, match="more than"):
        content_of(payload)


def test_a_collection_travels_as_it_was_given() -> None:
    """Compressed, if it was."""
    ours = Ours()
    row = find(b"RESTORE")
    assert row is not None
    assert row.run is not None
    payload = sealed(ENCODED[0][1])
    changes, reply = row.run(ours.cells, [b"RESTORE", b"k", b"0", payload], NOW)
    assert (changes, reply) == (((b"k", ("restore", payload), 0),), "OK")


# -- streams


STREAMS = [
    "xadd k 1-1 a 1",
    "xadd k 1-1 a 1 b 2 | xadd k 5-0 a 3 b 4 | xadd k 5-1 c 7 | xadd k 18446744073709551615-0 a x b y",
    "xadd k 5-9 a 1 | xadd k 6-1 a 2 | xadd k 6-300 a 3 | xadd k 7-9223372036854775808 a 4",
    "xadd k 1 a 1 | xadd k 2 a 2 | xadd k 3 a 3 | xdel k 2",
    "xadd k 1 a 1 | xdel k 1",
    "xgroup create k g $ mkstream",
    """xadd k 1 a 1 | xadd k 2 a 2 | xadd k 3 a 3 | xgroup create k g 0 | xgroup create k h $ entriesread 3
    xgroup create k empty 1 | xreadgroup group g c count 2 streams k > | xreadgroup group g d streams k >
    xgroup createconsumer k h none | xclaim k g e 0 2 retrycount 9 justid | xack k g 3""",
    "xadd k 7 a " + "x" * 100 + " | xadd k 8 a " + "y" * 5000 + " | xadd k 9 a " + "z" * 70_000,
    " | ".join(f"xadd k {number} field {number} other -{number * number * number * 1000}" for number in range(1, 350)),
    " | ".join(f"xadd k {number}-{number % 7} field{number % 9} {number}" for number in range(1, 250)),
]


def whole_stream(side: Ours | Theirs) -> list[object]:
    """What a client can see of it, but for times."""
    info = side.ask(b"XINFO", b"STREAM", b"k", b"FULL", b"COUNT", b"0")
    entries = side.ask(b"XRANGE", b"k", b"-", b"+")
    return [masked([b"XINFO"], plain(info) if isinstance(side, Ours) else info, b"radix-tree-keys"), plain(entries)]


def made_stream(side: Ours | Theirs, text: str) -> None:
    for request in requests_of(text):
        assert not isinstance(side.ask(*request), ReplyError), request


@pytest.mark.parametrize("text", STREAMS, ids=range(len(STREAMS)))
def test_a_stream_goes_to_redis_and_comes_back(theirs: Theirs, text: str) -> None:
    ours = Ours()
    made_stream(ours, text)
    payload = ours.ask(b"DUMP", b"k")
    assert isinstance(payload, bytes)
    before = whole_stream(ours)
    theirs.ask(b"DEL", b"k")
    assert theirs.ask(b"RESTORE", b"k", b"0", payload) == b"OK"
    assert whole_stream(theirs) == before
    back = theirs.ask(b"DUMP", b"k")
    assert isinstance(back, bytes)
    assert ours.ask(b"RESTORE", b"k", b"0", back, b"REPLACE") == "OK"
    assert whole_stream(ours) == before
    assert ours.ask(b"XADD", b"k", b"18446744073709551615-9", b"a", b"1") == b"18446744073709551615-9"
    theirs.ask(b"DEL", b"k")
    made_stream(theirs, text)
    native = theirs.ask(b"DUMP", b"k")
    assert isinstance(native, bytes)
    assert ours.ask(b"RESTORE", b"k", b"0", native, b"REPLACE") == "OK"
    assert whole_stream(ours) == whole_stream(theirs)


def with_times(ours: Ours) -> bytes:
    made_stream(ours, "xadd k 1 a 1 | xgroup create k g 0 | xreadgroup group g c streams k >")
    payload = ours.ask(b"DUMP", b"k")
    assert isinstance(payload, bytes)
    return payload


def test_times_in_a_stream_are_those_of_the_wall() -> None:
    """Cluster time is another one in another cluster."""
    ours = Ours()
    with_times(ours)
    row = find(b"DUMP")
    assert row is not None
    assert row.dated is not None
    payload = ours._run(row.dated([b"DUMP", b"k"], 5000))
    assert isinstance(payload, bytes)
    (stream,) = content_of(payload).items
    assert stream.groups[0].pending == {bytes(7) + b"\1" + bytes(8): (NOW + 5000, 1)}
    restore = find(b"RESTORE")
    assert restore is not None
    assert restore.dated is not None
    ours._run(restore.dated([b"RESTORE", b"k", b"0", payload, b"REPLACE"], 6000))
    assert plain(ours.ask(b"XPENDING", b"k", b"g", b"-", b"+", b"9")) == [[b"1-0", b"c", 1000, 1]]


def id_of(number: int) -> bytes:
    return struct.pack(">QQ", number, 0)


def text(string: bytes) -> bytes:
    """Shorter than 64 bytes."""
    return bytes((len(string),)) + string


def entry(later: int, value: bytes, flags: int = 2) -> list[bytes]:
    """Of the fields of the master entry, one."""
    return [bytes((flags,)), bytes((later,)), b"\0", bytes((0x80 | len(value),)) + value, b"\4"]


NODE = listpack(b"\2", b"\1", b"\1", b"\x81f", b"\0", *entry(0, b"a"), *entry(1, b"gone", 3), *entry(2, b"c"))
TIME = struct.pack("<q", NOW - 10)
GROUP = [text(b"g"), b"\3\0", b"\2", b"\1", id_of(1), TIME, b"\7", b"\1", text(b"c"), TIME]
FORMS = {
    1: [b"\x0f\1", text(id_of(1)), counted(NODE), b"\2", b"\3\0", b"\1", *GROUP[:2], *GROUP[3:], b"\1", id_of(1)],
    2: [b"\x13\1", text(id_of(1)), counted(NODE), b"\2", b"\3\0", b"\1\0\2\0\3", b"\1", *GROUP, b"\1", id_of(1)],
    3: [b"\x15\1", text(id_of(1)), counted(NODE), b"\2", b"\3\0", b"\1\0\2\0\3", b"\1", *GROUP, TIME, b"\1", id_of(1)],
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_stream_are_read(form: int) -> None:
    """Of Redis 5, 7.0 and 7.2; the first says neither what was deleted, nor how many were added."""
    ours = Ours()
    assert ours.ask(b"RESTORE", b"k", b"0", sealed(b"".join(FORMS[form]))) == "OK"
    assert ours.ask(b"XRANGE", b"k", b"-", b"+") == [[b"1-0", [b"f", b"a"]], [b"3-0", [b"f", b"c"]]]
    assert plain(ours.ask(b"XPENDING", b"k", b"g", b"-", b"+", b"9")) == [[b"1-0", b"c", 10, 7]]
    groups, stream = plain(ours.ask(b"XINFO", b"GROUPS", b"k")), plain(ours.ask(b"XINFO", b"STREAM", b"k"))
    assert isinstance(groups, list)
    assert isinstance(stream, list)
    assert stream[9:12] == ([b"0-0", b"entries-added", 2] if form == 1 else [b"2-0", b"entries-added", 3])
    assert isinstance(groups[0], list)
    assert groups[0][-3] == 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("form", FORMS)
def test_a_stream_that_is_spoilt_is_refused_or_is_another_one(form: int, seed: int) -> None:
    """Never anything else, whatever lengths are claimed; and what is taken can be used."""
    rng = random.Random(seed)
    value = b"".join(FORMS[form])
    for _ in range(200):
        spoilt = bytearray(value)
        for _ in range(rng.choice((1, 1, 2, 4))):
            spoilt[rng.randrange(1, len(spoilt))] = rng.choice((0, 1, 2, 127, 128, 129, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del spoilt[rng.randrange(1, len(spoilt)) :]
        ours = Ours()
        if ours.ask(b"RESTORE", b"k", b"0", sealed(bytes(spoilt))) == "OK":
            whole_stream(ours)
            again = ours.ask(b"DUMP", b"k")
            assert isinstance(again, bytes)
            assert ours.ask(b"RESTORE", b"k", b"0", again, b"REPLACE") == "OK"
            continue
        assert ours.ask(b"EXISTS", b"k") == 0
