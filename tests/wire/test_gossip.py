"""Messages of gossip: what goes in comes out, and rubbish is refused."""

from hypothesis import given
from hypothesis import strategies as st

from peerkv import wire
from peerkv.gossip.member import Claim, Liveness, Member
from peerkv.gossip.messages import Ack, Datagram, Gossip, Ping, PingRequest

members = st.builds(
    Member,
    name=st.just("db1"),
    process=st.integers(1, 2),
    generation=st.integers(1, 2),
    incarnation=st.integers(0, 2),
    liveness=st.sampled_from(Liveness),
)


@given(
    st.lists(members.map(lambda member: Claim(member, "db2", 5)), max_size=5),
    st.sampled_from([Ping(1), Ack(2, "10.0.0.1"), PingRequest(3, 4), Gossip()]),
)
def test_datagrams_travel(claims: list[Claim], body: Ping | Ack | PingRequest | Gossip) -> None:
    datagram = Datagram("db2", 7, 8, 9, 10, body, tuple(claims))
    decoded = wire.decode_datagram("peerkv", (3, 3), wire.encode_datagram("peerkv", 3, datagram))
    assert decoded == datagram
    assert isinstance(wire.decode_datagram("other", (3, 3), wire.encode_datagram("peerkv", 3, datagram)), wire.Refusal)


@given(st.binary(max_size=100), st.sampled_from([b"", b"pk\x01\x01", b"pk\x01\x02", b"pk\x01\x03", b"pk\x09\x01"]))
def test_any_bytes_are_refused_and_never_raise(payload: bytes, head: bytes) -> None:
    for decode in (wire.decode_datagram, wire.decode_request, wire.decode_answer):
        assert isinstance(decode("peerkv", (1, 9), head + payload), wire.Refusal)
