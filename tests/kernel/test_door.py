"""The kernel's door: whatever goes through it in batches leaves what ordinary code leaves, one by one.

Ordinary code is the program with a kernel to which nothing is usual. What is compared is what anybody can see: what
travels, byte for byte, what is answered and remembered, and what the copies hold. So another kernel of the same door
is tried by these tests as it is: it is one more of `KERNELS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerkv.agreement import home as homes
from peerkv.agreement import reads, replica
from peerkv.clients import pipeline
from peerkv.kernel import batches
from peerkv.kernel.slot import Copies
from peerkv.resp import Reply
from peerkv.ring.keys import slot_of
from peerkv.store.cell import Cells, Change
from peerkv.store.recent import TICKET_SLOT, TICKET_SLOT_BITS
from peerkv.store.scratch import Occupied
from peerkv.store.values.held import HELD, Held, holding
from tests.agreement.by_hand import SLOT, Got, Member, Owners
from tests.agreement.by_hand import run as run_usual
from tests.clients.alone import Alone, Client
from tests.sim.history import frozen

KERNELS = [batches]


class OneByOne:
    """A kernel to which nothing is usual."""

    @staticmethod
    def run(
        _copies: Copies,
        home: Any,
        origin: Any,
        operations: Iterator[tuple[int, int, Sequence[bytes]]],
        _recent: Any,
        mark: int,
        *_: Any,
        impaired: bool,  # noqa: ARG004
    ) -> list[Any]:
        for ticket, after, request in operations:
            if home.made > batches.TURN_BYTES_MAX:
                return [(ticket, after, request), *operations]
            if ticket >= mark:
                home.run_one(origin, ticket, request, after)
        return []

    @staticmethod
    def accept(
        _copies: Copies, owner: Any, home: Any, columns: Any, starts: dict[int, int], *, urgent: bool
    ) -> list[int]:
        return [
            ticket
            for ticket, to, key, body, deadline in zip(*columns[:5], strict=True)
            if not owner.accept_one(home, ticket & TICKET_SLOT, to, key, body, deadline, starts, urgent)
        ]

    @staticmethod
    def compare(_copies: Copies, keys: Sequence[bytes], _versions: Sequence[int]) -> list[int]:
        return list(range(len(keys)))

    @staticmethod
    def run_alone(_copies: Copies, _home: Any, _rows: Any, _requests: Any, first: int, *_: Any) -> tuple[int, Any, int]:
        return first, None, 0


def through(kernel: Any, story: Callable[[], Any]) -> Any:
    """What comes of it with that kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(homes, "run", kernel.run)
        patch.setattr(replica, "accept", kernel.accept)
        patch.setattr(reads, "compare", kernel.compare)
        patch.setattr(pipeline, "run_alone", kernel.run_alone)
        return story()


def test_everything_goes_through_the_door() -> None:
    """If an engine had another name for a function of the kernel, these tests would compare one kernel with itself."""
    names = {"run", "accept", "compare", "run_alone"}
    used = {
        (module.__name__.rpartition(".")[2], name)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("peerkv.") and module is not batches
        for name, value in vars(module).items()
        if any(value is getattr(batches, known) for known in names)
    }
    assert used == {("home", "run"), ("replica", "accept"), ("reads", "compare"), ("pipeline", "run_alone")}


# Homes and owners

FAR = b"%d" % (1 << 50)
SOON = b"40"
KEY = st.sampled_from([b"a", b"b", b"c"])
TEXT = st.sampled_from([b"x", b"y" * 300])


def run(cells: Cells, request: Sequence[bytes], now: int) -> tuple[Sequence[Change] | None, Reply]:
    """As `by_hand.run`; and PAIR key other text, HOLD key, FREE key, COPY key other."""
    name, key = request[0], request[1]
    cell = cells.get(key)
    if name == b"PAIR":
        return ((key, request[3], 0), (request[2], None, 0)), "OK"
    if name == b"HOLD":
        deadline = cell[2] if cell is not None else 0
        return ((key, holding(7, 7, deadline, [(request[2], 0)]), HELD),), 1
    if name == b"FREE":
        if cell is None or not isinstance(cell[1], Held):
            return (), 0
        return ((key, ("free", int(request[2])), 0),), 1
    if name == b"COPY":
        if request[2] in cells and isinstance(cells[request[2]][1], Held):
            raise Occupied(request[2])
        return (((key, ("copy", request[2]), 0),) if request[2] in cells and cells[request[2]][1] else ()), 1
    return run_usual(cells, request, now)


class Runs(dict[bytes, Any]):
    def __missing__(self, name: bytes) -> Any:
        return run


def awaited(request: Sequence[bytes]) -> Sequence[bytes]:
    """Who lets a key go does not wait for it."""
    return () if request[0] == b"FREE" else request[1:2]


OPERATIONS = st.one_of(
    st.tuples(st.sampled_from([b"APPEND", b"PATCH", b"SWAP", b"TRY"]), KEY, TEXT),
    st.tuples(st.sampled_from([b"APPEND", b"PATCH"]), KEY, TEXT, st.sampled_from([FAR, SOON])),
    st.tuples(st.sampled_from([b"GET", b"DEL", b"TAKE", b"TOUCH", b"BROKEN", b"FAULTY"]), KEY),
    st.tuples(st.just(b"PAIR"), KEY, st.just(b"d"), TEXT),
    st.tuples(st.just(b"COPY"), KEY, KEY),
    st.tuples(st.just(b"HOLD"), KEY, TEXT),
    st.tuples(st.just(b"FREE"), KEY, st.sampled_from([b"0", b"1"])),
)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.booleans(), OPERATIONS),
    st.tuples(st.just("write"), st.integers(0, 3), st.booleans(), OPERATIONS),
    st.tuples(st.just("write"), st.integers(0, 3), st.booleans(), OPERATIONS),
    st.tuples(st.just("again"), st.integers(0, 3), st.booleans(), st.just(())),
    st.tuples(st.just("behind"), st.integers(0, 2), st.booleans(), st.tuples(st.just(b"APPEND"), KEY, TEXT)),
    st.tuples(st.just("turn"), st.integers(0, 3), st.just(True), st.just(())),
    st.tuples(st.just("away"), st.integers(1, 2), st.booleans(), st.just(())),
    st.tuples(st.just("takeover"), st.integers(0, 2), st.just(True), st.just(())),
    st.tuples(st.just("later"), st.integers(0, 3), st.just(True), st.just(())),
)


class Noting(Owners):
    """Owners, and what has travelled between them."""

    def __init__(self) -> None:
        self.travelled: list[tuple[str, str, bytes]] = []
        super().__init__(4, 3)
        for member in self.members:
            for engine in (member.home, member.reads):
                engine._runs = Runs()
            member.home.holds._awaited = awaited
            member.settling.look = lambda: None  # what is held here is of no transaction

    def receive(self, member: Member, peer: Any, payload: bytes) -> None:
        self.travelled.append((peer.name, member.name, payload))
        super().receive(member, peer, payload)


def told(member: Member) -> tuple[Any, ...]:
    """What there is to see of a member's copy, and of what it knows."""
    slot = member.view.slots[SLOT]
    recent = {process: dict(operations) for process, operations in member.replica.recent.items()}
    if slot is None:
        return (recent,)
    copies = member.view.copies
    return (
        slot.position,
        slot.promised,
        {key: (version, frozen(value), deadline) for key, (version, value, deadline) in slot.cells.items()},
        slot.lineage,
        slot.tombstones,
        slot.live,
        slot.digest,
        copies.plain[SLOT],
        SLOT in copies.buried,
        member.home.timed[SLOT],
        member.home.expiry.next_deadline,
        {number: set(keys) for number, keys in member.home.holds.of_slot.items()},
        recent,
    )


def seen_from(member: Member, other: Member) -> Any:
    return member.view.me if member is other else member.peer(other)


def written(steps: Sequence[tuple[str, int, bool, tuple[bytes, ...]]]) -> tuple[Any, ...]:
    """What comes of these steps."""
    net = Noting()
    got = Got()
    last = {member.name: 0 for member in net.members}
    seen = []
    sent: list[tuple[Member, int, tuple[bytes, ...]]] = []
    for index, (step, who, flag, request) in enumerate(steps):
        member = net.members[who]
        match step:
            case "write":
                after = last[member.name] if flag else 0
                last[member.name] = member.write(got, index, *request, after=after)
                sent.append((member, last[member.name], request))
            case "again" if sent:  # as after a failover; or late, when its coordinator has done with it
                origin, ticket, again = sent[-1 - who % len(sent)]
                target = net.members[who % 3]
                if flag:
                    target.view.mark(origin.view.me.process, ticket + 1)
                target.home.run(seen_from(target, origin), [ticket], [0], [again])
            case "behind":  # one that has not been run here
                ticket = (1 << 30) + 2 * index << TICKET_SLOT_BITS | SLOT
                before = ticket - (1 << TICKET_SLOT_BITS)
                home = next((owner for owner in net.members if SLOT in owner.home.homes), member)
                home.home.run(seen_from(home, net.members[3]), [ticket], [before if flag else 0], [request])
            case "turn":
                net.deliver(rounds=60)
            case "away" if not net.cut:
                net.cut = {(net.members[0].name, net.members[who].name)}
            case "away":
                net.cut.clear()
                if flag:
                    net.stalled.clear()
            case "takeover":
                member.takeover.want([SLOT])
            case "later":
                net.pass_time(0.03)
        seen.append([told(owner) for owner in net.members])
    net.cut.clear()
    net.pass_time(0.5)
    seen.append([told(owner) for owner in net.members])
    return seen, net.travelled, got.replies


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=3, max_size=30))
def test_what_is_written_is_what_is_written_one_by_one(
    kernel: Any, steps: list[tuple[str, int, bool, tuple[bytes, ...]]]
) -> None:
    assert through(kernel, lambda: written(steps)) == through(OneByOne, lambda: written(steps))


# Reads of others


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"{a}c", b"{", b"{}d", b"\xff{db3}a"]), st.integers(-2, 3))),
    st.dictionaries(st.sampled_from([b"a", b"b", b"{a}c", b"{", b"{}d"]), st.sampled_from([None, b"v"])),
    st.sets(st.sampled_from([b"a", b"b", b"{", b"{}d"])),
)
def test_versions_are_compared_one_by_one(
    kernel: Any, asked: list[tuple[bytes, int]], held: dict[bytes, bytes | None], without: set[bytes]
) -> None:
    """`held`: by key; `without`: of whose slots there is no copy."""
    copies = Copies(256)
    for number in range(256):
        if number not in {slot_of(key, 255) for key in without}:
            copies.add(number)
    for version, (key, value) in enumerate(held.items(), 1):
        slot = copies.slots[slot_of(key, 255)]
        if slot is not None:
            slot.apply(max(version, slot.position + 1), ((key, value, 0),))
    expected = []
    for place, (key, version) in enumerate(asked):
        slot = copies.slots[slot_of(key, 255)]
        if slot is None or slot.cells.get(key, (0, None, 0))[0] != version:
            expected.append(place)
    assert list(kernel.compare(copies, [key for key, _ in asked], [version for _, version in asked])) == expected


# A node by itself

ALONE_KEYS = st.sampled_from([b"a", b"b", b"{a}c", b"l"])
ALONE = st.one_of(
    st.tuples(
        st.sampled_from([b"GET", b"get", b"INCR", b"GETDEL", b"DEL", b"LPOP", b"PERSIST", b"STRLEN"]), ALONE_KEYS
    ),
    st.tuples(st.sampled_from([b"SET", b"SETNX", b"APPEND", b"GETSET", b"LPUSH", b"SADD"]), ALONE_KEYS, TEXT),
    st.tuples(st.just(b"SET"), ALONE_KEYS, st.just(b"7"), st.just(b"PX"), st.sampled_from([b"1", b"100000"])),
    st.tuples(st.just(b"APPEND"), ALONE_KEYS, st.just(b"z" * 600)),
    st.tuples(st.sampled_from([b"RENAME", b"COPY", b"MGET", b"LMOVE"]), st.just(b"a"), st.just(b"{a}c")),
    st.tuples(st.sampled_from([b"EXPIREAT", b"PEXPIREAT"]), ALONE_KEYS, st.sampled_from([b"1", b"1800000000000"])),
    st.tuples(st.sampled_from([b"PING", b"MULTI", b"EXEC", b"NOSUCH", b"GET", b"SET", b"INFO", b"SPOP"])),
    st.tuples(st.just(b"CLIENT"), st.just(b"REPLY"), st.sampled_from([b"SKIP", b"ON"])),
    st.tuples(st.just(b"SELECT"), st.sampled_from([b"0", b"1"])),
    st.tuples(st.just(b"SPOP"), ALONE_KEYS),
)


def asked(buffers: Sequence[Sequence[tuple[bytes, ...]]]) -> tuple[Any, ...]:
    alone = Alone(slots=256)
    clients = [Client(alone), Client(alone)]
    for index, buffer in enumerate(buffers):
        clients[index % 2].send(*buffer)
        if index % 3 == 2:
            alone.turns()
    alone.turns()
    node = alone.node
    copies = node.view.copies
    replies = [[reply for reply in client.replies if not is_info(reply)] for client in clients]
    cells = [{k: (v, frozen(value), d) for k, (v, value, d) in cells.items()} for cells in copies.cells]
    counted = [(session.last.name if session.last is not None else "") for session in node.sessions.values()]
    return (
        replies,
        cells,
        copies.positions,
        bytes(copies.plain),
        bytes(node.home.timed),
        counted,
        node.dispatcher.commands,
    )


def is_info(reply: Reply) -> bool:
    return type(reply) is bytes and reply.startswith(b"# ")


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(ALONE, min_size=1, max_size=24), min_size=1, max_size=8))
def test_a_node_by_itself_answers_what_it_answers_one_by_one(
    kernel: Any, buffers: list[list[tuple[bytes, ...]]]
) -> None:
    assert through(kernel, lambda: asked(buffers)) == through(OneByOne, lambda: asked(buffers))


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_usual_does_not_leave(kernel: Any) -> None:
    """Otherwise it would be right, and slow."""
    left: list[str] = []

    def story() -> list[Reply]:
        net = Owners()
        got = Got()
        first, second, _ = net.members
        first.write(got, 0, b"APPEND", b"a", b"x")
        net.deliver()
        alone = Client(Alone(slots=256))
        alone.ask((b"SET", b"a", b"0"))
        with pytest.MonkeyPatch.context() as patch:
            for engine, name in (
                (homes.Home, "run_one"),
                (homes.Home, "record"),
                (homes.Home, "apply_alone"),
                (homes.Home, "change_alone"),
                (replica.Replica, "accept_one"),
                (pipeline.Dispatcher, "_run_other"),
            ):
                patch.setattr(engine, name, lambda *_args, name=name, **_kwargs: left.append(name))
            for index in range(1, 5):
                second.write(got, index, b"APPEND", b"a", b"x")
            net.deliver()
            replies = alone.ask((b"SET", b"a", b"1"), (b"INCR", b"a"), (b"GET", b"a"))
        return [*got.replies.values(), *replies]  # type: ignore[attr-defined]

    assert through(kernel, story) == [b"x", b"xx", b"xxx", b"xxxx", b"xxxxx", "OK", 2, b"2"]
    assert not left


def test_the_bound_of_bytes_holds_within_a_batch() -> None:
    alone = Alone(slots=256)
    client = Client(alone)
    client.send(*[(b"SET", b"a", bytes(1 << 20))] * 12)
    alone.turn()
    assert len(client.replies) <= pipeline.CHANGED_BYTES_MAX // (1 << 20) + 1
    alone.turns()
    assert len(client.replies) == 12
