"""What is done to strings, beside ways that are slow and plain."""

from __future__ import annotations

import random

import pytest

from peerkv.store.values import patched
from peerkv.store.values.strings import Common, spliced, splicing_all


def by_table(one: bytes, other: bytes) -> tuple[int, list[tuple[int, int, int]]]:
    """The length, and the runs that are found going back through the table of all lengths, as Redis does it."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, byte in enumerate(one, 1):
        for j, another in enumerate(other, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if byte == another else max(table[i - 1][j], table[i][j - 1])
    i, j = len(one), len(other)
    pairs: list[tuple[int, int]] = []
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    runs: list[tuple[int, int, int]] = []
    for first, second in pairs:
        if runs and runs[-1][:2] == (first + 1, second + 1):
            runs[-1] = (first, second, runs[-1][2] + 1)
        else:
            runs.append((first, second, 1))
    return table[-1][-1], runs


@pytest.mark.parametrize("seed", range(20))
def test_common_subsequences_are_those_of_the_table(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        letters = bytes(rng.sample(range(256), rng.choice([1, 2, 4, 30])))
        one, other = (bytes(rng.choices(letters, k=rng.randrange(60))) for _ in range(2))
        common = Common(one, other)
        assert (common.length, common.runs()) == by_table(one, other), (one, other)


def test_several_splices_are_done_one_after_another() -> None:
    for length in (3, 2000):
        value = bytes(length)
        body = splicing_all(value, [(0, b"ab"), (length + 5, b"c"), (1, b"xy")])
        made = patched(value, body) if type(body) is tuple else body
        assert made == b"axy" + bytes(length - 3) + bytes(5) + b"c"
        assert (type(body) is tuple) is (length > 512)


@pytest.mark.parametrize("length", [0, 5, 600, 20_000])
def test_long_strings_are_spliced_like_short_ones(length: int) -> None:
    value = bytes(range(1, 251)) * (length // 250 + 1)
    value = value[:length]
    for offset in (0, 1, length // 2, max(0, length - 2), length, length + 7):
        plain = bytearray(value.ljust(offset + 3, b"\0"))
        plain[offset : offset + 3] = b"xyz"
        assert spliced(value, offset, b"xyz") == plain
