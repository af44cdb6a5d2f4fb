"""Small and large collections of named elements: what they take, what is beside them, which patches they refuse."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from peerkv.store.scan import INDEX_FROM, scan_order
from peerkv.store.values import PART_BYTES, Collection, Patch, Value, checked, patched, size_of
from peerkv.store.values.hashes import Hash, LargeHash, SmallHash
from peerkv.store.values.keyed import SMALL_BYTES_MAX, SMALL_MAX, Urn
from peerkv.store.values.sets import LargeSet, SmallSet
from tests.commands.keyspace import in_parts


def numbers(seed: int = 0) -> Iterator[int]:
    rng = random.Random(seed)
    while True:
        yield rng.getrandbits(64)


def made(*patches: Patch) -> Any:
    value: Value | None = None
    for body in patches:
        value = patched(value, body)
    return value


def members(count: int, first: int = 0) -> list[bytes]:
    return [b"m%d" % number for number in range(first, first + count)]


def fields(count: int) -> list[bytes]:
    return [word % number for number in range(count) for word in (b"f%d", b"v%d")]


# -- small and large


def test_what_is_small_is_one_string() -> None:
    """A million users of ten fields would take 1.4 GB."""
    small = made(("hset", 0, *fields(10)))
    assert type(small) is SmallHash
    assert small.size < 330
    assert type(made(("sadd", *members(100)))) is SmallSet
    assert made(("sadd", *members(100))).size < 1100


@pytest.mark.parametrize("text", [b"x", b"x" * 100, b"x" * SMALL_BYTES_MAX])
def test_what_outgrows_a_string_is_a_dict_and_holds_the_same(text: bytes) -> None:
    small_set, small_hash = made(), made()
    known = []
    for number in range(2 * SMALL_MAX):
        word = b"%d" % number + text
        known.append(word)
        small_set = patched(small_set, ("sadd", word))
        small_hash = patched(small_hash, ("hset", 0, word, text))
        assert list(small_set.members) == known
        assert small_hash.live(0) == dict.fromkeys(known, text)
        assert len(small_set) == len(small_hash) == len(known)
        for value in (small_set, small_hash):
            assert isinstance(value, (SmallSet, SmallHash)) is (isinstance(value, bytes))
            assert not isinstance(value, bytes) or value.size <= SMALL_BYTES_MAX + 64
    assert type(small_set) is LargeSet
    assert type(small_hash) is LargeHash


def test_a_small_one_is_never_changed() -> None:
    """Who sends its parts, or a copy of it, needs no copy."""
    before = made(("hset", 0, *fields(3)))
    after = patched(before, ("hset", 0, b"f0", b"other"))
    assert before.live(0)[b"f0"] == b"v0"
    assert isinstance(after, Hash)
    assert after.live(0)[b"f0"] == b"other"
    assert before.copy() is before


def test_a_copy_of_a_large_one_is_another_one() -> None:
    one = made(("hset", 0, *fields(500)), ("hexpire", 0, b"f1", 50, b"f2", 60))
    other = one.copy()
    patched(other, ("hdel", 1, b"f2"))
    patched(other, ("hset", 0, b"f3", b"other"))
    assert len(one) == 500
    assert len(other) == 498
    assert one.deadlines == {b"f1": 50, b"f2": 60}
    assert not other.deadlines
    assert one.live(0)[b"f3"] == b"v3"
    one = made(("sadd", *members(500)))
    patched(one.copy(), ("srem", b"m1"))
    assert len(one) == 500


@pytest.mark.parametrize(
    "value",
    [
        made(("sadd", *members(20))),
        made(("sadd", *members(20_000))),
        made(("hset", 0, *fields(20))),
        made(
            ("hset", 0, *fields(20_000)), ("hexpire", 0, *[word for n in range(9000) for word in (b"f%d" % n, n + 1)])
        ),
    ],
    ids=["small set", "large set", "small hash", "large hash"],
)
def test_parts_are_of_what_was_held_when_they_were_asked_for(value: Collection) -> None:
    """They are sent one after another, while the collection is changed."""
    value = value.copy()
    whole = [list(part) for part in value.parts()]
    parts = in_parts(value)
    sent = [next(parts)]
    body: Patch = ("sadd", b"new") if value.TYPE == "set" else ("hset", 0, b"new", b"x")
    patched(value, body)
    sent += parts
    assert [list(part) for part in sent] == whole  # type: ignore[arg-type]
    assert all(sum(len(item) if type(item) is bytes else 8 for item in part[1:]) <= PART_BYTES + 64 for part in whole)
    again = made(*[checked(part) for part in whole])
    assert [list(part) for part in again.parts()] == whole


def test_a_size_is_about_what_it_takes() -> None:
    large = made(("sadd", *[b"member:%08d" % number for number in range(10_000)]))
    assert 70 * 10_000 < size_of(large) < 130 * 10_000
    large = made(("hset", 0, *[b"word:%08d" % number for number in range(20_000)]))
    assert 110 * 10_000 < size_of(large) < 180 * 10_000


# -- what is kept beside large ones


def test_an_urn_does_not_grow_while_members_come_and_go() -> None:
    """One draw, and then writes for days."""
    large = made(("sadd", *members(1000)))
    large.drawn(numbers())
    for number in range(20_000):
        patched(large, ("sadd", b"n%d" % number))
        patched(large, ("srem", b"n%d" % number))
        assert large._urn is None or len(large._urn._names) <= 2 * 1000 + 2
        if number % 1000 == 0:
            large.drawn(numbers(number))


def test_an_urn_knows_what_came_and_went() -> None:
    held = dict.fromkeys(members(300))
    urn = Urn(held)
    rng = random.Random(1)
    chance = numbers()
    for _ in range(200):
        gone = rng.sample(list(held), rng.randrange(3))
        if not urn.about_to_remove(held, gone):
            urn = Urn(held)
            assert urn.about_to_remove(held, gone)
        for name in gone:
            del held[name]
        held.update(dict.fromkeys(members(rng.randrange(3), rng.randrange(300))))
        assert {urn.drawn(held, chance) for _ in range(5)} <= set(held)
    urn.drawn(held, chance)
    standing = [name for name in urn._names if name in held]
    assert sorted(standing) == sorted(held), "every name once"


def test_an_index_is_dropped_when_a_scan_has_ended_or_much_has_changed() -> None:
    large = made(("sadd", *members(5 * INDEX_FROM)))
    start = 0
    while not (page := large.page(start, 10))[0]:
        start = page[1]
    assert large._index is not None
    patched(large, ("srem", *members(4 * INDEX_FROM)))
    assert large._index is None
    large = made(("sadd", *members(2 * INDEX_FROM)))
    found: list[bytes] = []
    start = 0
    while True:
        names, start = large.page(start, 100)
        found += names
        if not start:
            break
    assert large._index is None
    assert found == sorted(large.members, key=lambda name: (scan_order(name), name))


def test_an_index_of_what_has_grown_is_made_anew() -> None:
    """Of 1,024 members, and of 100,000 by then, a page would take 3 ms."""
    large = made(("sadd", *members(INDEX_FROM)))
    large.page(0, 10)
    first = large._index
    patched(large, ("sadd", *members(40 * INDEX_FROM, INDEX_FROM)))
    large.page(1, 10)
    assert large._index is not first


# -- patches that were made for something else


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (b"text", ("sadd", b"a")),
        (b"text", ("hset", 0, b"a", b"1")),
        (made(("sadd", b"a")), ("hset", 0, b"a", b"1")),
        (made(("sadd", b"a")), ("hdel", 0, b"a")),
        (made(("hset", 0, b"a", b"1")), ("srem", b"a")),
        (made(("hset", 0, b"a", b"1")), ("hdel", 0, b"b")),
        (made(("sadd", b"a")), ("srem", b"b")),
        (made(("sadd", *members(500))), ("srem", b"m1", b"none")),
        (made(("hset", 0, *fields(500))), ("hdel", 0, b"f1", b"none")),
        (made(("hset", 0, *fields(500))), ("hchange", 0, b"none", b"x")),
        (made(("hset", 0, *fields(500))), ("hexpire", 0, b"f1", 5, b"none", 6)),
        (made(("hset", 0, *fields(500))), ("hset", 1, b"f1", b"x")),
        (made(("hset", 0, *fields(5)), ("hexpire", 0, b"f1", 5)), ("hset", 2, b"f1", b"x")),
        (None, ("srem", b"a")),
        (None, ("hdel", 0, b"a")),
        (None, ("hexpire", 0, b"a", 5)),
    ],
)
def test_a_patch_that_was_made_for_another_value_is_refused(value: Value | None, body: Patch) -> None:
    """Whoever applied it all the same would hold what nobody else does."""
    before = [list(part) for part in value.parts()] if isinstance(value, Collection) else value
    with pytest.raises((ValueError, TypeError, KeyError)):
        patched(value, body)
    assert ([list(part) for part in value.parts()] if isinstance(value, Collection) else value) == before


@pytest.mark.parametrize(
    "content",
    [
        ["sadd", 1],
        ["hset", 0, b"a"],
        ["hset", b"a", b"1"],
        ["hexpire", 0, b"a", b"5"],
        ["hchange", 0, b"a"],
        ["hdel", b"a"],
        ["srem", b"a", None],
    ],
)
def test_what_is_no_patch_does_not_come_in(content: list[Any]) -> None:
    with pytest.raises(ValueError, match="patch"):
        checked(content)
