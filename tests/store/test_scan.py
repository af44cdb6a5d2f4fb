"""Listing a slot's keys page by page: none is left out that was there all the time, whatever changes meanwhile."""

from __future__ import annotations

import random

import pytest

from peerkv.kernel.slot import Copies, Slot
from peerkv.store import scan
from peerkv.store.cell import first_position, make_ballot
from peerkv.store.scan import BUILD_KEYS, IDLE_MAX, INDEX_FROM, page_of, scan_order


def filled(count: int) -> Slot:
    slot = Copies(1).add(0)
    slot.apply(first_position(make_ballot(1, 1)) + 1, [(b"k%d" % number, b"v", 0) for number in range(count)])
    return slot


def listed(slot: Slot, count: int) -> list[bytes]:
    found: list[bytes] = []
    start = 0
    while True:
        keys, start = slot.keys_from(start, count, 0)
        found += keys
        if not start:
            return found


@pytest.mark.parametrize("size", [0, 1, INDEX_FROM - 1, INDEX_FROM, 3 * BUILD_KEYS + 17])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_every_key_is_listed_once_and_in_order(size: int, count: int) -> None:
    if size > INDEX_FROM and count == 1:
        count = 7
    slot = filled(size)
    found = listed(slot, count)
    assert sorted(found) == sorted(slot.cells)
    orders = [scan_order(key) for key in found]
    assert orders == sorted(orders)


def test_pages_are_the_same_with_and_without_an_index() -> None:
    slot = filled(2000)
    keys = listed(slot, 2000)
    start = 0
    for _ in range(20):
        page, resume = slot.keys_from(start, 50, 0)
        without, _ = page_of(slot.cells, start, 50)
        assert page[: len(without)] == without
        start = resume
    assert len(keys) == 2000


def test_a_page_of_a_large_slot_looks_at_few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 keys took 366 ms for a page of 10."""
    looks = 0

    def counted(key: bytes) -> int:
        nonlocal looks
        looks += 1
        return scan_order(key)

    slot = filled(50_000)
    monkeypatch.setattr(scan, "scan_order", counted)
    start, pages, most = 0, 0, 0
    while pages < 100:
        before = looks
        keys, start = slot.keys_from(start, 10, 0)
        pages += bool(keys)
        most = max(most, looks - before)
    assert most <= BUILD_KEYS
    assert looks < 50_000 + 100 * 10 * scan.BUCKET_KEYS


def test_what_comes_and_goes_during_a_scan_leaves_out_no_key_that_stays() -> None:
    rng = random.Random(3)
    slot = filled(6000)
    stays = {b"k%d" % number for number in range(0, 6000, 2)}
    position = slot.position
    for _ in range(3):
        found: set[bytes] = set()
        start, first = 0, True
        while start or first:
            first = False
            keys, start = slot.keys_from(start, 100, 0)
            found.update(keys)
            assert all(slot.cells[key][1] is not None for key in keys)
            changes = [(b"k%d" % rng.randrange(1, 6000, 2), rng.choice((None, b"w")), 0) for _ in range(60)]
            changes += [(b"new%d" % rng.randrange(10_000), b"n", 0) for _ in range(20)]
            position += 1
            slot.apply(position, changes)
            slot.purge(position - rng.randrange(3))
        assert stays <= found
    assert sorted(listed(slot, 1000)) == sorted(key for key, cell in slot.cells.items() if cell[1] is not None)


def test_an_index_that_nobody_asks_for_is_dropped() -> None:
    slot = filled(INDEX_FROM)
    listed(slot, 100)
    copies = slot._copies
    assert copies.indexes
    for _ in range(IDLE_MAX):
        copies.age_indexes()
    assert copies.indexes
    copies.age_indexes()
    assert not copies.indexes
    assert sorted(listed(slot, 100)) == sorted(slot.cells)


def test_a_copy_that_is_replaced_is_listed_as_it_is_now() -> None:
    slot = filled(INDEX_FROM)
    listed(slot, 100)
    cells = {b"other%d" % number: (slot.position + 1, b"v", 0) for number in range(INDEX_FROM)}
    slot.replace(slot.position + 1, {}, cells)
    assert sorted(listed(slot, 100)) == sorted(cells)
