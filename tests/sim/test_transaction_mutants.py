"""Rules of transactions broken on purpose (those of the model, and two of the program's own): each must be noticed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from peerkv.agreement.holds import Holds
from peerkv.agreement.home import Home
from peerkv.agreement.operation import Operation, Pause
from peerkv.commands import transactions as asked
from peerkv.commands.table import RUNS, Kind, find_part
from peerkv.kernel.batches import Run
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.values.held import Held, held_in
from peerkv.transactions.coordination import Gathered, Transactions, Work
from peerkv.transactions.settling import Settling
from tests.agreement.test_nodes import cluster
from tests.sim.scenario import run_seed
from tests.sim.world import World
from tests.transactions.test_homes import stopped_when_all_is_held, stopped_when_it_has_decided

SEEDS_MAX = 12
LATE = 20
"""So many others come first."""


def ask_again_later(patch: pytest.MonkeyPatch, *, forgets: bool = False) -> None:
    """What asks for keys to be held arrives once more, long after; with `forgets` its home knows nothing of it."""
    whole = Home.run
    late: deque[tuple[Home, Any, int, int, Sequence[bytes]]] = deque()

    def run(self: Home, origin: Any, tickets: Any, afters: Any, requests: Any) -> None:
        while len(late) > LATE:
            home, asker, ticket, after, request = late.popleft()
            if not forgets:
                whole(home, asker, [ticket], [after], [request])
            elif (number := ticket & TICKET_SLOT) in home.homes and not home.view.impaired:
                cells = home.homes[number].slot.cells
                changes, reply = home._runs[request[0]](cells, request, home.clock.cluster_ms)
                home.record(number, asker, ticket, changes, reply, request)
        whole(self, origin, tickets, afters, requests)
        for ticket, after, request in zip(tickets, afters, requests, strict=True):
            if request[0] in (b"PEERKV.HOLD", b"PEERKV.TRY"):
                late.append((self, origin, ticket, after, request))

    patch.setattr(Home, "run", run)


def hold_as_often_as_asked(patch: pytest.MonkeyPatch) -> None:
    """A key is held again when what asked for that arrives once more (L3)."""
    ask_again_later(patch, forgets=True)


def answer_reads_from_what_was_there(patch: pytest.MonkeyPatch) -> None:
    """A read of a key that is held is answered by what it held before (R2)."""
    whole = Home.run_one

    def run(self: Home, origin: Any, ticket: int, request: Sequence[bytes], after: int) -> None:
        row = find_part(request[0])
        number = ticket & TICKET_SLOT
        home = self.homes.get(number)
        if row is None or row.kind is not Kind.READ or home is None or row.name.startswith("PEERKV.HELD"):
            whole(self, origin, ticket, request, after)
            return
        cells = {
            key: (cell[0], held_in(cell[1]), cell[1].deadline) if hasattr(cell[1], "ticket") else cell
            for key, cell in home.slot.cells.items()
        }
        changes, reply = self._runs[request[0]](cells, request, self.clock.cluster_ms)
        self.record(number, origin, ticket, changes, reply, request)

    patch.setattr(Home, "run_one", run)


def settle_without_looking(patch: pytest.MonkeyPatch) -> None:
    """Who finds a key held for long lets it go without a look at the decision (R1)."""

    def settle(self: Settling, process: int, ticket: int) -> Operation:
        for number, key in list(self._held_by(process, ticket)):
            gathered = Gathered(1)
            request = asked.release_request((process, ticket), [key], commits=False)
            self._coordinator.write(number, request, gathered, 0)
            yield gathered.event

    patch.setattr(Settling, "_settle", settle)


def commit_what_was_aborted(patch: pytest.MonkeyPatch) -> None:
    """A decision is written whatever stands there (D1)."""
    for name in (b"PEERKV.DECIDE", b"PEERKV.COMMIT"):
        patch.setitem(RUNS, name, partial(_decide_anew, RUNS[name]))


def _decide_anew(whole: Run, cells: Any, request: Sequence[bytes], now: int) -> Any:
    if _kind(request) != b"A":
        cells = {key: cell for key, cell in cells.items() if not asked.is_record(key)}
    return whole(cells, request, now)


def _kind(request: Sequence[bytes]) -> bytes:
    reader = asked.Reader(request)
    reader.transaction()
    return reader.one()


def decide_over_others(patch: pytest.MonkeyPatch) -> None:
    """The keys where a transaction is decided may be held by another (D1)."""
    for name in (b"PEERKV.DECIDE", b"PEERKV.COMMIT"):
        patch.setitem(RUNS, name, partial(_decide_on_what_was_there, RUNS[name]))
    whole = Holds.must_wait

    def must_wait(self: Holds, number: int, origin: Any, ticket: int, request: Sequence[bytes], *rest: Any) -> bool:
        return request[0] != b"PEERKV.COMMIT" and whole(self, number, origin, ticket, request, *rest)

    patch.setattr(Holds, "must_wait", must_wait)


def _decide_on_what_was_there(whole: Run, cells: Any, request: Sequence[bytes], now: int) -> Any:
    if _kind(request) in (b"B", b"R"):
        cells = {
            key: (cell[0], held_in(cell[1]), cell[1].deadline) if isinstance(cell[1], Held) else cell
            for key, cell in cells.items()
        }
    return whole(cells, request, now)


def forget_what_was_aborted(patch: pytest.MonkeyPatch) -> None:
    """That a transaction never happens is forgotten while its coordinator may still write that it has (G8)."""
    patch.setitem(RUNS, b"PEERKV.DECIDE", partial(_abort_in_vain, RUNS[b"PEERKV.DECIDE"]))


def _abort_in_vain(whole: Run, cells: Any, request: Sequence[bytes], now: int) -> Any:
    changes, reply = whole(cells, request, now)
    return () if _kind(request) == b"A" else changes, reply


def forget_before_all_have_let_go(patch: pytest.MonkeyPatch) -> None:
    """That a transaction has happened is forgotten while keys are still held for it (G8)."""
    whole = Transactions._happened

    def happened(self: Transactions, attempt: Any, work: Any, answer: Any, replies: Any) -> Operation:
        self.over.append(attempt.id[1])
        yield Pause(0.3)
        yield from whole(self, attempt, work, answer, replies)

    patch.setattr(Transactions, "_happened", happened)


def apply_before_it_is_decided(patch: pytest.MonkeyPatch) -> None:
    """Keys get their new values before the decision is written (D2)."""
    whole = Transactions._decide

    def decide(self: Transactions, attempt: Any, work: Any, request: Any) -> Any:
        yield self._let_go(attempt, attempt.others, commits=True).event
        return (yield from whole(self, attempt, work, request))

    patch.setattr(Transactions, "_decide", decide)


def watch_nothing(patch: pytest.MonkeyPatch) -> None:
    """What WATCH has seen is not compared (W1)."""
    whole = Transactions.start

    def start(self: Transactions, work: Work, answer: Any) -> None:
        work.seen = {}
        whole(self, work, answer)

    patch.setattr(Transactions, "start", start)


def hold_what_has_changed(patch: pytest.MonkeyPatch) -> None:
    """What was looked at is held though it is not as it was seen (L1)."""
    patch.setattr(asked, "is_as_seen", lambda _seen, _cell: True)


def look_only_once(patch: pytest.MonkeyPatch) -> None:
    """What was read of several slots counts as of one moment although nobody has looked again."""

    def look(self: Transactions, by_slot: Mapping[int, Sequence[bytes]]) -> Any:
        yield from ()
        return _Same()

    patch.setattr(Transactions, "_look", look)


class _Same(dict[int, Any]):
    """Whatever is asked for is as it was seen."""

    def __missing__(self, number: int) -> Any:
        return _Equal()


class _Equal:
    def __ne__(self, other: object) -> bool:
        return False


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], int | Callable[[World], None]]] = [
    (hold_as_often_as_asked, 6),
    (answer_reads_from_what_was_there, 3),
    (settle_without_looking, stopped_when_it_has_decided),
    (commit_what_was_aborted, stopped_when_all_is_held),
    (forget_what_was_aborted, stopped_when_all_is_held),
    (decide_over_others, 1),
    (forget_before_all_have_let_go, 1),
    (apply_before_it_is_decided, 3),
    (watch_nothing, 1),
    (hold_what_has_changed, 1),
    (look_only_once, 1),
]


@pytest.mark.parametrize(("mutant", "first"), MUTANTS)
def test_mutants_are_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], first: int | Callable[[World], None], patch: pytest.MonkeyPatch
) -> None:
    """`first`: the seed to begin with, as it has the faults that this one needs, or a story of these."""
    mutant(patch)
    if not isinstance(first, int):
        with pytest.raises(AssertionError):
            first(cluster(3))
        return
    for seed in range(first, first + SEEDS_MAX):
        if run_seed(seed, 10.0, 256, crowded=True).problems:
            return
    pytest.fail(f"{mutant.__name__} went unnoticed through {SEEDS_MAX} seeds")


def test_what_asks_again_later_is_no_harm(patch: pytest.MonkeyPatch) -> None:
    """As long as the homes know what they have run (H1) and what has ended (T4)."""
    ask_again_later(patch)
    assert run_seed(3, 10.0, 256, crowded=True).problems == []
