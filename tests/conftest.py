"""How the tests are shared out when several processes run them (`make test`), and the redis-server of each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from operator import itemgetter

import pytest

from bench.processes import redis as redis_server

# Where no bytecode is kept each of a thousand processes compiles all sources: a node takes a second of a processor
# before it serves, and half of one otherwise.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SINGLE = ("cases", "sim")
"""Each test of these rooms may run anywhere; those of any other file share fixtures, and stay together."""
PROCESSES = ("docker", "clients", "libraries", "differential", "cases", "tests", "shell", "chaos")
"""Rooms (and what is in none) whose tests start processes and wait for them, those that take longest first."""
COMPUTING = "sim"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        unit = _unit(item)
        units.setdefault(unit, []).append(item)
        if unit != item.nodeid:
            item.add_marker(pytest.mark.xdist_group(unit))
    if hasattr(config, "workerinput"):
        items[:] = [item for unit in _in_turn(list(units.values())) for item in unit]


def _unit(item: pytest.Item) -> str:
    """What an item stays together with."""
    room = _room(item)
    return item.nodeid if room in SINGLE else room if room == "clients" else f"{room}/{item.path.name}"


def _room(item: pytest.Item) -> str:
    return item.path.parent.name


def _in_turn(units: list[list[pytest.Item]]) -> list[list[pytest.Item]]:
    """As several processes begin them: what waits and what computes in turn, so that no processor has nothing to do;
    then what is done soon, so that all end together."""
    by_room: dict[str, list[list[pytest.Item]]] = {}
    for unit in units:
        by_room.setdefault(_room(unit[0]), []).append(unit)
    waiting = [unit for room in PROCESSES for unit in by_room.pop(room, [])]
    computing = by_room.pop(COMPUTING, [])
    placed = [(at / len(these), unit) for these in (waiting, computing) for at, unit in enumerate(these)]
    begun = [unit for _, unit in sorted(placed, key=itemgetter(0))]
    return begun + [unit for these in by_room.values() for unit in these]


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """A real redis-server; skips where there is none."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server() as port:
        yield port
