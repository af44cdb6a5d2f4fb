"""Which topology may follow which, as far as somebody who is told of one can see.

Topologies are agreed by the members (`agreement/epochs.py`); a node that was not there is told. Nobody signs what is
told, but a good deal of it follows from what one knows: numbers are given once, the number of copies stays, of two
epochs in a row the later one begins with the members that the earlier one ends with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from peerkv.ring.placement import WEIGHT_MAX
from peerkv.ring.topology import RECOVERY_BITS, Owner, Topology

MEMBER_MAX: Final = (1 << 16) - 1
"""As many numbers as a ballot has room for (`store/cell.py`)."""
RECOVERIES_MISSED_MAX: Final = 64
EPOCHS_MISSED_MAX: Final = 1 << 20
"""So many changes of the topology a node may have slept through: a change a second for 12 days."""
EPOCH_MAX: Final = (1 << 62) - 1
ID_MAX: Final = (1 << 63) - 1
REPLICAS_MAX: Final = 7
NAME_CHARACTERS_MAX: Final = 64


def doubt(ours: Topology | None, theirs: Topology) -> str:
    """Why a later topology that one is told cannot be; empty: it may well be."""
    return _malformed(theirs) or ("" if ours is None else _strange(ours, theirs))


def _malformed(theirs: Topology) -> str:
    """Why it is no topology at all."""
    if not 0 < theirs.epoch <= EPOCH_MAX or not 0 < theirs.cluster_id <= ID_MAX:
        return f"epoch {theirs.epoch} of cluster {theirs.cluster_id:x} is out of range"
    if not 1 <= theirs.replicas <= REPLICAS_MAX:
        return f"{theirs.replicas} copies of every key are not possible"
    if not theirs.members or not 1 <= theirs.next_number <= MEMBER_MAX + 1:
        return f"it has {len(theirs.members)} members and numbers up to {theirs.next_number}"
    for members in (theirs.members, theirs.next_members):
        fault = _members(members, theirs.next_number, theirs.out)
        if fault:
            return fault
    recovered = theirs.recoveries  # then two lives of one name may be members until it is over
    if not recovered and len({owner.name for owner in theirs.members}) != len(theirs.members):
        return "two of its members have one name"
    if len({owner.name for owner in theirs.next_members}) != len(theirs.next_members):
        return "two of its next members have one name"
    by_number = {owner.number: owner for owner in theirs.members}
    if any(not _same(by_number.get(owner.number, owner), owner) for owner in theirs.next_members):
        return "a number is of two members"
    return ""


def _members(members: Sequence[Owner], next_number: int, out: Collection[int]) -> str:
    """`out`: who was held for lost may have joined again, under another number."""
    for owner in members:
        if not 1 <= owner.number < next_number or not 0 < owner.process <= ID_MAX:
            return f"a member has number {owner.number} and process {owner.process}"
        if not 1 <= len(owner.name) <= NAME_CHARACTERS_MAX or not owner.name.isprintable():
            return "a member has no name"
        if len(owner.zone) > NAME_CHARACTERS_MAX or not owner.zone.isprintable():
            return "a member has a zone that is none"
        if not 1 <= owner.weight <= WEIGHT_MAX:
            return f"a member has weight {owner.weight}"
    for kind, values in (
        ("number", {owner.number for owner in members}),
        ("process", {owner.process if owner.number not in out else -owner.number for owner in members}),
    ):
        if len(values) != len(members):
            return f"two members have one {kind}"
    return ""


def _strange(ours: Topology, theirs: Topology) -> str:
    """Why it does not follow ours."""
    missed = theirs.recoveries - ours.recoveries
    count = theirs.epoch & ((1 << RECOVERY_BITS) - 1)
    changes = theirs.epoch - ours.epoch if not missed else count
    if theirs.cluster_id != ours.cluster_id:
        return "it is of another cluster"
    if not 0 <= missed <= RECOVERIES_MISSED_MAX or not 0 <= changes <= EPOCHS_MISSED_MAX:
        return f"epoch {theirs.epoch} is too far from {ours.epoch}"
    if theirs.replicas != ours.replicas:
        return f"{theirs.replicas} copies instead of {ours.replicas}"
    if theirs.slots != ours.slots:
        return f"{theirs.slots} slots instead of {ours.slots}"
    if theirs.next_number < ours.next_number:
        return "numbers are given again"
    known = ours.by_number
    everybody = {owner.number: owner for owner in (*theirs.members, *theirs.next_members)}
    for number, owner in everybody.items():
        if number < ours.next_number and (number not in known or not _same(known[number], owner)):
            return f"{owner.name} has the number of another member"
    if theirs.epoch == ours.epoch + 1:
        begins = {owner.number for owner in theirs.members}
        ends = [{owner.number for owner in ours.members}]
        if ours.is_joint and not theirs.is_joint:
            ends.append({owner.number for owner in ours.next_members})
        if begins not in ends:
            return "it does not begin with the members that are"
    elif known.keys().isdisjoint(everybody):
        return "it shares no member with ours"
    return ""


def _same(one: Owner, other: Owner) -> bool:
    return (one.number, one.name, one.process) == (other.number, other.name, other.process)
