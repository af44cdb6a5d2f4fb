"""Rules broken on purpose: the simulator must notice each. What checks nothing else checks, must be checked itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from peerkv.agreement.coordinator import Coordinator
from peerkv.agreement.home import reply_of
from peerkv.agreement.journal import Journal
from peerkv.agreement.peer import Peer
from peerkv.agreement.progress import Progress
from peerkv.agreement.reads import Budget, Reads
from peerkv.agreement.replica import Replica
from peerkv.agreement.takeover import Takeover
from peerkv.agreement.tracked import Tracked
from peerkv.agreement.view import View
from peerkv.cbor import FORMER
from peerkv.clients.blocking import Blocking
from peerkv.clients.broadcasting import Broadcasting
from peerkv.clients.underway import UnderWay
from peerkv.kernel.slot import Slot
from peerkv.resp import Reply
from peerkv.ring.keys import slot_of
from peerkv.ring.quorum import Quorum
from peerkv.ring.topology import Topology
from peerkv.steward import Steward
from peerkv.store.recent import TICKET_SLOT
from peerkv.store.values import OF_OTHERS, patched
from tests.sim.burst import run_burst
from tests.sim.loss import run_loss
from tests.sim.scenario import run_seed
from tests.sim.test_loss import KEYS, Story, forgotten_by_the_last
from tests.sim.world import World

SEEDS_MAX = 12


def read_from_one_owner(patch: pytest.MonkeyPatch) -> None:
    """A read is answered by our own copy alone (R1)."""
    whole = Reads.read

    def read(
        self: Reads, number: int, request: Any, run: Any, now: int, sink: Any, index: int, keys: Any = None
    ) -> bool:
        slot = self._view.slots[number]
        if slot is None:
            return whole(self, number, request, run, now, sink, index, keys)
        sink.deliver(index, reply_of(run, slot.cells, request, now))
        return True

    patch.setattr(Reads, "read", read)


def take_one_strangers_word(patch: pytest.MonkeyPatch) -> None:
    """Who has no copy believes the one owner that runs its request, whatever the other one says (R1)."""

    def counts(_self: Reads, read: Any, _versions: list[int], reply: Any) -> bool:
        read.reply = reply if reply is not None else read.reply
        read.need -= 1
        if not read.need:
            read.ended = True
            read.sink.deliver(read.index, read.reply)
        return True

    patch.setattr(Reads, "_counts", counts)


def apply_a_patch_twice(patch: pytest.MonkeyPatch) -> None:
    """An owner that is sent a change by which a value is changed in place does that to it twice (A2)."""
    whole = Replica._apply

    def apply(self: Replica, slot: Slot, to: int, key: Any, body: Any, deadline: int) -> None:
        if type(body) is tuple and body[0] not in OF_OTHERS and key in slot.cells:
            patched(slot.cells[key][1], body)
        whole(self, slot, to, key, body, deadline)

    patch.setattr(Replica, "_apply", apply)


def recall_what_is_there_afterwards(patch: pytest.MonkeyPatch) -> None:
    """Whoever is to remember what a key held before a change takes what it holds behind it (A7)."""
    whole = Replica._remember_all

    def remember(self: Replica, process: int, columns: Any, replies: Any, lost: list[int]) -> None:
        found = []
        for ticket, key, sent, reply in zip(columns[0], columns[2], columns[5], replies, strict=True):
            cell = self.view.copies.cells[ticket & TICKET_SLOT].get(key) if sent is FORMER else None
            found.append(reply if cell is None else cell[1])
        whole(self, process, columns, found, lost)

    patch.setattr(Replica, "_remember_all", remember)


def send_again_from_the_wrong_place(patch: pytest.MonkeyPatch) -> None:
    """Who has missed changes is sent those that are a position further on, as if they were these (F6)."""
    whole = Journal.since

    def since(self: Journal, number: int, position: int, upto: int, rows_max: int = 2048) -> Any:
        found = whole(self, number, position, upto, rows_max)
        for _, columns in found[0] if found is not None else ():
            for column in columns[2:5]:
                column.append(column.pop(0))
        return found

    patch.setattr(Journal, "since", since)


def accept_in_spite_of_a_promise(patch: pytest.MonkeyPatch) -> None:
    """An owner accepts changes of any ballot (A1)."""
    patch.setattr(Replica, "_follows", lambda _self, _slot, _ballot, _home: True)


def take_over_without_the_furthest_copy(patch: pytest.MonkeyPatch) -> None:
    """A new home serves from its own copy whatever others have (T2)."""
    patch.setattr(Takeover, "_won", lambda self, slot, ballot, _promised: self._become(slot, ballot, set()))


def report_before_a_majority_has_it(patch: pytest.MonkeyPatch) -> None:
    """A home reports what it has run although nobody else has accepted it (H2)."""
    whole = Progress.sent

    def sent(self: Progress, group: Any, turn: Any) -> None:
        self._release([segment for segment in turn.segments if not group.learns(segment)])
        whole(self, group, turn)

    patch.setattr(Progress, "sent", sent)


def end_a_change_before_it_is_filled(patch: pytest.MonkeyPatch) -> None:
    """The new owners of a slot are on their own although they have no copy (E6)."""
    patch.setattr(Steward, "_is_filled", lambda _self, topology: topology.is_joint)
    patch.setattr("peerkv.steward.CHANGE_SETTLE_S", 0.0)


def ask_the_old_owners_only(patch: pytest.MonkeyPatch) -> None:
    """While a change is under way the new owners are told nothing, and count for nothing (E5)."""
    patch.setattr(
        Topology,
        "orders",
        property(lambda self: [tuple([n for n in old if n not in self.lost]) for old, _, _ in self.kinds[1]]),
    )
    patch.setattr(Topology, "quorums", property(lambda self: [Quorum(old) for old, _, _ in self.kinds[1]]))


def promise_without_keeping_it(patch: pytest.MonkeyPatch) -> None:
    """An owner promises, and accepts changes of the ballot before all the same (P1)."""
    whole = Replica._promise

    def promise(self: Replica, numbers: list[int], ballots: list[int]) -> Any:
        slots = [self.view.slots[number] for number in numbers]
        before = [slot.promised if slot is not None else 0 for slot in slots]
        answer = whole(self, numbers, ballots)
        for slot, ballot in zip(slots, before, strict=True):
            if slot is not None:
                list.__setitem__(self.view.copies.promised, slot.number, ballot)
                slot._note_plain()
        return answer

    patch.setattr(Replica, "_promise", promise)


def forget_what_was_run(patch: pytest.MonkeyPatch) -> None:
    """Who accepts a change does not remember whose operation it was (A2): sent again, it is run again."""

    def remember(self: Replica, process: int, tickets: Any, replies: Any, lost: list[int]) -> None:
        if process == self.view.me.process and not lost:
            self._settle_pairs(tickets, replies)

    patch.setattr(Replica, "_remember", remember)


def take_any_position_for_history(patch: pytest.MonkeyPatch) -> None:
    """A copy with changes that were never chosen is brought up to date by what it lacks (F2)."""
    patch.setattr(Slot, "on_history", lambda _self, _position: True)


def let_writes_pass_reads(patch: pytest.MonkeyPatch) -> None:
    """A write does not wait for a read that the same connection sent before it (O3): a read that is sent again sees
    it."""
    patch.setattr(UnderWay, "is_read", lambda _self, _session, _number: False)


def send_again_what_is_merely_late(patch: pytest.MonkeyPatch) -> None:
    """Who has let something wait for a hedge counts as silent, though it is heard; nothing bounds what is sent again,
    nor what is under way (O2)."""
    patch.setattr(View, "doubt", lambda _self, _peer, since, clock, hedge: clock.now - since >= hedge)
    patch.setattr(Budget, "spend", lambda _self, _now, _count=1: True)
    patch.setattr(Coordinator, "crowded", False)


def keep_what_was_taken_for_who_is_gone(patch: pytest.MonkeyPatch) -> None:
    """What was taken for a client that was gone by then is not put back (I4)."""
    patch.setattr("peerkv.clients.blocking.put_back", lambda _request, _reply: None)


def await_once(patch: pytest.MonkeyPatch) -> None:
    """Homes are told once that somebody waits, whoever is home later (I1)."""
    patch.setattr(Blocking, "look", lambda _self: None)


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.mark.parametrize(
    ("mutant", "first"),
    [
        (read_from_one_owner, 1),
        (apply_a_patch_twice, 3),
        (recall_what_is_there_afterwards, 1),
        (send_again_from_the_wrong_place, 7),
        (accept_in_spite_of_a_promise, 5),
        (promise_without_keeping_it, 1),
        (forget_what_was_run, 7),
        (take_over_without_the_furthest_copy, 13),
        (report_before_a_majority_has_it, 9),
        (let_writes_pass_reads, 1),
        (keep_what_was_taken_for_who_is_gone, 3),
        (await_once, 3),
    ],
)
def test_mutants_are_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], first: int, patch: pytest.MonkeyPatch
) -> None:
    """`first`: the seed to begin with, as it has the faults that this one needs."""
    mutant(patch)
    for seed in range(first, first + SEEDS_MAX):
        if run_seed(seed, 20.0, 256).problems:
            return
    pytest.fail(f"{mutant.__name__} went unnoticed through {SEEDS_MAX} seeds")


def tell_of_most_changes(patch: pytest.MonkeyPatch) -> None:
    """Of some changes those are not told that have read what was there before (C1)."""
    whole, count = Tracked._tell, itertools.count()

    def tell(self: Tracked, peer: Peer, key: bytes, process: int, ticket: int) -> None:
        if next(count) % 4:
            whole(self, peer, key, process, ticket)

    patch.setattr(Tracked, "_tell", tell)


def broadcast_most_changes(patch: pytest.MonkeyPatch) -> None:
    """Nor those that want to be told of every change (C6)."""
    whole, count = Broadcasting._observe, itertools.count()

    def observe(self: Broadcasting, notices: Sequence[Any]) -> None:
        if next(count) % 4:
            whole(self, notices)

    patch.setattr(Broadcasting, "_observe", observe)


@pytest.mark.parametrize("mutant", [tell_of_most_changes, broadcast_most_changes])
def test_a_change_that_is_not_told_is_noticed_by_what_clients_keep(
    mutant: Callable[[pytest.MonkeyPatch], None], patch: pytest.MonkeyPatch
) -> None:
    """The seed has clients that keep what they read, and no faults, which would have them forget it all the same."""
    mutant(patch)
    assert any("keeps" in problem for problem in run_seed(269, 8.0, 256).problems)


def test_asking_the_old_owners_only_is_caught(patch: pytest.MonkeyPatch) -> None:
    """By transactions on few keys."""
    ask_the_old_owners_only(patch)
    assert any(run_seed(seed, 20.0, 256, crowded=True).problems for seed in (6, 1))


def stale_reads_of_who_has_no_copy() -> int:
    """How often a node that owns nothing of a slot, and cannot talk to its home, does not see a write that was
    acknowledged, and that one of the other owners, each in turn, has not heard of yet."""
    stale = 0
    for number in range(4):
        key = b"key:%d" % number
        slot = slot_of(key, 255)
        world = World(1, 256)
        world.cluster(4, master=False)
        world.run(4.0)
        nodes = {name: host.node for name, host in world.hosts.items() if host.node is not None}
        (home,) = [name for name, node in nodes.items() if slot in node.home.homes]
        others = [peer.name for peer in nodes[home].view.others[slot]]
        (stranger,) = nodes.keys() - {home, *others}
        world.cuts |= {(home, stranger), (stranger, home)}
        world.run(24.0)
        for late in others:
            world.paths = {(home, late): (0.0, 0.05)}
            writer, reader = world.connect(home), world.connect(stranger)
            assert writer is not None
            assert reader is not None
            written: list[Reply] = []
            read: list[Reply] = []
            writer.on_reply, reader.on_reply = written.append, read.append
            writer.send((b"INCR", key))
            while not written:
                world.step()
            reader.send((b"GET", key))
            while not read:
                world.step()
            stale += read != [b"%d" % written[0]]
            world.run(world.now + 1.0)
    return stale


def test_a_read_by_who_has_no_copy_of_one_owner_alone_is_caught(patch: pytest.MonkeyPatch) -> None:
    assert stale_reads_of_who_has_no_copy() == 0
    take_one_strangers_word(patch)
    assert stale_reads_of_who_has_no_copy() > 0


def replaced_for_what_was_never_chosen(key: bytes) -> int:
    """How many copies are replaced as a whole of a node that was home of a slot, and cut off, and wrote a key alone.

    home |-- SET x ... nobody has it          | heals: its copy goes on from a change that is no part of the history
    other|-- SET x, takes the slot over       |
    """
    world = World(1, 256)
    world.cluster(3, master=False)
    world.run(4.0)
    slot = slot_of(key, 255)

    def ask(name: str, *request: bytes) -> None:
        connection = world.connect(name)
        assert connection is not None
        connection.send(request)
        world.run(world.now + 5.0)

    ask("db1", b"SET", key, b"chosen")
    nodes = {name: host.node for name, host in world.hosts.items() if host.node is not None}
    (home,) = [name for name, node in nodes.items() if slot in node.home.homes]
    other, third = [name for name in nodes if name != home]
    world.cuts |= {pair for name in (other, third) for pair in ((home, name), (name, home))}
    ask(home, b"SET", key, b"never chosen")
    ask(other, b"SET", key, b"chosen")
    world.heal()
    while not nodes[home].replica.counters.caught_up:
        world.run(world.now + 0.01)
    found = [node.view.copies.cells[slot][key][1] for node in nodes.values()]
    assert found == [b"chosen"] * 3
    return nodes[home].replica.counters.replaced


def test_a_copy_that_is_not_on_history_is_caught(patch: pytest.MonkeyPatch) -> None:
    """Brought up to date by what it lacks it would remember as done what was never chosen."""
    assert replaced_for_what_was_never_chosen(b"{a}") == 1
    take_any_position_for_history(patch)
    assert replaced_for_what_was_never_chosen(b"{a}") == 0


def test_a_storm_is_noticed(patch: pytest.MonkeyPatch) -> None:
    send_again_what_is_merely_late(patch)
    assert any(run_burst(seed, 256).problems for seed in (6, 5))


def take_one_of_three_for_everybody(patch: pytest.MonkeyPatch) -> None:
    """One owner that is left decides, whatever the lost may have acknowledged without it (V4)."""

    def without(owners: Sequence[int], lost: Collection[int]) -> tuple[tuple[int, ...], int]:
        left = tuple([owner for owner in owners if owner not in lost])
        return left, 0

    patch.setattr("peerkv.ring.topology.without", without)


def found_anew_although_a_member_lives(patch: pytest.MonkeyPatch) -> None:
    """Nothing is left, says who does not look at all members (V2)."""
    patch.setattr(
        Topology,
        "survivors",
        lambda self, lost: [] if lost else [o for n, o in self.by_number.items() if n not in self.out],
    )


def test_a_quorum_without_the_intersection_is_caught(patch: pytest.MonkeyPatch) -> None:
    """What was acknowledged is gone, and nobody has accepted that."""
    take_one_of_three_for_everybody(patch)
    assert None in forgotten_by_the_last(Story(3))


def test_a_founding_beside_a_living_member_is_caught(patch: pytest.MonkeyPatch) -> None:
    """The seed has a member that lives on while the others are restarted."""
    found_anew_although_a_member_lives(patch)
    assert run_loss(11, 20.0).problems


def kept_by_those_who_take_over() -> set[bytes]:
    """Keys that are left when three nodes that fetch next to nothing have come, and the three that have everything
    want to go."""
    story = Story(3)
    story.write()
    seeds = tuple(("127.0.0.1", host.settings.port) for host in story.world.hosts.values())
    like = story.world.hosts["db1"].settings
    for number in (4, 5, 6):
        ports = {"port": 7000 + number, "peer_port": 17000 + number}
        story.world.add(replace(like, name=f"db{number}", seeds=seeds, fill_rate=1, **ports))
    story.run(1.5)
    for name in ("db1", "db2", "db3"):
        host = story.world.hosts[name]
        assert host.node is not None, "it has not gone yet"
        host.input(host.node.drain)
    story.run(20.0)
    return story.kept("db4")


def test_a_change_that_ends_before_it_is_filled_is_caught(patch: pytest.MonkeyPatch) -> None:
    """Whoever has the data may go although nobody else has it yet."""
    assert kept_by_those_who_take_over() == set(KEYS)
    end_a_change_before_it_is_filled(patch)
    assert kept_by_those_who_take_over() != set(KEYS)
