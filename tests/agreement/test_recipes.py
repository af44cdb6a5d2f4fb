"""Replies that their owners have already, as what a key held before: they travel as a recipe, and are remembered as
they are (protocol rule A7). Real nodes in a simulated world."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerkv.agreement import journal
from peerkv.agreement.operation import Message, Missed, Page
from peerkv.agreement.packing import pack_accepts, unpack_accepts
from peerkv.agreement.turn import Accepts
from peerkv.cbor import FORMER, dump, load
from peerkv.kernel import batches
from peerkv.kernel.batches import RECIPE_BYTES
from peerkv.resp import Reply
from peerkv.ring.keys import slot_of
from peerkv.store import recent as remembered
from peerkv.store.recent import DROPPED
from tests.agreement.by_hand import SLOT, SLOTS, Got, Member, Owners
from tests.agreement.test_catching_up import cost
from tests.agreement.test_nodes import ask, cluster, node
from tests.sim.world import World

KEY = b"list"
NUMBER = slot_of(KEY, 255)
LARGE = 1_000_000
RETURN_THE_OLD: list[tuple[bytes, ...]] = [
    (b"GETSET", KEY, b"n" * LARGE),
    (b"SET", KEY, b"n" * LARGE, b"GET"),
    (b"SET", KEY, b"n" * LARGE, b"XX", b"GET", b"KEEPTTL"),
    (b"GETDEL", KEY),
    (b"GETEX", KEY, b"PX", b"100000"),
    (b"GETEX", KEY, b"PX", b"100000"),
    (b"GETEX", KEY, b"PERSIST"),
]


def owners(world: World) -> list[str]:
    return [name for name, host in world.hosts.items() if host.node is not None and host.node.view.slots[NUMBER]]


def home(world: World) -> str:
    return next(name for name in owners(world) if NUMBER in node(world, name).home.homes)


def known(world: World, name: str) -> list[Reply]:
    """What a node remembers of operations that were answered with a string."""
    return [
        reply
        for operations in node(world, name).replica.recent.values()
        for reply in operations.values()
        if type(reply) is not str
    ]


@pytest.mark.parametrize("request_", RETURN_THE_OLD, ids=lambda request: b" ".join(request)[:40].decode())
@pytest.mark.parametrize("data", [3, 5])
def test_the_old_value_is_not_sent_again(request_: tuple[bytes, ...], data: int) -> None:
    """From a node that is an owner, and no home, and from one that has no copy and gets the reply from the home."""
    world = cluster(data)
    ask(world, "db1", (b"SET", KEY, b"o" * LARGE, b"PX", b"90000"), within=2.0)
    of = [name for name in owners(world) if name != home(world)]
    name = of[0] if data == 3 else next(name for name in world.hosts if name not in owners(world) and name != "master")
    shipped = cost(world, name, request_)
    values = sum(len(argument) == LARGE for argument in request_)
    travels = 3 * values if data == 3 else 3 * values + 1
    assert shipped < travels * LARGE + 10_000
    assert shipped > (travels - 1) * LARGE if travels else True


def test_everybody_remembers_it_as_it_is() -> None:
    world = cluster(3)
    value = b"o" * RECIPE_BYTES
    ask(world, "db1", (b"SET", KEY, value))
    first = home(world)
    other = next(name for name in owners(world) if name != first)
    connection = world.connect(other)
    assert connection is not None
    replies: list[Reply] = []
    connection.on_reply = replies.append
    connection.send((b"GETSET", KEY, b"n" * 300), (b"SET", KEY, b"m" * 300, b"GET"), (b"APPEND", KEY, b"x"))
    connection.send((b"GETEX", KEY, b"PX", b"50000"), (b"GETDEL", KEY))
    while len(replies) < 5:
        world.run(world.now + 0.001)
    expected = [value, b"n" * 300, 301, b"m" * 300 + b"x", b"m" * 300 + b"x"]
    assert replies == expected
    world.run(world.now + 0.005)
    for name in owners(world):
        assert [reply for reply in known(world, name) if reply in expected] == expected, name
        assert node(world, name).replica.counters.mended == 0


def repeated(net: Owners, got: Got, home: Member, *replies: Reply) -> None:
    """The home dies, whose word has not reached the coordinator: that one asks another, which becomes home."""
    first = net.members[0]
    assert not got.replies
    net.cut_apart(first, *net.members[1:])
    home.takeover.want([SLOT])
    net.cut_apart(net.members[3], *[member for member in net.members[1:3] if member is not home])
    net.pass_time(1.0)
    assert SLOT in home.home.homes
    assert list(got.replies.values()) == list(replies)  # type: ignore[attr-defined]


SWAPS: list[tuple[bytes, ...]] = [
    (b"SWAP", b"k", b"n" * 600),
    (b"TOUCH", b"k"),
    (b"SWAP", b"k", b"m" * 600),
    (b"TAKE", b"k"),
]
SWAPPED = b"o" * 500, b"n" * 600, b"n" * 600, b"m" * 600


def begun() -> Owners:
    net = Owners(4, 3)
    net.members[0].write(Got(), 0, b"APPEND", b"k", b"o" * 500)
    net.deliver()
    return net


def test_another_home_repeats_it() -> None:
    """It is what was there before the change, which the next home does not hold any more but for that."""
    net = begun()
    first, second, _, coordinator = net.members
    net.cut = {(first.name, coordinator.name)}
    got = Got()
    for index, swap in enumerate(SWAPS):
        coordinator.write(got, index, *swap)
    net.deliver()
    repeated(net, got, second, *SWAPPED)


@pytest.mark.parametrize("by_changes", [True, False])
def test_who_has_missed_the_change_repeats_it(monkeypatch: pytest.MonkeyPatch, by_changes: bool) -> None:
    """By the changes, each of which finds before it what it needs, or by the copy, with which the replies come."""
    net = begun()
    first, _, third, coordinator = net.members
    if not by_changes:
        monkeypatch.setattr(journal, "BYTES_MAX", 0)
    given: list[type] = []
    answer = first.replica.answer
    monkeypatch.setattr(first.replica, "answer", lambda message: noted(given, answer(message)))
    got = Got()
    net.cut = {(first.name, coordinator.name), (first.name, third.name)}
    for index, swap in enumerate(SWAPS):
        coordinator.write(got, index, *swap)
    net.deliver()
    net.stalled.clear()
    net.cut = {(first.name, coordinator.name)}
    assert third.slot.position < first.slot.position
    first.peer(third).probe(SLOT, first.slot.position, urgent=True)
    net.deliver()
    assert third.slot.position == first.slot.position
    assert given == [Missed if by_changes else Page]
    repeated(net, got, third, *SWAPPED)


def noted(given: list[type], message: Message) -> Message:
    given.append(type(message))
    return message


TEXTS = st.sampled_from([b"s", b"l" * RECIPE_BYTES, b"L" * 2 * RECIPE_BYTES])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"SWAP", b"TAKE", b"TOUCH", b"PATCH"]), st.sampled_from([b"a", b"b"]), TEXTS)),
    st.sets(st.integers(0, 12), max_size=3),
    st.sets(st.integers(0, 12), max_size=3),
    st.integers(3, 4),
)
def test_whatever_comes_all_remember_what_the_home_has_answered(
    requests: list[tuple[bytes, ...]], turns: set[int], away: set[int], count: int
) -> None:
    """`turns`: where one ends. `away`: which of them an owner does not get when it is due; it catches up. `count`:
    three that are owners, and perhaps a coordinator that is none."""
    net = Owners(count, 3)
    first, second, third = net.members[:3]
    coordinator = net.members[-1]
    got = Got()
    coordinator.write(got, -1, b"GET", b"a")
    net.deliver()
    tickets = []
    for index, request in enumerate(requests):
        if index in turns:
            net.cut |= {(first.name, third.name)} if index in away else set()
            net.deliver()
            net.cut.clear()
        tickets.append(coordinator.write(got, index, *request))
    net.deliver()
    first.home.write_nothing(first.home.homes[SLOT])
    net.pass_time(0.5)
    process = coordinator.view.me.process
    for owner in (first, second, third):
        assert owner.slot.position == first.slot.position
        for index, ticket in enumerate(tickets):
            reply = owner.replica.recent[process].get(ticket, got.replies[index])
            assert reply == got.replies[index]
    assert {third.replica.counters.mended, second.replica.counters.mended} == {0}


def test_an_owner_whose_key_holds_no_string_has_another_copy() -> None:
    """It is replaced as a whole, and what it cannot know is learnt with that."""
    net = Owners()
    first, second, third = net.members
    got = Got()
    first.write(got, 0, b"APPEND", b"k", b"o" * 300)
    net.deliver()
    version, _, deadline = third.slot.cells[b"k"]
    third.slot.cells[b"k"] = (version, None, deadline)
    ticket = third.write(got, 1, b"SWAP", b"k", b"n")
    net.deliver()
    assert got.replies[1] == b"o" * 300
    assert third.slot.cells == second.slot.cells == first.slot.cells
    assert third.replica.counters.mended == 1
    assert third.replica.recent[third.view.me.process].get(ticket) == b"o" * 300


def test_a_copy_that_came_first_brings_the_reply() -> None:
    """The change comes when it has been fetched (A4): what it answered is not what the key holds now."""
    net = Owners()
    first, _, third = net.members
    got = Got()
    first.write(got, 0, b"APPEND", b"k", b"o" * 300)
    net.deliver()
    net.cut = {(first.name, third.name)}
    ticket = first.write(got, 1, b"SWAP", b"k", b"n" * 300)
    net.deliver()
    (late,) = net.stalled.pop((first.name, third.name))
    net.cut.clear()
    first.home.write_nothing(first.home.homes[SLOT])
    net.deliver()
    assert third.slot.position == first.slot.position
    for known_ in (True, False):
        if not known_:
            del third.replica.recent[first.view.me.process][ticket]
        before = dict(third.slot.cells)
        net.receive(third, third.peer(first), late)
        assert third.slot.cells == before
        assert third.replica.recent[first.view.me.process].get(ticket) == (b"o" * 300 if known_ else None)
    assert third.replica.counters.mended == 0


def test_what_is_remembered_by_recipe_has_the_bound_of_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes make another value of a MB, and the next few ask for it: that is no traffic, but it is kept."""
    monkeypatch.setattr(remembered, "BYTES_MAX", 20 * LARGE)
    world = cluster(3)
    ask(world, "db1", (b"SET", KEY, b"o" * LARGE), within=2.0)
    name = next(name for name in owners(world) if name != home(world))
    number = node(world, name).coordinator.reserve(NUMBER)  # a mark that stands still
    for _ in range(60):
        ask(world, name, (b"APPEND", KEY, b"x"), (b"GETEX", KEY, b"PX", b"80000"), within=0.05)
    node(world, name).coordinator.release(number)
    for owner in owners(world):
        replies = known(world, owner)
        assert DROPPED in replies
        kept = sum([len(reply) for reply in replies if type(reply) is bytes])
        assert kept <= 20 * LARGE + remembered.TRIM_BYTES + 2 * LARGE


def test_small_replies_and_others_travel_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Owners()
    first = net.members[0]
    sent: list[Accepts] = []
    note = first.replica.journal.note

    def noting(accepts: Accepts) -> None:
        sent.append(accepts)
        note(accepts)

    monkeypatch.setattr(first.replica.journal, "note", noting)
    got = Got()
    first.write(got, 0, b"SWAP", b"k", b"o" * (RECIPE_BYTES - 1))
    first.write(got, 1, b"SWAP", b"k", b"o" * RECIPE_BYTES)
    first.write(got, 2, b"SWAP", b"k", b"n")
    first.write(got, 3, b"APPEND", b"k", b"o" * RECIPE_BYTES)
    net.deliver()
    replies = [reply for accepts in sent for _, columns in accepts.segments for reply in columns[5]]
    assert replies == [None, b"o" * (RECIPE_BYTES - 1), FORMER, b"n" + b"o" * RECIPE_BYTES]
    assert [got.replies[2], first.replica.recent[first.view.me.process][max(first.replica.recent[1])]] == [
        b"o" * RECIPE_BYTES,
        b"n" + b"o" * RECIPE_BYTES,
    ]


def turn(key: object, reply: object, process: int = 7) -> list[object]:
    columns = [[1 << 14 | SLOT], [5], [key], [b"v" if type(key) is bytes else None], [0], [reply]]
    packed = pack_accepts(Accepts([(process, columns)], {}, {}, awaited=False))  # type: ignore[list-item]
    content = load(dump(packed))
    assert isinstance(content, list)
    return content


def test_a_recipe_is_taken_where_there_may_be_one() -> None:
    accepts = unpack_accepts(turn(b"k", FORMER), SLOTS)
    assert accepts.recipes == {0: [0]}
    assert accepts.segments[0][1][5] == [FORMER]
    assert unpack_accepts(turn(b"k", "OK"), SLOTS).recipes == {}


@pytest.mark.parametrize(("key", "reply"), [(None, FORMER), ([b"k", b"v", 0], FORMER), (b"k", [FORMER])])
def test_elsewhere_it_is_refused(key: object, reply: object) -> None:
    """Nothing that it could be found in, or no place for one."""
    with pytest.raises(ValueError, match=r"recipe|reply"):
        unpack_accepts(turn(key, reply), SLOTS)


def test_one_recipe_for_several_operations_is_refused() -> None:
    content = turn(b"k", "OK")
    (segment,) = (content[0],)
    assert isinstance(segment, list)
    segment[1:6] = [segment[1] * 2, segment[2] * 2, segment[3] * 2, segment[4] * 2, b""]
    assert len(unpack_accepts(content, SLOTS).segments[0][1][5]) == 2
    segment[6] = [FORMER]
    with pytest.raises(ValueError, match="as many replies"):
        unpack_accepts(content, SLOTS)


def test_the_home_alone_decides_what_is_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """With none at all everything is as it was: what the bound says is a matter of cost."""
    monkeypatch.setattr(batches, "RECIPE_BYTES", 1 << 40)
    world = cluster(3)
    ask(world, "db1", (b"SET", KEY, b"o" * LARGE), within=2.0)
    name = next(name for name in owners(world) if name != home(world))
    shipped = cost(world, name, (b"GETSET", KEY, b"n" * LARGE))
    assert shipped > 5 * LARGE
