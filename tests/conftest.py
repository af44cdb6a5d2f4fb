"""How the tests are shared out when several processes run them (`make test`)."""

from __future__ import annotations

import pytest

SINGLE = ("cases", "sim")
"""Each test of these rooms may run anywhere; those of any other file share fixtures, and stay together."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        rooms = item.path.parts
        if not any(room in rooms for room in SINGLE):
            item.add_marker(pytest.mark.xdist_group("clients" if "clients" in rooms else item.path.name))
