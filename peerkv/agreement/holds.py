"""Keys of our slots that transactions hold, and operations that wait until they are let go (protocol rules L1 and L2).

Whoever waits, waits in the order in which it came: an operation is run when none of its keys is held, and none is
wanted by one that came before. What is held is known from the cells; this says where to look, and since when.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from peerkv.agreement.peer import Peer
from peerkv.clock import Clock

Awaited: TypeAlias = Callable[[Sequence[bytes]], Sequence[bytes] | None]
"""The keys that must be free when a request is run; None: all of the slot."""

SAME_MAX: Final = 4096
"""Of keys that were held in vain it is remembered that nothing has become of them."""
_NONE: Final[dict[bytes, float]] = {}


class Waiter(NamedTuple):
    """An operation that waits."""

    origin: Peer
    ticket: int
    request: Sequence[bytes]
    after: int


class _Queue:
    """Those of one slot, in order."""

    __slots__ = ("of_all", "tickets", "waiters", "wanted")

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.wanted: Counter[bytes] = Counter()
        self.of_all = False
        """One of them waits for all keys."""
        self.tickets: set[tuple[int, int]] = set()


class Holds:
    """Of the slots that this node is home of."""

    def __init__(self, clock: Clock, awaited: Awaited, interested: Container[int] = ()) -> None:
        """`interested`: slots whose changes somebody waits for."""
        self.of_slot: dict[int, dict[bytes, float]] = {}
        """Per slot the keys that are held, and since when we know."""
        self.freed: dict[int, None] = {}
        """Slots of which something was let go that others wait for."""
        self.same: OrderedDict[tuple[int, bytes], tuple[int, int]] = OrderedDict()
        """Of keys that were held and let go as they were what was seen of them before, and is now: all between is the
        same value. A few thousand, those that were let go last."""
        self._before: dict[tuple[int, bytes], tuple[int, bool]] = {}
        """Of keys that are held what was seen of them, and whether something is to become of them."""
        self._queues: dict[int, _Queue] = {}
        self._clock = clock
        self._awaited = awaited
        self._interested = interested

    def __contains__(self, number: int) -> bool:
        """Whether something of that slot is held, or waited for: no operation of it is run in line."""
        return number in self.of_slot or number in self._queues or number in self._interested

    def hold(self, number: int, key: bytes, was: int = 0, *, changes: bool = True) -> None:
        """A transaction holds a key from now on, as far as we know. `was`: what was seen of it; `changes`: something is
        to become of it."""
        self.of_slot.setdefault(number, {}).setdefault(key, self._clock.now)
        self._before[number, key] = was, changes

    def becomes(self, number: int, key: bytes) -> bool:
        """Whether something is to become of a key; of one that is not held, it has."""
        return self._before.get((number, key), (0, True))[1]

    def let_go(self, number: int, key: bytes, seen: int = 0, *, commits: bool = True) -> bool:
        """Nobody holds it any more; whether nothing of its slot is held now. `seen`: what is seen of it now."""
        keys = self.of_slot.get(number)
        if keys is None or keys.pop(key, None) is None:
            return False
        was, changes = self._before.pop((number, key), (0, True))
        if not (commits and changes):
            first, last = self.same.pop((number, key), (was, was))
            self.same[number, key] = first if last == was else was, seen
            if len(self.same) > SAME_MAX:
                self.same.popitem(last=False)
        if number in self._queues:
            self.freed[number] = None
        if keys:
            return False
        del self.of_slot[number]
        return True

    def now_seen(self, number: int, now: int, key: bytes, seen: int) -> int:
        """What is seen of a key now, if that is the value that was seen then; otherwise what was seen."""
        first, last = self.same.get((number, key), (0, 0))
        is_same = last == now and abs(first) <= abs(seen) <= abs(last) and (seen > 0) == (last > 0)
        return now if is_same else seen

    def must_wait(
        self, number: int, origin: Peer, ticket: int, request: Sequence[bytes], after: int, key: bytes | None = None
    ) -> bool:
        """Whether that operation is to be run later; it is kept until then. `key`: one that it is known to wait for."""
        queue = self._queues.get(number)
        if queue is not None and (origin.process, ticket) in queue.tickets:
            return True
        awaited = self._awaited(request)
        held = self.of_slot.get(number, _NONE)
        if key is None and not (queue is not None and (origin.process, after) in queue.tickets):
            if awaited is None:
                if not held and queue is None:
                    return False
            elif not any(wanted in held for wanted in awaited) and (
                queue is None or not awaited or not (queue.of_all or any(wanted in queue.wanted for wanted in awaited))
            ):
                return False
        if queue is None:
            queue = self._queues[number] = _Queue()
        queue.waiters.append(Waiter(origin, ticket, request, after))
        queue.tickets.add((origin.process, ticket))
        queue.of_all = queue.of_all or awaited is None
        queue.wanted.update(awaited or ())
        if key is not None:
            queue.wanted[key] += 1
        return True

    def awaits(self, request: Sequence[bytes]) -> bool:
        """Whether that is run on what nobody holds."""
        return self._awaited(request) != ()

    def take_freed(self) -> list[tuple[int, Sequence[Waiter]]]:
        """Who has waited for something of slots of which something was let go: all of a slot, in order; who must wait
        still comes back."""
        found = [(number, self._take(number)) for number in self.freed]
        self.freed.clear()
        return found

    def _take(self, number: int) -> Sequence[Waiter]:
        queue = self._queues.pop(number, None)
        return queue.waiters if queue is not None else ()

    def drop(self, number: int) -> Sequence[Waiter]:
        """We are home of that slot no more. Returns who has waited."""
        for key in self.of_slot.pop(number, ()):
            self._before.pop((number, key), None)
        self.freed.pop(number, None)
        return self._take(number)

    def old(self, before: float) -> Iterator[tuple[int, bytes]]:
        """Slot and key of what has been held since then, or longer."""
        for number, keys in self.of_slot.items():
            for key, since in keys.items():
                if since <= before:
                    yield number, key
