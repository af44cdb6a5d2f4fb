"""Names whose look-up fails, hangs, or changes its mind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from peerkv.shell import names
from peerkv.shell.names import FRESH_S, NAMES_MAX, Names, plain


class NameServer:
    """Stands in for socket.getaddrinfo."""

    def __init__(self) -> None:
        self.table: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def __call__(self, host: str, _port: None, **_options: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host not in self.table:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(0, 0, 0, "", (address, 0)) for address in self.table[host]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Without threads: trio's clock of the tests would run ahead of them."""
    server = NameServer()

    async def run_sync(function: Any, *, abandon_on_cancel: bool) -> Any:
        await trio.lowlevel.checkpoint()
        return function()

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(socket, "getaddrinfo", server)
    return server


async def test_the_last_good_address_serves_on(server: NameServer, nursery: trio.Nursery, autojump_clock: Any) -> None:
    """Otherwise a name server that restarts has every node hold every other for dead."""
    server.table["db1"] = ["10.0.0.1"]
    known = Names(nursery)
    assert await known.find("db1") == ["10.0.0.1"]
    server.table.clear()
    await trio.sleep(100 * FRESH_S)
    assert await known.find("db1") == ["10.0.0.1"]
    assert known.at_once("db1") == "10.0.0.1"
    assert len(server.asked) >= 2
    server.table["db1"] = ["10.0.0.2"]
    await trio.sleep(1)
    assert await known.find("db1") == ["10.0.0.2"]


async def test_what_was_found_lately_is_not_looked_up_again(
    server: NameServer, nursery: trio.Nursery, autojump_clock: Any
) -> None:
    """A datagram a second to each member must not be a look-up a second for each."""
    server.table["db1"] = ["10.0.0.1"]
    known = Names(nursery)
    assert known.at_once("db1") == ""
    assert known.at_once("db1") == ""
    await trio.sleep(0.1)
    for _ in range(100):
        assert known.at_once("db1") == "10.0.0.1"
    assert server.asked == ["db1"]


async def test_a_name_server_that_hangs_is_waited_for_a_second(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, autojump_clock: Any
) -> None:
    """A dial has two seconds; a thread hangs for half a minute, and there are only so many of them."""
    asked: list[int] = []

    async def hang(*_arguments: Any, **_options: Any) -> Any:
        asked.append(1)
        await trio.sleep(30)

    known = Names(nursery)
    monkeypatch.setattr(trio.to_thread, "run_sync", hang)
    before = trio.current_time()
    with pytest.raises(OSError, match="in time"):
        await known.find("db1")
    assert trio.current_time() - before == pytest.approx(names.WITHIN_S)
    for number in range(100):
        assert known.at_once(f"db{number}") == ""
    await trio.sleep(1)
    assert len(asked) == names.LOOK_UPS_MAX
    nursery.cancel_scope.cancel()


async def test_no_thread_is_one_more_reason_why_a_name_is_not_known(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """It must not end the node."""

    async def refuse(*_arguments: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    with pytest.raises(OSError, match="can't start new thread"):
        await Names(nursery).find("db1")
    assert await Names(nursery).find("::1") == ["::1"]


async def test_an_address_that_does_not_answer_comes_last(server: NameServer, nursery: trio.Nursery) -> None:
    """localhost is ::1 and 127.0.0.1, and a node listens on one of them."""
    server.table["localhost"] = ["::1", "127.0.0.1"]
    known = Names(nursery)
    assert await known.find("localhost") == ["::1", "127.0.0.1"]
    known.unreachable("localhost", "::1")
    assert known.at_once("localhost") == "127.0.0.1"


async def test_ten_thousand_names(server: NameServer, nursery: trio.Nursery) -> None:
    """Members' names come from a wire."""
    known = Names(nursery)
    for number in range(10 * NAMES_MAX):
        known.at_once(f"db{number}")
    assert len(known._names) == NAMES_MAX


def test_ipv4_through_ipv6() -> None:
    assert plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain("::ffff:1") == "::ffff:1"
    assert plain("10.0.0.1") == "10.0.0.1"
