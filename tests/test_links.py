"""Links: dialled, greeted, lost and dialled again; and who can be reached over them."""

from random import Random

import pytest

from peerkv import wire
from peerkv.agreement.peer import Peer
from peerkv.agreement.view import View
from peerkv.clock import Clock
from peerkv.gossip.member import PROTOCOL_VERSIONS, Liveness, Member
from peerkv.links import FORGET_PROCESS_AFTER_S, HEARD_INTERVAL_S, REDIAL_S, STALE_LINK_S, Links
from peerkv.ring.topology import Owner, Topology
from peerkv.settings import Settings

ME, OTHER, STRANGER = 1, 2, 3


class House:
    """One process's links, and what they have said."""

    def __init__(self, process: int = ME, versions: tuple[int, int] = PROTOCOL_VERSIONS) -> None:
        self.clock = Clock()
        self.view = View(process, f"db{process}")
        self.log: list[str] = []
        self.ups: list[Peer] = []
        self.downs: list[Peer] = []
        self.again: list[Peer] = []
        self.links = Links(
            Settings(name=f"db{process}"),
            self.clock,
            self.view,
            Random(1),
            lambda _level, text: self.log.append(text),
            self.ups.append,
            self.downs.append,
            self.again.append,
            versions,
        )

    def connected(self, process: int = OTHER) -> Peer:
        self.links.meet(member(process))
        other = House(process)
        other.links.meet(member(self.view.me.process))
        answer = other.links.accept(self.links.hello(process))
        assert not isinstance(answer, wire.Refusal)
        assert answer[1] == self.view.me.process
        assert self.links.welcome(process, answer[0])
        return self.view.peers[process]


def member(process: int, liveness: Liveness = Liveness.ALIVE, versions: tuple[int, int] = PROTOCOL_VERSIONS) -> Member:
    name, port = f"db{process}", 17000 + process
    return Member(name, process, 1, liveness=liveness, host="10.0.0.1", peer_port=port, versions=versions)


def topology(cluster_id: int = 7) -> Topology:
    return Topology.birth(cluster_id, 3, [Owner(0, f"db{process}", process) for process in (ME, OTHER)])


def test_who_is_met_is_dialled_and_greeted() -> None:
    house = House()
    peer = house.connected()
    assert house.links.dials == [(OTHER, ("10.0.0.1", 17002))]
    assert peer.up
    assert house.ups == [peer]
    assert house.links.up == 1


@pytest.mark.parametrize(("ours", "theirs", "version"), [((2, 3), (3, 4), 3), ((3, 4), (2, 3), 3), ((3, 5), (3, 4), 4)])
def test_frames_are_of_the_newest_version_that_both_speak(
    ours: tuple[int, int], theirs: tuple[int, int], version: int
) -> None:
    """Both know it from the greetings, and these are understood by both."""
    house, other = House(ME, ours), House(OTHER, theirs)
    house.links.meet(member(OTHER, versions=theirs))
    other.links.meet(member(ME, versions=ours))
    hello = house.links.hello(OTHER)
    answer = other.links.accept(hello)
    assert not isinstance(answer, wire.Refusal)
    assert wire.version_of(hello) == wire.version_of(answer[0]) == version
    assert house.links.welcome(OTHER, answer[0])
    assert house.view.peers[OTHER].version == other.view.peers[ME].version == version


def test_a_link_to_one_with_no_version_in_common_does_not_stand() -> None:
    house, other = House(ME, (2, 3)), House(OTHER, (4, 4))
    house.links.meet(member(OTHER))
    other.links.meet(member(ME))
    refusal = other.links.accept(house.links.hello(OTHER))
    assert isinstance(refusal, wire.Refusal)
    assert refusal.unspoken
    assert not house.links.welcome(OTHER, wire.encode_versions((4, 4)))
    assert house.links.redial_at < 1.0


def test_a_link_that_broke_is_dialled_again_less_and_less_often() -> None:
    house = House()
    peer = house.connected()
    peer.tell("load", 1)
    house.links.lost(OTHER)
    assert not peer.up
    assert not peer.tells, "what was to be sent must not come with the next link"
    assert house.downs == [peer]
    waits = []
    for _ in range(10):
        house.links.dials.clear()
        waits.append(house.links.redial_at - house.clock.now)
        house.clock.at(house.links.redial_at)
        house.links.redial()
        assert house.links.dials
        house.links.lost(OTHER)
    assert waits[0] <= 1.2 * REDIAL_S[0]
    assert waits[-1] >= 0.8 * REDIAL_S[1]
    assert max(waits) <= 1.2 * REDIAL_S[1]


def test_who_is_down_is_not_dialled() -> None:
    house = House()
    house.connected()
    house.links.part(member(OTHER, Liveness.DOWN))
    house.links.lost(OTHER)
    house.links.dials.clear()
    house.clock.at(10.0)
    house.links.redial()
    assert house.links.dials == []


def test_a_hello_to_another_process_or_of_another_cluster_gets_no_link() -> None:
    """An address may have a new tenant."""
    house, other = House(), House(OTHER)
    other.links.meet(member(ME))
    for hello in (
        wire.Hello("db1", ME, 0, 0, STRANGER, PROTOCOL_VERSIONS),
        wire.Hello("db1", OTHER, 0, 0, OTHER, PROTOCOL_VERSIONS),
    ):
        assert other.links.accept(wire.encode_hello("peerkv", PROTOCOL_VERSIONS[1], hello)) == (b"", None), (
            "nor does it learn anything"
        )
    other.view.install(topology())
    house.view.install(topology(8))
    assert other.links.accept(house.links.hello(OTHER)) == (b"", None)
    house.links.meet(member(OTHER))
    foreign = wire.encode_hello(
        "peerkv", PROTOCOL_VERSIONS[1], wire.Hello("db2", OTHER, 7, 1, ME, PROTOCOL_VERSIONS), welcome=True
    )
    assert not house.links.welcome(OTHER, foreign), "it would see so itself"
    assert isinstance(other.links.accept(house.links.hello(OTHER)[:-1]), wire.Refusal)


def test_who_was_not_met_gets_no_link() -> None:
    assert House(OTHER).links.accept(House().links.hello(OTHER)) == (b"", None)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"pk",
        wire.encode_hello("peerkv", PROTOCOL_VERSIONS[1], wire.Hello("db2", OTHER, 0, 0, ME, PROTOCOL_VERSIONS)),
    ],
)
def test_what_is_no_welcome_is_a_lost_link(answer: bytes) -> None:
    house = House()
    house.links.meet(member(OTHER))
    assert not house.links.welcome(OTHER, answer)
    assert house.links.redial_at < REDIAL_S[1]


def test_who_is_behind_is_told_the_topology() -> None:
    house = House()
    house.view.install(topology())
    peer = house.connected()
    assert peer.tells == [("topology", topology().to_wire())]
    house.links.tell_topology(OTHER)
    assert len(peer.tells) == 1, "not with every frame"
    house.links.enter_epoch()
    assert len(peer.tells) == 2


def test_a_majority_is_reached_or_not() -> None:
    house = House()
    assert not house.links.majorities, "no topology is known"
    house.view.install(topology())
    house.links.enter_epoch()
    assert not house.links.majorities
    house.connected()
    assert house.links.majorities
    house.links.lost(OTHER)
    assert not house.links.majorities


def test_gossip_hears_of_frames_now_and_then() -> None:
    house = House()
    house.connected()
    assert house.links.heard(OTHER)
    assert not house.links.heard(OTHER)
    house.clock.at(HEARD_INTERVAL_S)
    assert house.links.heard(OTHER)
    assert not house.links.heard(STRANGER)


def test_a_link_to_one_that_is_down_is_dropped_once_it_is_silent() -> None:
    house = House()
    peer = house.connected()
    house.links.part(member(OTHER, Liveness.DOWN))
    house.links.watch()
    assert house.links.drops == []
    house.clock.at(STALE_LINK_S)
    peer.heard = 0.5
    house.links.watch()
    assert house.links.drops == []
    house.clock.at(0.5 + STALE_LINK_S)
    house.links.watch()
    assert house.links.drops == [OTHER]


def test_who_is_no_member_and_long_gone_is_forgotten() -> None:
    house = House()
    house.connected()
    house.links.part(member(OTHER, Liveness.LEFT))
    house.links.lost(OTHER)
    assert house.links.gone() == set()
    house.clock.at(FORGET_PROCESS_AFTER_S)
    assert house.links.gone() == {OTHER}
    assert OTHER not in house.view.peers
    assert house.links.gone() == set()


def test_who_dials_anew_is_asked_again() -> None:
    """What it had answered on its former connection may be lost, and nobody would ever ask for it again."""
    house = House()
    house.links.meet(member(OTHER))
    other = House(OTHER)
    other.links.meet(member(ME))
    hello = other.links.hello(ME)
    house.links.accept(hello)
    assert house.again == []
    house.links.accept(hello)
    assert house.again == [house.view.peers[OTHER]]
