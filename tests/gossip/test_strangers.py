"""What somebody who is no member can do to a node: nothing, and not at its cost."""

from __future__ import annotations

import random

from peerkv import wire
from peerkv.gossip.messages import Datagram, Gossip
from peerkv.node import Node
from peerkv.settings import Settings

STRANGER = ("10.9.9.9", 666)


def test_a_datagram_of_more_than_a_packet_is_dropped_unread() -> None:
    """65,000 bytes of one datagram cost what 65,000 bytes of CBOR cost."""
    node = Node(Settings(), random.Random(1), 0.0, 1e9)
    payload = wire.encode_datagram("other", Datagram("x" * 60, 1, 0, 0, node.process, Gossip()))
    node.datagram(0.0, STRANGER, payload + bytes(1233 - len(payload)))
    node.datagram(0.0, ("10.9.9.8", 666), payload)
    too_long, foreign = [text for level, text in node.take(0.0).log if level == "warning"]
    assert "a datagram of 1233 bytes; 1232 are allowed" in too_long
    assert "belongs to cluster 'other'" in foreign
