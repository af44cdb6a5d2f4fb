"""Rules of transactions broken on purpose (those of the model, and two of the program's own): each must be noticed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from peerkv.agreement.home import Home
from peerkv.agreement.operation import Operation
from peerkv.commands import transactions as asked
from peerkv.commands.table import RUNS, Kind, find_part
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.values.held import held_in
from peerkv.transactions.coordination import Gathered, Transactions, Work
from peerkv.transactions.settling import Settling
from tests.sim.scenario import run_seed

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

    def decide(cells: Any, request: Sequence[bytes], now: int) -> Any:
        reader = asked.Reader(request)
        process, ticket, content = reader.number(), reader.number(), reader.one()
        record = asked.record_key(process, ticket)
        cell = cells.get(record)
        if content == asked.ABORTED and cell is not None and cell[1] is not None:
            return (), cell[1]
        freed = asked._freed(cells, reader.keys, process, ticket, commits=content != asked.ABORTED)
        return [(record, content, now + asked.RECORD_MS), *freed], content

    patch.setitem(RUNS, b"PEERKV.DECIDE", decide)


def forget_what_was_aborted(patch: pytest.MonkeyPatch) -> None:
    """That a transaction never happens is forgotten while its coordinator may still write that it has (G1)."""
    whole = Settling._settle

    def settle(self: Settling, process: int, ticket: int) -> Operation:
        yield from whole(self, process, ticket)
        self._coordinator.write(ticket & TICKET_SLOT, asked.forget_request((process, ticket)), Gathered(1), 0)

    patch.setattr(Settling, "_settle", settle)


def apply_before_it_is_decided(patch: pytest.MonkeyPatch) -> None:
    """Keys get their new values before the decision is written (D2)."""
    whole = Transactions._commit

    def commit(self: Transactions, attempt: Any, answer: Any, replies: Any) -> Operation:
        first = attempt.id[1] & TICKET_SLOT
        others = {number: keys for number, keys in attempt.keys.items() if number != first}
        active = attempt.id[1]
        yield from self._let_go(attempt, others, commits=True)
        self.active.add(active)
        yield from whole(self, attempt, answer, replies)

    patch.setattr(Transactions, "_commit", commit)


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


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], int]] = [
    (hold_as_often_as_asked, 6),
    (answer_reads_from_what_was_there, 3),
    (settle_without_looking, 13),
    (commit_what_was_aborted, 17),
    (forget_what_was_aborted, 24),
    (apply_before_it_is_decided, 3),
    (watch_nothing, 1),
    (hold_what_has_changed, 1),
    (look_only_once, 1),
]


@pytest.mark.parametrize(("mutant", "first"), MUTANTS)
def test_mutants_are_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], first: int, patch: pytest.MonkeyPatch
) -> None:
    """`first`: the seed to begin with, as it has the faults that this one needs."""
    mutant(patch)
    for seed in range(first, first + SEEDS_MAX):
        if run_seed(seed, 10.0, 256, crowded=True).problems:
            return
    pytest.fail(f"{mutant.__name__} went unnoticed through {SEEDS_MAX} seeds")


def test_what_asks_again_later_is_no_harm(patch: pytest.MonkeyPatch) -> None:
    """As long as the homes know what they have run (H1) and what has ended (T4)."""
    ask_again_later(patch)
    assert run_seed(3, 10.0, 256, crowded=True).problems == []
