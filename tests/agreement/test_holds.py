"""Who waits for keys that are held: in the order in which it came, each once, until they are let go."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from peerkv.agreement.holds import Holds
from peerkv.clock import Clock


class Origin:
    """A peer, as far as it matters here."""

    def __init__(self, process: int) -> None:
        self.process = process


US: Any = Origin(1)
THEM: Any = Origin(2)


def awaited(request: Sequence[bytes]) -> Sequence[bytes] | None:
    return None if request[0] == b"ALL" else request[1:]


@pytest.fixture
def holds() -> Holds:
    return Holds(Clock(), awaited)


def waits(holds: Holds, ticket: int, *request: bytes, origin: Any = US, after: int = 0) -> bool:
    return holds.must_wait(3, origin, ticket, request, after)


def freed(holds: Holds) -> list[int]:
    return [waiter.ticket for _, waiters in holds.take_freed() for waiter in waiters]


def test_nobody_waits_where_nothing_is_held(holds: Holds) -> None:
    assert 3 not in holds
    assert not waits(holds, 1, b"GET", b"a")
    assert not waits(holds, 2, b"ALL")
    assert 3 not in holds
    assert not holds.let_go(3, b"a")


def test_who_wants_a_held_key_waits_and_others_do_not(holds: Holds) -> None:
    holds.hold(3, b"a")
    assert waits(holds, 1, b"GET", b"b", b"a")
    assert not waits(holds, 2, b"GET", b"c")
    assert not waits(holds, 3, b"PART")
    assert not holds.must_wait(4, US, 4, (b"GET", b"a"), 0)
    assert holds.let_go(3, b"a")
    assert freed(holds) == [1]
    assert 3 not in holds


def test_nobody_overtakes_who_waits_for_the_same(holds: Holds) -> None:
    holds.hold(3, b"a")
    assert waits(holds, 1, b"HOLD", b"a", b"b")
    assert waits(holds, 2, b"GET", b"b")  # it is free, and wanted by one that came before
    assert waits(holds, 3, b"GET", b"b", origin=THEM)
    assert not waits(holds, 4, b"GET", b"c")
    holds.let_go(3, b"a")
    assert freed(holds) == [1, 2, 3]


def test_who_wants_all_of_a_slot_waits_for_every_key_and_is_not_overtaken(holds: Holds) -> None:
    holds.hold(3, b"a")
    assert waits(holds, 1, b"ALL")
    assert waits(holds, 2, b"GET", b"z")
    assert not waits(holds, 3, b"PART")
    holds.let_go(3, b"a")
    assert freed(holds) == [1, 2]


def test_a_ticket_that_comes_again_waits_once(holds: Holds) -> None:
    holds.hold(3, b"a")
    for _ in range(3):
        assert waits(holds, 1, b"GET", b"a")
    assert waits(holds, 1, b"GET", b"a", origin=THEM)  # another one's
    holds.let_go(3, b"a")
    assert freed(holds) == [1, 1]


def test_what_is_behind_one_that_waits_waits_too(holds: Holds) -> None:
    """A client's commands are run in their order, whatever their keys."""
    holds.hold(3, b"a")
    assert waits(holds, 1, b"SET", b"a")
    assert waits(holds, 2, b"SET", b"c", after=1)
    assert not waits(holds, 3, b"SET", b"d", after=1, origin=THEM)


def test_who_has_met_a_held_key_on_its_way_waits_for_that(holds: Holds) -> None:
    holds.hold(3, b"hidden")
    assert not waits(holds, 1, b"MOVE", b"a")
    assert holds.must_wait(3, US, 1, (b"MOVE", b"a"), 0, b"hidden")
    assert waits(holds, 2, b"GET", b"hidden")
    holds.let_go(3, b"hidden")
    assert freed(holds) == [1, 2]


def test_everybody_comes_back_when_anything_is_let_go(holds: Holds) -> None:
    """And waits again, in the same order, if it must."""
    holds.hold(3, b"a")
    holds.hold(3, b"b")
    for ticket, key in ((1, b"b"), (2, b"a"), (3, b"b")):
        assert waits(holds, ticket, b"GET", key)
    assert not holds.let_go(3, b"a")
    (found,) = holds.take_freed()
    assert [waits(holds, w.ticket, *w.request) for w in found[1]] == [True, False, True]
    assert holds.let_go(3, b"b")
    assert freed(holds) == [1, 3]
    assert not any(number in holds for number in range(16))


def test_who_is_home_no_more_hands_all_of_them_on(holds: Holds) -> None:
    holds.hold(3, b"a")
    waits(holds, 1, b"GET", b"a")
    waits(holds, 2, b"ALL")
    assert [waiter.ticket for waiter in holds.drop(3)] == [1, 2]
    assert 3 not in holds
    assert holds.drop(3) == ()
    assert holds.take_freed() == []
    assert not waits(holds, 1, b"GET", b"a")


def test_what_has_been_held_for_long_is_known() -> None:
    clock = Clock()
    holds = Holds(clock, awaited)
    clock.at(1.0)
    holds.hold(3, b"a")
    clock.at(2.0)
    holds.hold(3, b"a")
    holds.hold(4, b"b")
    assert list(holds.old(1.0)) == [(3, b"a")]
    assert sorted(holds.old(2.0)) == [(3, b"a"), (4, b"b")]


def test_keys_are_had_in_turn_whatever_comes() -> None:
    """Beside a naive one: an operation is run when nothing that it wants is held, or wanted by one before it."""
    rng = random.Random(4)
    for _ in range(300):
        holds = Holds(Clock(), awaited)
        held: set[bytes] = set()
        queue: list[tuple[int, tuple[bytes, ...]]] = []
        for ticket in range(1, 30):
            key = rng.choice((b"a", b"b", b"c"))
            chance = rng.random()
            if chance < 0.3 and not any(key in request or request == (b"ALL",) for _, request in queue):
                holds.hold(3, key)
                held.add(key)
            elif chance < 0.5 and held:
                key = rng.choice(sorted(held))
                holds.let_go(3, key)
                held.discard(key)
                before, queue = queue, []
                for number, request in before:
                    if _must_wait(held, queue, request):
                        queue.append((number, request))
                found = [waiter for _, waiters in holds.take_freed() for waiter in waiters]
                assert [waiter.ticket for waiter in found] == [number for number, _ in before]
                still = [w.ticket for w in found if waits(holds, w.ticket, *w.request)]
                assert still == [number for number, _ in queue]
            else:
                request = (b"ALL",) if chance > 0.95 else (b"GET", *rng.sample((b"a", b"b", b"c"), rng.randrange(1, 3)))
                expected = _must_wait(held, queue, request)
                assert waits(holds, ticket, *request) is expected
                if expected:
                    queue.append((ticket, request))


def _must_wait(held: set[bytes], queue: list[tuple[int, tuple[bytes, ...]]], request: tuple[bytes, ...]) -> bool:
    if request == (b"ALL",):
        return bool(held or queue)
    wanted = set(request[1:])
    return bool(wanted & held) or any(other == (b"ALL",) or wanted & set(other[1:]) for _, other in queue)
