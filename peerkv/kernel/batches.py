"""The hot paths over copies, in batches: what is usual is done here, all else leaves to ordinary code, in its order.

Each function is called once for a batch, and has in line what ordinary code does one by one; a test compares them
(`tests/kernel/test_door.py`). What it must know beside the copies it is given, by slot number, or asks of who calls.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from peerkv.kernel.slot import Copies
from peerkv.resp import Reply, size_of_reply
from peerkv.ring.keys import slot_of
from peerkv.store.cell import Cells, Change
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.scratch import Occupied
from peerkv.store.values import OF_OTHERS, Body, size_of_body

Run: TypeAlias = Callable[[Cells, Sequence[bytes], int], tuple[Sequence[Change] | None, Reply]]
"""Runs a request on a slot's cells at a cluster time: its changes (None: it is one that never has any) and its reply.
What could have changed something but did not is remembered like what did: run again elsewhere it might."""

Asked: TypeAlias = tuple[int, int, Sequence[bytes]]
"""An operation: its ticket, the ticket of the one that it comes behind or 0, its request."""

Rows: TypeAlias = list[Any]
"""Flat, per operation: ticket, the position that it leads to, key, body, deadline, reply. Key None: nothing is
changed; a list: key, body, deadline of several changes."""

TURN_BYTES_MAX: Final = 8 << 20
"""Values and replies that operations make in a turn; the rest of them is run in the next one. Each is kept until the
frames are made: 25 APPENDs to 60 MiB, or 400 GETEX of 1 MiB, were one turn, and more than a frame may have."""
USUAL_BYTES: Final = 1 << 20
RECIPE_BYTES: Final = 256
"""A reply that is at least as long, and what the key held before, is sent as that recipe (rule A7)."""


# -- what a coordinator wants of its home


class Home(Protocol):
    """Ordinary code of a home, as `run` has it."""

    made: int
    """Bytes of values and replies that operations have made in this turn of the node."""
    group_of: list[Any]
    """By slot who is to accept what is run; None: we are not home of it."""
    timed: bytearray
    """By slot, 1: some cell has, or had, a deadline, or is held: see `is_plain_now`."""

    def is_plain_now(self, number: int, request: Sequence[bytes]) -> bool:
        """Of a slot that is `timed`, whether a request meets no deadline that has passed, and nothing that is held."""

    def run_one(self, origin: Any, ticket: int, request: Sequence[bytes], after: int) -> None:
        """Run an operation of which something is not usual."""

    def must_wait(
        self, number: int, origin: Any, ticket: int, request: Sequence[bytes], after: int, key: bytes
    ) -> object:
        """It has met a key that is held, when it was run."""

    def fault(self, request: Sequence[bytes], error: Exception) -> Reply:
        """What is said to an operation that has raised that."""

    def record(
        self,
        number: int,
        origin: Any,
        ticket: int,
        changes: Sequence[Change] | None,
        reply: Reply,
        request: Sequence[bytes],
    ) -> None:
        """It was run, and what it has done is not usual: make it history."""

    def spoil(self, number: int, origin: Any, ticket: int, request: Sequence[bytes], error: Exception) -> None:
        """Its patch is none for what its key holds; the position that it was to lead to is spent."""

    def note_deadlines(self, number: int, changes: Sequence[Change], origin: Any, ticket: int) -> None:
        """It has set a deadline, or its slot is `timed`."""

    def rows(self, group: Any, origin: Any) -> Rows:
        """Where what is run next for that coordinator is to be put."""

    def recall(self, group: Any, origin: Any, reply: bytes) -> None:
        """The reply of the row that was put there last is what its key held before."""


def run(
    copies: Copies,
    home: Home,
    origin: Any,
    operations: Iterator[Asked],
    recent: MutableMapping[int, Reply],
    mark: int,
    runs: Mapping[bytes, Run],
    now: int,
    *,
    impaired: bool,
) -> list[Asked]:
    """Run a coordinator's operations on slots of which we are home: each is the next position of its slot's history,
    in our copy at once, and a row for the others. `recent`: what this coordinator's have answered; `mark`: the oldest
    ticket that it may still repeat; `runs`: by name how a request is run; `impaired`: nothing is usual now.

    Usual is: the copy is plain, the operation new, its change one of one key, far from what is too much.

    Returns what is left when `TURN_BYTES_MAX` have been made.
    """
    group_of, timed = home.group_of, home.timed
    plain, positions, cells_of = copies.plain, copies.positions, copies.cells
    rows_of: dict[Any, Rows] = {}
    made = home.made
    for ticket, after, request in operations:
        if made > TURN_BYTES_MAX:
            home.made = made
            return [(ticket, after, request), *operations]
        if ticket < mark:  # T4: a late copy of an operation that has ended
            continue
        number = ticket & TICKET_SLOT
        group = group_of[number]
        if (
            group is None
            or impaired
            or not plain[number]
            or ticket in recent
            or (after and after not in recent)
            or (timed[number] and not home.is_plain_now(number, request))
        ):
            rows_of.clear()
            home.made = made
            home.run_one(origin, ticket, request, after)
            made = home.made
            continue
        try:
            changes, reply = runs[request[0]](cells_of[number], request, now)
        except Occupied as occupied:
            home.must_wait(number, origin, ticket, request, after, occupied.key)
            continue
        except Exception as error:  # it might have changed something: that it has not is remembered
            changes, reply = (), home.fault(request, error)
        if changes is None or len(changes) != 1 or not _is_usual(changes[0][1], reply):
            rows_of.clear()
            home.made = made
            home.record(number, origin, ticket, changes, reply, request)
            made = home.made
            continue
        ((key, value, deadline),) = changes
        former = False
        if type(reply) is bytes:
            made += len(reply)
            former = is_former(cells_of[number], key, reply)
        to = positions[number] + 1
        if type(value) is bytes:
            positions[number] = to
            cells_of[number][key] = (to, value, deadline)
            made += len(value)
        else:
            try:
                copies.patch(number, to, key, value, deadline)  # type: ignore[arg-type]
            except Exception as error:
                rows_of.clear()
                home.made = made
                home.spoil(number, origin, ticket, request, error)
                made = home.made
                continue
            made += size_of_body(value)
        recent[ticket] = reply
        if deadline or timed[number]:
            home.note_deadlines(number, changes, origin, ticket)
        rows = rows_of.get(group)
        if rows is None:
            rows = rows_of[group] = home.rows(group, origin)
        rows += (ticket, to, key, value, deadline, reply)
        if former:
            home.recall(group, origin, reply)  # type: ignore[arg-type]
    home.made = made
    return []


def is_former(cells: Cells, key: bytes, reply: Reply) -> bool:
    """Whether what an operation answers is what its key holds before it is changed, and worth a recipe."""
    if type(reply) is not bytes or len(reply) < RECIPE_BYTES:
        return False
    cell = cells.get(key)
    return cell is not None and type(cell[1]) is bytes and cell[1] == reply


def _is_usual(body: Body, reply: Reply) -> bool:
    """Whether a change puts or patches its key and is far from being too much."""
    if type(body) is bytes:
        return True
    if type(body) is not tuple or body[0] in OF_OTHERS:
        return False
    return type(reply) is int or size_of_body(body) + size_of_reply(reply) < USUAL_BYTES


# -- what a home has run, for another owner


class Owner(Protocol):
    """Ordinary code of an owner, as `accept` has it."""

    def accept_one(
        self, home: Any, number: int, to: int, key: Any, body: Any, deadline: int, starts: dict[int, int], urgent: bool
    ) -> bool:
        """Accept a change that is not usual, or not from where our copy is; whether it is accepted."""

    def mend(self, home: Any, number: int) -> None:
        """A patch was none for what our copy holds: that is another one than the home's."""


def accept(
    copies: Copies, owner: Owner, home: Any, columns: Sequence[Sequence[Any]], starts: dict[int, int], *, urgent: bool
) -> list[int]:
    """Apply a turn's changes that are one coordinator's operations, in order: `columns` are tickets, positions, keys,
    bodies and deadlines. Usual is: the copy is plain, and exactly where the change begins (A2); it is of one key.

    `starts`: where the first of a ballot begins, by slot; `urgent`: somebody waits for it. Returns the tickets of those
    that were not accepted.
    """
    plain, positions, cells_of = copies.plain, copies.positions, copies.cells
    lost: list[int] = []
    for ticket, to, key, value, deadline in zip(*columns[:5], strict=True):
        number = ticket & TICKET_SLOT
        if type(value) is bytes and plain[number] and positions[number] == to - 1:
            positions[number] = to
            cells_of[number][key] = (to, value, deadline)
        elif type(value) is tuple and plain[number] and positions[number] == to - 1 and value[0] not in OF_OTHERS:
            try:
                copies.patch(number, to, key, value, deadline)
            except Exception:
                owner.mend(home, number)
                lost.append(ticket)
        elif not owner.accept_one(home, number, to, key, value, deadline, starts, urgent):
            lost.append(ticket)
    return lost


# -- what others read


def compare(copies: Copies, keys: Sequence[bytes], versions: Sequence[int]) -> list[int]:
    """The places of those keys whose cells here are not of these versions, or of whose slots there is no copy."""
    slots, cells_of = copies.slots, copies.cells
    mask = len(slots) - 1
    differ: list[int] = []
    for place, (key, version) in enumerate(zip(keys, versions, strict=True)):
        number = slot_of(key, mask) if b"{" in key else crc_hqx(key, 0) & mask  # `slot_of` in line
        cell = cells_of[number].get(key)
        if (0 if cell is None else cell[0]) != version or slots[number] is None:
            differ.append(place)
    return differ


# -- what a node can answer by itself


class Row(Protocol):
    """A command of one key, which is its first argument."""

    arity: int
    """Arguments with the name; negative: at least that many."""
    calls: int
    run: Any


class Alone(Protocol):
    """Ordinary code of a node that is the only owner of slots, as `run_alone` has it."""

    alone: bytearray
    """By slot, 1: we are home of it, and its only owner."""
    timed: bytearray
    """As of a `Home`."""

    def apply_alone(self, number: int, run: Any, request: Sequence[bytes], now: int) -> Reply:
        """Run a request on a slot that is `timed`."""

    def change_alone(self, number: int, changes: Sequence[Change]) -> int:
        """Make changes that are not usual; how many bytes that has written."""

    def fault(self, request: Sequence[bytes], error: Exception) -> Reply:
        """What is said to a request that has raised that."""


def run_alone(
    copies: Copies,
    home: Alone,
    rows: Mapping[bytes, Any],
    requests: Sequence[Sequence[bytes]],
    first: int,
    replies: list[Reply],
    now: int,
    room: int,
) -> tuple[int, Any, int]:
    """Run a client's requests from the `first` one on, up to one that is not usual: its name is in `rows`, it has as
    many arguments as that takes, and its key is of a slot of which we are the only owner. Their replies are put into
    their places. `room`: bytes that may be written; it ends behind the request that has written more.

    Returns the place of the first request that was not run, the row of the last one that was, and how many bytes were
    written.
    """
    alone, timed = home.alone, home.timed
    plain, positions, cells_of = copies.plain, copies.positions, copies.cells
    mask = len(alone) - 1
    written = 0
    last = None
    place = first
    for request in islice(requests, first, None) if first else requests:
        row = rows[request[0]]
        if row is None:
            break
        arity = row.arity
        if len(request) != arity if arity > 0 else len(request) < -arity:
            break
        key = request[1]
        number = slot_of(key, mask) if b"{" in key else crc_hqx(key, 0) & mask
        if not alone[number]:
            break
        last = row
        row.calls += 1
        if timed[number]:
            replies[place] = home.apply_alone(number, row.run, request, now)
            place += 1
            continue
        try:
            changes, reply = row.run(cells_of[number], request, now)
            if changes:
                key, value, deadline = changes[0]
                if len(changes) == 1 and type(value) is bytes and plain[number] and not deadline:
                    positions[number] = to = positions[number] + 1
                    cells_of[number][key] = (to, value, 0)
                    written += len(value)
                else:
                    written += home.change_alone(number, changes)
                if written > room:
                    replies[place] = reply
                    place += 1
                    break
        except Exception as error:
            reply = home.fault(request, error)
        replies[place] = reply
        place += 1
    return place, last, written
