"""Commands run on a scratch say and do what they say and do one by one, wherever its changes are made."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from peerkv.agreement.checks import bodies_of
from peerkv.cbor import dump, load
from peerkv.commands.running import RUNNABLE, row_of, run_on
from peerkv.commands.table import CHANCE_BYTES
from peerkv.kernel.slot import Copies, Slot
from peerkv.resp import ReplyError
from peerkv.store.cell import Change
from peerkv.store.scratch import Scratch
from peerkv.store.values import OF_OTHERS, Collection
from tests.commands.keyspace import NOW, Ours, held
from tests.differential.requests import DATA_GROUPS, Requests


class Once(Ours):
    """A slot by itself that draws what it is told."""

    chance = b""

    def ask(self, *request: bytes) -> object:
        self._rng.randbytes = lambda _count: self.chance  # type: ignore[method-assign]
        return super().ask(*request)


def copy_of(slot: Slot) -> Slot:
    copy = Copies(1).add(0)
    changes: list[Change] = []
    for key, (_, value, deadline) in slot.cells.items():
        if isinstance(value, bytes):
            changes.append((key, value, deadline))
        elif value is not None:
            changes += [(key, part, deadline) for part in value.parts()]
    copy.apply(1, changes)
    return copy


def live(slot: Slot) -> dict[bytes, object]:
    return {
        key: (held(value), deadline)
        for key, (_, value, deadline) in slot.cells.items()
        if value is not None and not 0 < deadline <= NOW
    }


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 1 << 32), st.sampled_from(DATA_GROUPS), st.integers(1, 25))
def test_many_on_a_scratch_are_as_one_after_another(seed: int, group: str, count: int) -> None:
    rng = random.Random(seed)
    requests = Requests(rng, [], [group])
    before = Once()
    asked: list[tuple[list[bytes], bytes]] = []
    while len(asked) < 20 + count:
        request = requests.request()
        row = row_of(request) if request else None
        if row is None or isinstance(row, ReplyError) or row.kind not in RUNNABLE or row.dated is not None:
            continue
        asked.append((request, rng.randbytes(CHANCE_BYTES)))
    for request, before.chance in asked[:20]:
        before.ask(*request)
    was = live(before.slot)
    together, elsewhere = copy_of(before.slot), copy_of(before.slot)
    scratch = Scratch(before.slot.cells, NOW)
    for request, chance in asked[20:]:
        row = row_of(request)
        assert not isinstance(row, ReplyError)
        said = run_on(scratch, [*request, chance] if row.chance else request, NOW)
        one_by_one = _said_by(together, request, chance)
        assert said == one_by_one, request
    assert live(before.slot) == was, "it has been changed"
    after = live(together)
    made = copy_of(before.slot)
    made.apply(made.position + 1, scratch.changes)
    assert live(made) == after
    travelling = scratch.travelling()
    assert not [body for _, body, _ in travelling if isinstance(body, tuple) and body[0] in OF_OTHERS]
    bodies = bodies_of(load(dump([list(b) if isinstance(b, tuple) else b for _, b, _ in travelling])))
    there = [(key, body, at) for (key, _, at), body in zip(travelling, bodies, strict=True)]
    elsewhere.apply(elsewhere.position + 1, there)
    assert live(elsewhere) == after
    assert live(before.slot) == was


def _said_by(slot: Slot, request: list[bytes], chance: bytes) -> object:
    """What a command says that is run by itself, and takes effect."""
    ours = Once.__new__(Once)
    ours.slot, ours.other, ours.now, ours._rng, ours.chance = slot, copy_of(slot), NOW, random.Random(0), chance
    ours._compare = lambda _key: None  # type: ignore[method-assign]
    return ours.ask(*request)


def test_what_is_made_of_other_keys_travels_as_what_it_is() -> None:
    """In a transaction the other keys may be in slots whose owners are others."""
    before = Once()
    before.ask(b"SADD", b"s", *[b"%d" % number for number in range(300)])
    before.ask(b"ZADD", b"z", *[word for number in range(300) for word in (b"%d" % number, b"m%d" % number)])
    scratch = Scratch(before.slot.cells, NOW)
    for line in (b"SREM s 7", b"SUNIONSTORE d s s", b"SADD d x", b"SADD s y"):
        run_on(scratch, line.split(), NOW)
    for line in (b"ZREM z m7", b"ZRANGESTORE e z 5 250", b"ZREM e m9"):
        run_on(scratch, line.split(), NOW)
    assert {"sunite", "zpart"} < {body[0] for _, body, _ in scratch.changes if isinstance(body, tuple)}
    travelling = scratch.travelling()
    for key in (b"d", b"e"):  # each by itself, as in a slot where the others are not
        alone = Copies(1).add(0)
        alone.apply(1, [change for change in travelling if change[0] == key])
        assert isinstance(scratch[key][1], Collection)
        assert live(alone)[key][0] == held(scratch[key][1])
    before.slot.apply(before.slot.position + 1, scratch.changes)
    assert before.ask(b"SCARD", b"d") == 300
    assert before.ask(b"SISMEMBER", b"d", b"7") == 0
    assert before.ask(b"SISMEMBER", b"d", b"y") == 0
    assert before.ask(b"ZCARD", b"e") == 245
