"""Questions that concern every slot: how many keys there are, and which. Asked of majorities, not of homes.

A key whose write was acknowledged is in the copies of a majority of its owners, so what a majority holds together
leaves out none; and no single death stops a question.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from peerkv.agreement.operation import Answers, Count, Counts, KeyPage, ListKeys, Message, Operation, Round
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.ring.keys import SLOTS

ATTEMPTS: Final = 6
PATIENCE_S: Final = 0.5
LIST_SLOTS: Final = 2048
"""Slots asked about in one message."""


class Unanswered(Exception):
    """No majority of some slot's owners answered; the text says of which."""


def count_keys(view: View, replica: Replica, done: Callable[[list[int] | None], None]) -> Operation:
    """Keys per slot, each from the furthest copy among a majority; None if some slot has no majority."""
    for _ in range(ATTEMPTS):
        epoch = view.epoch
        wanted = list(range(SLOTS))
        answers: Answers = yield Round(_asks(view, wanted, Count), PATIENCE_S, partial(_covered, view, wanted))
        if view.topology is None or view.epoch != epoch or not _covered(view, wanted, answers):
            yield Round((), PATIENCE_S / 4)
            continue
        positions = [-1] * SLOTS
        counts = [0] * SLOTS
        for peer, numbers in _by_owner(view, wanted).items():
            answer = replica.answer(Count(numbers)) if peer is view.me else answers.by_peer.get(peer)
            if not isinstance(answer, Counts):
                continue
            for number, position, keys in zip(numbers, answer.positions, answer.keys, strict=True):
                if position > positions[number]:
                    positions[number] = position
                    counts[number] = keys
        done(counts)
        return
    done(None)


def list_keys(
    view: View,
    replica: Replica,
    first: int,
    start: int,
    count: int,
    done: Callable[[list[bytes], int, int], None],
    failed: Callable[[], None],
) -> Operation:
    """About `count` keys of slot `first` from `start` on and of the slots behind it.

    `done(keys, slot, start)` says where to go on; slot SLOTS: that was all. Keys of every slot are the union of what a
    majority of its owners lists. What one owner did not get to (its page was full) is left for the next question.
    """
    attempt = 0
    keys: dict[bytes, None] = {}
    while first < SLOTS and len(keys) < count:
        wanted = list(range(first, min(first + LIST_SLOTS, SLOTS)))
        epoch = view.epoch
        begin = start

        def ask(numbers: list[int], first: int = first, begin: int = begin, left: int = count - len(keys)) -> Message:
            return ListKeys(numbers, begin if numbers[0] == first else 0, left)

        answers: Answers = yield Round(
            _asks(view, wanted, ask),
            PATIENCE_S,
            partial(_covered, view, wanted),
        )
        if view.topology is None or view.epoch != epoch or not _covered(view, wanted, answers):
            attempt += 1
            if attempt == ATTEMPTS:
                failed()
                return
            yield Round((), PATIENCE_S / 4)
            continue
        complete, resume = len(wanted), 0
        pages: list[tuple[list[int], KeyPage]] = []
        for peer, numbers in _by_owner(view, wanted).items():
            answer = replica.answer(ask(numbers)) if peer is view.me else answers.by_peer.get(peer)
            if not isinstance(answer, KeyPage) or not answer.keys:
                continue
            pages.append((numbers, answer))
            reached = numbers[len(answer.keys) - 1] - first
            if answer.resume:
                if reached < complete or (reached == complete and (not resume or answer.resume < resume)):
                    complete, resume = reached, answer.resume
            elif len(answer.keys) < len(numbers) and reached + 1 < complete:
                complete, resume = reached + 1, 0
        for numbers, page in pages:
            for number, listed in zip(numbers, page.keys, strict=False):
                offset = number - first
                if offset < complete or (offset == complete and resume):
                    for key in listed:
                        keys[key] = None
        first, start = first + complete, resume
    done(list(keys), first, start)


def _by_owner(view: View, numbers: list[int]) -> dict[Peer, list[int]]:
    owners: dict[Peer, list[int]] = {}
    for number in numbers:
        for peer in view.order[number]:
            owners.setdefault(peer, []).append(number)
    return owners


def _asks(view: View, numbers: list[int], message: Callable[[list[int]], Message]) -> list[tuple[Peer, Message]]:
    return [(peer, message(slots)) for peer, slots in _by_owner(view, numbers).items() if peer is not view.me]


def _covered(view: View, numbers: list[int], answers: Answers) -> bool:
    """Whether of every slot a quorum of the owners has answered."""
    if view.topology is None:
        return False
    who = {view.me.number, *(peer.number for peer, answer in answers.by_peer.items() if _answered(answer))}
    return all(quorum.won(who) for quorum in {id(view.quorums[n]): view.quorums[n] for n in numbers}.values())


def _answered(answer: Message) -> bool:
    return isinstance(answer, (Counts, KeyPage))
