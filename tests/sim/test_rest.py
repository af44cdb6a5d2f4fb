"""What a cluster that has nothing to do costs."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sim.world import Host, World

REST_S = 30.0


class Counting(World):
    """Counts what is sent."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.sent: Counter[str] = Counter()

    def datagram(self, source: Host, address: tuple[str, int], payload: bytes) -> None:
        self.sent["datagrams"] += 1
        super().datagram(source, address, payload)


@pytest.mark.parametrize("nodes", [3, 8])
def test_a_member_at_rest_says_little_however_many_there_are(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four frames a second to every peer (the digests of rule F5) were 593 packets a second and 5 % of a core of each
    of 30 nodes that had nothing to do."""
    world = Counting(5)
    world.cluster(nodes)
    world.run(60.0)
    turn = Host.turn

    def counted(host: Host) -> None:
        world.sent["turns"] += 1
        turn(host)

    monkeypatch.setattr(Host, "turn", counted)
    for host in world.hosts.values():
        for link in host.links.values():
            send = link.send
            monkeypatch.setattr(link, "send", lambda payload, send=send: (world.sent.update(["frames"]), send(payload)))
    world.sent.clear()
    world.run(world.now + REST_S)
    each = {what: count / REST_S / len(world.hosts) for what, count in world.sent.items()}
    assert each["datagrams"] < 5, "a ping and an answer each half second, both ways"
    assert each["frames"] < 4
    assert each["turns"] < 16
