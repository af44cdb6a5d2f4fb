"""Two processes of one name: one of them gives way, and it is the right one."""

from __future__ import annotations

import pytest

from peerkv.gossip.member import Claim, Liveness, Member
from peerkv.gossip.messages import Admission, Contest, ExchangeRequest, Purpose
from peerkv.gossip.names import APPLICANTS_MAX, QUESTIONS_MAX
from tests.gossip.engines import GENERATION, HOST, Town

ALIVE = Liveness.ALIVE


def test_a_later_process_does_not_get_a_name_that_another_one_has() -> None:
    """Two containers of one name: the second one ends and says who has the name."""
    town = Town()
    first, second, _ = town.members(3)
    late = town.start("db2", 9, 1)
    town.run(10.0)
    assert late.gave_way
    assert any("another node named 'db2' is alive at 10.0.0.1:2" in text for text in late.log)
    assert not second.gave_way
    assert first.holds("db2") == (second.swim.me.process, ALIVE)


def test_an_earlier_process_that_comes_later_gives_way_as_well() -> None:
    """Its clock is behind: it is the later one of the two that runs, and asks."""
    town = Town()
    first, second, _ = town.members(3)
    late = town.start("db2", 9, 1, generation=GENERATION - 1000)
    town.run(10.0)
    assert late.gave_way
    assert not second.gave_way
    assert first.holds("db2") == (second.swim.me.process, ALIVE)


def test_a_process_that_was_cut_off_gets_its_name_back_from_a_young_one() -> None:
    town = Town()
    first, second, third = town.members(3)
    town.cut(second, first, third)
    town.run(20.0)
    assert first.holds("db2") == (second.swim.me.process, Liveness.DOWN)
    late = town.start("db2", 9, 1)
    town.cut(late, second)
    town.run(10.0)
    assert first.holds("db2") == (late.swim.me.process, ALIVE)
    town.cuts.clear()
    town.run(30.0)
    assert late.gave_way
    assert not second.gave_way
    assert first.holds("db2") == third.holds("db2") == (second.swim.me.process, ALIVE)


def test_a_process_that_was_cut_off_gives_way_to_one_that_has_settled() -> None:
    town = Town()
    first, second, third = town.members(3)
    town.cut(second, first, third)
    town.run(20.0)
    late = town.start("db2", 9, 1)
    town.cut(late, second)
    town.run(90.0)
    town.cuts.clear()
    town.run(30.0)
    assert second.gave_way
    assert not late.gave_way
    assert first.holds("db2") == third.holds("db2") == (late.swim.me.process, ALIVE)


@pytest.mark.parametrize("ahead", [0, -3_600_000], ids=["clock in order", "clock gone back"])
@pytest.mark.parametrize("noticed", [True, False], ids=["after its death is known", "at once"])
def test_a_restart_at_the_same_address_is_another_life(ahead: int, noticed: bool) -> None:
    town = Town()
    first, second, third = town.members(3)
    second.kill()
    town.run(15.0 if noticed else 0.1)
    generation = GENERATION + int(town.now * 1000) + ahead
    again = town.start("db2", 2, 1, generation=generation)
    town.run(12.0)
    assert not again.gave_way
    assert first.holds("db2") == third.holds("db2") == (again.swim.me.process, ALIVE)


@pytest.mark.parametrize("ahead", [0, -3_600_000], ids=["clock in order", "clock gone back"])
def test_a_restart_at_another_address_is_another_life(ahead: int) -> None:
    town = Town()
    first, second, third = town.members(3)
    second.kill()
    again = town.start("db2", 9, 1, generation=GENERATION + int(town.now * 1000) + ahead)
    town.run(25.0)
    assert not again.gave_way
    assert first.holds("db2") == third.holds("db2") == (again.swim.me.process, ALIVE)


def test_a_name_follows_its_process_when_two_swap_their_addresses() -> None:
    town = Town()
    first, second, third = town.members(3)
    for engine in (second, third):
        engine.kill()
    town.run(0.1)
    second = town.start("db2", 3, 1)
    third = town.start("db3", 2, 1)
    town.run(12.0)
    for engine in (first, second, third):
        assert engine.holds("db2") == (second.swim.me.process, ALIVE)
        assert engine.holds("db3") == (third.swim.me.process, ALIVE)
    assert first.swim.members["db2"].address == (HOST, 3)


@pytest.mark.parametrize("to", [0, 5], ids=["nobody", "another life"])
def test_a_contest_that_is_not_addressed_to_this_life_does_not_count(to: int) -> None:
    """One datagram of 33 bytes ended every node that got it, with all data."""
    town = Town()
    first, second, _ = town.members(3)
    liar = town.start("db1", 9)  # it even answers at its address
    asked = len(town.asked)
    claim = Claim(liar.swim.me)
    town.forge(first, "db1", liar.swim.me.process, Contest(), claim, to=to, source=liar.address)
    town.run(1.0)
    assert not first.gave_way
    assert liar.address not in [address for _, address in town.asked[asked:]]
    assert not second.gave_way


def test_a_contest_of_another_cluster_does_not_count() -> None:
    town = Town()
    first, *_ = town.members(2)
    first.swim.update(cluster_id=77)
    liar = town.start("db1", 9)
    town.forge(first, "db1", liar.swim.me.process, Contest(), Claim(liar.swim.me), source=liar.address)
    town.run(1.0)
    assert not first.gave_way


def test_nobody_gives_way_to_a_process_that_does_not_answer_at_its_address() -> None:
    """A contest is a datagram, and a datagram can be anybody's."""
    town = Town()
    first, second, _ = town.members(3)
    ghost = Member("db1", 99, 1 << 62, host=HOST, peer_port=9)
    town.forge(first, "db1", 99, Contest(), Claim(ghost))
    impostor = Member("db1", 98, 1 << 62, host=HOST, peer_port=2)  # there another one answers
    town.forge(first, "db1", 98, Contest(), Claim(impostor))
    town.run(5.0)
    assert {(1, (HOST, 9)), (1, (HOST, 2))} <= set(town.asked)
    assert not first.gave_way
    assert second.holds("db1") == (first.swim.me.process, ALIVE)


def test_those_who_wait_for_a_name_are_bounded_and_its_holder_is_left_in_peace() -> None:
    """A thousand processes that want one name have its holder asked four times a second, and none of them gets it."""
    town = Town()
    first, second, _ = town.members(3)
    del town.asked[:]
    for number in range(20 * APPLICANTS_MAX):
        claim = Claim(Member("db2", 1000 + number, 1 << 50, host=HOST, peer_port=1000 + number))
        answer = first.swim.request(town.now, (HOST, 1), ExchangeRequest(Purpose.SYNC, claim, 0))
        assert answer.admission is Admission.WAIT
        first.turn()
        town.run(0.01)
    assert len([address for port, address in town.asked if (port, address) == (1, second.address)]) <= 4 * 13 + 2
    assert len(first.swim._names._applicants) <= APPLICANTS_MAX
    for number in range(20 * APPLICANTS_MAX):
        claim = Claim(Member("db2", 1000 + number, 1 << 50, host=HOST, peer_port=1000 + number))
        answer = first.swim.request(town.now, (HOST, 1), ExchangeRequest(Purpose.SYNC, claim, 0))
        assert answer.admission in (Admission.WAIT, Admission.NAME_TAKEN)
    town.run(5.0)
    assert first.holds("db2") == (second.swim.me.process, ALIVE)


def test_those_who_are_asked_are_bounded() -> None:
    """Every stranger that says hello is asked back, but not thousands at a time."""
    town = Town()
    first, _ = town.members(2)
    for process in range(1000, 1000 + 4 * QUESTIONS_MAX):
        claim = Claim(Member(f"n{process}", process, 1 << 50, host=HOST, peer_port=process))
        first.swim.request(town.now, (HOST, 1), ExchangeRequest(Purpose.SYNC, claim, 0))
    assert len(first.swim._names._questions) <= QUESTIONS_MAX
    town.run(5.0)
    assert set(first.swim.members) == {"db1", "db2"}
