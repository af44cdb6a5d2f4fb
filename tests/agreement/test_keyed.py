"""Hashes and sets on real nodes in a simulated world: what a change ships, draws, pages, deadlines of fields."""

from __future__ import annotations

import pytest

from peerkv.resp import Reply
from peerkv.ring.keys import slot_of
from peerkv.store.values import Collection
from tests.agreement.test_catching_up import FEW, MANY, cost
from tests.agreement.test_nodes import ask, cluster, node
from tests.sim.world import World

KEY = b"keyed"
SLOT = slot_of(KEY, 255)


def owners(world: World) -> list[str]:
    return [name for name, host in world.hosts.items() if host.node is not None and host.node.view.slots[SLOT]]


def held(world: World, name: str) -> object:
    version, value, deadline = node(world, name).view.copies.cells[SLOT][KEY]
    assert isinstance(value, Collection)
    return version, list(value.parts()), deadline


def fill(world: World, kind: bytes, count: int) -> None:
    for first in range(0, count, 5000):
        names = [b"name:%08d" % number for number in range(first, min(first + 5000, count))]
        if kind == b"HSET":
            names = [word for name in names for word in (name, b"value")]
        ask(world, "db1", (kind, KEY, *names), within=0.2)
    world.run(world.now + 1.0)


@pytest.mark.parametrize(
    "change",
    [
        (b"HSET", KEY, b"name:00000003", b"x"),
        (b"HDEL", KEY, b"name:00000003"),
        (b"HEXPIRE", KEY, b"100", b"FIELDS", b"1", b"name:00000003"),
        (b"SADD", KEY, b"new"),
        (b"SPOP", KEY),
    ],
    ids=lambda change: change[0].decode(),
)
def test_a_change_ships_what_it_changes(change: tuple[bytes, ...]) -> None:
    """One element of 100,000 costs what one of 10 does."""
    costs = []
    for count in (FEW, MANY):
        world = cluster(3)
        fill(world, b"HSET" if change[0][:1] == b"H" else b"SADD", count)
        costs.append(cost(world, owners(world)[0], change))
    few, many = costs
    assert abs(many - few) < 200, costs


def test_pops_take_every_member_once_and_all_owners_have_what_is_left() -> None:
    """Who draws is the home; what it has drawn is told by name."""
    world = cluster(5)
    fill(world, b"SADD", 600)
    popped: list[Reply] = []
    for name in ("db1", "db2", "db3", "db4", "db5"):
        *one_by_one, many, drawn = ask(
            world, name, *[(b"SPOP", KEY)] * 50, (b"SPOP", KEY, b"30"), (b"SRANDMEMBER", KEY, b"2")
        )
        assert isinstance(many, list)
        assert isinstance(drawn, list)
        assert len(drawn) == 2
        popped += [*one_by_one, *many]
    assert len(popped) == len(set(popped)) == 400  # type: ignore[arg-type]
    first, *others = [held(world, name) for name in owners(world)]
    assert all(other == first for other in others)
    (left,) = ask(world, "db1", (b"SMEMBERS", KEY))
    assert isinstance(left, list)
    assert sorted([*popped, *left]) == [b"name:%08d" % number for number in range(600)]  # type: ignore[type-var]


def test_a_scan_goes_from_node_to_node() -> None:
    world = cluster(5)
    fill(world, b"SADD", 3000)
    found: list[Reply] = []
    cursor: Reply = b"0"
    pages = 0
    while True:
        pages += 1
        (page,) = ask(world, f"db{pages % 5 + 1}", (b"SSCAN", KEY, cursor, b"COUNT", b"300"), within=0.1)  # type: ignore[arg-type]
        assert isinstance(page, list)
        cursor = page[0]
        found += page[1]  # type: ignore[arg-type]
        if cursor == b"0":
            break
    assert sorted(found) == [b"name:%08d" % number for number in range(3000)]  # type: ignore[type-var]


def test_fields_expire_on_all_owners_by_what_the_home_says() -> None:
    """What has expired is removed by the next write; a hash of which all has expired is made anew by it."""
    world = cluster(5)
    ask(world, "db1", (b"HSET", KEY, b"a", b"1", b"b", b"2", b"c", b"3"), (b"PEXPIRE", KEY, b"60000"))
    ask(world, "db2", (b"HPEXPIRE", KEY, b"1500", b"FIELDS", b"2", b"a", b"b"), within=0.2)
    assert ask(world, "db3", (b"HMGET", KEY, b"a", b"b", b"c"), within=0.2) == [[b"1", b"2", b"3"]]
    world.run(world.now + 2.0)
    for name in ("db1", "db2", "db3", "db4", "db5"):
        assert ask(world, name, (b"HMGET", KEY, b"a", b"b", b"c"), (b"HLEN", KEY)) == [[None, None, b"3"], 1]
    assert ask(world, "db4", (b"HSET", KEY, b"a", b"4"), (b"HPEXPIRE", KEY, b"100", b"FIELDS", b"2", b"a", b"c")) == [
        1,
        [1, 1],
    ]
    assert ask(world, "db5", (b"HGETALL", KEY), (b"HSET", KEY, b"d", b"5"), (b"TTL", KEY)) == [[], 1, -1]
    first, *others = [held(world, name) for name in owners(world)]
    assert len(others) == 2
    assert all(other == first for other in others)
    assert first == (first[0], [("hset", 0, b"d", b"5")], 0)  # type: ignore[index]
