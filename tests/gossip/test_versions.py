"""Wire versions: each pair speaks the newest that both know, and who has none in common is told so."""

from __future__ import annotations

import pytest

from peerkv import wire
from peerkv.gossip.member import Liveness, common_version
from tests.gossip.engines import Town


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [((2, 3), (3, 4), 3), ((3, 4), (2, 3), 3), ((3, 4), (3, 4), 4), ((2, 5), (3, 4), 4), ((2, 2), (3, 3), 0)],
)
def test_two_speak_the_newest_that_both_know(ours: tuple[int, int], theirs: tuple[int, int], version: int) -> None:
    assert common_version(ours, theirs) == version


def test_old_and_new_are_one_cluster_and_each_pair_speaks_its_newest() -> None:
    """The network of the test hands a datagram to nobody who does not speak its version."""
    town = Town()
    town.start("db1", 1, 2, versions=(2, 3))
    town.start("db2", 2, 1, versions=(2, 3))
    town.start("db3", 3, 1, versions=(3, 4))
    town.start("db4", 4, 1, versions=(3, 4))
    spoken: dict[tuple[int, int], set[int]] = {}
    send = town.datagram

    def noted(sender, address, payload):  # type: ignore[no-untyped-def]
        spoken.setdefault((min(sender.port, address[1]), max(sender.port, address[1])), set()).add(payload[2])
        send(sender, address, payload)

    town.datagram = noted  # type: ignore[method-assign]
    town.run(30.0)
    for engine in town.engines.values():
        assert {member.liveness for member in engine.swim.members.values()} == {Liveness.ALIVE}
        assert len(engine.swim.members) == 4
    assert spoken == {(1, 2): {3}, (1, 3): {3}, (1, 4): {3}, (2, 3): {3}, (2, 4): {3}, (3, 4): {4}}


@pytest.mark.parametrize(("old", "new"), [((2, 3), (3, 4)), ((3, 4), (2, 3))])
def test_a_newcomer_that_asks_in_an_unknown_version_asks_again(old: tuple[int, int], new: tuple[int, int]) -> None:
    """It knows nobody yet, and so begins with the oldest that it speaks."""
    town = Town()
    first = town.start("db1", 1, versions=old)
    late = town.start("db2", 2, 1, versions=new)
    town.run(2.0)
    assert first.holds("db2") == (late.swim.me.process, Liveness.ALIVE)
    assert late.holds("db1") == (first.swim.me.process, Liveness.ALIVE)


def test_who_has_no_version_in_common_with_a_member_is_refused_and_both_say_why() -> None:
    """Also if the one that was asked understands it: the others would not."""
    town = Town()
    first = town.start("db1", 1, versions=(2, 3))
    second = town.start("db2", 2, 1, versions=(3, 4))
    town.run(3.0)
    late = town.start("db3", 3, 2, versions=(4, 5))
    strange = town.start("db4", 4, 1, versions=(4, 5))
    town.run(5.0)
    assert second.holds("db3") is first.holds("db3") is first.holds("db4") is None
    reason = "speaks wire versions 4 to 5; db1 speaks 2 to 3"
    assert f"refused 10.0.0.1:40000, which {reason}" in second.log
    assert f"10.0.0.1:2 refused this node: {reason}" in late.log
    assert "10.0.0.1:1 speaks wire versions 2 to 3; this node speaks 4 to 5" in strange.log


def test_only_the_envelope_of_an_unknown_version_is_read() -> None:
    """What comes behind it may be anything."""
    payload = wire.MAGIC + bytes((9, wire.Kind.EXCHANGE_REQUEST)) + b"\xff\xff"
    refusal = wire.decode_request("peerkv", (2, 3), payload)
    assert isinstance(refusal, wire.Refusal)
    assert refusal.unspoken
    answer = wire.decode_answer("peerkv", (9, 9), wire.encode_versions((2, 3)))
    assert isinstance(answer, wire.Refusal)
    assert answer.versions == (2, 3)
    assert len(wire.encode_versions((2, 3))) <= len(payload)
