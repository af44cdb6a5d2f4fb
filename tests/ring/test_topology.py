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


def test_slots_of_the_same_owners_are_of_one_kind() -> None:
    topology = born("a", "b", "c", "d")
    assert len(topology.kinds[0]) == SLOTS
    assert len(topology.orders) == len(topology.quorums) == 4 * 3 * 2
    for slot in range(SLOTS):
        assert set(topology.order(slot)) == set(topology.quorum(slot).members)


def test_a_joint_epoch_has_the_owners_of_both() -> None:
    old = born("a", "b", "c")
    joint = old.joined(old.members, [Owner(0, "d", 200)])
    assert joint.is_joint
    assert joint.members == old.members
    assert joint.number_of(200) == 4
    assert 0.6 * SLOTS < len(joint.changing) < 0.9 * SLOTS
    changing = set(joint.changing)
    for slot in range(SLOTS):
        assert joint.order(slot)[:3] == old.order(slot)
        assert bool(joint.quorum(slot).joint) == (4 in joint.order(slot)) == (slot in changing)
        assert bool(joint.changing_bits >> slot & 1) == (slot in changing)


def test_the_epoch_that_ends_a_change_has_the_next_members() -> None:
    old = born("a", "b", "c")
    joint = old.joined(old.members[1:], [Owner(0, "d", 200)])
    new = joint.finished()
    assert (new.epoch, new.is_joint, new.changing) == (3, False, [])
    assert [member.name for member in new.members] == ["b", "c", "d"]
    assert new.next_number == 5
    assert all(set(new.order(slot)) == {2, 3, 4} for slot in range(SLOTS))


def test_a_change_that_is_called_off_is_no_joint_epoch() -> None:
    old = born("a", "b", "c")
    joint = old.joined(old.members, [Owner(0, "d", 200)])
    assert joint.joined(old.members, []).next_members == ()
    assert joint.voters == old.voters


def test_round_trip() -> None:
    topology = born("a", "b")
    again = Topology.from_wire(topology.to_wire())
    assert again == topology
    assert again.kinds == topology.kinds


@given(st.recursive(st.none() | st.integers() | st.text() | st.booleans(), st.lists, max_leaves=12))
def test_rubbish_is_refused(fields: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Topology.from_wire(fields)  # type: ignore[arg-type]
