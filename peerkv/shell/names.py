"""What host names mean, and last meant: a name server that fails for a while costs nobody its connections.

A name is looked up in a thread, one look-up at a time for each and a few at a time for all. What it was found to mean
is believed for some seconds; after that it is looked up again, and the last good addresses serve on as long as that
fails. Where no thread can be made, only addresses and names that were found before are known.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

import trio

FRESH_S: Final = 5.0
"""A name is not looked up again for so long: containers that restart elsewhere are found soon."""
WITHIN_S: Final = 1.0
"""So long is waited for a look-up; then the last good addresses are taken."""
LOOK_UPS_MAX: Final = 8
"""At a time: each holds a thread for as long as a name server takes, up to half a minute."""
NAMES_MAX: Final = 1024
"""Kept; the one that was used least lately goes first."""
ADDRESSES_MAX: Final = 8
"""Of one name."""


@dataclass(slots=True, eq=False)
class _Name:
    addresses: list[str] = field(default_factory=list)
    """The last that were found."""
    found_at: float = float("-inf")
    looking: trio.Event | None = None
    """A look-up is under way."""
    why: str = ""
    """Why the last one failed."""


class Names:
    """Addresses of hosts, for one node."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._names: OrderedDict[str, _Name] = OrderedDict()
        self._looking = 0

    def at_once(self, host: str) -> str:
        """An address of a host, as far as it is known without waiting; empty: it is not. What is not fresh is looked
        up meanwhile."""
        if is_address(host):
            return host
        name = self._known(host)
        if trio.current_time() - name.found_at > FRESH_S:
            self._look_up(host, name)
        return name.addresses[0] if name.addresses else ""

    async def find(self, host: str) -> list[str]:
        """All addresses of a host, best first. Raises OSError that says why there are none."""
        if is_address(host):
            return [host]
        name = self._known(host)
        if trio.current_time() - name.found_at > FRESH_S:
            self._look_up(host, name)
            if name.looking is not None:
                with trio.move_on_after(WITHIN_S):
                    await name.looking.wait()
        if not name.addresses:
            raise OSError(name.why or "its name cannot be resolved in time")
        return list(name.addresses)

    def unreachable(self, host: str, address: str) -> None:
        """Nothing answered at an address of a host: try its others first."""
        name = self._names.get(host)
        if name is not None and address in name.addresses:
            name.addresses.remove(address)
            name.addresses.append(address)

    def _known(self, host: str) -> _Name:
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name()
            if len(self._names) > NAMES_MAX:
                self._names.popitem(last=False)
        else:
            self._names.move_to_end(host)
        return name

    def _look_up(self, host: str, name: _Name) -> None:
        if name.looking is None and self._looking < LOOK_UPS_MAX:
            name.looking = trio.Event()
            self._looking += 1
            self._nursery.start_soon(self._ask, host, name, name.looking)

    async def _ask(self, host: str, name: _Name, done: trio.Event) -> None:
        try:
            found = await trio.to_thread.run_sync(
                lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), abandon_on_cancel=True
            )
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ADDRESSES_MAX]
            # the order in use stays while the addresses do: one that answered is worth more than what comes first
            if set(addresses) != set(name.addresses):
                name.addresses = addresses
            name.found_at = trio.current_time()
            name.why = ""
        except (OSError, UnicodeError) as error:
            name.why = f"its name cannot be resolved: {getattr(error, 'strerror', None) or error}"
        except RuntimeError as error:  # no thread can be made
            name.why = f"its name cannot be resolved: {error}"
        finally:
            self._looking -= 1
            name.looking = None
            done.set()


@lru_cache(maxsize=1024)
def is_address(host: str) -> bool:
    """Whether a host is an address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def plain(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket (::ffff:a.b.c.d) as what it is; any other host as it is."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host
