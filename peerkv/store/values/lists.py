"""Lists: nodes of up to 128 elements one after another, so that both ends are near and the middle is not far.

A node is a row of short strings (`packed`), or, where there are long ones among them, a Python list; it is replaced and
never changed. So 100,000 elements of 10 bytes take 12 bytes each and not 57, are 800 objects to the garbage collector,
and what a list holds now is known by keeping its nodes. A list of one row is that row and no more (`SmallList`): one of
three elements takes 70 bytes and not 240.

An element is found by halving where its node begins. These places are counted from wherever the first element once
stood, so that what happens at the ends leaves them as they are; after a change in the middle they are counted anew, as
soon as an element is asked for (50 us of 100,000 elements).
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, ClassVar, Final, TypeAlias

from peerkv.store.values import Collection, Patch, each_of, patch
from peerkv.store.values.packed import (
    LENGTHS,
    ROW_BYTES,
    ROW_ITEMS,
    SHORT_MAX,
    Row,
    may_hold,
    memory_of,
    row_of,
    string_at,
    strings,
    strings_between,
)

NODE_ITEMS: Final = ROW_ITEMS
SAMPLED: Final = 8
"""Nodes that are looked at for the size of a list."""

Node: TypeAlias = Row | list[bytes]


def _nodes_of(items: Sequence[bytes]) -> list[Node]:
    """As few as hold these elements."""
    if len(items) > NODE_ITEMS:
        return [node for at in range(0, len(items), NODE_ITEMS) for node in _nodes_of(items[at : at + NODE_ITEMS])]
    if not items:
        return []
    if max(map(len, items)) > SHORT_MAX:
        return [list(items)]
    row = row_of(items)
    if len(row[1]) <= ROW_BYTES:
        return [row]
    half = len(items) // 2
    return _nodes_of(items[:half]) + _nodes_of(items[half:])


def _count(node: Node) -> int:
    return len(node) if type(node) is list else len(node[0])


def _items(node: Node) -> Sequence[bytes]:
    return node if type(node) is list else strings(node)  # type: ignore[arg-type]


def _some(node: Node, start: int, stop: int) -> Sequence[bytes]:
    if type(node) is list:
        return node[start:stop]
    return strings_between(node, start, stop)  # type: ignore[arg-type]


def _memory(node: Node) -> int:
    return memory_of(node) if type(node) is tuple else sum(map(len, node)) + 41 * len(node) + 72


def _joined(left: Node, right: Node) -> Node | None:
    """Two neighbours as one node; None if that would be too large."""
    if _count(left) + _count(right) > NODE_ITEMS:
        return None
    if type(left) is tuple and type(right) is tuple:
        return (left[0] + right[0], left[1] + right[1]) if len(left[1]) + len(right[1]) <= ROW_BYTES else None
    return [*_items(left), *_items(right)]


class List(Collection):
    """What commands see of one: elements by their index from the left, from 0 on."""

    __slots__ = ()
    TYPE: ClassVar[str] = "list"

    @abstractmethod
    def at(self, index: int) -> bytes:
        """The element at an index, which must be one of them."""

    @abstractmethod
    def between(self, start: int, stop: int) -> list[bytes]:
        """The elements from one index up to another, which must be indexes of the list, or its end."""

    @abstractmethod
    def places(self, element: bytes, *, backwards: bool = False) -> Iterator[int]:
        """The indexes at which an element stands, beginning at the left, or at the right; of as much of the list as is
        asked for."""

    @abstractmethod
    def often(self, element: bytes, most: int) -> int:
        """How often an element is in it, if that is not more than `most`."""


class SmallList(List, bytes):
    """A row: the lengths, the text, and how many there are."""

    __slots__ = ()

    def __len__(self) -> int:
        return self[-1]

    @property
    def row(self) -> Row:
        """As it stands in a node."""
        count = self[-1]
        return self[:count], self[count:-1]

    def at(self, index: int) -> bytes:
        return string_at(self.row, index)

    def between(self, start: int, stop: int) -> list[bytes]:
        return list(strings_between(self.row, start, stop))

    def places(self, element: bytes, *, backwards: bool = False) -> Iterator[int]:
        found = [at for at, item in enumerate(strings(self.row)) if item == element]
        return iter(found[::-1] if backwards else found)

    def often(self, element: bytes, most: int) -> int:
        return min(most, strings(self.row).count(element))

    def parts(self) -> Iterator[Patch]:
        return each_of("rpush", zip(strings(self.row)))

    def copy(self) -> SmallList:
        return self

    @property
    def size(self) -> int:
        return self.__sizeof__()


class LargeList(List):
    """Nodes."""

    __slots__ = ("_begins", "_length", "_nodes")

    def __init__(self, nodes: list[Node] | None = None) -> None:
        self._nodes = nodes if nodes is not None else []
        self._length = sum(map(_count, self._nodes))
        self._begins: list[int] | None = None
        """Where each node begins, once somebody has asked."""

    def __len__(self) -> int:
        return self._length

    def parts(self) -> Iterator[Patch]:
        nodes = self._nodes.copy()
        return each_of("rpush", ((item,) for node in nodes for item in _items(node)))

    def copy(self) -> LargeList:
        return LargeList(self._nodes.copy())

    def smallest(self) -> List:
        """As a row, if it is one."""
        if len(self._nodes) == 1 and type(self._nodes[0]) is tuple:
            return SmallList(b"%b%b%c" % (*self._nodes[0], self._length))
        return self

    @property
    def size(self) -> int:
        nodes = self._nodes
        sample = nodes[:: max(1, len(nodes) // SAMPLED)]
        total = sum(map(_memory, sample))
        return 104 + 8 * len(nodes) + total * len(nodes) // max(1, len(sample))

    # -- what it holds

    def at(self, index: int) -> bytes:
        number, offset = self._find(index)
        node = self._nodes[number]
        return node[offset] if type(node) is list else string_at(node, offset)  # type: ignore[arg-type]

    def between(self, start: int, stop: int) -> list[bytes]:
        if start >= stop:
            return []
        nodes = self._nodes
        number, offset = self._find(start)
        found: list[bytes] = []
        while len(found) < stop - start:
            found += _some(nodes[number], offset, offset + stop - start - len(found))
            number, offset = number + 1, 0
        return found

    def places(self, element: bytes, *, backwards: bool = False) -> Iterator[int]:
        base = self._length if backwards else 0
        for node in reversed(self._nodes) if backwards else self._nodes:
            if backwards:
                base -= _count(node)
            if type(node) is list or may_hold(node, element):  # type: ignore[arg-type]
                found = [base + at for at, item in enumerate(_items(node)) if item == element]
                yield from reversed(found) if backwards else found
            if not backwards:
                base += _count(node)

    def _find(self, index: int) -> tuple[int, int]:
        """(number of the node, place in it) of an element."""
        begins = self._begins
        if begins is None:
            begins = self._begins = list(accumulate(map(_count, self._nodes), initial=0))
            begins.pop()
        number = bisect_right(begins, begins[0] + index) - 1
        return number, begins[0] + index - begins[number]

    # -- changes

    def push_right(self, items: Sequence[bytes]) -> None:
        """Add elements behind the last."""
        nodes = self._nodes
        if nodes:
            last = nodes[-1]
            room = NODE_ITEMS - _count(last)
            joined = _joined(last, _row_or_list(items[:room])) if room else None
            if joined is not None:
                nodes[-1] = joined
                self._length += min(room, len(items))
                items = items[room:]
        if items:
            self._append(_nodes_of(items))
            self._length += len(items)

    def _append(self, nodes: list[Node]) -> None:
        if self._begins is not None:
            at = self._begins[0] + self._length
            for node in nodes:
                self._begins.append(at)
                at += _count(node)
        self._nodes += nodes

    def push_left(self, items: Sequence[bytes]) -> None:
        """Add elements before the first; the last of them becomes the first one."""
        nodes = self._nodes
        if nodes:
            first = nodes[0]
            room = NODE_ITEMS - _count(first)
            joined = _joined(_row_or_list(items[:room][::-1]), first) if room else None
            if joined is not None:
                nodes[0] = joined
                taken = min(room, len(items))
                self._length += taken
                if self._begins is not None:
                    self._begins[0] -= taken
                items = items[room:]
        if items:
            self._prepend(_nodes_of(items[::-1]))
            self._length += len(items)

    def _prepend(self, nodes: list[Node]) -> None:
        if self._begins is not None:
            at = self._begins[0] if self._begins else 0
            places: list[int] = []
            for node in reversed(nodes):
                at -= _count(node)
                places.append(at)
            self._begins[:0] = places[::-1]
        self._nodes[:0] = nodes

    def cut(self, left: int, right: int) -> None:
        """Remove so many elements at each end."""
        if left + right >= self._length:
            self._nodes, self._begins, self._length = [], None, 0
            return
        if left:
            self._cut_left(left)
        if right:
            self._cut_right(right)

    def _cut_left(self, count: int) -> None:
        nodes, begins = self._nodes, self._begins
        self._length -= count
        whole = 0
        while count and (here := _count(nodes[whole])) <= count:
            count -= here
            whole += 1
        if whole:
            del nodes[:whole]
            if begins is not None:
                del begins[:whole]
        if count:
            node = nodes[0]
            if type(node) is list:
                nodes[0] = node[count:]
            else:
                lengths, text = node
                nodes[0] = lengths[count:], text[sum(lengths[:count]) :]
            if begins is not None:
                begins[0] += count

    def _cut_right(self, count: int) -> None:
        nodes, begins = self._nodes, self._begins
        self._length -= count
        whole = 0
        while count and (here := _count(nodes[-1 - whole])) <= count:
            count -= here
            whole += 1
        if whole:
            del nodes[-whole:]
            if begins is not None:
                del begins[-whole:]
        if count:
            node = nodes[-1]
            if type(node) is list:
                nodes[-1] = node[:-count]
            else:
                lengths, text = node
                nodes[-1] = lengths[:-count], text[: len(text) - sum(lengths[-count:])]

    def set(self, index: int, element: bytes) -> None:
        """Put another element in the place of one."""
        number, offset = self._find(index)
        items = [*_items(self._nodes[number])]
        items[offset] = element
        self._replace(number, items)

    def insert(self, index: int, element: bytes) -> None:
        """Put an element before the one at this index."""
        number, offset = self._find(index)
        items = [*_items(self._nodes[number])]
        items.insert(offset, element)
        self._replace(number, items)

    def often(self, element: bytes, most: int) -> int:
        total = 0
        for _, often in self._holding(element):
            total += often
            if total >= most:
                return most
        return total

    def _holding(self, element: bytes, *, backwards: bool = False) -> Iterator[tuple[int, int]]:
        """(number of a node, how often it has an element), of those that have it, beginning at the left, or at the
        right."""
        nodes = self._nodes
        for number in range(len(nodes) - 1, -1, -1) if backwards else range(len(nodes)):
            node = nodes[number]
            if type(node) is list or may_hold(node, element):  # type: ignore[arg-type]
                often = _items(node).count(element)
                if often:
                    yield number, often

    def remove(self, element: bytes, most: int, *, backwards: bool = False) -> None:
        """Remove so many of the elements that are equal to one, the first or the last. Raises ValueError, before
        anything is changed, if there are fewer."""
        left = most
        doomed: list[tuple[int, int, int]] = []
        for number, often in self._holding(element, backwards=backwards):
            doomed.append((number, often, min(often, left)))
            left -= doomed[-1][2]
            if not left:
                break
        if left:
            raise ValueError(f"{most} elements are to be removed, and {most - left} are there")
        for number, often, count in doomed if backwards else doomed[::-1]:
            items = list(_items(self._nodes[number]))
            if count == often:
                items = [item for item in items if item != element]
            elif backwards:
                items.reverse()
                for _ in range(count):
                    items.remove(element)
                items.reverse()
            else:
                for _ in range(count):
                    items.remove(element)
            self._replace(number, items)

    def _replace(self, number: int, items: list[bytes]) -> None:
        """Another content for a node. Where there is more or less of it than before, places are counted anew; small
        neighbours become one, so that no list is all of small nodes."""
        nodes = self._nodes
        before = _count(nodes[number])
        half = len(items) // 2
        made = _nodes_of(items) if len(items) <= NODE_ITEMS else _nodes_of(items[:half]) + _nodes_of(items[half:])
        nodes[number : number + 1] = made
        if len(items) != before or len(made) != 1:
            self._begins = None
            self._length += len(items) - before
            if len(items) < before and number + 1 < len(nodes):
                self._join(number)
            if len(items) < before and 0 < number < len(nodes):
                self._join(number - 1)

    def _join(self, number: int) -> None:
        nodes = self._nodes
        if _count(nodes[number]) + _count(nodes[number + 1]) <= NODE_ITEMS // 2:
            joined = _joined(nodes[number], nodes[number + 1])
            if joined is not None:
                nodes[number : number + 2] = [joined]


def _row_or_list(items: Sequence[bytes]) -> Node:
    """As one node, however large."""
    if len(items) == 1 and len(items[0]) <= SHORT_MAX:
        return LENGTHS[len(items[0])], items[0]
    return row_of(items) if max(map(len, items)) <= SHORT_MAX else list(items)


# -- patches


def putting(items: Sequence[bytes]) -> Patch:
    """The patch that puts a list of these elements, whatever was there: its rows, as they are going to stand in it, and
    what stands in none behind an empty string each."""
    nodes = _nodes_of(items)
    rows = [node if type(node) is tuple else [part for item in node for part in (b"", item)] for node in nodes]
    return ("lput", *chain.from_iterable(rows))


@patch("lput", each=(bytes, bytes))
def _lput(_value: Any, arguments: Sequence[bytes]) -> List:
    nodes: list[Node] = []
    for lengths, text in zip(arguments[::2], arguments[1::2], strict=True):
        if not lengths:
            last = nodes[-1] if nodes else ()
            if type(last) is list and len(last) < NODE_ITEMS:
                last.append(text)
            else:
                nodes.append([text])
        elif len(lengths) > NODE_ITEMS or len(text) > ROW_BYTES or sum(lengths) != len(text):
            raise ValueError("not a row")
        else:
            nodes.append((lengths, text))
    return LargeList(nodes).smallest()


def _list(value: Any) -> LargeList:
    """As one that can be changed. Raises ValueError if it is none."""
    if type(value) is SmallList:
        return LargeList([value.row])
    if type(value) is not LargeList:
        raise ValueError("not a list")
    return value


@patch("rpush", each=(bytes,))
def _rpush(value: Any, elements: Sequence[bytes]) -> List:
    found = LargeList() if value is None else _list(value)
    found.push_right(elements)
    return found.smallest()


@patch("lpush", each=(bytes,))
def _lpush(value: Any, elements: Sequence[bytes]) -> List:
    found = LargeList() if value is None else _list(value)
    found.push_left(elements)
    return found.smallest()


@patch("lcut", int, int)
def _lcut(value: Any, arguments: Sequence[int]) -> List:
    """Without so many elements at the left and at the right: of LPOP, RPOP, LTRIM."""
    found = _list(value)
    left, right = arguments
    if min(left, right) < 0 or left + right > len(found):
        raise ValueError(f"cannot cut {left} and {right} of {len(found)} elements")
    found.cut(left, right)
    return found.smallest()


@patch("lturn", int)
def _lturn(value: Any, arguments: Sequence[int]) -> List:
    """The last element becomes the first one (1), or the first one the last (-1)."""
    found = _list(value)
    if arguments[0] not in (1, -1):
        raise ValueError("a list is turned by one element")
    element = found.at(len(found) - 1 if arguments[0] > 0 else 0)
    if arguments[0] > 0:
        found.cut(0, 1)
        found.push_left((element,))
    else:
        found.cut(1, 0)
        found.push_right((element,))
    return found.smallest()


@patch("lset", int, bytes)
def _lset(value: Any, arguments: Sequence[Any]) -> List:
    found = _list(value)
    _check(found, arguments[0])
    found.set(*arguments)
    return found.smallest()


@patch("linsert", int, bytes)
def _linsert(value: Any, arguments: Sequence[Any]) -> List:
    """An element before the one at an index."""
    found = _list(value)
    _check(found, arguments[0])
    found.insert(*arguments)
    return found.smallest()


@patch("lrem", int, bytes)
def _lrem(value: Any, arguments: Sequence[Any]) -> List:
    """Without so many, the first or (negative) the last, of these elements, which must be there."""
    count, element = arguments
    found = _list(value)
    found.remove(element, abs(count), backwards=count < 0)
    return found.smallest()


def _check(found: List, index: int) -> None:
    if not 0 <= index < len(found):
        raise ValueError(f"no index {index} in a list of {len(found)}")
