"""Which of two claims about a member wins: a total order, so merging commutes."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from peerkv import wire
from peerkv.gossip.member import Claim, Liveness, Member, events_of, supersedes
from peerkv.gossip.messages import Ack, Datagram, Gossip, Ping, PingRequest

members = st.builds(
    Member,
    name=st.just("db1"),
    process=st.integers(1, 2),
    generation=st.integers(1, 2),
    incarnation=st.integers(0, 2),
    liveness=st.sampled_from(Liveness),
)


def merged(claims: tuple[Member, ...]) -> Member:
    held: Member | None = None
    for claim in claims:
        if supersedes(held, claim):
            held = claim
    assert held is not None
    return held


@given(st.lists(members, min_size=1, max_size=4))
def test_the_order_of_news_does_not_matter(claims: list[Member]) -> None:
    assert len({merged(order) for order in permutations(claims)}) == 1


@given(members, members)
def test_of_two_different_claims_exactly_one_wins(one: Member, other: Member) -> None:
    assert supersedes(one, other) + supersedes(other, one) == (one != other)


def test_an_accusation_is_contradicted_by_a_higher_incarnation() -> None:
    alive = Member("db1", 1, 1, incarnation=3)
    suspect = replace(alive, liveness=Liveness.SUSPECT)
    assert supersedes(alive, suspect)
    assert supersedes(suspect, replace(alive, incarnation=4))
    assert not supersedes(replace(alive, liveness=Liveness.LEFT), replace(alive, incarnation=9))
    assert supersedes(replace(alive, liveness=Liveness.LEFT), replace(alive, process=2, generation=2))


def test_a_second_life_ends_the_first() -> None:
    first = Member("db1", 1, 1)
    names = [type(event).__name__ for event in events_of(first, Member("db1", 2, 2))]
    assert names == ["MemberDown", "MemberUp"]


@given(
    st.lists(members.map(lambda member: Claim(member, "db2", 5)), max_size=5),
    st.sampled_from([Ping(1), Ack(2, "10.0.0.1"), PingRequest(3, 4, ("10.0.0.2", 17001)), Gossip()]),
)
def test_datagrams_travel(claims: list[Claim], body: Ping | Ack | PingRequest | Gossip) -> None:
    datagram = Datagram("db2", 7, 8, 9, 10, body, tuple(claims))
    decoded = wire.decode_datagram("peerkv", wire.encode_datagram("peerkv", datagram))
    assert decoded == datagram
    assert isinstance(wire.decode_datagram("other", wire.encode_datagram("peerkv", datagram)), wire.Refusal)


@given(st.binary(max_size=100), st.sampled_from([b"", b"pk\x01\x01", b"pk\x01\x02", b"pk\x01\x03", b"pk\x09\x01"]))
def test_any_bytes_are_refused_and_never_raise(payload: bytes, head: bytes) -> None:
    for decode in (wire.decode_datagram, wire.decode_request, wire.decode_answer):
        assert isinstance(decode("peerkv", head + payload), wire.Refusal)
