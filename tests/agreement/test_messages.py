"""Questions and answers of operations: they travel, and a field that is none is refused before anybody sees it."""

from typing import Any, get_args

import pytest

from peerkv.agreement.messages import MESSAGES, from_wire, to_wire
from peerkv.agreement.operation import (
    CellAnswers,
    Count,
    Counts,
    CountSubscribers,
    EpochAccept,
    EpochPrepare,
    EpochPromise,
    Fetch,
    KeyPage,
    ListKeys,
    Message,
    Missed,
    Page,
    Prepare,
    Progress,
    Progressed,
    Promises,
    Ran,
    ReadCells,
    Refused,
    RunReads,
    Subscribers,
    fits,
)
from peerkv.agreement.turn import Accepts
from peerkv.cbor import dump, load
from peerkv.resp import ReplyError
from peerkv.ring.keys import SLOTS

EXAMPLES: list[Message] = [
    Prepare([1, 2], [3, 4]),
    Promises([3, 4], [-1, 1 << 61]),
    Fetch(1, 2, 3, True, [b"k", 7], [b"k", 2]),
    Page(
        True,
        [b"j", 1, None, 0, 0, b"k", 1, b"v", 0, 0, b"l", 1, [("splice", 1, b"v")], 5, 3],
        1,
        [b"l", 1],
        True,
        1,
        [1, 2],
        [7, 1 << 14, ReplyError("ERR")],
        [7, 1],
        (1 << 64) - 1,
    ),
    ReadCells(5, [b"k"]),
    CellAnswers([1], [-1], [0]),
    Count([1]),
    Counts([1], [2]),
    ListKeys([1], 0, 10),
    KeyPage([[b"a"], []], 7, [1, 0]),
    Refused(9),
    EpochPrepare(2, 1 << 100),
    EpochPromise(1 << 100, 0, []),
    EpochAccept(2, 1 << 100, [1, 2]),
    Progress(),
    Progressed(b"\x01", 0, 1, 2),
    RunReads(5, [[b"GET", b"k"]]),
    Ran([-1], [None]),
    Missed(Accepts([(7, [[1 << 14 | 1], [5], [b"k"], [("keep",)], [9], ["OK"]])], {}, {7: 1}, awaited=False), 5, 6),
    CountSubscribers(0, [b"c"]),
    Subscribers([3]),
]
RUBBISH: list[Any] = [
    None,
    True,
    -2,
    1 << 63,
    1 << 64,
    1.5,
    "x",
    b"\x00" * 3,
    [None],
    [-2],
    [1 << 64],
    ["1"],
    [[1]],
    [1],
]


def listed(value: Any) -> Any:
    """As it comes out of a frame."""
    return [listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_there_is_a_row_and_an_example_for_every_message() -> None:
    kinds = [kind for kind, _ in MESSAGES]
    assert set(kinds) == set(get_args(Message)) == {type(example) for example in EXAMPLES}
    for kind, checks in MESSAGES:
        assert len(checks) == len(kind.__dataclass_fields__), kind


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_travels(message: Message) -> None:
    code, fields = load(dump(to_wire(message)))
    assert load(dump(to_wire(from_wire([code, fields], SLOTS)))) == [code, fields]
    assert load(dump(to_wire(from_wire([code, [*fields, "of a newer version"]], SLOTS)))) == [code, fields]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_field_that_is_none_is_refused(message: Message) -> None:
    """Or else it is one that a message may well have."""
    code, fields = load(dump(to_wire(message)))
    refused = 0
    for place in range(len(fields)):
        for rubbish in RUBBISH:
            forged = [*fields[:place], rubbish, *fields[place + 1 :]]
            try:
                found = from_wire([code, forged], SLOTS)
            except ValueError:
                refused += 1
            else:
                assert listed(to_wire(found)) == [code, forged]
    assert refused >= 8 * len(fields)


@pytest.mark.parametrize("value", [None, 1, [], [1], [99, []], [-1, []], ["0", []], [0, []], [0, [[1], [1, 2]]]])
def test_what_is_no_message_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each has its own words
        from_wire(value, SLOTS)


def test_slots_are_those_that_there_are() -> None:
    code, fields = to_wire(Count([16383]))
    assert from_wire([code, fields], 16384)
    with pytest.raises(ValueError, match="numbers are from 0 to 255"):
        from_wire([code, fields], 256)


def test_an_answer_fits_its_question() -> None:
    """An answer to another question, or with another count, must not get into an operation, which counts on it."""
    pairs = {
        Prepare: Promises,
        Fetch: Page,
        ReadCells: CellAnswers,
        Count: Counts,
        ListKeys: KeyPage,
        EpochPrepare: EpochPromise,
        EpochAccept: EpochPromise,
        Progress: Progressed,
        RunReads: Ran,
        CountSubscribers: Subscribers,
    }
    for question in EXAMPLES:
        for answer in EXAMPLES:
            expected = type(answer) is Refused or pairs.get(type(question)) is type(answer)
            if type(answer) is KeyPage:
                expected = False  # two pages for one slot
            assert fits(question, answer) is expected, (question, answer)
    assert not fits(Prepare([1], [2]), Promises([2, 2], [0, 0]))
    assert not fits(Count([1]), Counts([1, 2], [1, 2]))
    assert not fits(ReadCells(1, []), CellAnswers([1], [-1], [0]))
    assert not fits(ReadCells(1, [b"a", b"b"]), CellAnswers([1], [-1], [0]))
    assert fits(ListKeys([1, 2], 0, 10), KeyPage([[b"a"]], 0, [1]))
