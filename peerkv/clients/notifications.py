"""Keyspace notifications: what is to be told of keys that change, everywhere in the cluster, to whoever has subscribed.

Which classes are told (notify-keyspace-events) is one setting of the cluster: any node changes it, tells its peers, and
tells it again to whom it meets; of two changes the later one holds, by cluster time. What there is to tell comes from
`agreement.notices`, and goes out as messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from peerkv.agreement.home import Home
from peerkv.agreement.notices import Notice
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clients.session import CHANNELS, Services
from peerkv.commands.events import KEYEVENT, KEYSPACE, flags_of, letters_of
from peerkv.databases import bare_key, database_of
from peerkv.store.events import EVICTED, MODULE, KeyEvent

NEVER: Final = EVICTED | MODULE
"""Nothing is told of these, so nobody pays for them."""
CLASSES: Final = ~(KEYSPACE | KEYEVENT | NEVER)


class Notifications:
    """Of a node."""

    def __init__(
        self, services: Services, view: View, home: Home, publish: Callable[[int, bytes, bytes], None]
    ) -> None:
        self.flags = 0
        self._since = 0
        """When they were set (cluster milliseconds); 0: as the node was configured."""
        self._services = services
        self._view = view
        self._home = home
        self._publish = publish
        home.notices.listeners.append(self._tell)
        self._adopt(flags_of(services.settings.notify_keyspace_events) or 0, 0)

    def change(self, letters: str) -> None:
        """CONFIG SET: for the whole cluster."""
        self._adopt(flags_of(letters) or 0, max(self._services.clock.cluster_ms, self._since + 1))
        for peer in self._view.peers.values():
            if peer.up:
                self.link_up(peer)

    def link_up(self, peer: Peer) -> None:
        """A peer can be talked to, again or for the first time."""
        if self._since or self.flags:
            peer.tell("notifies", self.flags, self._since)

    def hear(self, _peer: Peer, flags: int, since: int) -> None:
        """What a peer knows to be set."""
        if (since, flags) > (self._since, self.flags):
            self._adopt(flags, since)

    def _adopt(self, flags: int, since: int) -> None:
        self.flags, self._since = flags, since
        self._services.settings.change("notify_keyspace_events", letters_of(flags))
        self._home.observe(classes=flags & CLASSES if flags & (KEYSPACE | KEYEVENT) else 0)

    def _tell(self, notices: Sequence[Notice]) -> None:
        for _, _, _, events in notices:
            for event in events:
                self.tell(event)

    def tell(self, event: KeyEvent) -> None:
        """Say it to whoever has subscribed to that key, or to that event."""
        flags = self.flags
        class_, name, key = event
        if not class_ & flags:
            return
        database, bare = database_of(key), bare_key(key)
        if flags & KEYSPACE:
            self._publish(CHANNELS, b"__keyspace@%d__:%b" % (database, bare), name)
        if flags & KEYEVENT:
            self._publish(CHANNELS, b"__keyevent@%d__:%b" % (database, name), bare)
