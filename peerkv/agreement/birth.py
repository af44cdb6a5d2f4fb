"""Epoch 1: how the first data members of a cluster agree on it, whoever proposes and however often.

A single-decree register (Lamport, "Paxos made simple", 2001) among the members that are proposed. A proposer is a
master that sees as many data members as it expects, none of which knows a topology; a master that dies half-way is
followed by one that finds what was accepted and proposes that again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from peerkv.agreement.operation import (
    Answers,
    BirthAccept,
    BirthPrepare,
    BirthPromise,
    Operation,
    Round,
)
from peerkv.agreement.peer import Peer
from peerkv.ring.topology import Topology

PATIENCE_S: Final = 1.0


class BirthRegister:
    """A data member's part: what it has promised and accepted. Of no use once it has a topology."""

    def __init__(self) -> None:
        self._promised = 0
        self._ballot = 0
        self._topology: list[Any] = []

    def answer(self, message: BirthPrepare | BirthAccept) -> BirthPromise:
        if message.ballot >= self._promised:
            self._promised = message.ballot
            if isinstance(message, BirthAccept):
                self._ballot = message.ballot
                self._topology = message.topology
        return BirthPromise(self._promised, self._ballot, self._topology)


def propose(
    ballot: int, members: Sequence[Peer], topology: Topology, born: Callable[[Topology | None], None]
) -> Operation:
    """Have the members agree; `born(None)` if this attempt has failed.

    A value of our own needs every member's promise that it has accepted nothing else, so that no two clusters are born
    of sets that share a living member; one that was found needs a majority of its own members.
    """
    answers: Answers = yield Round([(peer, BirthPrepare(ballot)) for peer in members], PATIENCE_S)
    promises = [answer for answer in answers.by_peer.values() if isinstance(answer, BirthPromise)]
    if len(promises) < len(members) or any(promise.promised != ballot for promise in promises):
        born(None)
        return
    accepted = max((promise for promise in promises if promise.topology), key=lambda p: p.ballot, default=None)
    if accepted is not None:
        try:
            topology = Topology.from_wire(accepted.topology)
        except (TypeError, ValueError):
            born(None)
            return
    message = BirthAccept(ballot, topology.to_wire())
    asked = [peer for peer in members if peer.process in topology.by_process]
    answers = yield Round([(peer, message) for peer in asked], PATIENCE_S)
    votes = [
        answer for answer in answers.by_peer.values() if isinstance(answer, BirthPromise) and answer.ballot == ballot
    ]
    born(topology if len(votes) > len(topology.members) // 2 else None)
