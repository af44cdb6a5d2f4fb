"""What a change of a large collection costs, and who has missed some of them: real nodes in a simulated world."""

from __future__ import annotations

from typing import Any

import pytest

from peerkv.agreement import handout, journal
from peerkv.agreement.operation import Message, Missed, Page
from peerkv.ring.keys import slot_of
from peerkv.store.values import Collection
from tests.agreement.test_nodes import ask, cluster, node
from tests.sim.world import World

KEY = b"list"
SLOT = slot_of(KEY, 255)
FEW = 10
MANY = 100_000


def fill(world: World, count: int, name: str = "db1") -> None:
    for first in range(0, count, 5000):
        elements = [b"element:%08d" % number for number in range(first, min(first + 5000, count))]
        ask(world, name, (b"RPUSH", KEY, *elements), within=0.2)
    world.run(world.now + 1.0)


def owners(world: World) -> list[str]:
    return [name for name, host in world.hosts.items() if host.node is not None and host.node.view.slots[SLOT]]


def home(world: World) -> str:
    return next(name for name in owners(world) if SLOT in node(world, name).home.homes)


def held(world: World, name: str) -> Any:
    cell = node(world, name).view.copies.cells[SLOT].get(KEY)
    assert cell is not None
    value = cell[1]
    return cell[0], list(value.parts()) if isinstance(value, Collection) else value


def answers(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What a node answers those that fetch its copy of the slot, from now on."""
    given: list[Message] = []
    replica = node(world, name).replica
    answer = replica.answer

    def noted(message: Message) -> Message:
        found = answer(message)
        if isinstance(found, (Page, Missed)) and getattr(message, "slot", None) == SLOT:
            given.append(found)
        return found

    monkeypatch.setattr(replica, "answer", noted)
    return given


def cut(world: World, name: str) -> None:
    """What is sent there is lost."""
    for other in world.hosts:
        world.cuts |= {(name, other), (other, name)}
        if other != name:
            for link in (
                world.hosts[other].links.get(node(world, name).process),
                world.hosts[name].links.get(node(world, other).process),
            ):
                if link is not None:
                    link.break_()


def cost(world: World, name: str, *requests: tuple[bytes, ...]) -> int:
    """Bytes in all frames while these are done, beyond what is said anyhow."""
    before = world.frame_bytes
    world.run(world.now + 1.0)
    idle = world.frame_bytes - before
    before = world.frame_bytes
    replies = ask(world, name, *requests)
    assert len(replies) == len(requests)
    assert not any(type(reply).__name__ == "ReplyError" for reply in replies), replies
    return world.frame_bytes - before - idle


@pytest.mark.parametrize(
    "change", [(b"LPUSH", KEY, b"x"), (b"LPOP", KEY), (b"LSET", KEY, b"3", b"y"), (b"EXPIRE", KEY, b"90")]
)
def test_a_change_ships_what_it_changes(change: tuple[bytes, ...]) -> None:
    """One element of a list of 100,000 costs what one of a list of 10 does."""
    costs = []
    for count in (FEW, MANY):
        world = cluster(3)
        fill(world, count)
        costs.append(cost(world, owners(world)[0], change))
    few, many = costs
    assert abs(many - few) < 200, costs


def test_a_read_of_a_part_ships_that_part() -> None:
    """A node without a copy fetched the whole value, twice."""
    world = cluster(5)
    fill(world, MANY)
    stranger = next(name for name in world.hosts if name not in owners(world) and name != "master")
    (reply,) = ask(world, stranger, (b"LRANGE", KEY, b"0", b"9"))
    assert reply == [b"element:%08d" % number for number in range(10)]
    assert cost(world, stranger, (b"LRANGE", KEY, b"0", b"9")) < 1500


def test_who_was_cut_off_gets_what_it_has_missed_and_not_the_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster(3)
    fill(world, MANY)
    first = home(world)
    away = next(name for name in owners(world) if name != first)
    given = answers(world, first, monkeypatch)
    cut(world, away)
    for number in range(40):
        ask(world, first, (b"RPUSH", KEY, b"missed:%d" % number), (b"LPOP", KEY), within=0.02)
    world.heal()
    world.run(world.now + 3.0)
    assert held(world, away) == held(world, first)
    assert given
    assert all(isinstance(answer, Missed) for answer in given)
    assert sum(len(columns[0]) for answer in given for _, columns in answer.accepts.segments) <= 120  # type: ignore[union-attr]


@pytest.mark.parametrize("known", [True, False])
def test_a_value_goes_in_parts_while_it_is_changed(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """With what was done to it meanwhile behind them, or, if that is not known any more, begun anew."""
    monkeypatch.setattr(handout, "PAGE_BYTES_MAX", 100_000)
    world = cluster(3)
    fill(world, 20_000)
    first = home(world)
    away = next(name for name in owners(world) if name != first)
    given = answers(world, first, monkeypatch)
    cut(world, away)
    monkeypatch.setattr(journal, "BYTES_MAX", 0)
    ask(world, first, (b"RPUSH", KEY, b"unknown"), within=0.3)
    monkeypatch.setattr(journal, "BYTES_MAX", 8 << 20 if known else 0)
    world.heal()
    until = world.now + 0.3
    number = 0
    while world.now < until:
        number += 1
        ask(world, first, (b"RPUSH", KEY, b"meanwhile:%d" % number), (b"LPOP", KEY), within=0.001)
    world.run(world.now + 8.0)
    assert held(world, away) == held(world, first)
    pages = [answer for answer in given if isinstance(answer, Page)]
    assert len(pages) >= 4
    parts = sum(
        len(content) for page in pages for content in page.cells[2::5] if type(content) is list and len(content) > 0
    )
    assert parts < 60 or not known, "it was sent again, though what was done to it is known"


def test_a_journal_has_a_bound() -> None:
    """10,000 turns of 10 kB are not kept."""
    world = cluster(3)
    for number in range(60):
        ask(world, "db1", *((b"SET", b"k%d" % (number * 50 + more), bytes(10_000)) for more in range(50)), within=0.05)
    for name in ("db1", "db2", "db3"):
        kept = node(world, name).replica.journal
        assert kept.size <= journal.BYTES_MAX
        assert 0 < len(kept) <= journal.TURNS_MAX
        total = sum(
            len(body or b"") for turn in kept._turns for _, columns in turn.accepts.segments for body in columns[3]
        )
        assert total <= journal.BYTES_MAX
