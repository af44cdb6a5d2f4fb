"""Reads: from a majority of the owners, without the home, and in order (protocol rules R1 to R4).

The first try is one entry in an owner's column, and ends when a frame comes back. Reads of a slot that are sent in one
turn are a bunch: they go to the same owner in one frame, which answers them as of one moment; where one of them needs
more than that, so do those behind it, in their order.

Only what is answered travels, never a value for its own sake. Who holds a copy runs the request on it, and asks another
owner whether it holds the same versions of the keys; who holds none has one owner run the request, which says also of
which versions its reply is, and another one say which versions it holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from operator import itemgetter
from typing import Any, Final, TypeAlias

from peerkv.agreement.columns import RUN
from peerkv.agreement.home import fault, reply_of, too_much
from peerkv.agreement.operation import (
    Answers,
    CellAnswers,
    Message,
    Operation,
    Operations,
    Ran,
    ReadCells,
    Refused,
    Round,
    RunReads,
)
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.kernel.batches import Run, compare
from peerkv.metrics import counter
from peerkv.resp import Reply, ReplyError, size_of_reply
from peerkv.ring.keys import slot_of
from peerkv.ring.quorum import Quorum
from peerkv.settings import Settings
from peerkv.store.cell import Cells

REPLIES_BYTES_MAX: Final = 8 << 20
"""Replies that an owner sends in answer to one frame of reads; who wants more is sent to the home (rule R2)."""
_CHECKS: Final = frozenset({tuple})
TELL: Final = -1
"""In place of the version that the reader holds: it holds no copy, say which version yours is of. `RUN`: likewise, and
run the next request, of which this is the first key."""
EXPIRED: Final = 1
"""In place of the version of a cell that has expired. No cell is of that version."""
UNSURE: Final = -1
"""Of which the home is to be asked."""
READS_MAX: Final = 256
"""Requests, or keys, that every owner is asked for at a time, where a bunch of reads was not answered at once."""
AGAIN_SHARE: Final = 0.1
"""What is sent again because somebody is silent adds no more than this to the load, ..."""
AGAIN_BURST: Final = 1024
"""... but for so many at a time, as when a node dies with all that it was asked, and ..."""
AGAIN_PER_S: Final = 100.0
"""... so many a second. (gRPC's retry throttling, proposal A6)"""


class Sink(ABC):
    """Where replies go: a client's batch, or the gathering of a command that was split."""

    __slots__ = ("left", "replies")

    def __init__(self, count: int) -> None:
        self.replies: list[Reply] = [None] * count
        self.left = count
        """Replies still to come."""

    def deliver(self, index: int, reply: Reply) -> None:
        """One has come. Where many come at a time this is done in line."""
        self.replies[index] = reply
        self.left -= 1
        if not self.left:
            self.complete()

    @abstractmethod
    def complete(self) -> None:
        """All are here."""


KeysOf: TypeAlias = Callable[[Sequence[bytes]], Sequence[bytes]]
"""The keys among a request's arguments, all of one slot; at least one."""

Check: TypeAlias = tuple[int, Sequence[bytes], Sink, int, Reply, Run, int]
"""(slot, request, sink, index, reply, how it is run, cluster time): a read that our own copy answers so, if another
owner holds the same version of the key, or of all its keys: then behind it stands None for each of the others."""


@dataclass(slots=True, eq=False)
class Read:
    """A read of a slot of which we have no copy, or that is asked of every owner."""

    slot: int
    request: Sequence[bytes]
    sink: Sink
    index: int
    run: Run
    now: int
    keys: Sequence[bytes]
    need: int = 0
    """Owners that still have to answer."""
    versions: list[int] | None = None
    """Of the keys, as the first one has them that has answered."""
    reply: Reply = None
    """Of the one that runs it."""
    ended: bool = False
    hedged: bool = False
    """All owners are being asked."""


class Budget:
    """How much may be sent again: a share of what ends, and a little without that."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = float(AGAIN_BURST)
        self._at = 0.0

    def earn(self, count: int) -> None:
        """So many have ended."""
        self._tokens = min(AGAIN_BURST, self._tokens + AGAIN_SHARE * count)

    def spend(self, now: float, count: int = 1) -> bool:
        """Whether so many may be sent again now."""
        self._tokens = min(AGAIN_BURST, self._tokens + AGAIN_PER_S * max(0.0, now - self._at))
        self._at = now
        if self._tokens < min(count, AGAIN_BURST):
            return False
        self._tokens -= count
        return True


@dataclass(slots=True)
class Counters:
    """What a coordinator has seen."""

    hedges: int = counter("hedges", "requests that were sent elsewhere too, as who had them was silent")
    reads_by_home: int = counter("reads_by_home", "reads whose owners did not agree at once: the home was asked")
    uncertain: int = counter("replies_uncertain", "replies UNCERTAIN")
    no_quorum: int = counter("replies_no_quorum", "replies NOQUORUM")


class Reads:
    """Of one node's clients; and its answers to those of others."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        operations: Operations,
        budget: Budget,
        counters: Counters,
        runs: Mapping[bytes, Run],
        keys: Mapping[bytes, KeysOf],
        at_home: Callable[[int, Sequence[bytes], Sink, int, int], int],
        no_answer: Callable[[int], ReplyError],
    ) -> None:
        """`at_home`: have the home of a slot answer a request, into a place of a sink, behind the operation of that
        ticket; returns its ticket. `no_answer`: what is said if nobody answers for a slot."""
        self.turn = 0
        """Changes with every turn, and whenever reads of it are asked elsewhere: what is read of a slot in one turn is
        answered in order."""
        self.ended = 0
        """How many were answered by owners, ..."""
        self.under_way = 0
        """... and how many wait for that."""
        self._settings = settings
        self._clock = clock
        self._view = view
        self._operations = operations
        self._budget = budget
        self._counters = counters
        self._runs = runs
        self._keys = keys
        self._at_home = at_home
        self._no_answer = no_answer
        self._partner_of: dict[int, Peer] = {}
        """Whom the reads of this turn go to, by the identity of the tuple of partners."""
        self._asked_of: dict[int, list[Peer]] = {}
        """Likewise where we have no copy, by the identity of the tuple of owners."""

    def read(
        self,
        number: int,
        request: Sequence[bytes],
        run: Run,
        now: int,
        sink: Sink,
        index: int,
        keys: Sequence[bytes] | None = None,
    ) -> bool:
        """Answer a request from a majority of the owners of its keys' slot (protocol rules R1 to R4). Without `keys`
        there is one, as usual: its first argument.

        Returns whether it goes with this turn's reads: see `bunches`.
        """
        key = request[1] if keys is None else keys[0]
        view = self._view
        slot = view.slots[number]
        partners = view.partners[number]
        if slot is not None and partners:
            cells = view.copies.cells[number]
            cell = cells.get(key)
            version = 0
            if cell is not None:
                version = cell[0]
                if 0 < cell[2] <= now:
                    version = EXPIRED  # R3: only the home lets a key expire
            peer = self._partner_of.get(id(partners)) or self._choose_partner(partners)
            if peer.usable:
                try:
                    reply = run(cells, request, now)[1]
                except Exception as error:
                    reply = fault(request, error)
                peer.reads += (key, version)
                peer.reads_waiting.append((number, request, sink, index, reply, run, now))
                if keys is not None:
                    for other in keys[1:]:
                        peer.reads += (other, _version(cells, other, now))
                        peer.reads_waiting.append(None)
                return True
        read = Read(number, request, sink, index, run, now, (key,) if keys is None else keys)
        if slot is None and view.topology is not None and not view.quorums[number].joint:
            read.need = view.quorums[number].need
            asked = self._asked(number)
            if len(asked) == read.need:
                runner = asked[0]
                for peer in asked:
                    peer.reads += (key, RUN if peer is runner else TELL)
                    peer.reads_waiting.append(read)
                    for other in read.keys[1:]:
                        peer.reads += (other, TELL)
                        peer.reads_waiting.append(None)
                runner.requests.append(request)
                return True
        self._operations.start(self._clock.now, self._read_slowly(number, [read]))
        return False

    def bunches(self, number: int) -> bool:
        """Whether a read of a slot now is answered together with those of it that were sent in this turn, in order: it
        goes to the same owners in the same frame (protocol rule R4)."""
        partners = self._view.partners[number]
        if self._view.slots[number] is not None and partners:
            peer = self._partner_of.get(id(partners))
            return peer is not None and peer.usable
        return self._asked_of.get(id(self._view.others[number])) == self._asked(number)

    def _asked(self, number: int) -> list[Peer]:
        """Whose cells of a slot are asked for, where we have no copy; they are a majority."""
        others = self._view.others[number]
        asked = [peer for peer in others if peer.usable][: self._view.quorums[number].need]
        self._asked_of.setdefault(id(others), asked)
        return asked

    def _choose_partner(self, partners: tuple[Peer, ...]) -> Peer:
        """Whom this turn's reads of slots with these partners go to."""
        peer = partners[0]
        if len(partners) > 1:
            other = partners[1]
            if not peer.usable or (other.usable and not peer.reads and (other.reads or self.turn & 1)):
                peer = other  # where there is a frame of reads already: one is cheaper than two
        self._partner_of[id(partners)] = peer
        return peer

    def end_turn(self) -> None:
        """Of the node: everything up to here goes out together. Another bunch of reads begins also where some on their
        way are asked elsewhere."""
        self.turn += 1
        self._partner_of.clear()
        if self._asked_of:
            self._asked_of.clear()

    def close(self, peer: Peer) -> None:
        """End of a turn: the reads in the peer's column are about to be sent."""
        peer.sequence += 1
        peer.reads_sent[peer.sequence] = (self._clock.now, peer.reads_waiting)
        self.under_way += len(peer.reads_waiting)
        peer.reads_waiting = []

    def answer(
        self,
        peer: Peer,
        sequence: int,
        keys: Sequence[bytes],
        versions: Sequence[int],
        requests: Sequence[Sequence[bytes]],
    ) -> None:
        """As owner: which of the versions that a reader holds differ here (protocol rule R1); or which versions ours
        are of, and what the requests answer that it has us run."""
        slots, mask = self._view.slots, self._view.mask
        cells_of = self._view.copies.cells
        now = self._clock.cluster_ms
        differ: list[int] = []
        told: list[int] = []
        replies: list[Any] = []
        size = 0
        to_run = iter(requests)
        for index in range(len(keys)) if requests else compare(self._view.copies, keys, versions):
            key, version = keys[index], versions[index]
            number = slot_of(key, mask)
            cell = cells_of[number].get(key)
            if (0 if cell is None else cell[0]) == version and slots[number] is not None:
                continue
            request = next(to_run) if version == RUN else None
            if version >= 0 or slots[number] is None or (cell is not None and 0 < cell[2] <= now):
                differ.append(index)
                continue
            if request is not None:
                reply = self._run(number, request, now) if size <= REPLIES_BYTES_MAX else None
                if reply is None:
                    differ.append(index)
                    continue
                replies += (index, reply[0])
                size += size_of_reply(reply[0])
            told += (index, 0 if cell is None else cell[0])
        peer.confirm(sequence, differ, told, replies)

    def _run(self, number: int, request: Sequence[bytes], now: int) -> tuple[Reply] | None:
        """What a request of another node answers on our copy; None if it is none that only reads."""
        try:
            changes, reply = self._runs[request[0]](self._view.copies.cells[number], request, now)
        except Exception as error:
            return (fault(request, error),)
        return (too_much(changes, reply) or reply,) if changes is None else None

    def confirmed(self, peer: Peer, confirms: list[Any]) -> None:
        """Owners' answers to our reads."""
        for sequence, differ, told, replies in confirms:
            sent = peer.reads_sent.pop(sequence, None)
            if sent is None:
                continue
            reads = sent[1]
            self.ended += len(reads)
            self.under_way -= len(reads)
            if differ or told or not _CHECKS.issuperset(map(type, reads)):
                self._compare(reads, differ, told, replies)
                continue
            for _, _, sink, index, reply, _, _ in reads:
                sink.replies[index] = reply  # `Sink.deliver` in line
                sink.left -= 1
                if not sink.left:
                    sink.complete()

    def _compare(
        self, reads: list[Check | Read | None], differ: list[int], told: list[int], replies: list[Any]
    ) -> None:
        """Where owners do not agree, that read and those of its slot behind it go to the home, in their order (R4); and
        before them those that still wait for another owner, who might answer later."""
        unsure = set(differ)
        versions = dict(zip(told[::2], told[1::2], strict=True))
        answers = dict(zip(replies[::2], replies[1::2], strict=True))
        last: dict[int, int] = {}
        """Per slot that went to its home the last operation."""
        waiting: dict[int, list[Read]] = {}
        """Per slot the reads that another owner is to confirm."""
        for index, read in enumerate(reads):
            if read is None:
                continue
            upto = index + 1
            while upto < len(reads) and reads[upto] is None:
                upto += 1
            is_unsure = not unsure.isdisjoint(range(index, upto))
            if isinstance(read, Read):
                if read.ended:
                    continue
                number = read.slot
                told_of = [versions.get(at, -1) for at in range(index, upto)]
                if number not in last and not is_unsure and self._counts(read, told_of, answers.get(index)):
                    if not read.ended:
                        waiting.setdefault(number, []).append(read)
                    continue
                for earlier in (*waiting.pop(number, ()), read):
                    last[number] = self._ask_home(earlier, last.get(number, 0))
            else:
                number = read[0]
                if number in last or is_unsure:
                    last[number] = self._ask_home(read, last.get(number, 0))
                else:
                    read[2].deliver(read[3], read[4])

    def _counts(self, read: Read, versions: list[int], reply: Reply) -> bool:
        """Take what an owner says into account; False: only the home can answer this read. A reply that is nothing is
        None, too: whoever has run it last says so."""
        read.need -= 1
        if read.versions is None:
            read.versions = versions
        elif read.versions != versions:
            return False
        if reply is not None:
            read.reply = reply
        if read.need <= 0:
            read.ended = True
            read.sink.deliver(read.index, read.reply)
        return True

    def _ask_home(self, read: Read | Check, after: int) -> int:
        """The owners do not agree, or the key has expired: let the home put it in order, behind `after` (rule R2)."""
        if isinstance(read, Read):
            read.ended = True
            number, request, sink, index = read.slot, read.request, read.sink, read.index
        else:
            number, request, sink, index = read[:4]
        self._counters.reads_by_home += 1
        return self._at_home(number, request, sink, index, after)

    def _ask_all(self, reads: Iterable[Read | Check | None]) -> None:
        """An owner takes too long or is gone: ask all of them, slot by slot."""
        bunches: dict[int, list[Read]] = {}
        for read in reads:
            if read is None:
                continue
            if not isinstance(read, Read):
                number, request, sink, index, _, run, now = read
                read = Read(number, request, sink, index, run, now, self._keys[request[0]](request))
            if not read.ended and not read.hedged:
                read.hedged = True
                bunches.setdefault(read.slot, []).append(read)
        for number, bunch in bunches.items():
            self._operations.start(self._clock.now, self._read_slowly(number, bunch))

    def _read_slowly(self, number: int, bunch: list[Read]) -> Operation:
        """Ask every owner that can be asked; the first read that this does not decide goes to the home, and so do all
        behind it (protocol rule R4)."""
        view = self._view
        epoch = view.epoch
        decided: list[tuple[Reply] | None] = []
        for first in range(0, len(bunch), READS_MAX):
            part = bunch[first : first + READS_MAX]
            if view.topology is None or view.epoch != epoch:
                break
            decided += yield from self._ask_owners(number, part)
            if None in decided:
                break
        last = 0
        for read, reply in zip_longest(bunch, decided):
            if read.ended:
                continue
            if last or reply is None or view.epoch != epoch:
                last = self._ask_home(read, last)
            else:
                read.ended = True
                read.sink.deliver(read.index, reply[0])

    def _ask_owners(self, number: int, reads: list[Read]) -> Generator[Round, Answers, list[tuple[Reply] | None]]:
        """What a quorum of the owners of a slot has agreed on that these read; None where it has not. As of the moment
        at which this is begun, where we hold a copy; otherwise, at which one of them has answered."""
        view = self._view
        quorum = view.quorums[number]
        requests = [read.request for read in reads]
        keys = [read.keys for read in reads]
        ran: dict[int, Ran] = {}
        held: dict[int, list[tuple[int, ...]]] = {}
        """Of each owner the versions that each read is of."""
        if view.slots[number] is not None:
            ours = self.run(RunReads(number, requests))
            if not isinstance(ours, Ran):
                return [None] * len(reads)
            ran[view.me.number] = ours
            held[view.me.number] = _by_read(ours.versions, keys)
        asked = list(dict.fromkeys(chain.from_iterable(keys)))
        question = ReadCells(number, asked) if ran else RunReads(number, requests)
        now = self._clock.cluster_ms

        def take(answers: Answers) -> None:
            for peer, answer in answers.by_peer.items():
                if isinstance(answer, Ran):
                    ran[peer.number] = answer
                    held[peer.number] = _by_read(answer.versions, keys)
                elif isinstance(answer, CellAnswers):
                    told = {
                        key: version if not 0 < deadline <= now else UNSURE
                        for key, version, deadline in zip(asked, answer.versions, answer.deadlines, strict=False)
                    }
                    held[peer.number] = [tuple([told.get(key, UNSURE) for key in of_read]) for of_read in keys]

        def enough(answers: Answers) -> bool:
            take(answers)
            return all(_agreed(quorum, held, index) is not None for index in range(len(reads)))

        if not quorum.won(held):
            answers = yield Round([(peer, question) for peer in view.others[number]], self._settings.read_hedge, enough)
            take(answers)
        found: list[tuple[Reply] | None] = []
        for index in range(len(reads)):
            agreed = _agreed(quorum, held, index)
            by = next((n for n in ran if agreed is not None and _at(held[n], index) == agreed), None)
            found.append(None if by is None else (ran[by].replies[index],))
        return found

    def run(self, question: RunReads) -> Message:
        """As owner: what requests answer that only read, and which versions of their keys that is of."""
        number = question.slot
        if self._view.slots[number] is None:
            return Refused()
        cells, now = self._view.copies.cells[number], self._clock.cluster_ms
        versions: list[int] = []
        replies: list[Reply] = []
        size = 0
        for request in question.requests:
            reply = self._run(number, request, now)
            if reply is None or size > REPLIES_BYTES_MAX:
                break
            replies += reply
            size += size_of_reply(reply[0])
            for key in self._keys[request[0]](request):
                version = _version(cells, key, now)
                versions.append(UNSURE if version == EXPIRED else version)
        return Ran(versions, replies)

    def read_any_copy(self, number: int, request: Sequence[bytes], run: Run, sink: Sink, index: int) -> None:
        """Answer a request from the furthest of the copies that answer, be it ever so old (rule V8)."""
        self._operations.start(self._clock.now, self._read_any_copy(number, request, run, sink, index))

    def _read_any_copy(self, number: int, request: Sequence[bytes], run: Run, sink: Sink, index: int) -> Operation:
        view = self._view
        found: list[tuple[int, Reply]] = []
        if view.slots[number] is not None:
            cells, now = view.copies.cells[number], self._clock.cluster_ms
            newest = max([_version(cells, key, 0) for key in self._keys[request[0]](request)])
            found.append((newest, reply_of(run, cells, request, now)))
        asks = [(peer, RunReads(number, [request])) for peer in view.others[number]]
        answers: Answers = yield Round(asks, self._settings.write_hedge)
        ran = [answer for answer in answers.by_peer.values() if isinstance(answer, Ran) and answer.replies]
        found += [(max(answer.versions, default=0), answer.replies[0]) for answer in ran]
        if not found:
            sink.deliver(index, self._no_answer(number))
            return
        sink.deliver(index, max(found, key=itemgetter(0))[1])

    def ask_again(self, peer: Peer) -> None:
        """Reads that this owner was asked about are asked of all."""
        waiting = [read for _, reads in peer.reads_sent.values() for read in reads]
        self.under_way -= len(waiting)
        waiting += peer.reads_waiting
        peer.reads_sent = {}
        peer.reads_waiting = []
        peer.reads.clear()
        peer.requests.clear()
        self.end_turn()
        self._ask_all(waiting)

    def hedge(self, peer: Peer, now: float) -> None:
        """Ask others what a peer has not answered, if nothing has come from it either."""
        hedge = self._settings.read_hedge
        sent = peer.reads_sent
        while sent:
            sequence, (at, reads) = next(iter(sent.items()))
            if now < self.due(peer, at):
                return
            self._view.doubt(peer, at, self._clock, self._settings.write_hedge)
            if not self._budget.spend(now, len(reads)) and not peer.silent:
                peer.reads_again_at = now + hedge
                return
            del sent[sequence]
            self.under_way -= len(reads)
            self._counters.hedges += 1
            self.end_turn()
            self._ask_all(reads)

    def due(self, peer: Peer, sent: float) -> float:
        """When reads that a peer was sent then are to be asked of others."""
        if not peer.usable:
            return sent + self._settings.read_hedge
        patience = self._view.patience(peer, self._clock, self._settings.read_hedge)
        return max(max(sent, peer.read_at, self._clock.awake) + patience, peer.reads_again_at)


def _version(cells: Cells, key: bytes, now: int) -> int:
    cell = cells.get(key)
    if cell is None:
        return 0
    return EXPIRED if 0 < cell[2] <= now else cell[0]


def _by_read(versions: Sequence[int], keys: Sequence[Sequence[bytes]]) -> list[tuple[int, ...]]:
    """Versions in the order of the keys, for each read its own; there may be fewer reads than were asked for."""
    left = iter(versions)
    return [tuple(islice(left, len(of_read))) for of_read in keys]


def _at(held: list[tuple[int, ...]], index: int) -> tuple[int, ...]:
    return held[index] if index < len(held) else ()


def _agreed(quorum: Quorum, held: dict[int, list[tuple[int, ...]]], index: int) -> tuple[int, ...] | None:
    """The versions that a quorum holds: they were chosen, and nothing newer is."""
    rows = {number: found for number, row in held.items() if (found := _at(row, index)) and UNSURE not in found}
    for versions in rows.values():
        if quorum.won([number for number, other in rows.items() if other == versions]):
            return versions
    return None
