"""The rules of docs/protocol.md, one by one, on nodes between which each frame is delivered by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peerkv.agreement.coordinator import LATER_S
from peerkv.agreement.operation import Fetch, Page, Prepare, Promises, Refused
from peerkv.agreement.reads import Read
from peerkv.agreement.turn import Accepts
from peerkv.agreement.upkeep import COMPARE_ROUND_S
from peerkv.resp import ReplyError
from peerkv.store.cell import SEQUENCE_BITS, first_position, make_ballot
from tests.agreement.by_hand import SLOT, SLOTS, Got, Owners, run


def written(owners: Owners, *texts: bytes) -> Got:
    got = Got()
    for index, text in enumerate(texts):
        owners.members[1].write(got, index, b"APPEND", b"k", text)
        owners.deliver()
    assert len(got.replies) == len(texts)
    return got


def one_change(to: int, value: bytes, starts: dict[int, int]) -> Accepts:
    """An ACCEPT that sets k, of no operation."""
    return Accepts([(0, [[SLOT], [to], [b"k"], [value], [0]])], starts, {}, awaited=True)


def values(owners: Owners) -> list[object]:
    return [member.slot.cells.get(b"k", (0, None, 0))[1] for member in owners.members]


def test_a_write_reaches_every_owner_and_is_answered_once() -> None:
    owners = Owners()
    assert written(owners, b"a", b"b").replies == {0: b"a", 1: b"ab"}
    assert values(owners) == [b"ab"] * 3
    assert len({member.slot.position for member in owners.members}) == 1


def test_operations_of_one_turn_go_out_together() -> None:
    owners = Owners()
    written(owners, b"-")
    home = owners.members[0]
    before = home.slot.position
    got = Got()
    for index in range(5):
        owners.members[index % 3].write(got, index, b"APPEND", b"k", b"%d" % index)
    for member in (owners.members[1], owners.members[2]):
        owners.turn(member)
    home.home.flush()
    for peer in home.view.peers.values():
        ((_, accepts),) = zip(*[iter(peer.changes)] * 2, strict=True)
        positions = [to for _, columns in accepts.segments for to in columns[1]]
        assert positions == list(range(before + 1, before + 6))
    owners.deliver()
    assert len(got.replies) == 5
    assert home.slot.position == before + 5


def later(owners: Owners, got: Got, index: int, text: bytes, by: int = 1) -> int:
    request = (b"APPEND", b"k", text)
    return owners.members[by].coordinator.write_later(SLOT, request, got, index, 0)


@pytest.mark.parametrize("by", [0, 1, 2])
def test_what_nobody_waits_for_goes_before_what_is_sent_next(by: int) -> None:
    """Also where the home is ourselves."""
    owners = Owners()
    written(owners, b"-")
    got = Got()
    later(owners, got, 0, b"a", by)
    later(owners, got, 1, b"b", by)
    owners.deliver()
    assert got.replies == {}
    owners.members[by].write(got, 2, b"APPEND", b"k", b"c")
    owners.deliver()
    assert got.replies == {0: b"-a", 1: b"-ab", 2: b"-abc"}
    assert values(owners) == [b"-abc"] * 3


def test_what_nobody_waits_for_is_sent_soon_where_nothing_else_is() -> None:
    owners = Owners()
    written(owners, b"-")
    got = Got()
    later(owners, got, 0, b"a")
    owners.deliver()
    assert got.replies == {}
    assert owners.members[1].take(owners.now).wake_at <= owners.now + LATER_S
    owners.now += LATER_S
    owners.deliver()
    assert got.replies == {0: b"-a"}


def test_what_nobody_waits_for_is_done_once_whatever_breaks() -> None:
    owners = Owners()
    written(owners, b"-")
    got = Got()
    later(owners, got, 0, b"a")
    owners.cut_apart(owners.members[1], owners.members[0])
    owners.pass_time(1.0)
    assert got.replies == {0: b"-a"}
    owners.members[1].write(got, 1, b"APPEND", b"k", b"b")
    owners.pass_time(1.0)
    assert got.replies == {0: b"-a", 1: b"-ab"}


def test_p1_a_promise_is_given_to_the_highest_ballot_only() -> None:
    owners = Owners()
    replica = owners.members[0].replica
    low, high = make_ballot(7, 2), make_ballot(8, 3)
    assert replica.answer(Prepare([SLOT], [high])) == Promises([high], [0])
    assert replica.answer(Prepare([SLOT], [low])) == Promises([high], [0])


def test_a1_a_change_of_a_lower_ballot_is_refused() -> None:
    owners = Owners()
    first, second, _ = owners.members
    second.replica.answer(Prepare([SLOT], [make_ballot(9, 3)]))
    to = first_position(make_ballot(8, 1)) + 1
    second.replica.accept(second.peer(first), 1, one_change(to, b"x", {SLOT: 0}))
    assert second.slot.position == 0
    assert second.peer(first).tells == [("nack", SLOT, make_ballot(9, 3))]


def test_a2_a_change_fits_only_where_it_begins() -> None:
    owners = Owners()
    written(owners, b"a")
    first, second, _ = owners.members
    position = second.slot.position
    second.replica.accept(second.peer(first), 1, one_change(position + 2, b"x", {}))
    assert (second.slot.position, second.slot.cells[b"k"][1]) == (position, b"a")
    assert second.peer(first).acks[-2:] == [1, [SLOT]]


def test_a4_a_repeated_change_is_acknowledged_and_not_applied() -> None:
    owners = Owners()
    written(owners, b"a", b"b")
    first, second, _ = owners.members
    position = second.slot.position
    second.replica.accept(second.peer(first), 1, one_change(position, b"again", {}))
    assert second.slot.cells[b"k"][1] == b"ab"
    assert second.peer(first).acks[-2:] == [1, []]


def test_a5_an_owner_that_missed_something_fetches_it() -> None:
    owners = Owners()
    written(owners, b"a")
    home, _, third = owners.members
    owners.cut = {(home.name, third.name)}
    written(owners, b"b", b"c")
    assert values(owners) == [b"abc", b"abc", b"a"]
    owners.cut = set()
    owners.stalled.clear()  # the link broke
    written(owners, b"d")
    assert values(owners) == [b"abcd"] * 3
    assert third.replica.counters.caught_up == 1
    assert third.replica.counters.replaced == 0
    assert third.slot.digest == home.slot.digest


def test_f1_no_page_under_another_ballot() -> None:
    owners = Owners()
    written(owners, b"a")
    home, second, _ = owners.members
    assert isinstance(home.replica.answer(Fetch(SLOT, home.slot.promised, 0)), Page)
    assert home.replica.answer(Fetch(SLOT, make_ballot(9, 9), 0)) == Refused(home.slot.promised)
    assert second.slot.promised == home.slot.promised


def test_f2_a_copy_with_a_change_that_was_never_chosen_is_replaced() -> None:
    owners = Owners()
    written(owners, b"a")
    home, second, third = owners.members
    owners.cut = {(home.name, second.name), (home.name, third.name)}
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"lost")
    owners.deliver()
    assert home.slot.cells[b"k"][1] == b"alost"
    for member in (second, third):
        member.peer(home).up = False
        member.view.links_changed()
        member.coordinator.met(member.peer(home))
    written(owners, b"b")
    assert values(owners)[1:] == [b"ab", b"ab"]
    owners.cut = set()
    for member in (second, third):
        member.peer(home).up = True
        member.view.links_changed()
        member.upkeep.probe_lagging()
    owners.pass_time(4.0)
    assert values(owners)[1:] == values(owners)[:1] * 2
    assert home.replica.counters.replaced >= 1
    assert b"lost" not in (home.slot.cells[b"k"][1] or b"") or got.replies


def test_f5_a_home_that_was_deposed_unnoticed_learns_it_from_a_comparison() -> None:
    """The one that deposed it has left; nobody would have looked after the slot until somebody wrote to it."""
    owners = Owners()
    written(owners, b"a")
    home, second, third = owners.members
    for member in (second, third):
        member.replica.answer(Prepare([SLOT], [make_ballot(9, 77)]))
    owners.deliver()
    assert SLOT in home.home.homes
    home.upkeep.compare(1 << 20)
    owners.deliver()
    assert SLOT not in home.home.homes


def test_x1_a_home_that_has_written_nothing_yet_says_what_was_purged() -> None:
    """Who was cut off when it said so would keep its tombstones until somebody writes to the slot."""
    owners = Owners()
    written(owners, b"a")
    home, second, third = owners.members
    home.write(Got(), 0, b"DEL", b"k")
    owners.deliver()
    second.takeover.want([SLOT])
    owners.pass_time(0.5)
    assert SLOT in second.home.homes
    assert third.slot.tombstones.keys() == {b"k"}
    at, digest = third.slot.position, second.slot.digest
    third.replica.compare(third.peer(second), [SLOT, second.home.homes[SLOT].ballot, at, digest, at])
    assert third.slot.tombstones.keys() == {b"k"}
    third.replica.compare(third.peer(second), [SLOT, second.home.homes[SLOT].ballot, at, digest, at + 1])
    assert third.slot.tombstones == {}
    assert third.slot.promised != third.slot.position >> SEQUENCE_BITS


def test_f5_what_nobody_heard_of_an_empty_slot_is_replaced() -> None:
    owners = Owners()
    first, second, third = owners.members
    owners.pass_time(1.0)
    owners.cut = {(first.name, second.name), (first.name, third.name)}
    first.write(Got(), 0, b"APPEND", b"k", b"lost")
    owners.deliver()
    first.coordinator.pending.clear()  # it gives up
    second.takeover.want([SLOT])
    owners.pass_time(0.5)
    assert SLOT in second.home.homes
    assert (first.slot.position > 0, second.slot.position, third.slot.position) == (True, 0, 0)
    owners.cut = set()
    owners.pass_time(COMPARE_ROUND_S)
    assert (first.slot.position, first.slot.cells) == (0, {})


def test_t2_a_new_home_has_what_was_acknowledged() -> None:
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    owners.cut = {(home.name, second.name)}
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"b")  # third and home are the majority
    owners.deliver()
    assert got.replies == {0: b"ab"}
    assert values(owners) == [b"ab", b"a", b"ab"]
    for member in (second, third):
        member.peer(home).up = False
        member.view.links_changed()
        member.coordinator.met(member.peer(home))
    owners.cut = {(home.name, second.name), (home.name, third.name)}
    assert written(owners, b"c").replies == {0: b"abc"}
    assert SLOT in second.home.homes


def test_h1_an_operation_sent_to_two_homes_is_applied_once() -> None:
    owners = Owners()
    home, _, third = owners.members
    written(owners, b"a")
    got = Got()
    third.write(got, 0, b"APPEND", b"k", b"b")
    owners.turn(third)
    owners.cut = {(home.name, third.name)}  # the outcome is lost; the second owner has the change
    owners.deliver()
    assert values(owners) == [b"ab", b"ab", b"a"]
    assert got.replies == {}
    third.peer(home).up = False
    third.view.links_changed()
    third.coordinator.met(third.peer(home))
    owners.pass_time(0.5)
    assert got.replies == {0: b"ab"}
    assert values(owners)[1:] == [b"ab", b"ab"]


def test_h1_a_faulty_command_ends_no_home() -> None:
    owners = Owners()
    got = written(owners, b"a")
    for index, member in enumerate(owners.members, 1):
        member.write(got, index, b"FAULTY", b"k")
        owners.deliver()
        assert isinstance(got.replies[index], ReplyError)
    written(owners, b"b")
    assert values(owners) == [b"ab"] * 3


def test_h1_what_changed_nothing_is_remembered_too() -> None:
    """TRY finds the key; run again after a DEL it would set it, and its coordinator may already have the 0."""
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    got = Got()
    ticket = third.write(got, 0, b"TRY", b"k", b"x")
    owners.deliver()
    second.write(got, 1, b"DEL", b"k")
    owners.deliver()
    assert got.replies == {0: 0, 1: 1}
    home.home.run(home.peer(third), [ticket], [0], [[b"TRY", b"k", b"x"]])
    owners.deliver()
    assert values(owners) == [None] * 3


def test_h2_nothing_is_reported_before_a_majority_has_it() -> None:
    owners = Owners(5)
    home = owners.members[0]
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"a")
    owners.deliver()
    assert got.replies == {0: b"a"}
    owners.cut = {(other.name, home.name) for other in owners.members[2:]}
    home.write(got, 1, b"APPEND", b"k", b"b")
    owners.deliver()
    assert 1 not in got.replies
    owners.cut = set()
    owners.pass_time(1.5)
    assert got.replies[1] == b"ab"


def test_a6_a_patch_that_fails_at_the_home_costs_its_client_an_error_and_nobody_a_copy() -> None:
    owners = Owners()
    written(owners, b"a")
    got = Got()
    owners.members[0].write(got, 0, b"BROKEN", b"k")
    owners.members[1].write(got, 1, b"BROKEN", b"none")
    owners.pass_time(1.0)
    assert [str(got.replies[index]).find("internal fault") > 0 for index in (0, 1)] == [True, True]
    owners.members[1].write(got, 2, b"APPEND", b"k", b"b")
    owners.pass_time(1.0)
    assert got.replies[2] == b"ab"
    assert values(owners) == [b"ab"] * 3
    assert len({member.slot.position for member in owners.members}) == 1
    assert [member.slot.cells for member in owners.members[1:]] == [owners.members[0].slot.cells] * 2


def test_a6_an_owner_at_which_a_patch_fails_fetches_a_whole_copy() -> None:
    owners = Owners()
    written(owners, b"a")
    home, second, third = owners.members
    version = second.slot.cells[b"k"][0]
    second.slot.cells[b"k"] = (version, None, 0)
    got = Got()
    home.write(got, 0, b"PATCH", b"k", b"b")
    owners.pass_time(2.0)
    assert got.replies[0] == 1
    assert values(owners) == [b"ab"] * 3
    assert second.replica.counters.mended == 1
    assert third.replica.counters.mended == 0


def test_f3_no_older_copy_takes_the_place_of_what_was_run() -> None:
    """An owner that waited to fetch from the home took the slot over meanwhile, and ran something; then its turn came
    (seed 700022)."""
    owners = Owners()
    first, _, third = owners.members
    written(owners, b"a")
    owners.cut_apart(third, first)
    third.replica.queue[SLOT] = third.peer(first)
    third.start(third.takeover.take_over([SLOT]))
    owners.pass_time(0.3)
    assert SLOT in third.home.homes
    got = Got()
    third.write(got, 0, b"APPEND", b"k", b"b")
    owners.pass_time(0.3)
    assert got.replies[0] == b"ab"
    owners.cut.clear()
    for here, there in ((first, third), (third, first)):
        here.peer(there).up = True
        here.peer(there).silent = False
        here.view.links_changed()
    position = third.slot.position
    third.start(third.replica._work_off_queue())
    third.start(third.replica.fetch(SLOT, third.slot.promised, third.peer(first)))
    first.slot.promised = third.slot.promised
    owners.pass_time(2.0)
    assert third.slot.position >= position
    assert values(owners) == [b"ab"] * 3


def test_r4_a_read_that_waits_for_a_second_owner_goes_to_the_home_before_those_behind_it() -> None:
    """At a node without a copy STRLEN k, GET j, GET k were sent together. The first owner to answer had an expired j:
    so GET j and GET k were answered by the home, and STRLEN k, as the second owner was too slow, by all owners, after
    k was deleted (seed 710538)."""
    owners = Owners()
    reads = owners.members[2].reads
    got = Got()
    asked: list[tuple[bytes, int]] = []

    def at_home(_number: int, request: Any, _sink: Any, _index: int, after: int) -> int:
        asked.append((request[1], after))
        return len(asked)

    reads._at_home = at_home
    bunch = [
        Read(SLOT, (b"GET", key), got, index, run, 0, (key,), need=2)
        for index, key in enumerate((b"k", b"j", b"l", b"m"))
    ]
    reads._compare([*bunch[:3]], [1], [0, 7, 2, 9], [0, b"v", 2, b"w"])
    assert asked == [(b"k", 0), (b"j", 1), (b"l", 2)]
    assert [read.ended for read in bunch] == [True, True, True, False]
    reads._compare([*bunch[:3]], [], [0, 7, 1, 8, 2, 9], [])
    assert len(asked) == 3
    assert not got.replies


def test_o3_an_operation_is_not_run_before_the_one_that_it_follows() -> None:
    owners = Owners()
    home, _, third = owners.members
    written(owners, b"-")
    got = Got()
    first = third.write(got, 0, b"APPEND", b"k", b"1")
    second = third.write(got, 1, b"APPEND", b"k", b"2", after=first)
    third.peer(home).forwards[:] = [second, first, [b"APPEND", b"k", b"2"]]  # the first one is lost
    owners.deliver()
    assert values(owners)[0] == b"-"
    third.coordinator.met(third.peer(home))  # as its link broke
    owners.pass_time(1.0)
    assert got.replies == {0: b"-1", 1: b"-12"}


def test_o4_no_majority_and_nothing_done_is_said_so() -> None:
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    for other in (second, third):
        home.peer(other).up = False
        home.coordinator.met(home.peer(other))
    home.view.links_changed()
    owners.cut = {(home.name, second.name), (home.name, third.name)}
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"b")
    owners.pass_time(4.0)
    reply = got.replies[0]
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("NOQUORUM")
    assert home.slot.cells[b"k"][1] == b"a"


def test_o4_an_outcome_that_cannot_be_known_is_called_so() -> None:
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    there = {(home.name, second.name), (home.name, third.name)}
    owners.cut = there | {(other, one) for one, other in there}  # the links seem to stand
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"b")
    owners.pass_time(4.0)
    reply = got.replies[0]
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("UNCERTAIN")


def test_t5_a_slot_whose_owners_each_believe_another_to_be_home_gets_one() -> None:
    """The first owner believes the second to be home, the second the third, which is dead: nobody would have looked
    after the slot, and a change of the topology would never have ended (found by the simulator)."""
    owners = Owners()
    written(owners, b"a")
    first, second, third = owners.members
    first.replica.answer(Prepare([SLOT], [make_ballot(8, 2)]))
    second.replica.answer(Prepare([SLOT], [make_ballot(9, 3)]))
    for member in (first, second):
        member.peer(third).up = False
        member.view.links_changed()
    owners.cut = {(one.name, third.name) for one in (first, second)} | {(third.name, o.name) for o in (first, second)}
    owners.pass_time(0.75)
    assert not any(SLOT in member.home.homes for member in (first, second))
    owners.pass_time(6.0)
    assert any(SLOT in member.home.homes for member in (first, second))


def test_e1_what_a_peer_has_not_read_is_repeated_when_it_is_met() -> None:
    """Or every request under way waits for a hedge, or for a look at what is not acknowledged, at each change."""
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    to_home = Got()
    owners.cut = {(second.name, home.name), (home.name, second.name), (home.name, third.name)}
    second.write(to_home, 0, b"APPEND", b"k", b"b")
    owners.deliver()
    at_home = Got()
    home.write(at_home, 0, b"APPEND", b"k", b"c")
    owners.deliver()
    assert not to_home.replies
    assert not at_home.replies

    owners.cut = set()
    owners.stalled.clear()  # it was of another epoch, and is not read
    for other in (second, third):
        home.upkeep.met(home.peer(other))
    owners.deliver()
    assert at_home.replies == {0: b"ac"}
    assert not to_home.replies
    second.coordinator.met(second.peer(home))
    owners.deliver()
    assert to_home.replies == {0: b"acb"}


def test_o4_owners_that_are_heard_are_waited_for_three_times_as_long() -> None:
    """They are busy: a slow machine on which many slots move must not answer UNCERTAIN."""
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    owners.cut = {(home.name, second.name), (home.name, third.name)}
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"b")
    for _ in range(16):
        owners.pass_time(0.25)
        for other in (second, third):
            other.view.touched.add(other.peer(home))  # they have something to say all the while
    assert not got.replies
    owners.cut = set()
    owners.pass_time(2.0)
    assert got.replies == {0: b"ab"}


def test_r1_owners_that_agree_answer_without_the_home() -> None:
    owners = Owners()
    home, second, third = owners.members
    written(owners, b"a")
    owners.cut = {(other.name, home.name) for other in (second, third)}
    second.peer(home).up = False
    second.view.links_changed()
    second.coordinator.met(second.peer(home))
    got = Got()
    second.reads.read(SLOT, (b"GET", b"k"), run, 0, got, 0)
    owners.deliver()
    assert got.replies == {0: b"a"}


def test_r2_owners_that_differ_leave_it_to_the_home() -> None:
    owners = Owners()
    home, _, third = owners.members
    written(owners, b"a")
    owners.cut = {(home.name, third.name)}
    written(owners, b"b")
    owners.cut = set()
    got = Got()
    for index in range(4):
        third.reads.read(SLOT, (b"GET", b"k"), run, 0, got, index)
    owners.deliver()
    assert got.replies == dict.fromkeys(range(4), b"ab")
    assert third.coordinator.counters.reads_by_home == 4


def test_x1_tombstones_go_once_every_owner_has_them() -> None:
    owners = Owners()
    home, _, third = owners.members
    written(owners, b"a")
    owners.cut = {(home.name, third.name)}
    got = Got()
    home.write(got, 0, b"DEL", b"k")
    owners.deliver()
    assert got.replies == {0: 1}
    owners.pass_time(3.0)
    assert home.slot.tombstones
    owners.cut = set()
    owners.pass_time(3.0)
    assert [member.slot.cells for member in owners.members] == [{}, {}, {}]


def test_x2_a_passed_deadline_becomes_a_tombstone_of_the_home() -> None:
    owners = Owners()
    home = owners.members[0]
    got = Got()
    home.write(got, 0, b"APPEND", b"k", b"a", b"500")
    owners.deliver()
    owners.pass_time(0.4)
    assert values(owners) == [b"a"] * 3
    owners.pass_time(0.2)
    assert values(owners) == [None] * 3


def test_positions_carry_the_ballot() -> None:
    owners = Owners()
    written(owners, b"a")
    home = owners.members[0]
    assert home.slot.position >> SEQUENCE_BITS == home.slot.promised


def at_rest(*numbers: int) -> Owners:
    """Owners some time after their birth: the first is home of the slot, in which there is one key."""
    owners = Owners(*numbers)
    written(owners, b"a")
    owners.pass_time(1.0)
    return owners


def test_o1_who_is_not_home_says_who_is() -> None:
    owners = at_rest()
    _, second, third = owners.members
    second.takeover.want([SLOT])
    owners.cut = {(second.name, third.name)}  # the third owner does not hear of the new home
    owners.deliver()
    owners.cut = set()
    got = Got()
    third.write(got, 0, b"APPEND", b"k", b"b")
    owners.deliver()
    assert got.replies == {0: b"ab"}
    assert SLOT in second.home.homes, "it was not taken back"
    assert third.view.targets[SLOT] is third.peer(second)


def test_o2_who_insists_has_a_slot_taken_over() -> None:
    owners = at_rest()
    first, second, third = owners.members
    owners.cut = {(first.name, third.name), (third.name, first.name)}
    got = Got()
    third.write(got, 0, b"APPEND", b"k", b"b")
    owners.pass_time(0.5)
    assert got.replies == {0: b"ab"}
    assert SLOT in second.home.homes
    assert first.view.targets[SLOT] is first.peer(second), "who was deposed knows by whom"


def test_h4_a_refused_home_promises_what_the_others_have() -> None:
    owners = at_rest()
    first, second, third = owners.members
    owners.cut = {(first.name, second.name), (second.name, first.name)}
    second.takeover.want([SLOT])
    owners.deliver()
    assert SLOT in first.home.homes, "it has not heard of the other"
    got = Got()
    first.write(got, 0, b"APPEND", b"k", b"b")
    owners.deliver()
    assert SLOT not in first.home.homes
    assert first.slot.promised == third.slot.promised
    owners.cut = set()
    owners.pass_time(0.5)
    assert got.replies == {0: b"ab"}
    assert values(owners) == [b"ab"] * 3


def settled(*numbers: int) -> Owners:
    """Owners of whom the third is home of the slot."""
    owners = at_rest(*numbers)
    owners.members[2].takeover.want([SLOT])
    owners.pass_time(0.5)
    assert SLOT in owners.members[2].home.homes
    return owners


def test_o1_a_handover_is_not_undone_by_operations_under_way() -> None:
    owners = at_rest(4, 3)
    first, _, third, other = owners.members
    got = Got()
    other.write(got, 0, b"APPEND", b"k", b"b")
    owners.turn(other)
    third.takeover.want([SLOT])
    owners.turn(third)  # the others promise before they have seen what the first has just run
    owners.pass_time(0.5)
    assert got.replies == {0: b"ab"}
    assert SLOT in third.home.homes
    assert SLOT not in first.home.homes


def test_o2_a_home_that_cannot_serve_is_asked_no_more() -> None:
    owners = settled(4, 3)
    first, second, third, other = owners.members
    got = Got()
    other.write(got, 0, b"APPEND", b"k", b"b")
    owners.deliver()
    assert other.view.targets[SLOT] is other.peer(third)
    owners.cut_apart(third, first, second)
    other.write(got, 1, b"APPEND", b"k", b"c")
    owners.pass_time(0.5)
    assert got.replies == {0: b"ab", 1: b"abc"}
    assert other.view.targets[SLOT] is not other.peer(third)


def test_o2_an_owner_that_believes_in_such_a_home_asks_another() -> None:
    owners = settled(5)
    first, second, third, fourth, fifth = owners.members
    owners.cut_apart(third, first, fourth, fifth)
    got = Got()
    second.write(got, 0, b"APPEND", b"k", b"b")
    owners.pass_time(0.5)
    assert got.replies == {0: b"ab"}


def test_o2_a_home_that_is_heard_but_does_not_hear_is_replaced() -> None:
    owners = settled(3)
    first, _, third = owners.members
    owners.cut = {(first.name, third.name)}
    got = Got()
    first.write(got, 0, b"APPEND", b"k", b"b")
    for index in range(1, 200):
        third.write(got, index, b"APPEND", b"other", b"")
        owners.pass_time(0.01)
    assert got.replies[0] == b"ab"


def loaded(owners: Owners, seconds: int, *members: int) -> None:
    """A load of 300 operations a second, by turns through these members."""
    got = Got()
    for index in range(300 * seconds):
        owners.members[members[index % len(members)]].write(got, index, b"APPEND", b"k", b"")
        if index % 3 == 2:
            owners.pass_time(0.01)
    assert len(got.replies) == 300 * seconds


def test_h5_a_home_goes_where_its_load_comes_from() -> None:
    owners = at_rest()
    first, second, _ = owners.members
    loaded(owners, 10, 1)
    assert SLOT in second.home.homes
    loaded(owners, 10, 0, 1, 2)
    assert SLOT in first.home.homes, "back to the first owner, where the load is even"
    loaded(owners, 10, 2, 2, 1, 0)
    assert SLOT in first.home.homes, "nobody has nearly all of it"


def test_h5_little_load_moves_nothing() -> None:
    owners = at_rest()
    _, second, _ = owners.members
    second.takeover.want([SLOT])
    for index in range(600):  # 50 a second
        owners.members[index % 2 * 2].write(Got(), index, b"APPEND", b"k", b"")
        owners.pass_time(0.02)
    assert SLOT in second.home.homes


def test_h5_homes_of_two_clients_with_a_key_each_stay() -> None:
    """What one is home of must not decide where it belongs: the slots would go round for ever."""
    owners = Owners()
    first, second, third = owners.members
    other = next(n for n in range(SLOTS) if owners.topology.order(n)[0] == second.view.me.number)
    got = Got()
    for index in range(0, 2000, 2):
        second.coordinator.write(SLOT, (b"APPEND", b"k", b""), got, index)
        third.coordinator.write(other, (b"APPEND", b"k", b""), got, index + 1)
        owners.pass_time(0.01)
    assert SLOT in first.home.homes
    assert other in second.home.homes


def test_t5_an_epoch_leaves_slots_where_their_home_stays() -> None:
    owners = settled(3)
    owners.topology = replace(owners.topology, epoch=2)
    for member in owners.members:
        member._decided(owners.topology)
    owners.pass_time(1.0)
    assert SLOT in owners.members[2].home.homes


def test_o3_what_follows_an_operation_that_has_failed_follows_the_one_before_it() -> None:
    """Of SET a, SET b, SET c on one connection, sent while no quorum was in reach, the second was given up first; then
    the third was done at once, and the first, still pursued, on top of it (seed 600267 before clients used
    collections)."""
    owners = Owners()
    first, second, third = owners.members
    written(owners, b"")
    owners.cut_apart(third, second)
    owners.cut_apart(third, first)
    got = Got()
    one = third.write(got, 0, b"APPEND", b"k", b"1")
    two = third.coordinator.write(SLOT, (b"APPEND", b"k", b"2"), got, 1, one)
    three = third.coordinator.write(SLOT, (b"APPEND", b"k", b"3"), got, 2, two)
    coordinator = third.coordinator
    pursuit = coordinator._pursuit(two, coordinator.pending[two])
    pursuit.undecided = 0
    coordinator._fail(two, coordinator.pending[two], pursuit)
    assert coordinator._still_before(two) == one
    four = coordinator.write(SLOT, (b"APPEND", b"k", b"4"), got, 3, two)
    assert coordinator.pending[four][3] == one
    target = coordinator.view.order[SLOT][0]
    target.forwards.clear()
    coordinator._send_again(three, coordinator.pending[three], target)
    assert target.forwards[1::3] == [one]


def test_o3_failures_are_remembered_as_long_as_they_say_something() -> None:
    owners = Owners()
    third = owners.members[2]
    coordinator = third.coordinator
    got = Got()
    before = 0
    for index in range(2000):
        before = coordinator.write(SLOT, (b"APPEND", b"k", b"x"), got, index, before)
        coordinator._fail(
            before, coordinator.pending[before], coordinator._pursuit(before, coordinator.pending[before])
        )
    assert len(coordinator._failed) <= 600


def test_o5_what_was_given_up_is_not_done_behind_what_came_later() -> None:
    """A client was told UNCERTAIN, and sent something else, which was done; then what it had sent first came through at
    an owner that was to take the slot over for it, and was done on top of that."""
    owners = Owners()
    first, second, third = owners.members
    written(owners, b"a")
    owners.cut_apart(third, second)
    owners.cut.add((third.name, first.name))
    got = Got()
    lost = third.write(got, 0, b"APPEND", b"k", b"1")
    owners.pass_time(10.0)
    given_up = got.replies[0]
    assert isinstance(given_up, ReplyError)
    assert given_up.text.startswith("UNCERTAIN")
    owners.cut = {(third.name, first.name)}
    for here, there in ((second, third), (third, second)):
        here.peer(there).up = True
        here.peer(there).silent = False
        here.view.links_changed()
    third.write(got, 1, b"APPEND", b"k", b"2")
    second.view.mark(third.view.me.process, third.coordinator.mark)  # as the frame that brings it says
    owners.pass_time(2.0)
    assert got.replies[1] == b"a2"
    first.takeover.insist(first.peer(third), [lost])
    first.home.run(first.peer(third), [lost], [0], [(b"APPEND", b"k", b"1")])  # what says so comes still later
    owners.pass_time(2.0)
    assert values(owners) == [b"a2"] * 3
