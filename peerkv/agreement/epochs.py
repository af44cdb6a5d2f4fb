"""The next topology: what it should be, and how the members agree on it, whoever proposes and however often.

Each epoch is one single-decree register (Lamport, "Paxos made simple", 2001) that is held by the members of the epoch
before, a majority of them. So two nodes cannot disagree about an epoch, a minority can
change nothing, and a proposer that dies half-way is followed by one that finds what was accepted and proposes that.
Epoch 1 is held by the members that are to be born. Who has lost its memory will never answer again; the others make up
for it, as far as they can be sure to meet every majority that there was. Beyond that a recovery goes on, if it is told
to, with a register of its own that all that are left must agree in.

Every data member votes, not a few of them: a change is rare, and the more may die before it becomes impossible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from peerkv.agreement.operation import (
    Answers,
    EpochAccept,
    EpochPrepare,
    EpochPromise,
    Operation,
    Progress,
    Progressed,
    Refused,
    Round,
)
from peerkv.agreement.peer import Peer
from peerkv.ring.topology import Owner, Topology
from peerkv.store.cell import MEMBER_MAX

PATIENCE_S: Final = 1.0

Votes: TypeAlias = Callable[[Topology, Collection[int]], bool]
"""Whether the yes of these processes decides a topology."""


@dataclass(frozen=True, slots=True)
class Enough:
    """Who decides an epoch."""

    promised_by: Callable[[Collection[int]], bool]
    """Whether the promises of these processes suffice to propose something."""
    accepted_by: Votes
    unanimous: bool = False
    """All that promise must have accepted a topology for it to be decided, so that any other is free to be replaced."""


class Register:
    """A member's part: what it has promised and accepted of one epoch, the one after its own."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._promised = 0
        self._ballot = 0
        self._topology: list[Any] = []

    def answer(self, message: EpochPrepare | EpochAccept) -> EpochPromise | Refused:
        if message.epoch != self.epoch:
            return Refused()  # decided already, or further on than we are
        if message.ballot >= self._promised:
            self._promised = message.ballot
            if isinstance(message, EpochAccept):
                self._ballot = message.ballot
                self._topology = message.topology
        return EpochPromise(self._promised, self._ballot, self._topology)

    @property
    def has_accepted(self) -> bool:
        """Whether something was proposed here that may be decided."""
        return self._ballot > 0


Answer: TypeAlias = Callable[[EpochPrepare | EpochAccept], EpochPromise | Refused]


def propose(
    ballot: int,
    voters: Sequence[Peer],
    own: tuple[int, Answer] | None,
    topology: Topology,
    enough: Enough,
    decided: Callable[[Topology | None], None],
) -> Operation:
    """Have the voters agree; `decided(None)` if this attempt has failed.

    `own`: our process and how it answers, if we vote. If something was accepted before, that is proposed instead: it
    may have been decided.
    """
    promises = yield from _ask(voters, own, EpochPrepare(topology.epoch, ballot))
    yes = {process: promise for process, promise in promises.items() if promise.promised == ballot}
    if not enough.promised_by(yes):
        decided(None)
        return
    found = [promise for promise in yes.values() if promise.topology]
    accepted = max(found, key=lambda p: p.ballot, default=None)
    if accepted is not None and not (enough.unanimous and len(found) < len(yes)):
        try:
            topology = Topology.from_wire(accepted.topology)
        except (TypeError, ValueError):
            decided(None)
            return
    promises = yield from _ask(voters, own, EpochAccept(topology.epoch, ballot, topology.to_wire()))
    votes = [process for process, promise in promises.items() if promise.ballot == ballot]
    decided(topology if enough.accepted_by(topology, votes) else None)


def _ask(voters: Sequence[Peer], own: tuple[int, Answer] | None, message: EpochPrepare | EpochAccept) -> Any:
    answers: Answers = yield Round([(peer, message) for peer in voters], PATIENCE_S)
    found = {peer.process: answer for peer, answer in answers.by_peer.items()}
    if own is not None:
        found[own[0]] = own[1](message)
    return {process: answer for process, answer in found.items() if isinstance(answer, EpochPromise)}


def born_by(members: Sequence[Owner]) -> Enough:
    """Epoch 1: a value of our own needs every member's promise that it has accepted nothing else, so that no two
    clusters are born of sets that share a living member; one that was found needs a majority of its own members."""
    processes = {member.process for member in members}
    return Enough(
        lambda yes: processes <= set(yes),
        lambda topology, yes: sum(m.process in yes for m in topology.members) > len(topology.members) // 2,
    )


def decided_by(present: Topology, lost: Collection[int] = ()) -> Enough:
    """A later epoch: a majority of the present members, or, where some (numbers) are lost, as many of the others as
    meet every majority."""
    voters = present.voters_without(lost)

    def won(yes: Collection[int]) -> bool:
        return voters.won([present.number_of(process) for process in yes])

    return Enough(won, lambda _topology, yes: won(yes))


def recovered_by(present: Topology, lost: Collection[int]) -> Enough:
    """A recovery: all members, old and next, that are not lost. What only some of them have accepted was never
    decided."""
    processes = {owner.process for owner in present.survivors(lost)}

    def won(yes: Collection[int]) -> bool:
        return bool(processes) and processes <= set(yes)

    return Enough(won, lambda _topology, yes: won(yes), unanimous=True)


def next_topology(
    present: Topology,
    candidates: Sequence[Owner],
    gone: Collection[int],
    *,
    filled: bool,
    lost: Collection[int] = (),
    settled: bool = False,
) -> Topology | None:
    """What should follow the present topology; None: nothing should.

    `candidates`: data members that live and mean to stay. `gone`: processes that have left, are leaving, or were given
    up. `lost`: numbers of those that have lost their memory. `filled`: in a joint epoch, all copies that the change
    makes are there. `settled`: every slot that has lost an owner is settled.
    """
    if present.lacks_memory and settled:
        return present.settled_down()
    lost = {*lost, *present.out}
    target = present.next_members or present.members
    known = {member.process for member in target if member.number not in lost}
    living = {member.process for member in candidates}
    back = [
        member
        for member in present.members
        if member.process not in known and member.process in living and member.number not in lost
    ]
    known.update([member.process for member in back])
    newcomers = [member for member in candidates if member.process not in known]
    newcomers = newcomers[: max(0, MEMBER_MAX + 1 - present.next_number)]
    names = {member.name for member in newcomers}
    staying = [
        member
        for member in target
        if member.process not in gone and member.name not in names and member.number not in lost
    ]
    lost_now = [member.number for member in present.members if member.number in lost]
    if present.is_joint:
        if len(staying) < len(target) and staying + back + newcomers:
            # It cannot finish, or would have to be undone at once. Who was to go and is here again is the same member,
            # with all its promises: under another number it could not keep them (seed 900777).
            return present.joined(staying + back, newcomers, lost_now)
        return present.finished() if filled and not present.lacks_memory else None
    if len(staying) == len(target) and not newcomers:
        return None
    return present.joined(staying, newcomers, lost_now) if staying + newcomers else None


def survey_change(
    peers: Sequence[Peer], own: Progressed, report: Callable[[dict[int, Progressed]], None], me: int
) -> Operation:
    """Ask every member how far it is: of which changing slots it is home and has seen all copies made."""
    answers: Answers = yield Round([(peer, Progress()) for peer in peers], PATIENCE_S)
    found = {peer.process: answer for peer, answer in answers.by_peer.items() if isinstance(answer, Progressed)}
    found[me] = own
    report(found)
