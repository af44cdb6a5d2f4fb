"""What homes and owners run for transactions, as functions of cells: what is right, and what a faulty peer sends."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerkv.cbor import dump, load
from peerkv.commands import transactions as asked
from peerkv.commands.table import find_part
from peerkv.commands.transactions import Outcome
from peerkv.kernel.slot import Copies, Slot
from peerkv.resp import CommandError, Reply, ReplyError
from peerkv.ring.keys import slot_of
from peerkv.store.cell import Cell
from peerkv.store.values import Patch, checked, patched
from peerkv.store.values.held import HELD, Held, freeing, holding, packed, unpacked
from tests.commands.keyspace import NOW, held, rebuilt

US, THEM = (7, 1 << 20), (8, 1 << 20)


class Home:
    """A slot, what transactions ask of its home, and a second copy that is told of every change over the wire."""

    def __init__(self) -> None:
        self.slot: Slot = Copies(1).add(0)
        self.other: Slot = Copies(1).add(0)

    def ask(self, request: list[bytes], now: int = NOW) -> Reply:
        row = find_part(request[0])
        assert row is not None
        assert row.run is not None
        changes, reply = row.run(self.slot.cells, request, now)
        if changes:
            self.slot.apply(self.slot.position + 1, changes)
            travelled = load(
                dump([[key, body if type(body) is not tuple else list(body), at] for key, body, at in changes])
            )
            there = [(k, checked(body) if type(body) is list else body, at) for k, body, at in travelled]
            self.other.apply(self.other.position + 1, there)
            for key, _, _ in changes:
                assert _plain(self.slot.cells[key]) == _plain(self.other.cells[key])
        return reply

    def set(self, key: bytes, value: bytes, deadline: int = 0) -> None:
        for slot in (self.slot, self.other):
            slot.apply(slot.position + 1, [(key, value, deadline)])

    def outcome(self, request: list[bytes]) -> Outcome:
        reply = self.ask(request)
        assert isinstance(reply, list)
        return Outcome(reply[0])  # type: ignore[arg-type]

    def value(self, key: bytes) -> Any:
        cell = self.slot.cells.get(key)
        return held(cell[1]) if cell is not None else None


def _plain(cell: Cell) -> object:
    return cell[0], held(cell[1]), cell[2]


@pytest.fixture
def home() -> Home:
    return Home()


# -- holding, deciding, letting go


def hold(keys: list[bytes], by: tuple[int, int], then: dict[bytes, Any] | None = None, **seen: int) -> list[bytes]:
    return asked.hold_request(keys, by, {k.encode(): v for k, v in seen.items()}, then or {}, waits=False)


def test_who_holds_keeps_all_others_out(home: Home) -> None:
    home.set(b"a", b"1")
    assert home.outcome(hold([b"a", b"b"], US)) is Outcome.DONE
    for key in (b"a", b"b"):
        assert home.slot.cells[key][2] == HELD
        assert home.ask(hold([b"c", key], THEM)) == [Outcome.BUSY, key]
    assert b"c" not in home.slot.cells
    assert home.outcome(hold([b"a"], US)) is Outcome.DONE  # once more
    assert home.ask(asked.release_request(THEM, [b"a"], commits=True)) == 0
    assert home.ask(asked.release_request(US, [b"a", b"b"], commits=False)) == 2
    assert (home.value(b"a"), home.value(b"b")) == (b"1", None)
    assert home.ask(asked.release_request(US, [b"a", b"b"], commits=False)) == 0


@pytest.mark.parametrize("commits", [True, False])
def test_what_is_to_become_of_keys_becomes_of_them_or_does_not(home: Home, commits: bool) -> None:
    home.set(b"a", b"1", NOW + 5000)
    home.set(b"gone", b"1")
    then = {b"a": [(("set", 0, b"x"), 0)], b"gone": [(None, 0)], b"new": [(b"v", NOW + 9000)]}
    then[b"a"] = [(b"2", NOW + 7000)]
    assert home.outcome(hold([*then], US, then)) is Outcome.DONE
    assert home.ask(asked.release_request(US, [*then], commits=commits)) == 3
    cells = home.slot.cells
    if commits:
        assert [cells[key][1:] for key in then] == [(b"2", NOW + 7000), (None, 0), (b"v", NOW + 9000)]
    else:
        assert [cells[key][1:] for key in then] == [(b"1", NOW + 5000), (b"1", 0), (None, 0)]


def test_nothing_is_held_of_keys_that_have_changed_since(home: Home) -> None:
    home.set(b"a", b"1")
    (version,) = home.ask(asked.look_request([b"a"]))  # type: ignore[misc]
    assert isinstance(version, int)
    home.set(b"a", b"1")
    assert home.ask(hold([b"a"], US, a=version)) == [Outcome.CHANGED]
    assert home.ask(asked.exec_request([b"a"], 0, {b"a": version}, [[b"SET", b"a", b"2"]]))[0] == Outcome.CHANGED  # type: ignore[index]
    (version,) = home.ask(asked.look_request([b"a"]))  # type: ignore[misc]
    assert home.outcome(hold([b"a"], US, a=version)) is Outcome.DONE  # type: ignore[arg-type]
    assert home.outcome(hold([b"a"], US, a=version)) is Outcome.DONE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "cell", "same"),
    [
        (0, None, True),
        (5, (5, b"v", 0), True),
        (5, (6, b"v", 0), False),
        (5, None, False),
        (-5, None, True),
        (-5, (5, None, 0), True),
        (-5, (6, None, 0), False),
        (0, (5, None, 0), False),
        (0, (5, b"v", 0), False),
        (5, (5, None, 0), False),
        (-5, (5, b"v", 0), False),
    ],
)
def test_what_was_seen_is_there_still_or_is_not(seen: int, cell: Cell | None, same: bool) -> None:
    assert asked.is_as_seen(seen, cell) is same


def commit(keys: list[bytes], by: tuple[int, int], *requests: list[bytes], **seen: int) -> list[bytes]:
    others = {1: [b"far"]}
    known = {key.encode(): version for key, version in seen.items()}
    return asked.commit_and_run_request(keys, by, known, others, requests, waits=False)


def test_a_decision_is_written_once(home: Home) -> None:
    assert home.ask(commit([b"a"], US, [b"APPEND", b"a", b"v"])) == [Outcome.DONE, [1], []]
    assert home.value(b"a") == b"v"
    said = home.ask(asked.abort_request(US))
    assert isinstance(said, bytes)
    assert asked.decision_of(said) == {1: [b"far"]}
    with pytest.raises(CommandError, match="UNCERTAIN"):
        home.ask(commit([b"a"], US, [b"APPEND", b"a", b"v"]))
    assert home.ask(asked.abort_request(THEM)) == asked.ABORTED
    assert home.ask(commit([b"a"], THEM, [b"APPEND", b"a", b"w"])) == [Outcome.ABORTED]
    assert home.ask(asked.abort_request(THEM)) == asked.ABORTED
    assert home.value(b"a") == b"v"


def test_where_nothing_is_held_elsewhere_no_decision_is_written(home: Home) -> None:
    request = asked.commit_and_run_request([b"a"], US, {}, {}, [[b"SET", b"a", b"v"]], waits=False)
    assert home.outcome(request) is Outcome.DONE
    assert [*home.slot.cells] == [b"a"]


def test_who_decides_changes_what_nobody_holds_and_is_as_it_was(home: Home) -> None:
    home.set(b"a", b"1")
    (seen,) = home.ask(asked.look_request([b"a"]))  # type: ignore[misc]
    assert isinstance(seen, int)
    home.ask(hold([b"b"], THEM))
    assert home.ask(commit([b"a", b"b"], US, [b"SET", b"a", b"2"])) == [Outcome.BUSY, b"b"]
    assert home.ask(commit([b"a"], US, [b"SET", b"a", b"2"], a=seen - 1)) == [Outcome.CHANGED]
    assert home.ask(commit([b"a"], US, [b"SET", b"a", b"2"], [b"GET", b"c"])) == [Outcome.ELSEWHERE, b"c"]
    assert home.value(b"a") == b"1"
    assert home.outcome(commit([b"a"], US, [b"SET", b"a", b"2"], a=seen)) is Outcome.DONE
    assert home.value(b"a") == b"2"


def test_who_decides_does_what_it_has_found_out(home: Home) -> None:
    home.set(b"a", b"1")
    home.ask([b"RPUSH", b"l", b"x"])
    then = {b"a": [(None, 0)], b"l": [(("rpush", b"y"), 0), (("rpush", b"z"), NOW + 5000)], b"new": [(b"v", 0)]}
    request = asked.commit_with_request([*then, b"same"], US, {}, {1: [b"far"]}, then, waits=True)
    assert home.ask(request) == [Outcome.DONE, [], []]
    assert home.value(b"a") is None
    assert home.ask([b"LRANGE", b"l", b"0", b"-1"]) == [b"x", b"y", b"z"]
    assert (home.slot.cells[b"l"][2], home.value(b"new")) == (NOW + 5000, b"v")
    assert b"same" not in home.slot.cells


def test_what_is_held_is_let_go_by_the_decision_if_all_of_it_is_held_still(home: Home) -> None:
    home.ask(hold([b"a", b"b"], US, {b"a": [(b"v", 0)]}))
    assert home.ask(asked.commit_request([b"a", b"b", b"c"], US, {1: [b"far"]})) == [Outcome.ABORTED]
    assert home.outcome(asked.commit_request([b"a", b"b"], US, {1: [b"far"]})) is Outcome.DONE
    assert (home.value(b"a"), home.value(b"b")) == (b"v", None)


def test_who_has_let_go_can_not_commit_any_more(home: Home) -> None:
    """Its abort was written, released and forgotten long ago."""
    home.ask(hold([b"a"], US, {b"a": [(b"v", 0)]}))
    home.ask(asked.release_request(US, [b"a"], commits=False))
    assert home.ask(asked.commit_request([b"a"], US, {1: [b"far"]})) == [Outcome.ABORTED]
    assert home.value(b"a") is None


def test_commands_are_run_on_what_is_held_and_seen_when_it_is_let_go(home: Home) -> None:
    home.set(b"a", b"1")
    requests = [[b"INCR", b"a"], [b"RPUSH", b"l", b"x"], [b"LPUSH", b"a", b"x"], [b"RPUSH", b"l", b"y"]]
    request = asked.hold_and_run_request([b"a", b"l"], US, {}, requests, waits=False)
    reply = home.ask(request)
    assert reply[:1] == [Outcome.DONE]  # type: ignore[index]
    assert [type(said) for said in reply[1]] == [int, int, ReplyError, int]  # type: ignore[index, union-attr]
    assert isinstance(home.slot.cells[b"l"][1], Held)
    home.ask(asked.release_request(US, [b"a", b"l"], commits=True))
    assert home.value(b"a") == b"2"
    assert home.ask([b"LRANGE", b"l", b"0", b"-1"]) == [b"x", b"y"]


def test_commands_that_look_at_more_than_what_is_held_hold_nothing(home: Home) -> None:
    request = asked.hold_and_run_request([b"a"], US, {}, [[b"SET", b"a", b"1"], [b"GET", b"b"]], waits=False)
    assert home.ask(request) == [Outcome.ELSEWHERE, b"b"]
    assert home.slot.cells == {}


def test_one_slot_is_one_operation_and_what_is_elsewhere_is_said(home: Home) -> None:
    mask = 255
    near = next(b"%d" % n for n in range(9999) if slot_of(b"%d" % n, mask) == slot_of(b"a", mask))
    requests = [[b"SET", b"a", b"1"], [b"RENAME", b"a", near], [b"GET", near]]
    assert home.ask(asked.exec_request([b"a", near], mask, {}, requests))[1] == ["OK", "OK", b"1"]  # type: ignore[index]
    assert (home.value(b"a"), home.value(near)) == (None, b"1")
    far = next(b"%d" % n for n in range(9999) if slot_of(b"%d" % n, mask) != slot_of(b"a", mask))
    request = asked.exec_request([near], mask, {}, [[b"SET", near, b"2"], [b"GET", far]])
    assert home.ask(request) == [Outcome.ELSEWHERE, far]
    assert home.value(near) == b"1"


# -- what is handed out


@pytest.mark.parametrize(
    "fill",
    [
        ([b"SET", b"k", b"v"],),
        ([b"RPUSH", b"k", b"a", b"b"], [b"PEXPIREAT", b"k", b"%d" % (NOW + 1000)]),
        ([b"HSET", b"k", *[b"%d" % n for n in range(600)]],),
        ([b"SADD", b"k", *[b"m%d" % n for n in range(300)]],),
        ([b"ZADD", b"k", b"1", b"a", b"2.5", b"b"],),
        ([b"SET", b"k", b"v"], [b"GETDEL", b"k"]),
        (),
    ],
)
def test_what_is_handed_out_is_what_is_held(home: Home, fill: tuple[list[bytes], ...]) -> None:
    for request in fill:
        home.ask(request)
    items = home.ask(asked.hand_out_request([b"k", b"none"]))
    assert isinstance(items, list)
    assert len(items) == 6
    found = asked.cells_from([b"k", b"none"], load(dump(items)))
    cell = home.slot.cells.get(b"k")
    live = cell is not None and cell[1] is not None
    seen, copy = found[b"k"]
    assert seen == asked.seen_of(cell)
    assert held(copy[1]) == (held(cell[1]) if live else None)  # type: ignore[index]
    assert copy[2] == (cell[2] if live else 0)  # type: ignore[index]
    assert found[b"none"] == (0, (0, None, 0))
    home.ask(hold([b"k"], US))
    assert home.ask(asked.hand_out_request([b"k"], THEM)) == [Outcome.CHANGED]
    handed = home.ask(asked.hand_out_request([b"k"], US))
    assert held(asked.cells_from([b"k"], handed)[b"k"][1][1]) == held(copy[1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "items",
    [
        [1, 0],
        [1, 0, None, 1],
        [None, 0, None],
        [1, b"0", None],
        [1, 0, 5],
        [1, 0, b""],
        [1, 0, dump(7)],
        [1, 0, dump([[1]])],
        [1, 0, dump([["nosuch", 1]])],
        [1, 0, dump([["hset"]])],
        [1, 0, dump(["x"])],
        [1, 0, b"\xff\xff"],
        [True, 0, None],
        [1, 0, dump([["free", 1]])],
    ],
)
def test_what_is_no_cell_is_refused(items: list[Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        asked.cells_from([b"k"], items)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"X",
        b"C",
        b"C\xff",
        b"C" + dump(1),
        b"C" + dump({}),
        b"C" + dump([1]),
        b"C" + dump([[1]]),
        b"C" + dump([[1, 2]]),
        b"C" + dump([["x", [b"k"]]]),
        b"C" + dump([[1, ["k"]]]),
        b"C" + dump([[1, b"k"]]),
        b"AA",
    ],
)
def test_what_is_no_decision_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        asked.decision_of(content)


# -- what comes from a peer that is faulty

WORDS = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [b"0", b"1", b"2", b"-1", b"3", b"99999999999999999999", b"B", b"R", b"a", b"GET", b"SET", b"INCR"]
    ),
    st.sampled_from(
        [packed([(b"v", 0)]), packed([(None, 5)]), dump([[["hset", 0, b"f", b"v"], 0]]), dump([[["free", 1], 0]])]
    ),
)
NAMES = [b"PEERKV.EXEC", b"PEERKV.TRY", b"PEERKV.HOLD", b"PEERKV.DECIDE", b"PEERKV.COMMIT", b"PEERKV.RELEASE"]
NAMES += [b"PEERKV.LOOK", b"PEERKV.HANDOUT", b"PEERKV.HELDOUT"]
GOOD = [
    hold([b"a"], US, {b"a": [(b"v", 0)]}, a=0),
    asked.hold_and_run_request([b"a"], US, {}, [[b"INCR", b"a"], [b"GET", b"a"]], waits=True),
    asked.exec_request([b"a"], 255, {b"a": 0}, [[b"SET", b"a", b"1"]]),
    commit([b"a"], US, [b"SET", b"a", b"1"]),
    asked.commit_request([b"a"], US, {0: [b"a"]}),
    asked.commit_with_request([b"a"], US, {b"a": 0}, {0: [b"b"]}, {b"a": [(b"v", 0)]}, waits=True),
    asked.abort_request(US),
    asked.release_request(US, [b"a"], commits=True),
    asked.hand_out_request([b"a"], US),
    asked.look_request([b"a"]),
]


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(NAMES), st.lists(WORDS, max_size=9))
def test_what_is_no_request_is_an_error_and_nothing_else(name: bytes, words: list[bytes]) -> None:
    _run(Home(), [name, *words])


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(GOOD), st.randoms(use_true_random=False), WORDS)
def test_what_is_nearly_a_request_is_an_error_and_nothing_else(
    good: list[bytes], rng: random.Random, word: bytes
) -> None:
    home = Home()
    home.set(b"a", b"1")
    home.ask(hold([b"b"], THEM))
    request = list(good)
    for _ in range(rng.randrange(1, 3)):
        at = rng.randrange(1, len(request) + 1)
        match rng.randrange(3):
            case 0:
                del request[at:]
            case 1:
                request[at:at] = [word]
            case _ if at < len(request):
                request[at] = word
    _run(home, request)


def _run(home: Home, request: list[bytes]) -> None:
    row = find_part(request[0])
    assert row is not None
    assert row.run is not None
    try:
        row.run(home.slot.cells, request, NOW)
    except CommandError:
        pass
    try:
        if row.keys_at is not None:
            list(row.keys_at(request))
    except CommandError:
        pass


# -- what stands at a key that is held

BODIES: list[Any] = [
    *(b"text", None, ("hset", 0, b"f", b"v"), ("sadd", b"a", b"b"), ("put", b"x")),
]


def test_what_is_held_is_made_of_its_parts(home: Home) -> None:
    for fill in (
        [b"SET", b"k", b"v"],
        [b"HSET", b"k", b"f", b"v"],
        [b"RPUSH", b"k", b"a", b"b"],
        [b"ZADD", b"k", b"1", b"a"],
    ):
        home = Home()
        home.ask(fill)
        before = home.value(b"k")
        home.ask(hold([b"k"], US, {b"k": [(None, 0), (("sadd", b"x"), NOW + 5)]}))
        value = home.slot.cells[b"k"][1]
        assert isinstance(value, Held)
        again = rebuilt(value)
        assert isinstance(again, Held)
        assert held(again) == held(value)
        assert (again.process, again.ticket, list(again.then)) == (*US, list(value.then))
        assert held(again.value) == before
        assert held(patched(value.copy(), ("free", 0))) == before
        assert len(value) == 1
        assert value.size > 200
        home.ask(asked.release_request(US, [b"k"], commits=True))
        assert (home.value(b"k")[0], home.slot.cells[b"k"][2]) == ("set", NOW + 5)


def test_a_copy_of_what_is_held_is_another() -> None:
    value = patched(patched(None, ("sadd", *[b"%d" % n for n in range(300)])), holding(*US, 0, [(("sadd", b"x"), 0)]))
    assert isinstance(value, Held)
    copy = value.copy()
    freed = patched(copy, freeing(value, commits=True)[0])
    assert len(freed) == 301  # type: ignore[arg-type]
    assert len(value.value) == 300  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "forged",
    [
        ["hold"],
        ["hold", 1, 2, 3],
        ["hold", b"x", 1, 0, packed([])],
        ["hold", 1, 2, 3, 4],
        ["hold", 1, 2, 3, packed([])],
        ["hold", 1, 2, 3, packed([]), 5, 6],
        ["free"],
        ["free", b"1"],
        ["free", 1, 2],
        ["put"],
        ["put", 1],
        ["put", b"a", b"b"],
        ["put", None],
    ],
)
def test_forged_patches_are_refused(forged: list[Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        checked(forged)


def test_patches_that_do_not_fit_are_refused() -> None:
    ours: Patch = holding(*US, 0, [])
    theirs: Patch = holding(*THEM, 0, [])
    nonsense: Patch = ("hold", *US, 0, b"nonsense")
    for value, patch in ((None, ("free", 1)), (b"v", ("free", 0)), (patched(b"v", ours), theirs), (None, nonsense)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            patched(value, patch)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        dump(1),
        dump({}),
        dump([1]),
        dump([[b"v"]]),
        dump([[b"v", -1]]),
        dump([[b"v", 1 << 63]]),
        dump([[b"v", b"1"]]),
        dump([[1, 1]]),
        dump([["v", 1]]),
        dump([[["nosuch"], 1]]),
        dump([[b"v", True]]),
    ],
)
def test_what_is_to_become_of_a_key_is_looked_at(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        unpacked(content)
