"""Streams as values: nodes beside a plain list, patches that are none, parts, and what they take."""

from __future__ import annotations

import random
from typing import Any

import pytest

from peerkv.cbor import dump, load
from peerkv.store.values import PART_BYTES, Patch, Value, checked, patched
from peerkv.store.values.entries import (
    FIRST_ID,
    LAST_ID,
    NODE_ENTRIES,
    Entry,
    before,
    behind,
    id_of,
    parts_of_id,
)
from peerkv.store.values.streams import (
    Stream,
)
from tests.commands.keyspace import held, in_parts, rebuilt


def made(*patches: Patch) -> Any:
    value: Value | None = None
    for body in patches:
        value = patched(value, checked(load(dump(list(body)))))
    return value


def number(count: int) -> bytes:
    return id_of(count, 0)


def added(count: int, *fields: bytes) -> Patch:
    return ("xadd", 0, number(count), *(fields or (b"field", b"value")))


def with_pending(entries: int) -> Stream:
    """A stream of so many entries, all of them pending with two consumers of a group."""
    found = made(("xgroup", b"g", FIRST_ID, 0))
    for at in range(1, entries + 1):
        found = patched(found, added(at))
    for at in range(1, entries + 1):
        found = patched(found, ("xpend", b"g", number(at), at, b"cd"[at % 2 :][:1], 7, 7, number(at), 5, 1))
    assert isinstance(found, Stream)
    return found


def test_ids_are_in_order() -> None:
    ids = [id_of(a, b) for a in (0, 1, 255, 256, 1 << 63, (1 << 64) - 1) for b in (0, 1, 255, 1 << 63, (1 << 64) - 1)]
    assert ids == sorted(ids)
    assert [id_of(*parts_of_id(found)) for found in ids] == ids
    assert behind(id_of(4, (1 << 64) - 1)) == id_of(5, 0)
    assert before(id_of(5, 0)) == id_of(4, (1 << 64) - 1)
    assert behind(LAST_ID) is None
    assert before(FIRST_ID) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_is_a_list_of_entries(seed: int) -> None:
    """Wherever nodes are split, cut and joined, and whatever their columns take."""
    rng = random.Random(seed)
    found = Stream()
    model: list[Entry] = []
    milliseconds = sequence = 1
    for turn in range(700):
        match rng.randrange(14):
            case 0 if model:
                count = rng.choice((1, 2, 150)) % len(model)
                found.cut(count)
                del model[:count]
            case 1 | 2 | 3 if model:
                gone = rng.sample(model, min(len(model), rng.choice((1, 3, 60))))
                found.delete([id_ for id_, _ in gone])
                model = [entry for entry in model if entry not in gone]
            case _:
                for _ in range(rng.choice((1, 1, 40))):
                    if rng.random() < 0.5:
                        sequence += rng.choice((1, 1, 1, 500, 1 << 40))
                    else:
                        milliseconds += rng.choice((1, 1, 1, 300, 70_000, 1 << 34))
                        sequence = rng.choice((0, 0, 0, 1, 7))
                    shape = rng.choice((1, 1, 1, 2, 3)) if turn % 100 < 50 else 1
                    fields = [b"f%d" % (turn % 7) if rng.random() < 0.1 else b"f", b"v" * rng.choice((0, 1, 30, 300))]
                    model.append((id_of(milliseconds, sequence), fields * shape))
                    found.add(*model[-1])
        assert len(found) == len(model)
        assert found.first_entry == (model[0][0] if model else FIRST_ID)
        assert found.last_entry == (model[-1][0] if model else FIRST_ID)
        first = rng.choice(model)[0] if model else FIRST_ID
        last = id_of(rng.randrange(milliseconds + 1), rng.randrange(3))
        chosen = [entry for entry in model if first <= entry[0] <= last]
        most = rng.choice((None, 1, 7, 130))
        assert found.between(first, last, most) == chosen[:most]
        assert found.between_backwards(first, last, most) == chosen[::-1][:most]
        assert found.below(last) == len([entry for entry in model if entry[0] < last])
        assert (last in found) is (last in dict(model))
        if turn % 100 == 0:
            assert held(rebuilt(found)) == held(found)
            assert held(found.copy()) == held(found)
    assert found.between(FIRST_ID, LAST_ID) == model
    assert found.nodes < len(model) / 12 + sum(len(text) > 255 for _, fields in model for text in fields) + 20


def test_what_shrinks_is_joined() -> None:
    """A stream of which one entry in fifty is left would be of as many nodes as before."""
    found = Stream()
    for at in range(1, 10_001):
        found.add(number(at), [b"a", b"1"])
    assert found.nodes == 10_000 // NODE_ENTRIES
    for at in range(1, 10_001):
        if at % 50:
            found.delete([number(at)])
    assert len(found) == 200
    assert found.nodes <= 200 // (NODE_ENTRIES // 8)


def test_names_of_fields_do_not_pile_up() -> None:
    """A node in which entries come and go, each with other fields, holds those of what is there."""
    found = Stream()
    found.add(number(1), [b"a", b"1"])
    for at in range(2, 2000):
        found.add(number(at), [b"field %d" % at, b"1"])
        found.delete([number(at)])
    assert found.size < 2000
    found.add(number(5000), [b"b", b"2"])
    assert found.between(FIRST_ID, LAST_ID) == [(number(1), [b"a", b"1"]), (number(5000), [b"b", b"2"])]


BAD: list[Patch] = [
    ("xadd", 0, b"short", b"a", b"1"),
    ("xadd", 0, number(3), b"a", b"1"),
    ("xadd", 0, number(9)),
    ("xadd", 5, number(9), b"a", b"1"),
    ("xadd", -1, number(9), b"a", b"1"),
    ("xcut", 4),
    ("xcut", -1),
    ("xdel",),
    ("xdel", number(9)),
    ("xdel", number(1), number(1)),
    ("xstate", number(2), 5, FIRST_ID),
    ("xstate", b"short", 5, FIRST_ID),
    ("xstate", number(9), -1, FIRST_ID),
    ("xstate", number(9), 1, b"short"),
    ("xload", number(9), b"\0\0\0\1a"),
    ("xload", number(9), b"\0\0\0\1a\0\0\0\2b"),
    ("xload", number(9), b""),
    ("xload", number(1), b"\0\0\0\1a\0\0\0\1b"),
    ("xgroup", b"g", b"short", 0),
    ("xgroup", b"h", b"short", 0),
    ("xgroup", b"g", number(1), -2),
    ("xungroup", b"none"),
    ("xpend", b"none", number(1), 0, b"c", 0, 0),
    ("xpend", b"g", number(1), -2, b"c", 0, 0),
    ("xpend", b"g", number(1), 0, b"c", -1, 0),
    ("xpend", b"g", number(1), 0, b"c", 0, -2),
    ("xpend", b"g", number(1), 0, b"c", 0, 0, b"short", 1, 1),
    ("xpend", b"g", number(1), 0, b"c", 0, 0, number(1), -2, 1),
    ("xpend", b"g", number(1), 0, b"c", 0, 0, number(1), 1, -1),
    ("xpend", b"g", number(1), 0, b"c", 0, 0, number(9), -1, 0),
    ("xack", b"g", number(9)),
    ("xack", b"none", number(1)),
    ("xleave", b"g", b"none"),
    ("xleave", b"none", b"c"),
]


@pytest.mark.parametrize("body", BAD, ids=str)
def test_a_patch_that_is_none_is_refused(body: Patch) -> None:
    """A peer that errs would leave a stream that no command can be run on."""
    found = with_pending(3)
    with pytest.raises((ValueError, KeyError)):
        patched(found, checked(list(body)))
    for other in (b"string", made(("rpush", b"a"))):
        with pytest.raises((ValueError, TypeError)):
            patched(other, body)
    assert held(rebuilt(found)) == held(found)


def test_an_empty_stream_stays() -> None:
    """Its last id, and its groups, would be gone with its last entry."""
    found = made(added(5), ("xgroup", b"g", number(5), 1), ("xdel", number(5)))
    assert len(found) == 0
    again = rebuilt(found)
    assert isinstance(again, Stream)
    assert (again.last, again.added, again.deleted, list(again.groups)) == (number(5), 1, number(5), [b"g"])


def test_parts_are_of_what_was_held_when_they_were_asked_for() -> None:
    found = with_pending(5000)
    whole = list(found.copy().parts())
    assert len(whole) > 5
    assert all(sum(len(item) if type(item) is bytes else 8 for item in part[1:]) <= PART_BYTES + 200 for part in whole)
    parts = in_parts(found)
    sent = [next(parts)]
    patched(found, added(6000))
    patched(found, ("xcut", 3000))
    patched(found, ("xack", b"g", number(4000)))
    patched(found, ("xleave", b"g", b"c"))
    sent += parts
    assert sent == whole
    assert list(made(*whole).parts()) == whole


@pytest.mark.parametrize("share", [2, 100])
def test_a_consumer_leaves_with_what_is_pending(share: int) -> None:
    found = with_pending(1000)
    patched(found, ("xpend", b"g", number(9), 9, b"e", 0, 0, *[w for n in range(1, share) for w in (number(n), 1, 1)]))
    group = found.groups[b"g"]
    ours = set(group.consumers[b"e"].ids)
    patched(found, ("xleave", b"g", b"e"))
    assert set(group.order) == set(group.pending) == {number(n) for n in range(1, 1001)} - ours
    assert sorted(id_ for consumer in group.consumers.values() for id_ in consumer.ids) == list(group.order)


def test_a_copy_is_another_one() -> None:
    found = with_pending(300)
    before_it = held(found)
    other = found.copy()
    patched(other, ("xack", b"g", number(7)))
    patched(other, ("xpend", b"g", number(9), 9, b"c", 9, 9, number(8), 1, 1))
    patched(other, ("xadd", 100, number(999), b"a", b"1"))
    patched(other, ("xgroup", b"g", number(1), 0))
    assert held(found) == before_it


def test_an_entry_takes_few_bytes() -> None:
    """Beside 60 of two Python objects, and more of what refers to them."""
    found = Stream()
    for at in range(100_000):
        found.add(id_of(1_700_000_000_000 + at, 0), [b"field", b"value %04d" % (at % 10_000)])
    assert found.size < 20 * 100_000
    small = Stream()
    small.add(number(1), [b"field", b"value"])
    assert 300 < small.size < 1000
