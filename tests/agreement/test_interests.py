"""Who waits for which keys: who is woken, and what becomes of waiters that are gone, or that told the wrong node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peerkv.agreement import interests
from peerkv.agreement.interests import AGAIN_S, HEARD_WITHIN_S, LOOKS, TOLD_AGAIN_S, Interests
from tests.clients.alone import Alone, Client

MANY = 500


class Told:
    """A peer, and what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.heard: list[Any] = []

    def tell(self, *what: Any) -> None:
        self.heard.append(what)


class Place:
    """Interests of one slot, and what waiters are told."""

    def __init__(self) -> None:
        self.cells: dict[bytes, Any] = {}
        self.pushes = 0
        self.clock: Any = SimpleNamespace(now=1.0)
        view: Any = SimpleNamespace(copies=SimpleNamespace(cells=[self.cells]))
        self.woken: list[tuple[str, int]] = []
        self.astray: list[tuple[str, list[int]]] = []
        self.interests = Interests(
            self.clock,
            view,
            lambda peer, _key, waiter: self.woken.append((peer.name, waiter)),
            lambda peer, waiters: self.astray.append((peer.name, list(waiters))),
        )

    def wait(self, peer: Any, waiter: int, key: bytes = b"k") -> None:
        self.interests.wait(0, key, peer, waiter, everyone=False)

    def push(self, count: int) -> None:
        alone = Alone()
        Client(alone).ask((b"RPUSH", b"k", *[b"x"] * count))
        view = alone.node.view
        self.pushes += 1
        _, value, deadline = view.copies.cells[view.slot_of(b"k")][b"k"]
        self.cells[b"k"] = self.pushes, value, deadline
        self.interests.changed(0, [(b"k", None, 0)])


def test_as_many_are_woken_as_there_is_something_for_and_the_first_first() -> None:
    place, one, other = Place(), Told("one"), Told("other")
    for peer, waiter in ((one, 1), (other, 1), (one, 2)):
        place.wait(peer, waiter)
    place.push(2)
    assert place.woken == [("one", 1), ("other", 1)]


def test_who_has_not_got_it_is_woken_again_and_who_ends_makes_room() -> None:
    place, one = Place(), Told("one")
    place.wait(one, 1)
    place.wait(one, 2)
    place.push(1)
    place.push(1)
    assert place.woken == [("one", 1)], "it has not asked yet"
    place.interests.end(0, b"k", one, 1)  # type: ignore[arg-type]
    assert place.woken[1:] == [("one", 2)]
    place.clock.now += AGAIN_S * 2
    place.push(1)
    assert place.woken[2:] == [("one", 2)]


def test_who_cannot_be_told_is_in_nobodys_way_and_is_told_when_it_can_be() -> None:
    """Seed 1201272: a node is killed, and its last word, that somebody waits there, is read after its link is found
    broken. Its place is the first, and whatever is pushed is kept for it: a waiter of another node had nothing for
    ever."""
    place, dead, lives = Place(), Told("dead"), Told("lives")
    dead.up = False
    place.wait(dead, 1)
    place.wait(lives, 1)
    place.push(1)
    assert place.woken == [("lives", 1)]
    dead.up = True
    place.interests.met(dead)  # type: ignore[arg-type]
    assert place.woken[1:] == [("dead", 1)]
    dead.up = False
    place.interests.lost(dead)  # type: ignore[arg-type]
    dead.up = True
    place.interests.met(dead)  # type: ignore[arg-type]
    assert place.woken[2:] == [("dead", 1)], "what it was told may have been lost"


def test_a_reader_that_could_not_be_told_is_told_when_it_can_be() -> None:
    """Its node is known before the link to it stands; what it waits for came in between, and nothing comes later."""
    place, one = Place(), Told("one")
    one.up = False
    for _ in range(2):
        place.interests.wait(0, b"k", one, 1, everyone=True)  # type: ignore[arg-type]
        place.push(1)
    assert place.woken == []
    one.up = True
    place.interests.met(one)  # type: ignore[arg-type]
    assert place.woken == [("one", 1)]


def test_who_is_woken_and_does_not_come_is_in_nobodys_way_for_long() -> None:
    """Its node stands still, and will for minutes; what was pushed is there, and others wait for it."""
    place, still, other = Place(), Told("still"), Told("other")
    place.wait(still, 1)
    place.wait(other, 1)
    place.push(1)
    place.interests.look()
    assert place.woken == [("still", 1)]
    place.clock.now += AGAIN_S * 1.5
    place.interests.look()
    assert place.woken[1:] == [("still", 1), ("other", 1)]


def test_who_does_not_want_what_is_there_leaves_it_to_those_behind() -> None:
    """One waits for a list, another one behind it for a sorted set; what comes is a sorted set."""
    place, one, other = Place(), Told("one"), Told("other")
    place.wait(one, 1)
    place.wait(other, 2)
    place.push(1)
    place.wait(one, 1)
    assert place.woken == [("one", 1), ("other", 2)]


def test_who_is_not_heard_of_any_more_is_forgotten() -> None:
    """That it waits no more was lost with a link; there is room for so many waiters only."""
    place, one, other = Place(), Told("one"), Told("other")
    place.wait(one, 1)
    place.wait(other, 1)
    for _ in range(LOOKS + 2):
        place.clock.now += HEARD_WITHIN_S / LOOKS
        place.wait(other, 1)
        place.interests.look()
    assert place.interests.waiters == 1
    place.clock.now += HEARD_WITHIN_S * 2
    place.interests.look()
    assert place.interests.waiters == 0
    assert place.interests.of_slot == {}


def test_who_does_not_want_what_is_there_is_not_woken_for_it_over_and_over() -> None:
    """It would ask as fast as it can, for ever (a key of another type)."""
    place, one = Place(), Told("one")
    place.wait(one, 1)
    place.push(1)
    for _ in range(5):
        place.wait(one, 1)
    assert place.woken == [("one", 1)]
    place.push(2)
    assert place.woken == [("one", 1)] * 2
    place.clock.now += AGAIN_S * 2
    place.interests.look()
    assert place.woken == [("one", 1)] * 3, "it has not come"
    for _ in range(5):
        place.wait(one, 1)
        place.interests.look()
    assert place.woken == [("one", 1)] * 3
    place.clock.now += TOLD_AGAIN_S * 2
    place.wait(one, 1)
    assert place.woken == [("one", 1)] * 4, "perhaps it was not heard"


def test_who_told_a_home_that_is_one_no_more_is_told_so_once() -> None:
    place, one, other = Place(), Told("one"), Told("other")
    place.wait(one, 1)
    place.wait(one, 1, b"l")
    place.wait(other, 7)
    place.interests.drop(0)
    assert sorted(place.astray) == [("one", [1]), ("other", [7])]
    assert place.interests.waiters == 0


def test_there_are_no_more_waiters_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interests, "WAITERS_MAX", 3)
    place, one = Place(), Told("one")
    for waiter in range(10):
        place.wait(one, waiter, b"%d" % (waiter % 5))
    assert place.interests.waiters == 3
    for _ in range(LOOKS):
        place.clock.now += HEARD_WITHIN_S
        place.interests.look()
    assert place.interests.waiters == 0
    assert place.interests.of_slot == {}


class Counted(Told):
    """It counts how often anybody asks whether it can be told."""

    asked = 0

    @property
    def up(self) -> bool:
        Counted.asked += 1
        return True

    @up.setter
    def up(self, _up: bool) -> None: ...


@pytest.mark.parametrize("everyone", [False, True])
def test_of_many_that_wait_for_a_key_one_is_no_work_for_the_others(
    monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    """A job in a queue of 10,000 workers had each of them looked at, and so had each worker that asked."""
    place, peer = Place(), Counted("one")
    monkeypatch.setattr(Counted, "asked", 0)
    for _ in range(2):
        for waiter in range(MANY):
            place.interests.wait(0, b"k", peer, waiter, everyone=everyone)
    assert Counted.asked <= 2 * MANY
    place.woken.clear()
    place.push(1)
    assert len(place.woken) == (MANY if everyone else 1)
    assert Counted.asked <= 3 * MANY if everyone else 2 * MANY + 2
    before = Counted.asked
    for waiter in range(MANY):
        place.interests.end(0, b"k", peer, waiter)
    assert Counted.asked - before <= 3 * MANY
    assert place.interests.of_slot == {}


def test_who_does_not_want_what_is_there_says_so_again_without_work_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, peer = Place(), Counted("one")
    for waiter in range(MANY):
        place.wait(peer, waiter)
    place.push(MANY)
    assert len(place.woken) == MANY
    for waiter in range(MANY):
        place.wait(peer, waiter)
    monkeypatch.setattr(Counted, "asked", 0)
    place.clock.now += TOLD_AGAIN_S + 1
    for waiter in range(MANY):
        place.wait(peer, waiter)
    assert len(place.woken) == 2 * MANY, "each is told once more"
    assert Counted.asked <= MANY


def test_a_waiter_that_is_gone_is_said_to_be_gone_when_it_is_woken() -> None:
    alone, peer = Alone(), Told("home")
    waits = Client(alone)
    waits.ask((b"BLPOP", b"k", b"0"))
    blocking = alone.node.dispatcher.blocking
    (number,) = blocking._waiters
    gone: Any = peer
    blocking.woken(gone, [b"k", b"l"], [number, number + 1])
    assert peer.heard == [("awaits_no_more", [b"l"], [number + 1])]


def test_who_is_not_home_says_so() -> None:
    alone, peer = Alone(), Told("waiter's")
    home = alone.node.home
    number = home.view.slot_of(b"k")
    waiters: Any = peer
    del home.homes[number]
    home.take_interest(waiters, [b"k", b"k"], [4, 5], [0, 0])
    assert peer.heard == [("astray", [4, 5])]
    assert home.interests.waiters == 0
