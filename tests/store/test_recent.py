"""What is remembered of operations: nothing that is needed is forgotten, and nothing else is kept."""

from __future__ import annotations

import random

from peerkv.resp import Reply
from peerkv.store.recent import BYTES_MAX, DROPPED, LITTLE, TICKET_SLOT, TICKET_SLOT_BITS, TRIM_BYTES, Recent


def ticket(counter: int, slot: int) -> int:
    return counter << TICKET_SLOT_BITS | slot


def of_slot(recent: Recent, slot: int) -> dict[tuple[int, int], Reply]:
    entries = iter(recent.of_slot(slot, {}))
    return {(process, at): reply for process, at, reply in zip(entries, entries, entries, strict=True)}


def looked_for(recent: Recent, slot: int) -> dict[tuple[int, int], Reply]:
    """The same, without an index."""
    return {
        (process, at): reply
        for process, operations in recent.items()
        for at, reply in operations.items()
        if at & TICKET_SLOT == slot
    }


def test_the_index_by_slot_is_what_a_look_at_everything_finds() -> None:
    """Whatever happens in between: operations come, one by one and many at a time, again, and older ones with a copy;
    marks move; slots are forgotten; coordinators go for good."""
    rng = random.Random(7)
    recent, marks, counter = Recent(), dict[int, int](), 0
    for _ in range(3000):
        counter += 1
        process = rng.choice((1, 2, 3))
        match rng.randrange(12):
            case 0:
                recent[process].update({ticket(counter + n, rng.randrange(8)): b"x" for n in range(20)})
                counter += 20
            case 1:
                recent[process][ticket(rng.randrange(counter), rng.randrange(8))] = b"older"
            case 2:
                marks[process] = ticket(max(0, counter - rng.randrange(200)), 0)
                recent.note_traffic(rng.choice((10, TRIM_BYTES)))
                recent.trim(marks, at_leisure=rng.random() < 0.5)
            case 3:
                recent.forget({rng.randrange(8)})
            case 4:
                recent.forget({1, 2})
            case 5 if rng.random() < 0.1:
                recent.trim(marks, gone={process})
            case _:
                recent[process][ticket(counter, rng.randrange(8))] = b"y"
        if rng.random() < 0.3:
            slot = rng.randrange(8)
            assert of_slot(recent, slot) == looked_for(recent, slot)
            mine = [at for coordinator, at in looked_for(recent, slot) if coordinator == 2]
            assert sorted(recent.tickets_of(slot, 2)) == sorted(mine)


class Counted(dict[int, Reply]):
    """Counts how many of its entries are looked at."""

    looks = 0

    def __reversed__(self):  # type: ignore[no-untyped-def]
        for key in super().__reversed__():
            Counted.looks += 1
            yield key

    def items(self):  # type: ignore[no-untyped-def]
        Counted.looks += len(self)
        return super().items()


def test_a_page_of_a_slot_does_not_look_at_the_operations_of_all_others() -> None:
    """2.7 ms a page at 100,000 operations, and there are 16,384 slots."""
    recent = Recent()
    recent[1] = Counted({ticket(n, n % 1024): "OK" for n in range(100_000)})
    recent._kept = 100_000
    for slot in range(1024):
        assert len(recent.of_slot(slot, {})) in (3 * 97, 3 * 98)
    assert Counted.looks <= 100_000


def test_long_replies_are_forgotten_once_their_marks_have_moved_past_them() -> None:
    """20 times GETSET of 1 MB left 21 MB on every owner for ever."""
    recent, marks = Recent(), dict[int, int]()
    for n in range(20):
        recent[1][ticket(n, 5)] = bytes(1_000_000)
        recent.note_traffic(2_000_000)
        marks[1] = ticket(n, 0)
        recent.trim(marks)
        assert len(recent[1]) <= 3
    marks[1] = ticket(20, 0)
    recent.trim(marks, at_leisure=True)
    assert not recent.get(1)


def test_many_short_replies_are_not_looked_at_at_leisure() -> None:
    recent = Recent()
    recent[1].update({ticket(n, 5): "OK" for n in range(LITTLE + 1)})
    recent._kept = LITTLE + 1
    recent.trim({1: ticket(LITTLE, 0)}, at_leisure=True)
    assert len(recent[1]) == LITTLE + 1


def test_where_a_mark_stands_still_long_replies_are_dropped_and_their_operations_are_not() -> None:
    recent = Recent()
    size = BYTES_MAX // 8
    for n in range(10):
        recent[1][ticket(n, 5)] = bytes(size)
        recent[1][ticket(n, 6)] = "OK"
        recent.note_traffic(size)
        recent.trim({})
    replies = [recent[1][ticket(n, 5)] for n in range(10)]
    assert replies[:2] == [DROPPED, DROPPED]
    assert all(type(reply) is bytes for reply in replies[2:])
    assert len(recent[1]) == 20
