"""Epochs: numbering at birth, the table, what travels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.ring.keys import SLOTS
from peerkv.ring.topology import Owner, Topology


def born(*names: str) -> Topology:
    return Topology.birth(7, 3, [Owner(0, name, process) for process, name in enumerate(names, start=100)])


def test_members_are_numbered_in_order_of_name() -> None:
    topology = born("c", "a", "b")
    assert [(member.number, member.name) for member in topology.members] == [(1, "a"), (2, "b"), (3, "c")]
    assert (topology.epoch, topology.next_number) == (1, 4)
    assert topology.number_of(100) == 3
    assert topology.number_of(999) == 0


def test_slots_of_the_same_owners_share_a_quorum() -> None:
    topology = born("a", "b", "c", "d")
    assert len(topology.table) == SLOTS
    for row, quorum in zip(topology.table, topology.quorums, strict=True):
        assert set(row) == set(quorum.members)
    assert len({id(quorum) for quorum in topology.quorums}) == 4 * 3 * 2


def test_a_joint_epoch_has_the_owners_of_both() -> None:
    old = born("a", "b", "c")
    new = Owner(4, "d", 200)
    joint = Topology(7, 2, 3, old.members, (*old.members, new), 5)
    changing = [slot for slot, row in enumerate(joint.table) if 4 in row]
    assert 0.6 * SLOTS < len(changing) < 0.9 * SLOTS
    for slot, (row, quorum) in enumerate(zip(joint.table, joint.quorums, strict=True)):
        assert row[:3] == old.table[slot]
        assert bool(quorum.joint) == (4 in row)


def test_round_trip() -> None:
    topology = born("a", "b")
    again = Topology.from_wire(topology.to_wire())
    assert again == topology
    assert again.table == topology.table


@given(st.recursive(st.none() | st.integers() | st.text() | st.booleans(), st.lists, max_leaves=12))
def test_rubbish_is_refused(fields: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Topology.from_wire(fields)  # type: ignore[arg-type]
