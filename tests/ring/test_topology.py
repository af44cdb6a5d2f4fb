"""Epochs: numbering at birth, the table, what travels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerkv.ring.keys import SLOTS
from peerkv.ring.topology import Owner, Topology, describe_epoch


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


# -- losses


def slots_of(topology: Topology, *numbers: int) -> list[int]:
    """Slots that these own, and others perhaps, before the change."""
    kinds, rows = topology.kinds
    return [slot for slot, kind in enumerate(kinds) if {*numbers} <= {*rows[kind][0]}]


def test_the_lost_are_made_up_for_by_more_of_the_others() -> None:
    old = born("a", "b", "c", "d")
    joint = old.joined(old.members[1:], [Owner(0, "a", 200)], lost=[1])
    assert joint.lost == (1,)
    assert joint.number_of(100) == 0
    assert joint.number_of(200) == 5
    for slot in slots_of(old, 1):
        assert 1 not in joint.order(slot)
        left = [number for number in old.order(slot) if number != 1]
        assert joint.quorum(slot).won_by_members(left)
        assert not joint.quorum(slot).won_by_members(left[:1])
    assert joint.voters.members == (2, 3, 4)
    untouched = slot_without(old, 1)
    assert joint.quorum(untouched).members == old.quorum(untouched).members
    assert not joint.unsettled_bits >> untouched & 1
    assert joint.unsettled_bits.bit_count() == len(slots_of(old, 1))


def slot_without(topology: Topology, number: int) -> int:
    return next(slot for slot in range(SLOTS) if number not in topology.order(slot))


def test_once_all_is_settled_the_next_loss_finds_the_lost_as_if_they_had_never_been() -> None:
    old = born("a", "b", "c")
    joint = old.joined(old.members[1:], [Owner(0, "a", 200)], lost=[1])
    at_once = joint.joined([joint.next_members[1], joint.next_members[2]], [], lost=[2])
    assert not any(quorum.possible for quorum in at_once.quorums)
    settled = joint.settled_down()
    assert (settled.lost, settled.settled, settled.unsettled_bits) == ((), (1,), 0)
    later = settled.joined([joint.next_members[1], joint.next_members[2]], [], lost=[2])
    for slot in range(SLOTS):
        assert later.quorum(slot).won_by_members({3})
    assert later.voters.members == (3,)


def test_a_majority_of_the_voters_decides_and_where_some_are_lost_as_many_as_meet_it() -> None:
    present = born("a", "b", "c", "d")
    assert not present.voters.won({1, 2})
    assert present.voters_without({3}).won({1, 2})
    assert not present.voters_without({1, 2, 3}).possible


def test_a_recovery_keeps_what_is_left_and_is_later_than_whatever_the_lost_have_decided() -> None:
    old = born("a", "b", "c", "d", "e")
    after = old.recovered([old.by_number[3], Owner(0, "a", 200), old.by_number[4], old.by_number[5]], {1, 2})
    assert (after.epoch, describe_epoch(after.epoch), after.recoveries) == (1 << 32, "1.0", 1)
    assert [member.name for member in after.next_members] == ["c", "d", "e", "a"]
    for slot in slots_of(old, 1, 2):
        left = [number for number in old.order(slot) if number > 2]
        assert after.quorum(slot).won_by_members(left)
        assert not after.quorum(slot).won_by_members([])
        assert after.is_compared(slot)
    whole = next(slot for slot in range(SLOTS) if not {1, 2} & {*old.order(slot)})
    assert after.quorum(whole).members == old.order(whole)
    assert after.quorum(whole).need == 2
    assert not after.is_compared(whole)
    again = Topology.from_wire(after.to_wire())
    assert again == after
    assert again.quorums == after.quorums
    done = after.settled_down().finished()
    assert (done.kept, done.lost, done.settled, describe_epoch(done.epoch)) == (None, (), (), "1.2")


def test_a_recovery_keeps_copies_of_the_change_that_it_overtakes() -> None:
    """Who was filled may be the only one left."""
    old = born("a", "b", "c")
    joint = old.joined(old.members[1:], [Owner(0, "a", 200)], lost=[1])
    after = joint.recovered([joint.by_number[4]], {2, 3})
    assert {member.number for member in after.members} == {1, 2, 3, 4}
    for slot in range(SLOTS):
        assert after.order(slot) == (4,)
        assert after.quorum(slot).won({4})


def test_a_slot_of_which_nobody_has_a_copy_begins_anew() -> None:
    old = born("a", "b", "c", "d")
    newcomers = [Owner(0, name, process) for process, name in enumerate("abc", start=200)]
    after = old.recovered([*newcomers, old.by_number[4]], {1, 2, 3})
    for slot in slots_of(old, 1, 2, 3):
        assert not after.quorum(slot).joint
        assert after.quorum(slot).need == 2
        assert not after.is_compared(slot)


def test_who_is_lost_in_the_middle_of_a_recovery_takes_what_only_it_had() -> None:
    old = born("a", "b", "c", "d", "e")
    after = old.recovered([owner for owner in old.members if owner.number > 2], {1, 2})
    slot = next(slot for slot in slots_of(old, 1, 2) if 3 in old.order(slot))
    assert not after.quorums_without({3})[after.kinds[0][slot]].possible
    assert after.settled_down().quorums_without({})[after.kinds[0][slot]].possible
