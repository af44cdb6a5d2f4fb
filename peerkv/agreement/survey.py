"""Questions that concern every slot: how many keys there are, which, and who has a copy. Asked of owners, not of homes.

A key whose write was acknowledged is in the copies of a majority of its owners, so what a majority holds together
leaves out none; and no single death stops a question.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, TypeVar

from peerkv.agreement.operation import (
    Answers,
    CellAnswers,
    Count,
    Counts,
    CountSubscribers,
    Event,
    KeyPage,
    ListKeys,
    Message,
    Pause,
    ReadCells,
    Round,
    Subscribers,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.replica import Replica
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.store.cell import ballot_member, position_ballot
from peerkv.store.scan import scan_order

ATTEMPTS: Final = 6
PATIENCE_S: Final = 0.5
LIST_SLOTS: Final = 1024
"""Slots asked about in one message, and ..."""
LIST_KEYS: Final = 1000
"""... keys listed in one answer: 2 ms."""
SETTLE_S: Final = 0.1
"""An owner that is behind has so long to catch up before its copy counts as missing."""
WAIT_POLL_S: Final = (0.01, 0.5)
"""How often WAIT asks: at first, and, as its client may be gone without a sign, less and less often."""

Result = TypeVar("Result")
Asking: TypeAlias = Generator[Round | Pause | Event, Answers, Result]


COUNT_SLOTS: Final = 512
"""Slots whose copies are counted at a time: 5 ms of the time of who asks."""
COUNT_PAUSE_S: Final = 0.005


class Unanswered(Exception):
    """Some slot has no majority of owners that answer."""


def count_keys(
    view: View, replica: Replica, numbers: Sequence[int] | None = None, database: int | None = None
) -> Asking[list[int]]:
    """Keys per slot asked about (None: every one), of one database or of all, each from the furthest copy among a
    majority. Raises Unanswered."""
    keys: list[int] = []
    for part in _parts(range(len(view.slots)) if numbers is None else numbers):
        if keys:
            yield Pause(0.0)  # others have their turn
        keys += yield from _count_keys(view, replica, list(part), database)
    return keys


def _count_keys(view: View, replica: Replica, wanted: list[int], database: int | None) -> Asking[list[int]]:
    count = partial(Count, database=-1 if database is None else database)
    for _ in range(ATTEMPTS):
        epoch = view.epoch
        answers = yield Round(_asks(view, wanted, count), PATIENCE_S, partial(_covered, view, wanted))
        if view.topology is None or view.epoch != epoch or not _covered(view, wanted, answers):
            yield Pause(PATIENCE_S / 4)
            continue
        furthest: dict[int, tuple[int, int]] = {}
        for slots, answer in _counts(view, replica, wanted, answers, count).values():
            for number, position, keys in zip(slots, answer.positions, answer.keys, strict=True):
                if number not in furthest or position > furthest[number][0]:
                    furthest[number] = (position, keys)
        return [furthest[number][1] for number in wanted]
    raise Unanswered


def list_keys(view: View, replica: Replica, first: int, start: int, count: int) -> Asking[tuple[list[bytes], int, int]]:
    """About `count` keys of slot `first` from `start` on and of the slots behind it.

    Returns keys, and the slot and start to go on from; a slot beyond the last: that was all. Keys of every slot are
    those of the furthest copy among a majority: copies that are behind have keys whose end has been acknowledged. What
    one owner did not get to (its page was full) is left for the next question. Raises Unanswered.
    """
    attempt = 0
    keys: list[bytes] = []
    while first < len(view.slots) and len(keys) < count:
        wanted = list(range(first, min(first + LIST_SLOTS, len(view.slots))))
        epoch = view.epoch
        ask = partial(_list_slots, first, start, min(count - len(keys), LIST_KEYS))
        answers = yield Round(_asks(view, wanted, ask), PATIENCE_S, partial(_covered, view, wanted))
        if view.topology is None or view.epoch != epoch or not _covered(view, wanted, answers):
            attempt += 1
            if attempt == ATTEMPTS:
                raise Unanswered
            yield Pause(PATIENCE_S / 4)
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
        furthest: dict[int, tuple[int, list[bytes]]] = {}
        for numbers, page in pages:
            for number, position, listed in zip(numbers, page.positions, page.keys, strict=False):
                if number not in furthest or position > furthest[number][0]:
                    furthest[number] = (position, listed)
        for number, (_, listed) in furthest.items():
            offset = number - first
            if offset < complete:
                keys += listed
            elif offset == complete and resume:
                keys += [key for key in listed if scan_order(key) < resume]  # others come with the next question
        first, start = first + complete, resume
        if len(keys) < count and first < len(view.slots):
            yield Pause(0.0)  # others have their turn
    return keys, first, start


@dataclass(slots=True)
class Copies:
    """Who holds which slots, as far as they answer."""

    whole: int = 0
    """Slots of which every owner has an up-to-date copy."""
    undecided: int = 0
    """Slots of which no majority of the owners answers."""
    silent: set[Peer] = field(default_factory=set)
    """Who has not answered although its link is up."""
    held: dict[Peer, int] = field(default_factory=dict)
    """Up-to-date copies per owner."""
    homes: dict[Peer, int] = field(default_factory=dict)
    """Slots per owner of which it is home: who wrote last, or who would be asked first."""


def count_copies(view: View, replica: Replica) -> Asking[Copies]:
    """Does every slot have all its copies? Exact for each slot at the moment of the answers; load does not disturb it.

    Some slots at a time: all at once would keep every node from its clients for a tenth of a second. All of them in one
    epoch, as owners of one epoch and copies of another make no sense together. Who has not answered once is not waited
    for again.
    """
    for _ in range(ATTEMPTS):
        epoch = view.epoch
        copies = Copies()
        behind: list[int] = []
        for part in _parts(range(len(view.slots))):
            behind += yield from _count_some(view, replica, part, copies)
            if view.epoch != epoch:
                break
            yield Pause(COUNT_PAUSE_S)
        if behind and view.epoch == epoch:
            yield Pause(SETTLE_S)  # what was on its way has arrived
            for part in _parts(behind):
                yield from _count_some(view, replica, part, copies, again=True)
                yield Pause(COUNT_PAUSE_S)
        if view.epoch == epoch:
            break
    return copies


@dataclass(slots=True)
class Kept:
    """What is left of slots that have lost a majority of their owners, as far as those that are left answer."""

    keys: dict[int, int] = field(default_factory=dict)
    """Keys by the number of copies of them."""
    empty: int = 0
    """Slots of which nobody has a copy."""


def count_kept(view: View, replica: Replica, numbers: Sequence[int]) -> Asking[Kept]:
    """What a recovery would keep of these slots: of each the furthest copy."""
    kept = Kept()
    for part in _parts(numbers):
        if view.topology is None:
            break
        answers = yield Round(_asks(view, part, Count), PATIENCE_S)
        rows: dict[int, list[tuple[int, int]]] = {number: [] for number in part}
        for slots, answer in _counts(view, replica, part, answers).values():
            for number, position, keys in zip(slots, answer.positions, answer.keys, strict=True):
                if position > 0:
                    rows[number].append((position, keys))
        for row in rows.values():
            if row:
                furthest, keys = max(row)
                copies = sum(position == furthest for position, _ in row)
                kept.keys[copies] = kept.keys.get(copies, 0) + keys
            else:
                kept.empty += 1
        yield Pause(COUNT_PAUSE_S)
    return kept


def _parts(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[first : first + COUNT_SLOTS] for first in range(0, len(numbers), COUNT_SLOTS)]


def _count_some(
    view: View, replica: Replica, wanted: Sequence[int], copies: Copies, *, again: bool = False
) -> Asking[list[int]]:
    """Returns the slots whose owners are not all at the same position; they are counted only if asked `again`."""
    if view.topology is None:
        return []
    asks = [(peer, message) for peer, message in _asks(view, wanted, Count) if peer not in copies.silent]
    answers = yield Round(asks, PATIENCE_S)
    copies.silent.update([peer for peer, _ in asks if peer not in answers.by_peer and peer not in answers.failed])
    if any(number >= len(view.quorums) for number in wanted):
        return []
    behind: list[int] = []
    alike: dict[tuple[tuple[Peer, ...], int], int] = {}
    for number, row in zip(wanted, _positions(view, replica, wanted, answers), strict=True):
        order = view.order[number]
        positions = set(row.values())
        if len(positions) == 1 and len(row) == len(order):
            kind = order, ballot_member(position_ballot(positions.pop()))
            alike[kind] = alike.get(kind, 0) + 1
        elif not again and len(positions) > 1:
            behind.append(number)
        else:
            goal = max(positions, default=-1)
            copies.undecided += not view.quorums[number].won([peer.number for peer in row])
            _add(
                copies,
                order,
                [p for p in order if p in row and row[p] >= goal],
                ballot_member(position_ballot(max(goal, 0))),
            )
    for (order, member), count in alike.items():
        _add(copies, order, order, member, count)
    return behind


def _add(copies: Copies, order: Sequence[Peer], current: Sequence[Peer], member: int, count: int = 1) -> None:
    """So many slots with these owners, of which these are up to date, and in which that member wrote last."""
    copies.whole += count * (len(current) == len(order))
    for peer in current:
        copies.held[peer] = copies.held.get(peer, 0) + count
    home = next((peer for peer in order if peer.number == member), None)
    if home is None or not home.usable:
        home = next((peer for peer in order if peer.usable), order[0])
    copies.homes[home] = copies.homes.get(home, 0) + count


Head: TypeAlias = tuple[int, int, int]
"""(version, bytes of the value or -1, deadline) of a cell."""


def count_subscribers(
    view: View, ours: Callable[[int, Sequence[bytes]], list[int]], kind: int, channels: list[bytes]
) -> Asking[list[int]]:
    """How many subscribers each of these channels has at all nodes that answer; `ours` says how many here."""
    asks: list[tuple[Peer, Message]] = [
        (peer, CountSubscribers(kind, channels)) for peer in view.peers.values() if peer.up and peer is not view.me
    ]
    answers = yield Round(asks, PATIENCE_S)
    rows = [answer.counts for answer in answers.by_peer.values() if isinstance(answer, Subscribers)]
    return [sum(column) for column in zip(ours(kind, channels), *rows, strict=True)]


def explain(view: View, replica: Replica, number: int, key: bytes) -> Asking[list[tuple[Peer, Head | None]]]:
    """What each owner of a slot holds of a key (version 0: nothing); None where it does not answer."""
    question = ReadCells(number, [key])
    answers = yield Round([(peer, question) for peer in view.others[number]], PATIENCE_S)
    held: list[tuple[Peer, Head | None]] = []
    for peer in view.order[number]:
        answer = replica.answer(question) if peer is view.me else answers.by_peer.get(peer)
        if isinstance(answer, CellAnswers) and answer.versions:
            held.append((peer, (answer.versions[0], answer.sizes[0], answer.deadlines[0])))
        else:
            held.append((peer, None))
    return held


def await_copies(view: View, replica: Replica, number: int, copies: int, until: float, clock: Clock) -> Asking[int]:
    """How many owners beside the home have the slot as it is now, as soon as they are `copies` or the time is up."""
    goal = -1
    pause = WAIT_POLL_S[0]
    while True:
        answers = yield Round(_asks(view, [number], Count), min(PATIENCE_S, max(0.0, until - clock.now)))
        row = _positions(view, replica, [number], answers)[0]
        if goal < 0 and view.topology is not None and view.quorums[number].won([peer.number for peer in row]):
            goal = max(row.values())
        reached = sum(position >= goal for position in row.values()) - 1 if goal >= 0 else 0
        if reached >= copies or clock.now >= until:
            return max(0, reached)
        yield Pause(min(pause, max(0.0, until - clock.now)))
        pause = min(2 * pause, WAIT_POLL_S[1])


def _list_slots(first: int, start: int, count: int, numbers: list[int]) -> Message:
    return ListKeys(numbers, start if numbers[0] == first else 0, count)


def _by_owner(view: View, numbers: Sequence[int]) -> dict[Peer, list[int]]:
    owners: dict[Peer, list[int]] = {}
    for number in numbers:
        for peer in view.order[number]:
            owners.setdefault(peer, []).append(number)
    return owners


def _asks(view: View, numbers: Sequence[int], message: Callable[[list[int]], Message]) -> list[tuple[Peer, Message]]:
    return [(peer, message(slots)) for peer, slots in _by_owner(view, numbers).items() if peer is not view.me]


def _counts(
    view: View,
    replica: Replica,
    numbers: Sequence[int],
    answers: Answers,
    count: Callable[[list[int]], Count] = Count,
) -> dict[Peer, tuple[list[int], Counts]]:
    counts: dict[Peer, tuple[list[int], Counts]] = {}
    for peer, slots in _by_owner(view, numbers).items():
        answer = replica.answer(count(slots)) if peer is view.me else answers.by_peer.get(peer)
        if isinstance(answer, Counts) and len(answer.positions) == len(answer.keys) == len(slots):
            counts[peer] = (slots, answer)
    return counts


def _positions(view: View, replica: Replica, numbers: Sequence[int], answers: Answers) -> list[dict[Peer, int]]:
    """For each slot asked about, how far each owner is that answered."""
    rows: dict[int, dict[Peer, int]] = {number: {} for number in numbers}
    for peer, (slots, answer) in _counts(view, replica, numbers, answers).items():
        for number, position in zip(slots, answer.positions, strict=True):
            if position >= 0:
                rows[number][peer] = position
    return [rows[number] for number in numbers]


def _covered(view: View, numbers: list[int], answers: Answers) -> bool:
    """Whether of every slot a quorum of the owners has answered."""
    if view.topology is None:
        return False
    who = {view.me.number, *(peer.number for peer, answer in answers.by_peer.items() if _answered(answer))}
    return all(quorum.won(who) for quorum in {id(view.quorums[n]): view.quorums[n] for n in numbers}.values())


def _answered(answer: Message) -> bool:
    return isinstance(answer, (Counts, KeyPage))
