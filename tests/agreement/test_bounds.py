"""What ends, and how: rounds, member numbers, sequence numbers; what is remembered of operations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerkv.agreement import handout, journal
from peerkv.agreement import replica as replica_room
from peerkv.agreement.columns import RUN
from peerkv.agreement.epochs import next_topology
from peerkv.agreement.operation import Fetch, Message, Page
from peerkv.agreement.reads import REPLIES_BYTES_MAX
from peerkv.kernel import slot as slot_room
from peerkv.kernel.batches import TURN_BYTES_MAX
from peerkv.resp import ReplyError
from peerkv.ring.keys import slot_of
from peerkv.ring.topology import Owner, Topology
from peerkv.store import large
from peerkv.store.cell import MEMBER_MAX, ROUND_MAX, SEQUENCE_MASK, ballot_round, make_ballot, position_ballot
from tests.agreement.by_hand import SLOT, SLOTS, Got, Owners

TAG = next(tag for number in range(SLOTS * 20) if slot_of(tag := b"{%d}" % number, SLOTS - 1) == SLOT)
"""Keys that begin so are of the slot."""


def ask(owners: Owners, at: int, *request: bytes, seconds: float = 0.0) -> object:
    got = Got()
    owners.members[at].write(got, 0, *request)
    owners.deliver()
    owners.pass_time(seconds)
    return got.replies.get(0)  # type: ignore[attr-defined]


def test_h3_a_home_begins_a_new_ballot_long_before_its_sequence_numbers_end() -> None:
    owners = Owners()
    assert ask(owners, 0, b"APPEND", b"k", b"a") == b"a"
    home = owners.members[0]
    ballot = home.slot.promised
    for member in owners.members:
        member.view.copies.positions[SLOT] |= SEQUENCE_MASK // 2 + 1
    for _ in range(4):
        home.upkeep.renew()
    owners.deliver()
    assert ask(owners, 0, b"APPEND", b"k", b"b") == b"ab"
    assert ballot_round(home.slot.promised) == ballot_round(ballot) + 1
    assert position_ballot(home.slot.position) == home.slot.promised


def test_h3_every_slot_is_looked_at_within_four_looks() -> None:
    owners = Owners()
    home = owners.members[0]
    last = range(SLOTS - 8, SLOTS)
    home.takeover.want(last)
    owners.pass_time(0.8)
    promised = home.view.copies.promised
    before = promised[:]
    for number in last:
        home.view.copies.positions[number] |= SEQUENCE_MASK // 2 + 1
    for _ in range(4):
        home.upkeep.renew()
    owners.pass_time(0.8)
    assert all(ballot_round(promised[number]) > ballot_round(before[number]) for number in last)


def test_t1_a_slot_without_another_round_is_not_taken_over() -> None:
    """Ten years on: a ballot of one round more would be no 62 bits."""
    owners = Owners()
    first, second, _ = owners.members
    for member in owners.members:
        member.slot.promised = make_ballot(ROUND_MAX, 77)
    got = Got()
    first.write(got, 0, b"APPEND", b"k", b"a")
    owners.pass_time(12.0)
    reply = got.replies[0]
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith(("NOQUORUM", "UNCERTAIN")), "or it is asked once more at that moment"
    assert first.slot.promised == second.slot.promised == make_ballot(ROUND_MAX, 77)


def test_nobody_joins_once_all_member_numbers_are_given() -> None:
    present = Topology(1, 5, 3, (Owner(MEMBER_MAX - 1, "a", 100),), (), MEMBER_MAX)
    newcomers = [Owner(0, "b", 200), Owner(0, "c", 201)]
    joint = next_topology(present, [*present.members, *newcomers], (), filled=False)
    assert joint is not None
    assert [member.number for member in joint.next_members] == [MEMBER_MAX - 1, MEMBER_MAX]
    assert next_topology(joint.finished(), [*present.members, *newcomers], (), filled=False) is None


def test_o4_a_read_that_failed_never_says_that_a_change_may_have_been_made() -> None:
    owners = Owners()
    home, second, third = owners.members
    assert ask(owners, 0, b"APPEND", b"k", b"a") == b"a"
    there = {(home.name, second.name), (home.name, third.name)}
    owners.cut = there | {(other, one) for one, other in there}  # the links seem to stand
    got = Got()
    home.coordinator.write(SLOT, (b"GET", b"k"), got, 0, reads=True)
    owners.pass_time(12.0)
    reply = got.replies[0]
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("NOQUORUM nothing was done")


def test_f3_a_whole_copy_that_is_not_its_sources_is_not_installed() -> None:
    """It was installed, and served, until the next comparison."""
    owners = Owners()
    assert ask(owners, 0, b"APPEND", b"k", b"a") == b"a"
    home, second, _ = owners.members
    answer = home.replica.answer
    asked: list[Fetch] = []

    def damaged(message: Message) -> Message:
        if not isinstance(message, Fetch):
            return answer(message)
        asked.append(message)
        page = answer(message)
        assert isinstance(page, Page)
        return replace(page, cells=[b"other", *page.cells[1:]])

    home.replica.answer = damaged  # type: ignore[method-assign]
    second.start(second.replica.fetch(SLOT, home.slot.promised, second.peer(home), whole=True))
    owners.deliver()
    assert [message.whole for message in asked] == [True]
    assert list(second.slot.cells) == [b"k"]
    assert second.replica.counters.mended == 1


def big(owners: Owners) -> Got:
    """32 values of 1 MiB are appended to, each of which makes a value as long as it."""
    members = owners.members
    got = Got()
    for index in range(32):
        members[0].coordinator.write(SLOT, (b"APPEND", b"%b%d" % (TAG, index), b"x" * (1 << 20)), got, index)
    return got


def test_a_turn_ends_once_its_operations_have_made_some_mib() -> None:
    """25 APPENDs to a value of 60 MiB were one turn, and a frame that no link takes."""
    owners = Owners()
    assert ask(owners, 0, b"APPEND", b"k", b"a") == b"a"
    home = owners.members[0]
    got = big(owners)
    frames = 0
    while len(got.replies) < 32:
        home.home.flush()
        for peer in home.view.peers.values():
            values = [
                value for accepts in peer.changes[1::2] for _, columns in accepts.segments for value in columns[3]
            ]
            assert sum(map(len, values)) <= TURN_BYTES_MAX + (2 << 20)
        frames += 1
        owners.turn(home)
        for member in owners.members[1:]:
            owners.turn(member)
    assert frames > 5
    assert not home.home.has_more
    assert [got.replies[index] for index in range(32)] == [b"x" * (1 << 20)] * 32


def test_a_turn_ends_once_its_copies_are_of_some_mib() -> None:
    """They are a few bytes each when they travel; a thousand COPYs of a large set were one turn."""
    owners = Owners()
    assert ask(owners, 0, b"APPEND", b"k", b"a") == b"a"
    home = owners.members[0]
    members = [b"%d" % number for number in range(20_000)]
    home.home._runs[b"FILL"] = lambda _cells, request, _now: (((request[1], ("sadd", *members), 0),), 1)  # type: ignore[index]
    home.home._runs[b"COPY"] = lambda _cells, request, _now: (((request[1], ("copy", request[2]), 0),), 1)  # type: ignore[index]
    assert ask(owners, 0, b"FILL", TAG + b"s") == 1
    got = Got()
    for index in range(64):
        home.coordinator.write(SLOT, (b"COPY", b"%b%d" % (TAG, index), TAG + b"s"), got, index)
    home.home.flush()
    assert home.home.has_more
    assert 2 <= len(home.slot.cells) - 2 <= 12
    owners.deliver(rounds=80)
    assert len(got.replies) == 64
    assert owners.members[1].slot.digest == home.slot.digest


def test_operations_of_others_do_not_overtake_those_that_were_put_off() -> None:
    owners = Owners()
    assert ask(owners, 0, b"APPEND", b"k", b"a") == b"a"
    home, second, _ = owners.members
    got = big(owners)
    home.home.flush()
    assert home.home.has_more
    home.home.run(home.peer(second), [9 << 14 | SLOT], [0], [(b"APPEND", TAG + b"31", b"late")])
    owners.deliver(rounds=40)
    assert home.slot.cells[TAG + b"31"][1] == b"x" * (1 << 20) + b"late"
    assert len(got.replies) == 32


def test_r1_an_owner_sends_some_mib_of_replies_and_no_more() -> None:
    """400 GETs of 1 MiB at a node without a copy were a frame of 400 MiB."""
    owners = Owners()
    big(owners)
    owners.deliver(rounds=40)
    home, second, _ = owners.members
    reader = home.peer(second)
    keys = [b"%b%d" % (TAG, index) for index in range(32)]
    home.reads.answer(reader, 1, keys, [RUN] * 32, [(b"GET", key) for key in keys])
    ((_, differ, told, replies),) = reader.confirms
    assert sum(len(reply or b"") for reply in replies[1::2]) <= REPLIES_BYTES_MAX + (1 << 20)
    assert replies[::2] == told[::2]
    assert len(differ) + len(told) // 2 == 32


@pytest.mark.parametrize("whole", [False, True])
def test_a_large_copy_is_handed_out_bit_by_bit_while_it_is_written(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page of a slot of 200,000 keys looked at all of them and sorted those that were newer."""
    for room in (replica_room, handout, slot_room):
        monkeypatch.setattr(room, "LARGE_FROM", 100)
    monkeypatch.setattr(large, "STEP_CELLS", 50)
    monkeypatch.setattr(handout, "ABREAST_CHANGES", 30)
    monkeypatch.setattr(handout, "PAGE_BYTES_MAX", 2000)
    monkeypatch.setattr(journal, "BYTES_MAX", 0)
    owners = Owners()
    home, second, third = owners.members
    got = Got()
    for index in range(400):
        home.write(got, index, b"APPEND", b"k%d" % index, b"x")
    owners.deliver()
    owners.cut = {(home.name, second.name), (second.name, home.name)}
    for index in range(400, 800):
        home.write(got, index, b"APPEND", b"k%d" % (index % 500), b"y")
    owners.deliver()
    owners.cut = set()
    owners.stalled.clear()
    answer, pages = home.replica.answer, list[Page]()

    def counted(message: Message) -> Message:
        page = answer(message)
        if isinstance(page, Page):
            pages.append(page)
        return page

    home.replica.answer = counted  # type: ignore[method-assign]
    second.replica.fetching.add(SLOT)
    second.start(second.replica.catch_up(SLOT, home.slot.promised, second.peer(home), whole=whole))
    index = 800
    while SLOT in second.replica.fetching:
        if index < 860:
            home.write(got, index, b"APPEND", b"k%d" % (index % 450), b"z")
            index += 1
        for member in owners.members:
            owners.turn(member)
            member.operations.wake(owners.now)
    owners.pass_time(3.0)
    assert second.slot.cells == home.slot.cells == third.slot.cells
    assert second.slot.position == home.slot.position
    assert len(pages) > 10
    assert sum(not page.cells for page in pages) >= 8
    assert all(len(page.cells) // 5 <= 150 for page in pages)
    assert not any(page.whole for page in pages) or whole


def test_f5_large_copies_are_compared_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (replica_room, slot_room):
        monkeypatch.setattr(room, "LARGE_FROM", 100)
    monkeypatch.setattr(large, "STEP_CELLS", 50)
    owners = Owners()
    home, second, third = owners.members
    got = Got()
    for index in range(400):
        home.write(got, index, b"APPEND", b"k%d" % index, b"x")
    owners.deliver()
    version = second.slot.cells[b"k7"][0]
    second.slot.cells[b"k7"] = (version + 1, b"damaged", 0)
    second.slot._digested_at = -1
    for _ in range(60):
        for _ in range(10):
            home.upkeep.compare(10_000)
        owners.pass_time(0.05)
        if second.replica.counters.mended:
            break
    owners.pass_time(1.0)
    assert second.slot.cells == home.slot.cells
    assert (second.replica.counters.mended, third.replica.counters.mended) == (1, 0)
    assert not second.replica._comparing
