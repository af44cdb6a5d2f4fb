"""What the simulator's clients ask for, as the checker sees it."""

from math import inf

from peerkv.resp import Reply
from tests.sim.clients import operations_of
from tests.sim.history import ANY, CLEAR, violation


def parts(words: str, reply: Reply) -> list[tuple[tuple[bytes, ...], object]]:
    operations = operations_of(tuple(word.encode() for word in words.split()), 0, 1, reply, (7, 3))
    assert {(op.connection, op.order) for op in operations} == {(7, 3)}
    return [(op.request, op.reply) for op in operations]


def test_what_is_split_is_one_operation_a_key() -> None:
    assert parts("SET a 1 NX", "OK") == [((b"SET", b"a", b"1", b"NX"), "OK")]
    assert parts("MGET a b", [b"1", None]) == [((b"PEERKV.GET", b"a"), b"1"), ((b"PEERKV.GET", b"b"), None)]
    assert parts("DEL a", 1) == [((b"PEERKV.DEL", b"a"), 1)]
    assert parts("DEL a b", 1) == [((b"PEERKV.DEL", b"a"), ANY), ((b"PEERKV.DEL", b"b"), ANY)]
    assert parts("MSET a 1 b 2", "OK")[1] == ((b"PEERKV.MSET", b"b", b"2"), ANY)
    assert parts("FLUSHALL", "OK") == [(CLEAR, ANY)]


def test_parts_of_one_command_have_no_order() -> None:
    """MSET a 1 a 2 leaves one of them; the checker takes either."""
    written = operations_of((b"MSET", b"a", b"1", b"a", b"2"), 0, 1, "OK", (7, 3))
    for value in (b"1", b"2"):
        assert violation([*written, *operations_of((b"GET", b"a"), 2, 3, value, (7, 4))]) is None
    assert violation([*written, *operations_of((b"GET", b"a"), 2, inf, None, (7, 4))]) is None
    assert violation([*written, *operations_of((b"GET", b"a"), 2, 3, b"3", (7, 4))]) is not None
