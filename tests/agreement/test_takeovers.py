"""What is chosen stays, whoever becomes home (rules A3, F4, T1, T3, T4), and what a reader decides (R3)."""

from __future__ import annotations

from peerkv.store.cell import ballot_round
from peerkv.store.recent import TICKET_SLOT_BITS
from tests.agreement.by_hand import SLOT, Got, Member, Owners, run


def append(owners: Owners, member: Member, text: bytes) -> tuple[Got, int]:
    got = Got()
    ticket = member.write(got, 0, b"APPEND", b"k", text)
    owners.deliver()
    return got, ticket


def value(member: Member) -> bytes | None:
    return member.slot.cells.get(b"k", (0, None, 0))[1]


def test_a3_a_coordinator_that_owns_learns_the_outcome_from_the_change() -> None:
    """The home and it are a majority: it need not wait for the home to hear of that."""
    owners = Owners()
    home, second, third = owners.members
    append(owners, home, b"a")
    got = Got()
    third.write(got, 0, b"APPEND", b"k", b"b")
    owners.turn(third)
    owners.cut = {(second.name, home.name), (third.name, home.name)}  # no acknowledgement arrives
    owners.deliver()
    assert got.replies == {0: b"ab"}
    assert not home.peer(third).done


def test_f4_with_a_copy_comes_what_was_run() -> None:
    """The coordinator is the next home, and has neither the change nor the outcome: run again, it would be b twice."""
    owners = Owners()
    home, second, third = owners.members
    append(owners, home, b"a")
    got = Got()
    second.write(got, 0, b"APPEND", b"k", b"b")
    owners.turn(second)
    owners.cut = {(home.name, second.name), (third.name, home.name)}
    owners.turn(home)
    assert [value(member) for member in owners.members] == [b"ab", b"a", b"ab"]
    owners.cut_apart(home, second, third)
    owners.cut = {(one.name, other.name) for one in (home,) for other in (second, third)}
    owners.cut |= {(other, one) for one, other in owners.cut}
    owners.pass_time(2.0)
    assert got.replies == {0: b"ab"}
    assert value(second) == value(third) == b"ab"


def test_t1_a_new_home_has_a_ballot_above_all_that_are_known() -> None:
    owners = Owners()
    home, second, third = owners.members
    append(owners, home, b"a")
    before = home.slot.promised
    third.slot.promised = before + (7 << 16)  # some attempt that came to nothing
    second.takeover.want([SLOT])
    owners.deliver()
    owners.pass_time(1.0)
    ballot = second.home.homes[SLOT].ballot
    assert ballot_round(ballot) > ballot_round(before) + 7
    assert {member.slot.promised for member in owners.members} == {ballot}
    assert SLOT not in home.home.homes


def test_t3_what_a_majority_has_acknowledged_is_in_any_other_majority() -> None:
    """Two of five die, among them the home; one of the three that are left has what was chosen."""
    owners = Owners(5)
    home, second, third, fourth, fifth = owners.members
    append(owners, home, b"a")
    owners.cut = {(home.name, fourth.name), (home.name, fifth.name)}
    got, _ = append(owners, home, b"b")
    assert got.replies == {0: b"ab"}
    assert value(fourth) == value(fifth) == b"a"
    owners.stalled.clear()
    for dead in (home, second):
        owners.cut_apart(dead, *[member for member in owners.members if member is not dead])
    got, _ = append(owners, fifth, b"c")
    owners.pass_time(2.0)
    assert got.replies == {0: b"abc"}
    assert value(third) == value(fourth) == value(fifth) == b"abc"


def test_t4_what_is_older_than_its_coordinators_mark_is_dropped() -> None:
    """It has ended, and what it answered is forgotten: a copy of it that comes late would be run again."""
    owners = Owners()
    home, second, _ = owners.members
    _, ticket = append(owners, second, b"a")
    process = second.view.me.process
    home.view.mark(process, ticket + (1 << TICKET_SLOT_BITS))
    home.replica.recent.pop(process, None)
    home.home.run(home.peer(second), [ticket], [0], [(b"APPEND", b"k", b"a")])
    owners.deliver()
    assert value(home) == b"a"


def test_r3_a_reader_leaves_a_passed_deadline_to_the_home() -> None:
    """Its clock may be ahead: the key would be gone for one client, and there again for another."""
    owners = Owners()
    home, _, third = owners.members
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"a", b"5000")
    owners.deliver()
    third.reads.read(SLOT, (b"GET", b"k"), run, 6_000, got, 1)  # a second ahead of the home
    owners.deliver()
    assert got.replies[1] == b"a"
    assert third.coordinator.counters.reads_by_home + third.coordinator.writes >= 1
    assert value(home) == b"a"
