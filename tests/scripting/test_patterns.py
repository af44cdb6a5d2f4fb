"""The matcher in Lua beside C's, which does the same faster and without an end."""

from __future__ import annotations

import pkgutil
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

lua51 = pytest.importorskip("lupa.lua51")

SOURCE = pkgutil.get_data("peerkv.scripting", "patterns.lua")
assert SOURCE is not None
COMPARE = b"""
local install, host_find = ...
local ours = {}
install(ours, function() end, function(text) error(text, 0) end, function() error("no string", 0) end, host_find)
local function bare(text)
  return (text:gsub('%[string "[^"]*"%]:%d+: ', ""))
end
local function seen(...)
  local found = { ... }
  for at = 1, select("#", ...) do
    found[at] = type(found[at]) .. ":" .. tostring(found[at])
  end
  return bare(table.concat(found, "|"))
end
local function all(library, name, ...)
  if name ~= "gmatch" then
    return seen(pcall(library[name], ...))
  end
  local pieces = {}
  local text, pattern = ...
  local ok, wrong = pcall(function()
    for a, b, c in library.gmatch(text, pattern) do
      pieces[#pieces + 1] = seen(a, b, c)
    end
  end)
  return table.concat(pieces, ";") .. tostring(ok) .. bare(tostring(wrong))
end
return function(name, ...)
  return all(ours, name, ...), all(string, name, ...)
end
"""


def _compare() -> Any:
    runtime = lua51.LuaRuntime(encoding=None, source_encoding="latin-1", unpack_returned_tuples=True)
    assert SOURCE is not None
    always = SOURCE.replace(b"local COST_MAX = 200000", b"local COST_MAX = -1")
    assert always != SOURCE
    return runtime.compile(COMPARE)(runtime.compile(always)(), lambda text, part, begin: text.find(part, begin))


BOTH = _compare()
ITEM = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "%a",
        "%d",
        "%s",
        "%w",
        "%A",
        "[ab]",
        "[^a]",
        "[a-c]",
        "[%d_]",
        "[]]",
        "[^]a]",
        "[a-]",
        "%.",
        "%%",
        "x",
    ]
)
SUFFIX = st.sampled_from(["", "", "", "*", "+", "-", "?"])
PIECE = st.one_of(
    st.builds(lambda item, suffix: item + suffix, ITEM, SUFFIX),
    st.sampled_from(
        ["(", ")", "()", "%1", "%2", "%bab", "%f[a]", "%f[%w]", "$", "^", "%", "[", "[a", "[^", "%b", "%ba", "]"]
    ),
    st.builds(lambda item, suffix: f"({item}{suffix})", ITEM, SUFFIX),
)
PATTERN = st.builds(
    lambda start, pieces: start + "".join(pieces), st.sampled_from(["", "^"]), st.lists(PIECE, max_size=5)
)
TEXT = st.text(alphabet="aabbcx1 .-]\0\xff", max_size=10)


def both(name: str, *arguments: Any) -> None:
    encoded = [part.encode("latin-1") if isinstance(part, str) else part for part in arguments]
    ours, theirs = BOTH(name.encode(), *encoded)
    assert ours == theirs, (name, arguments)


@settings(max_examples=600, deadline=None)
@given(TEXT, PATTERN, st.sampled_from([1, 2, 5, -1, -3, 0, 100, -100]))
@example("aab", "(a*)(a-)b", 1)
@example("abc", "a(b)c%1", 1)
@example("((a)b)", "%b()", 1)
def test_finding_and_matching(text: str, pattern: str, init: int) -> None:
    both("find", text, pattern, init)
    both("match", text, pattern, init)


@settings(max_examples=400, deadline=None)
@given(TEXT, PATTERN)
def test_all_matches(text: str, pattern: str) -> None:
    both("gmatch", text, pattern)


@settings(max_examples=400, deadline=None)
@given(TEXT, PATTERN, st.sampled_from(["", "x", "<%0>", "%1", "%2", "%%", "a%9"]), st.sampled_from([None, 0, 1, 2]))
def test_replacing(text: str, pattern: str, by: str, most: int | None) -> None:
    if most is None:
        both("gsub", text, pattern, by)
    else:
        both("gsub", text, pattern, by, most)
