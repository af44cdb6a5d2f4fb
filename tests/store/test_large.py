"""What is done with a large slot bit by bit comes out as if done in one go, whatever is written meanwhile."""

from __future__ import annotations

import random

import pytest

from peerkv.kernel import slot
from peerkv.kernel.slot import Copies, Slot
from peerkv.store import large
from peerkv.store.cell import first_position, make_ballot
from peerkv.store.large import Newer, digest_of, newer_than


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots of 100 cells are large here."""
    monkeypatch.setattr(slot, "LARGE_FROM", 100)
    monkeypatch.setattr(large, "STEP_CELLS", 32)


def filled(count: int, rng: random.Random) -> Slot:
    made = Copies(1).add(0)
    for number in range(count):
        write(made, rng, b"k%d" % number)
    return made


def write(written: Slot, rng: random.Random, key: bytes) -> None:
    value = None if rng.random() < 0.2 else b"v"
    to = written.position + 1 if written.position else first_position(make_ballot(1, 1)) + 1
    written.apply(to, [(key, value, 0), (b"also " + key, value, 0)] if rng.random() < 0.2 else [(key, value, 0)])


@pytest.mark.parametrize("seed", range(20))
def test_the_digest_is_that_of_the_cells_at_the_end(seed: int) -> None:
    rng = random.Random(seed)
    copy = filled(500, rng)
    steps = 1
    while (digest := copy.digest_bit_by_bit()) is None:
        steps += 1
        for _ in range(rng.randrange(5)):
            write(copy, rng, b"k%d" % rng.randrange(600))
        if rng.random() < 0.1:
            copy.purge(copy.position - 3)
    assert steps > 10
    assert digest == digest_of(copy.cells) == copy.digest
    assert copy.digest_bit_by_bit() == digest, "kept until the next change"
    write(copy, rng, b"another")
    assert copy.digest_bit_by_bit() is None


def test_a_copy_that_is_replaced_is_digested_anew() -> None:
    copy = filled(500, random.Random(1))
    assert copy.digest_bit_by_bit() is None
    cells = {b"o%d" % number: (copy.position + 1, b"v", 0) for number in range(200)}
    copy.replace(copy.position + 1, {}, cells)
    while (digest := copy.digest_bit_by_bit()) is None:
        pass
    assert digest == digest_of(cells)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_newer_comes_in_order_and_without_what_was_written_since(seed: int) -> None:
    rng = random.Random(seed)
    copy = filled(500, rng)
    since = copy.position - rng.randrange(400)
    expected = newer_than(copy.cells, since)
    newer = Newer(copy.cells, since, copy.position)
    again: set[bytes] = set()
    while not newer.sorted_further(copy.cells):
        key = b"k%d" % rng.randrange(600)
        again |= {key, b"also " + key}
        write(copy, rng, key)
    found = []
    while newer.first is not None:
        found.append(newer.first)
        newer.take()
    assert found == sorted(found)
    assert [entry for entry in found if entry[1] not in again] == [entry for entry in expected if entry[1] not in again]
    assert all(version <= newer.upto for version, _ in found)
