"""The hot paths have `Slot.apply` in line, each for the changes that it meets most; they must not differ from it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from peerkv.commands.table import find_part
from peerkv.kernel.slot import Copies, Slot
from peerkv.resp import CommandError, Reply
from tests.agreement.by_hand import SLOT, SLOTS, Got, Owners, run
from tests.sim.history import frozen
from tests.sim.world import World

KEY = st.sampled_from([b"a", b"b", b"c"])
FAR = b"%d" % (1 << 50)

Requests = list[tuple[bytes, ...]]


def state(slot: Slot, copies: Copies) -> tuple[object, ...]:
    number = slot.number
    return (
        slot.position,
        slot.promised,
        {key: (version, frozen(value), bool(deadline)) for key, (version, value, deadline) in slot.cells.items()},
        slot.lineage,
        slot.tombstones,
        slot.live,
        slot.digest,
        copies.plain[number],
        number in copies.buried,
    )


def follow(slot: Slot, promised: int, to: int, changes: Sequence[tuple[bytes, bytes | None, int]] | None) -> None:
    """What a change means, by the book."""
    if slot.promised != promised:
        slot.promised = promised
    slot.apply(to, changes or ())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(b"APPEND"), KEY, st.just(b"x")),
            st.tuples(st.just(b"APPEND"), KEY, st.just(b"x"), st.just(FAR)),
            st.tuples(st.just(b"PATCH"), KEY, st.just(b"x")),
            st.tuples(st.just(b"PATCH"), KEY, st.just(b"x"), st.just(FAR)),
            st.tuples(st.just(b"TRY"), KEY, st.just(b"y")),
            st.tuples(st.just(b"DEL"), KEY),
            st.tuples(st.just(b"GET"), KEY),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 11), max_size=2),
)
def test_homes_and_owners(requests: Requests, taken_over: list[int]) -> None:
    """`taken_over`: where another owner becomes home."""
    owners = Owners()
    copies = Copies(SLOTS)
    model = copies.add(SLOT)
    got = Got()
    home = owners.members[0]
    for index, request in enumerate(requests):
        if index in taken_over:
            home = owners.members[(owners.members.index(home) + 1) % 3]
            home.takeover.want([SLOT])
            owners.deliver()
        changes, _ = run(model.cells, request, 0)
        home.write(got, index, *request)
        owners.deliver()
        follow(model, home.slot.promised, home.slot.position, changes)
        assert [state(member.slot, member.view.copies) for member in owners.members] == [state(model, copies)] * 3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(b"SET"), KEY, st.just(b"x")),
            st.tuples(st.just(b"SET"), KEY, st.just(b"x"), st.just(b"PXAT"), st.just(FAR)),
            st.tuples(st.just(b"SETNX"), KEY, st.just(b"y")),
            st.tuples(st.just(b"APPEND"), KEY, st.just(b"z" * 600)),
            st.tuples(st.just(b"SADD"), st.just(b"set"), st.sampled_from([b"1", b"2"])),
            st.tuples(st.just(b"SREM"), st.just(b"set"), st.sampled_from([b"1", b"2"])),
            st.tuples(st.just(b"RENAME"), st.just(b"set"), st.just(b"{set}2")),
            st.tuples(st.just(b"PEXPIRE"), st.just(b"set"), st.just(b"100000")),
            st.tuples(st.just(b"GETDEL"), KEY),
            st.tuples(st.just(b"GET"), KEY),
            st.tuples(st.just(b"INCR"), KEY),
        ),
        max_size=12,
    )
)
def test_a_node_by_itself(requests: Requests) -> None:
    world = World(1, SLOTS)
    world.cluster(1, master=False)
    world.run(2.0)
    node = world.hosts["db1"].node
    assert node is not None
    connection = world.connect("db1")
    assert connection is not None
    copies = Copies(SLOTS)
    replies: list[Reply] = []
    connection.on_reply = replies.append
    for request in requests:
        number = node.view.slot_of(request[1])
        slot = node.view.slots[number]
        model = copies.slots[number] or copies.add(number)
        row = find_part(request[0])
        assert slot is not None
        assert row is not None
        assert row.run is not None
        try:
            changes, reply = row.run(model.cells, request, node.clock.cluster_ms)
        except CommandError as error:
            changes, reply = (), error.reply
        connection.send(request)
        world.run(world.now + 0.1)
        assert replies.pop() == reply
        if changes:
            follow(model, slot.promised, slot.position, changes)
            assert state(slot, node.view.copies) == state(model, copies)
