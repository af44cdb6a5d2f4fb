"""CLUSTER SLOTS says of every slot who has it, in the order in which they are to be asked."""

from __future__ import annotations

from peerkv.gossip.member import Liveness, Member
from peerkv.reports import cluster_slots, node_id
from peerkv.resp import Replies
from peerkv.ring.keys import SLOTS
from peerkv.ring.topology import Owner, Topology


def member(number: int, liveness: Liveness = Liveness.ALIVE) -> Member:
    return Member(f"n{number}", number, 1, liveness=liveness, client_host=f"h{number}", client_port=7000 + number)


def test_every_slot_is_told_once_with_its_living_owners_in_order() -> None:
    topology = Topology.birth(1, 3, [Owner(0, f"n{number}", number) for number in range(1, 6)])
    members = (member(1), member(2), member(3), member(4, Liveness.DOWN), member(5))
    (entries,) = Replies().feed(cluster_slots(topology, members).encoded(2))
    assert isinstance(entries, list)
    upto = -1
    for entry in entries:
        assert isinstance(entry, list)
        first, last, *nodes = entry
        assert isinstance(first, int)
        assert isinstance(last, int)
        assert upto < first <= last
        for slot in (first, last):
            living = [number for number in topology.order(slot) if number != 4]
            assert nodes == [[b"h%d" % n, 7000 + n, node_id(n).encode(), []] for n in living]
        assert first == upto + 1
        upto = last
    assert upto == SLOTS - 1


def test_a_node_that_has_met_no_cluster_tells_no_slots() -> None:
    assert Replies().feed(cluster_slots(None, (member(1),)).encoded(3)) == [[]]
