"""What a node is told of its cluster must follow from what it knows; all that agreement makes does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from peerkv.ring.succession import EPOCHS_MISSED_MAX, doubt
from peerkv.ring.topology import Owner, Topology

OURS = Topology.birth(7, 3, [Owner(0, f"db{number}", 100 + number) for number in range(1, 5)])
JOINT = OURS.joined(OURS.members[1:], [Owner(0, "db9", 109)])


def test_whatever_agreement_decides_is_believed() -> None:
    """Epoch by epoch, and also by who has slept through some of them, as long as somebody is left."""
    rng = random.Random(1)
    for _ in range(50):
        present = OURS
        known = [present]
        for process in range(1000, 1012):
            target = present.next_members or present.members
            if present.is_joint and rng.random() < 0.6:
                present = present.finished()
            else:
                staying = [owner for owner in target if rng.random() < 0.9] or [target[0]]
                newcomers = [Owner(0, f"n{process}", process)] if rng.random() < 0.7 else []
                present = present.joined(staying, newcomers)
            for earlier in known:
                shared = earlier.by_number.keys() & present.by_number.keys()
                if shared or present.epoch == earlier.epoch + 1:
                    assert doubt(earlier, present) == ""
            known.append(present)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (replace(OURS, epoch=0), "out of range"),
        (replace(OURS, epoch=1 << 62), "out of range"),
        (replace(OURS, cluster_id=0), "out of range"),
        (replace(OURS, replicas=0), "copies"),
        (replace(OURS, replicas=8), "copies"),
        (replace(OURS, members=()), "0 members"),
        (replace(OURS, next_number=1 << 17), "numbers up to"),
        (replace(OURS, next_number=4), "number 4"),
        (replace(OURS, members=(*OURS.members, OURS.members[0])), "one number"),
        (replace(OURS, members=(Owner(1, "a", 5), Owner(2, "b", 5))), "one process"),
        (replace(OURS, members=(Owner(1, "a", 5), Owner(2, "a", 6))), "one name"),
        (replace(OURS, members=(Owner(0, "a", 5),)), "number 0"),
        (replace(OURS, members=(Owner(1, "a", 1 << 63),)), "process"),
        (replace(OURS, members=(Owner(1, "", 5),)), "no name"),
        (replace(OURS, members=(Owner(1, "a\n", 5),)), "no name"),
        (replace(OURS, members=(Owner(1, "a" * 65, 5),)), "no name"),
        (replace(OURS, members=(Owner(1, "a", 5, "z" * 65),)), "zone"),
        (replace(OURS, members=(Owner(1, "a", 5, "", 0),)), "weight"),
        (replace(OURS, next_members=(Owner(1, "other", 5),)), "of two members"),
    ],
)
def test_what_is_no_topology_is_doubted_by_anybody(theirs: Topology, why: str) -> None:
    assert why in doubt(None, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        (OURS, replace(JOINT, cluster_id=8), "another cluster"),
        (OURS, replace(JOINT, epoch=EPOCHS_MISSED_MAX + 2), "too far"),
        (OURS, replace(JOINT, epoch=100 << 32), "too far"),
        (OURS, replace(JOINT, slots=256), "slots instead of"),
        (OURS, replace(JOINT, replicas=1), "copies instead of"),
        (JOINT, replace(OURS, epoch=3, next_number=5), "given again"),
        (OURS, replace(JOINT, members=(Owner(1, "db1", 999), *OURS.members[1:])), "number of another member"),
        (JOINT, replace(JOINT, epoch=9, members=(Owner(3, "x", 999),), next_members=()), "number of another member"),
        (OURS, replace(JOINT, members=OURS.members[1:]), "does not begin"),
        (OURS, replace(JOINT.finished(), epoch=2), "does not begin"),
        (JOINT, replace(JOINT.finished(), next_members=OURS.members), "does not begin"),
        (OURS, replace(OURS, epoch=9, members=(Owner(50, "x", 999),), next_number=51), "shares no member"),
    ],
)
def test_what_does_not_follow_is_doubted(ours: Topology, theirs: Topology, why: str) -> None:
    """A frame of 61 bytes made a node drop all its copies."""
    assert why in doubt(ours, theirs)
    assert doubt(None, theirs) == "", "who knows nothing cannot tell"
