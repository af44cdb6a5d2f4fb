"""What the next topology should be, how the members agree on it, and what a home does then (rules E1 to E9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from peerkv.agreement.epochs import Register, born_by, decided_by, next_topology, propose
from peerkv.agreement.operation import Answers, EpochAccept, EpochPrepare, EpochPromise, Refused, Round
from peerkv.agreement.peer import Peer
from peerkv.node import Node
from peerkv.ring.placement import PART
from peerkv.ring.topology import Owner, Topology
from tests.agreement.by_hand import SLOT, Got, Owners
from tests.sim.world import World


def owner(name: str, process: int) -> Owner:
    return Owner(0, name, process)


@pytest.fixture
def present() -> Topology:
    return Topology.birth(1, 3, [owner(name, process) for process, name in enumerate("abc", start=100)])


# -- what should follow


def test_nothing_follows_where_nothing_is_wanted(present: Topology) -> None:
    assert next_topology(present, present.members, (), filled=False) is None


def test_e7_who_comes_and_who_goes_are_one_change(present: Topology) -> None:
    joint = next_topology(present, [*present.members, owner("d", 200), owner("e", 201)], {100}, filled=False)
    assert joint is not None
    assert [member.name for member in joint.next_members] == ["b", "c", "d", "e"]
    assert joint.members == present.members


def test_another_life_of_a_name_replaces_the_one_before(present: Topology) -> None:
    joint = next_topology(present, [*present.members[:2], owner("c", 300)], (), filled=False)
    assert joint is not None
    assert [(member.name, member.process) for member in joint.next_members] == [("a", 100), ("b", 101), ("c", 300)]


def test_e6_a_change_ends_when_it_is_filled_and_not_before(present: Topology) -> None:
    joint = present.joined(present.members, [owner("d", 200)])
    everybody = [*present.members, owner("d", 200)]
    assert next_topology(joint, everybody, (), filled=False) is None
    following = next_topology(joint, everybody, (), filled=True)
    assert following is not None
    assert following.members == joint.next_members
    assert not following.is_joint


def test_who_comes_during_a_change_waits_for_its_end(present: Topology) -> None:
    joint = present.joined(present.members, [owner("d", 200)])
    assert next_topology(joint, [*present.members, owner("d", 200), owner("e", 201)], (), filled=False) is None


def test_e6_a_change_that_cannot_end_is_replaced(present: Topology) -> None:
    joint = present.joined(present.members, [owner("d", 200)])
    assert next_topology(joint, present.members, {200}, filled=False) == present.joined(present.members, ()).__class__(
        1, 3, 3, present.members, (), joint.next_number
    )


def test_e6_a_member_that_was_to_go_and_is_back_is_the_same_member(present: Topology) -> None:
    """Under another number it could not keep what it has promised as the member that it still is (seed 900777)."""
    joint = present.joined(present.members[:2], [owner("d", 200)])
    following = next_topology(joint, [*present.members, owner("e", 201)], {200}, filled=False)
    assert following is not None
    assert following.next_members[:3] == present.members
    assert [member.name for member in following.next_members] == ["a", "b", "c", "e"]


def test_the_last_member_is_not_given_up(present: Topology) -> None:
    assert next_topology(present, [], {100, 101, 102}, filled=False) is None


# -- how it is agreed


class Voters:
    """Members that each hold a register, of which some answer."""

    def __init__(self, present: Topology) -> None:
        self.present = present
        self.registers = {member.process: Register(present.epoch + 1) for member in present.members}
        self.decided: list[Topology | None] = []

    def propose(self, ballot: int, topology: Topology, reached: Sequence[int], accepted_by: Sequence[int]) -> None:
        """`reached`: who gets the PREPARE; `accepted_by`: who gets the ACCEPT."""
        peers = [Peer(process, f"{process}") for process in self.registers]
        operation = propose(ballot, peers, None, topology, decided_by(self.present), self.decided.append)
        answers = Answers()
        wanted = next(operation)
        for who in (reached, accepted_by):
            assert isinstance(wanted, Round)
            answers = Answers()
            for peer, message in wanted.asks:
                assert isinstance(message, (EpochPrepare, EpochAccept))
                if peer.process in who:
                    answers.by_peer[peer] = self.registers[peer.process].answer(message)
            try:
                wanted = operation.send(answers)
            except StopIteration:
                return


def test_e4_a_majority_decides_and_a_minority_does_not(present: Topology) -> None:
    voters = Voters(present)
    change = present.joined(present.members[1:], [])
    voters.propose(5, change, (100, 101), (100, 101))
    assert voters.decided == [change]
    voters = Voters(present)
    voters.propose(5, change, (100,), (100,))
    voters.propose(6, change, (100, 101, 102), (102,))
    assert voters.decided == [None, None]


def test_e4_what_may_have_been_decided_is_proposed_again(present: Topology) -> None:
    voters = Voters(present)
    first, second = present.joined(present.members[1:], []), present.joined(present.members[:2], [])
    voters.propose(5, first, (100, 101), (101,))
    voters.propose(6, second, (101, 102), (101, 102))
    assert voters.decided == [None, first]


def test_an_older_proposal_comes_too_late(present: Topology) -> None:
    voters = Voters(present)
    first, second = present.joined(present.members[1:], []), present.joined(present.members[:2], [])
    voters.propose(6, second, (100, 101, 102), (100, 101, 102))
    voters.propose(5, first, (100, 101, 102), (100, 101, 102))
    assert voters.decided == [second, None]


def test_a_register_is_of_one_epoch(present: Topology) -> None:
    """Found by seed 3073: a late proposal for an epoch that had begun was taken for one of the epoch after."""
    register = Register(2)
    assert register.answer(EpochAccept(1, 9, present.to_wire())) == Refused()
    assert register.answer(EpochPrepare(3, 9)) == Refused()
    assert register.answer(EpochPrepare(2, 7)) == EpochPromise(7, 0, [])


def test_a_birth_needs_the_promise_of_everybody() -> None:
    members = [owner(name, process) for process, name in enumerate("abc", start=100)]
    enough = born_by(members)
    assert not enough.promised_by([100, 101])
    assert enough.promised_by([100, 101, 102])
    assert enough.accepted_by(Topology.birth(1, 3, members), [100, 102])


# -- what a home does


def written(owners: Owners, *texts: bytes) -> Got:
    got = Got()
    for index, text in enumerate(texts):
        owners.members[0].write(got, index, b"APPEND", b"k", text)
        owners.deliver()
    return got


def filled(owners: Owners) -> bool:
    """Whether some home knows the slot to be filled."""
    for member in owners.members:
        for _ in range(64):
            if member.progress.filled()[SLOT >> 3] >> (SLOT & 7) & 1:
                return True
    return False


def test_e2_a_home_stays_home_and_the_newcomer_gets_a_copy() -> None:
    owners = Owners()
    assert len(written(owners, b"a", b"b").replies) == 2
    home = owners.members[0]
    ballot = home.home.homes[SLOT].ballot
    newcomer = owners.change(owners.members[2], 9)
    owners.pass_time(3.0)
    assert home.home.homes[SLOT].ballot == ballot
    assert newcomer.slot.cells[b"k"][1] == b"ab"
    assert filled(owners)
    owners.finish()
    assert len(written(owners, b"c").replies) == 1
    assert home.home.homes[SLOT].ballot == ballot
    assert newcomer.slot.cells[b"k"][1] == b"abc"
    assert owners.members[2].view.slots[SLOT] is None


def test_e2_acknowledgements_of_the_epoch_before_do_not_fill_a_slot() -> None:
    owners = Owners()
    written(owners, b"a")
    newcomer = owners.change(owners.members[2], 9)
    assert not filled(owners)
    owners.cut = {(owners.members[0].name, newcomer.name)}
    owners.pass_time(2.0)
    assert not filled(owners)
    assert newcomer.slot.position == 0
    owners.cut = set()
    owners.pass_time(5.0)
    assert filled(owners)


def test_e2_an_empty_slot_is_filled_by_a_promise() -> None:
    owners = Owners()
    owners.pass_time(1.0)
    home = owners.members[0]
    assert not home.slot.position
    newcomer = owners.change(owners.members[2], 9)
    owners.pass_time(5.0)
    assert filled(owners)
    assert newcomer.slot.promised == home.slot.promised != 0


def test_e2_a_joint_epoch_needs_both_majorities() -> None:
    owners = Owners(count=1)
    assert len(written(owners, b"a").replies) == 1
    home = owners.members[0]
    newcomer = owners.change(home, 9)
    owners.cut = {(newcomer.name, home.name)}
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"b")
    owners.deliver()
    assert got.replies == {}
    owners.cut = set()
    owners.pass_time(3.0)
    assert got.replies == {0: b"ab"}
    owners.finish()
    assert newcomer.slot.cells[b"k"][1] == b"ab"
    assert home.view.slots[SLOT] is None


# -- entering


class Entering:
    """Three nodes with more slots than are looked at in a turn, and the topologies that db1 has entered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("peerkv.node.ENTERED_AT_ONCE", PART - 1)
        self.world = World(3, 4 * PART)
        self.world.cluster(3)
        self.world.run(4.0)
        found = self.world.hosts["db1"].node
        assert found is not None
        self.node = found
        self.entered: list[Topology] = []
        install = Node._install

        def note(node: Node, topology: Topology) -> None:
            if node is found:
                self.entered.append(topology)
            install(node, topology)

        monkeypatch.setattr(Node, "_install", note)

    def joint(self, name: str) -> Topology:
        """What comes next if that one joins."""
        present = self.node.topology
        assert present is not None
        return present.joined(present.members, [owner(name, 200)])


def test_e1_a_new_epoch_is_worked_out_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was one turn: 50 ms on a busy machine, and more with each member."""
    entering = Entering(monkeypatch)
    turns: list[bool] = []
    wake = Node.wake

    def count(node: Node, now: float) -> None:
        wake(node, now)
        if node is entering.node:
            turns.append(bool(entering.entered))

    monkeypatch.setattr(Node, "wake", count)
    entering.node._enter(entering.joint("e1"))
    assert not entering.entered
    entering.world.run(entering.world.now + 0.1)
    assert turns.count(False) >= 4


def test_e1_who_is_about_to_enter_an_epoch_and_hears_of_a_later_one_enters_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entering = Entering(monkeypatch)
    first = entering.joint("first")
    last = first.finished()
    entering.node._enter(first)
    peer = next(iter(entering.node.view.peers.values()))
    entering.node._learn_topology(last, peer, 0)
    entering.node._learn_topology(first, peer, 0)
    entering.world.run(entering.world.now + 0.1)
    assert entering.entered == [last]


def test_e1_who_is_told_again_and_again_of_the_epoch_that_it_is_about_to_enter_enters_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each telling began the work anew: a proposer, whose proposal is decided four times a second, never came to an end
    of it."""
    monkeypatch.setattr("peerkv.node.ENTERING_PAUSE_S", 0.01)
    entering = Entering(monkeypatch)
    joint = entering.joint("e1")
    for _ in range(50):
        if not entering.entered:
            entering.node._decided(replace(joint))
        entering.world.run(entering.world.now + 0.015)
    assert entering.entered[:1] == [joint]


def test_e1_an_epoch_of_a_cluster_that_is_no_more_is_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    entering = Entering(monkeypatch)
    entering.node._enter(entering.joint("late"))
    entering.node._forget_topology()
    entering.world.run(entering.world.now + 0.01)
    assert not [topology for topology in entering.entered if topology.is_joint]
