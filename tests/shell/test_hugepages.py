"""Memory on huge pages, on the kernel that runs the tests."""

import mmap
from pathlib import Path

import pytest

from peerkv.shell.hugepages import HUGE, HugePages, _runs


def huge_bytes() -> int:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("AnonHugePages"))


def test_neighbours_are_made_in_one_call() -> None:
    assert list(_runs([HUGE, 2 * HUGE, 3 * HUGE, 7 * HUGE])) == [(HUGE, 3), (7 * HUGE, 1)]


def test_what_is_in_use_is_put_on_huge_pages_and_nothing_else() -> None:
    pages = HugePages()
    while pages.step():  # what the tests before this one have left
        pass
    before = huge_bytes() if Path("/proc/self/smaps").exists() else 0
    size = 6 * HUGE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as full:
        full.write(b"x" * size)
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as unused:
            made = sum(iter(pages.step, 0))
            if not made:
                pytest.skip("this kernel makes no huge pages when asked (Linux 6.1 does)")
            assert made >= 5
            assert huge_bytes() - before >= 4 * HUGE
            assert full[:] == b"x" * size
            assert unused[:1] == b"\0"
