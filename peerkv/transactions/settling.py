"""What others have left behind: keys that are held for too long, and decisions that nobody has dropped (S1, G8).

A home whose key is held by a transaction of a coordinator that is gone, or silent, or knows nothing of it any more, has
written where its decision would be that it never happens, unless it has; then it lets go of the key, either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import Home
from peerkv.agreement.operation import Operation, Operations
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.commands import transactions as asked
from peerkv.metrics import counter
from peerkv.resp import ReplyError
from peerkv.settings import Settings
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.values.held import Held
from peerkv.transactions.coordination import PATIENCE_S, Gathered, Transactions

HELD_MAX_S: Final = PATIENCE_S + 10.0
"""A coordinator that is there has decided within this, or will not."""
AT_ONCE_MAX: Final = 64
"""Transactions that are settled at a time."""
ABORT_KEPT_MS: Final = 1_000_000
"""How long it is remembered that a transaction never happens, where its coordinator does not say that it has given up:
longer than anything stays on its way (`links.FORGET_PROCESS_AFTER_S`), and fifty times as long as that tries to."""


@dataclass(slots=True)
class Counters:
    """What was done for others."""

    settled: int = counter("transactions_settled", "transactions whose coordinator had gone, settled by this node")


class Settling:
    """Of the slots that this node is home of."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        view: View,
        operations: Operations,
        coordinator: Coordinator,
        home: Home,
        transactions: Transactions,
    ) -> None:
        self.counters = Counters()
        self._settings = settings
        self._clock = clock
        self._view = view
        self._operations = operations
        self._coordinator = coordinator
        self._home = home
        self._transactions = transactions
        self._under_way: set[tuple[int, int]] = set()

    def look(self) -> None:
        """See whether there is something to settle; to be called several times within a hedge."""
        now = self._clock.now
        self._tell_over()
        self._transactions.turns.look(now - self._settings.write_hedge)
        overdue, self._home.overdue = self._home.overdue, []
        for number, record in overdue:
            self._start(asked.transaction_of(record), self._tidy(number, record))
        for number, key in list(self._home.holds.old(now - self._settings.write_hedge)):
            since = self._home.holds.of_slot[number][key]
            held = self._held(number, key)
            if held is not None and (now - since > HELD_MAX_S or not self._is_decided_by(held)):
                self._start((held.process, held.ticket), self._settle(held.process, held.ticket))

    def _tell_over(self) -> None:
        """Those who are home of them can drop decisions of ours. Who is not, or does not hear of it, finds them when
        they are overdue."""
        tickets, self._transactions.over = self._transactions.over, []
        by_home: dict[Peer, list[int]] = {}
        for ticket in tickets:
            target = self._view.targets[ticket & TICKET_SLOT]
            if target is not None:
                by_home.setdefault(target, []).append(ticket)
        for peer, of_peer in by_home.items():
            if peer is self._view.me:
                self.over(peer, of_peer)
            elif peer.up:
                peer.tell("over", of_peer)

    def over(self, peer: Peer, tickets: Sequence[int]) -> None:
        """Nobody holds a key any more for these transactions of a coordinator: drop that they have happened."""
        by_slot: dict[int, list[bytes]] = {}
        for ticket in tickets:
            by_slot.setdefault(ticket & TICKET_SLOT, []).append(asked.record_key(peer.process, ticket))
        for number, records in by_slot.items():
            self._home.drop_keys(number, records)

    def _is_decided_by(self, held: Held) -> bool:
        """Whether the coordinator will still let it go by itself, as far as we see."""
        if held.process == self._view.me.process:
            return held.ticket in self._transactions.active
        peer = self._view.peers.get(held.process)
        return peer is not None and peer.usable and self._view.marks.get(held.process, 0) <= held.ticket

    def _held(self, number: int, key: bytes) -> Held | None:
        cell = self._view.copies.cells[number].get(key)
        return cell[1] if cell is not None and type(cell[1]) is Held else None

    def _start(self, transaction: tuple[int, int], operation: Operation) -> None:
        if transaction in self._under_way or len(self._under_way) >= AT_ONCE_MAX:
            operation.close()
            return
        self._under_way.add(transaction)
        self._operations.start(self._clock.now, self._run(transaction, operation))

    def _run(self, transaction: tuple[int, int], operation: Operation) -> Operation:
        try:
            yield from operation
        finally:
            self._under_way.discard(transaction)

    def _settle(self, process: int, ticket: int) -> Operation:
        gathered = Gathered(1)
        self._coordinator.write(ticket & TICKET_SLOT, asked.abort_request((process, ticket)), gathered, 0)
        yield gathered.event
        (decision,) = gathered.replies
        if not isinstance(decision, bytes):
            return  # nobody could be asked; this is seen again
        commits = asked.decision_of(decision) is not None
        by_slot: dict[int, list[bytes]] = {}
        for number, key in self._held_by(process, ticket):
            by_slot.setdefault(number, []).append(key)
        gathered = Gathered(len(by_slot))
        for index, (number, keys) in enumerate(by_slot.items()):
            request = asked.release_request((process, ticket), keys, commits=commits)
            self._coordinator.write(number, request, gathered, index)
        yield gathered.event
        self.counters.settled += 1

    def _held_by(self, process: int, ticket: int) -> Iterator[tuple[int, bytes]]:
        for number, keys in self._home.holds.of_slot.items():
            for key in keys:
                held = self._held(number, key)
                if held is not None and (held.process, held.ticket) == (process, ticket):
                    yield number, key

    def _tidy(self, number: int, record: bytes) -> Operation:
        """Drop a decision of which nobody needs to know any more: who happened holds no key, and who was aborted can
        not be decided otherwise."""
        process, ticket = asked.transaction_of(record)
        cell = self._view.copies.cells[number].get(record)
        if cell is None or type(cell[1]) is not bytes:
            return
        if process == self._view.me.process and ticket in self._transactions.active:
            return
        keys = asked.decision_of(cell[1])
        if keys is None:
            has_given_up = self._view.marks.get(process, 0) > ticket
            if not has_given_up and self._clock.cluster_ms - cell[2] < ABORT_KEPT_MS:
                return
        else:
            gathered = Gathered(len(keys))
            for index, (slot, of_slot) in enumerate(keys.items()):
                request = asked.release_request((process, ticket), of_slot, commits=True)
                self._coordinator.write(slot, request, gathered, index)
            yield gathered.event
            if any(isinstance(reply, ReplyError) for reply in gathered.replies):
                return
        self._home.drop_keys(number, (record,))
