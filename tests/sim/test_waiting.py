"""The judge of clients that wait finds what cannot be, and a seed shows when a rule is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from peerkv.agreement.home import Home
from peerkv.clients.session import Session
from peerkv.resp import Reply, ReplyError, Requests
from tests.sim.jobs import Answer, Caller, Job
from tests.sim.scenario import run_seed
from tests.sim.waiting import Answered, PuttingBack, Unheard, Waiting
from tests.sim.world import World


class Asking:
    """A client whose requests are answered as a test says."""

    def __init__(self, load: Waiting) -> None:
        self.rng = Random(1)
        self.problems, self.refusals = load.problems, load.refusals
        self.names = 0

    def now(self) -> float:
        return 1.0

    def name(self) -> bytes:
        self.names += 1
        return b"%d" % self.names

    def place(self) -> tuple[int, int]:
        return 0, 0

    def session(self) -> tuple[None, None]:
        return None, None

    def commits(self) -> None: ...

    def close(self) -> None: ...


def _run(job: Job) -> None:
    queued = -1
    requests = next(job)
    try:
        while True:
            assert isinstance(requests, list), "it asks, and does not wait"
            answers: list[Any] = []
            for name, *_ in requests:
                if name == b"EXEC":
                    answers.append([1] * queued)
                    queued = -1
                else:
                    answers.append("OK" if name == b"MULTI" else "QUEUED" if queued >= 0 else 1)
                    queued += name == b"MULTI" or queued >= 0
            requests = job.send([Answer(answer, 1.0) for answer in answers])
    except StopIteration:
        pass


def _pushed() -> tuple[Waiting, list[bytes]]:
    load = Waiting()
    caller: Caller = Asking(load)
    while len(load._pushed) < 3:
        _run(load._push(caller))
    assert load.problems == []
    return load, list(load._pushed)


def test_what_is_there_or_popped_once_is_right() -> None:
    load, elements = _pushed()
    assert load.wrong(Counter(elements), ()) == []
    load.got([b"k"], [b"k", elements[0]], 1.0)
    assert load.wrong(Counter(elements[1:]), ()) == []
    assert load.problems == []


def test_what_is_lost_twice_or_from_nowhere_is_found() -> None:
    load, elements = _pushed()
    assert "neither popped nor there" in load.wrong(Counter(elements[1:]), ())[0]
    assert "comes from nowhere" in load.wrong(Counter([*elements, b"new"]), ())[0]
    load.got([b"k"], [b"k", elements[0]], 1.0)
    assert "is there 2 times" in load.wrong(Counter(elements), ())[0]


def test_what_is_of_unknown_outcome_may_be_there_and_what_was_refused_may_not() -> None:
    load, elements = _pushed()
    load._pushed[elements[0]] = None
    assert load.wrong(Counter(elements), ()) == load.wrong(Counter(elements[1:]), ()) == []
    load._pushed[elements[0]] = False
    assert "was never pushed" in load.wrong(Counter(elements), ())[0]


REQUEST = b"BLPOP", b"k", b"0"


def _answered(load: Waiting, reply: Reply, *, gone: bool) -> None:
    """A wait of a client that has gone without having heard this."""
    node, session = object(), Session(1, "", "", 0.0, Requests(100, 100))
    keys = list(dict.fromkeys(load._first_in.values()))
    load.unheard.append(Unheard(session, node, REQUEST, keys, 1.0))
    load.answered(session, Answered(node, REQUEST, reply, 2.0, gone))


def test_what_is_of_unknown_outcome_has_taken_one_and_no_more() -> None:
    load, elements = _pushed()
    for _ in elements[1:]:
        _answered(load, ReplyError("UNCERTAIN"), gone=True)
    assert load.wrong(Counter(elements[:1]), ()) == []
    assert len(load.wrong(Counter(), ())) == 1
    load.unheard[0].keys = [b"another"]
    assert len(load.wrong(Counter(), ())) == 2
    assert len(elements) > 2


def test_what_took_nothing_or_was_refused_accounts_for_nothing() -> None:
    load, elements = _pushed()
    for reply in (None, ReplyError("NOQUORUM"), [b"k", elements[0]]):
        _answered(load, reply, gone=True)
    assert len(load.wrong(Counter(elements[1:]), ())) == 1
    _answered(load, [b"k", elements[0]], gone=False)
    assert load.wrong(Counter(elements[1:]), ()) == [], "it was sent, and is lost with the connection"
    assert len(load.wrong(Counter(elements), ())) == 1


def test_what_was_put_back_must_be_there_unless_nobody_knows() -> None:
    load, elements = _pushed()
    node = object()
    missing = Counter(elements[1:])
    for living, reply, right in (
        ([], None, True),
        ([id(node)], None, False),
        ([], 1, False),
        ([], ReplyError("UNCERTAIN"), True),
        ([], ReplyError("NOQUORUM"), True),
        ([id(node)], ReplyError("NOQUORUM"), False),
    ):
        load._putting_back[elements[0]] = PuttingBack(node, reply)
        assert (load.wrong(missing, living) == []) is right
        assert load.wrong(Counter(elements), living) == []


def test_what_was_moved_may_have_been_taken_where_it_was_moved_to() -> None:
    load, elements = _pushed()
    _answered(load, ReplyError("UNCERTAIN"), gone=True)
    load.unheard[0].keys = [b"there"]
    assert len(load.wrong(Counter(elements[1:]), ())) == 1
    load._moves.append((load._first_in[elements[0]], b"there", elements[0]))
    assert load.wrong(Counter(elements[1:]), ()) == []


def test_an_answer_of_another_key_is_found() -> None:
    load, elements = _pushed()
    load.got([b"k"], [b"l", elements[0]], 1.0)
    assert load.problems != []


def test_a_seed_in_which_nobody_says_that_he_is_not_home_is_found() -> None:
    with patch.object(Home, "_lead_on", lambda *_: None):
        assert any("second after a push" in problem for problem in run_seed(9, 8.0, 256).problems)


def test_a_waiter_of_a_node_that_was_killed_is_in_nobodys_way() -> None:
    """db3 is killed while a client waits there. Its last word, that somebody awaits bl:patient:0., is read by db2, the
    home, after db2 has found its link to db3 broken and has forgotten all waiters of it. So that one stands first, and
    is woken, which goes nowhere; what is pushed is kept for it, and the one behind it is never woken."""
    assert run_seed(1201272, 8.0, 256).problems == []


def test_a_reader_is_woken_across_a_change_of_the_topology() -> None:
    """The home is an epoch behind when an entry comes: its word is in a frame that is not read, and said once.

    db3 (home, behind): XADD, wake   -->   db2 (ahead): does not read it
    """
    world = World(31, 256)
    world.cluster(3)
    world.run(4.0)
    nodes = {name: host.node for name, host in world.hosts.items() if host.node is not None}
    for node in nodes.values():
        node.settings.change("follow_least", 1 << 30)
    home = nodes["db3"]
    key = next(key for key in (b"s%d" % n for n in range(10_000)) if home.view.slot_of(key) in home.home.homes)
    reader, writer = world.connect("db2"), world.connect("db3")
    assert reader is not None
    assert writer is not None
    replies: list[Reply] = []
    reader.on_reply = replies.append
    writer.send((b"XADD", key, b"1-1", b"f", b"v"))
    reader.send((b"XREAD", b"BLOCK", b"0", b"STREAMS", key, b"1-1"))
    world.run(world.now + 1.0)
    world.paths = {(name, "db3"): (0.0, 0.05) for name in ("db1", "db2", "db4", "master")}
    seeds = tuple(("127.0.0.1", host.settings.port) for host in world.hosts.values())
    world.add(replace(home.settings, name="db4", port=7009, peer_port=17009, seeds=seeds))
    while nodes["db2"].view.epoch == home.view.epoch:
        world.run(world.now + 0.001)
    writer.send((b"XADD", key, b"2-1", b"f", b"v"))
    world.run(world.now + 12.0)
    assert replies == [[[key, [[b"2-1", [b"f", b"v"]]]]]]


def test_who_waits_at_a_home_that_is_cut_off_from_the_other_owners_has_what_is_pushed_elsewhere() -> None:
    """home (says: you wait here)   ----  db of the waiter, which is no owner
    home                            -X--  the other owners: one of them takes the slot over when something is pushed
    """
    world = World(32, 256)
    world.cluster(4)
    world.run(4.0)
    nodes = {name: host.node for name, host in world.hosts.items() if host.node is not None and name != "master"}
    for node in nodes.values():
        node.settings.change("follow_least", 1 << 30)
    at = nodes["db4"]
    key = next(key for key in (b"l%d" % n for n in range(10_000)) if at.view.slots[at.view.slot_of(key)] is None)
    number = at.view.slot_of(key)
    (home,) = [name for name, node in nodes.items() if number in node.home.homes]
    others = [name for name in nodes if name not in (home, "db4")]
    waiter, pusher = world.connect("db4"), world.connect(others[0])
    assert waiter is not None
    assert pusher is not None
    replies: list[Reply] = []
    waiter.on_reply = replies.append
    waiter.send((b"BLPOP", key, b"0"))
    world.run(world.now + 1.0)
    world.cuts |= {pair for other in others for pair in ((home, other), (other, home))}
    world.run(world.now + 1.0)
    pusher.send((b"RPUSH", key, b"x"))
    world.run(world.now + 4.0)
    assert replies == [[key, b"x"]]


@pytest.mark.parametrize("waits", ["xread", "blpop", "blmove"])
def test_who_waits_for_keys_of_several_slots_is_not_woken_in_vain(waits: str) -> None:
    """home: runs it, and wakes the waiter at once; two other owners, whom that asks, have not heard of it yet. Asked
    in vain, it would not be woken again: it has been told of that change.
    """
    world = World(33, 256)
    world.cluster(4)
    world.run(4.0)
    nodes = {name: host.node for name, host in world.hosts.items() if host.node is not None and name != "master"}
    for node in nodes.values():
        node.settings.change("follow_least", 1 << 30)
    at = nodes["db4"]
    keys = [key for key in (b"l%d" % n for n in range(1000)) if at.view.slots[at.view.slot_of(key)] is None][:2]
    number = at.view.slot_of(keys[0])
    *asked, home = (peer.name for peer in at.view.order[number])
    world.hosts[home].input(lambda _now: nodes[home].takeover.want([number]))
    world.run(world.now + 1.0)
    waiter, pusher = world.connect("db4"), world.connect(home)
    assert waiter is not None
    assert pusher is not None
    replies: list[Reply] = []
    waiter.on_reply = replies.append
    if waits == "xread":
        waiter.send((b"XREAD", b"BLOCK", b"0", b"STREAMS", *keys, b"0", b"0"))
        change: tuple[bytes, ...] = (b"XADD", keys[0], b"1-1", b"f", b"v")
    else:
        waits_for = (b"BLPOP", *keys, b"0") if waits == "blpop" else (b"BLMOVE", *keys, b"LEFT", b"LEFT", b"0")
        waiter.send(waits_for)
        change = (b"RPUSH", keys[0], b"x")
    world.run(world.now + 2.0)
    asks = at.coordinator.writes, at.reads.ended
    world.run(world.now + 2.0)
    assert asks == (at.coordinator.writes, at.reads.ended), "it knows who is home"
    world.paths = {(home, name): (0.0, 0.1) for name in asked}
    pusher.send(change)
    world.run(world.now + 1.0)
    assert len(replies) == 1
