"""cjson, cmsgpack, struct and bit beside those of a real redis-server."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands.keyspace import Theirs
from tests.commands.scripts import Scripted, in_resp, raw


def words(text: str) -> list[str]:
    return text.split()


NUMBERS = words(
    "0 1 -1 127 128 -32 -33 -128 -129 255 256 32767 32768 -32768 -32769 65535 65536 2147483647 2147483648 "
    "-2147483648 -2147483649 4294967295 4294967296 9007199254740992 -9007199254740993 1e18 "
    "9.2233720368547758e18 1.8446744073709552e19 -9.2233720368547758e18 1e19 -1e19 0.5 1/3 -0.1 1e300 "
    "-1e-300 1e-5 123456.789 1e15 1e14 123456789012345678 3.4e38 1e39 16777217.5"
)
NO_NUMBERS = ["0/0", "1/0", "-1/0"]
ODD_NUMBERS = words(
    "2.5 1.5 -0.5 4503599627370497.5 '12' '0x10' ' 5 ' '1_0' 'x' nil true {} 2^53+2 2^51 2^52 -2^51 2^31+0.5"
)
JSON_NUMBERS = words(
    "0 1 -1 1.5 1e5 1E+5 0x1F 01 -0 1. nan inf -inf Infinity - +1 1e 12345678901234567890 0.1 1e400 .5 "
    "-.5 0x 0x1p3 0x1.8 1e+ --1 NaN nanx infi 1_0 0b1"
)
JSON_TEXTS = ["a", "é", "\\n", "\\u0041", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\udc00", "\\/", "\\\\", '\\"']
JSON_TEXTS += ["\t", "\x01", "\\x", "\\u12g4", "\\u0000", "\\b\\f\\r\\t"]
SHOWN = (
    "local function f(v) if type(v) == 'number' then return string.format('%.17g', v) elseif type(v) == 'table' then"
    " local t = {} for k, w in pairs(v) do t[#t + 1] = f(k) .. '=' .. f(w) end table.sort(t)"
    " return '{' .. table.concat(t, ',') .. '}' else return type(v) .. ':' .. tostring(v) end end "
)
SEVERAL = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHANCE = st.randoms(use_true_random=False)


def literal(content: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in content) + '"'


def text(rng: Random) -> str:
    length = rng.choice([0, 1, 3, 15, 16, 31, 32, 33, 255, 256, 300]) if rng.random() < 0.2 else rng.randrange(6)
    return literal(bytes(rng.choice([rng.randrange(256), rng.randrange(32, 127)]) for _ in range(length)))


def value(rng: Random, odd: float, depth: int = 0) -> str:
    """An expression of Lua. `odd`: how often it is no number that is finite."""
    kind = rng.random()
    if kind < odd:
        return rng.choice(NO_NUMBERS)
    if kind < 0.25:
        return rng.choice(NUMBERS) if rng.random() < 0.7 else str(rng.randint(-(2**50), 2**50) >> rng.randrange(50))
    if kind < 0.5:
        return text(rng)
    if kind < 0.6:
        return rng.choice(["true", "false", "nil", "cjson.null"])
    if depth > 4:
        return "{}"
    if kind < 0.8:
        count = rng.choice([0, 1, 2, 3, 15, 16, 17]) if rng.random() < 0.2 else rng.randrange(4)
        return "{" + ",".join(value(rng, odd, depth + 1) for _ in range(count)) + "}"
    if kind < 0.95:
        keys = [rng.choice([f'"k{rng.randrange(5)}"'] * 4 + ["1", "2", "3", "11", "30", "1.5", "-1"]) for _ in range(3)]
        return "{" + ",".join(f"[{key}]={value(rng, odd, depth + 1)}" for key in keys[: rng.randrange(4)]) + "}"
    return rng.choice(["{{{}}}", "{nil,1}", "{1,nil,3}", "{[4]=1}"])


def json(rng: Random, depth: int = 0) -> str:
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(JSON_NUMBERS)
    if kind < 0.6:
        return '"' + "".join(rng.choice(JSON_TEXTS) for _ in range(rng.randrange(4))) + '"'
    if kind < 0.7:
        return rng.choice(["true", "false", "null", "tru", "nul", "True"])
    if depth > 4:
        return "[]"
    blank = rng.choice(["", "", " ", "\n"])
    if kind < 0.85:
        return "[" + blank + f",{blank}".join(json(rng, depth + 1) for _ in range(rng.randrange(4))) + blank + "]"
    pairs = [f'"k{rng.randrange(3)}"{blank}:{blank}{json(rng, depth + 1)}' for _ in range(rng.randrange(3))]
    return "{" + ",".join(pairs) + "}"


def form(rng: Random) -> str:
    options = words("b B h H l L T i I i3 I5 i8 i1 f d s c3 c0 x < > ! !4 !8 = c1 i33 q i16 !3")
    options.append(" ")
    return literal("".join(rng.choice(options) for _ in range(rng.randint(1, 5))).encode())


class Both:
    def __init__(self, theirs: Theirs) -> None:
        self._ours = Scripted()
        self._theirs = theirs

    def ask(self, script: str, *argv: bytes) -> None:
        request = (b"EVAL", script.encode(), b"0", *argv)
        ours, theirs = in_resp(self._ours.run(*request)), raw(self._theirs, *request)
        assert ours == theirs, (script, argv)


@pytest.fixture
def both(theirs: Theirs) -> Both:
    return Both(theirs)


@SEVERAL
@given(CHANCE)
def test_what_is_encoded_as_json(both: Both, rng: Random) -> None:
    both.ask(f"return cjson.encode({value(rng, 0.02)})")


@SEVERAL
@given(CHANCE)
def test_what_is_decoded_as_json(both: Both, rng: Random) -> None:
    said = json(rng)
    if rng.random() < 0.25:
        at = rng.randrange(len(said) + 1)
        said = said[:at] + rng.choice([",", "]", "}", ":", "x", '"', "\0", "[", "{"]) + said[at + rng.randrange(2) :]
    strict = rng.choice(["", "", "cjson.decode_invalid_numbers(false) "])
    both.ask(
        f"{SHOWN}{strict} local ok, v = pcall(cjson.decode, ARGV[1]) cjson.decode_invalid_numbers(true)"
        " return {tostring(ok), f(v)}",
        said.encode(),
    )


@SEVERAL
@given(CHANCE)
def test_what_is_packed(both: Both, rng: Random) -> None:
    values = ",".join(value(rng, 0.03) for _ in range(rng.randint(1, 3)))
    both.ask(f"return cmsgpack.pack({values})")
    finite = ",".join(value(rng, 0) for _ in range(rng.randint(1, 3)))
    both.ask(
        f"{SHOWN} local t = {{cmsgpack.unpack(cmsgpack.pack({finite}))}} for i = 1, #t do t[i] = f(t[i]) end return t"
    )


@SEVERAL
@given(CHANCE)
def test_what_is_unpacked(both: Both, rng: Random) -> None:
    some = [0xC0, 0x91, 0x81, 0xA1, 0x01, 0xCF, 0xD3, 0xCA, 0xCB, 0xDC, 0xDE, 0xD9, 0, 0xC4]
    packed = bytes(rng.choice([rng.randrange(256), *some]) for _ in range(rng.randrange(14)))
    how = rng.choice(
        words("unpack(ARGV[1]) unpack_one(ARGV[1]) unpack_limit(ARGV[1],2) unpack_one(ARGV[1],2) unpack_one()")
        + words("unpack_limit(ARGV[1],1,1) unpack_one(ARGV[1],-1) unpack_limit(ARGV[1],-1)")
    )
    both.ask(f"{SHOWN} local r = {{cmsgpack.{how}}} for i = 1, 12 do r[i] = f(r[i]) end return r", packed)


@SEVERAL
@given(CHANCE)
def test_structures(both: Both, rng: Random) -> None:
    said = form(rng)
    values = "".join(f",{rng.choice([*NUMBERS, text(rng)])}" for _ in range(rng.randrange(5)))
    both.ask(f"return {{pcall(struct.pack, {said}{values})}}")
    both.ask(f"return {{pcall(struct.size, {said})}}")
    packed = bytes(rng.choice([0, 1, 2, 255, rng.randrange(256)]) for _ in range(rng.randrange(30)))
    begin = rng.choice(["", "", ", 1", ", 3", ", 0", ", 100"])
    both.ask(
        f"{SHOWN}local r = {{pcall(struct.unpack, {said}, ARGV[1]{begin})}} for i = 1, 9 do r[i]=f(r[i]) end return r",
        packed,
    )


@SEVERAL
@given(CHANCE)
def test_bits(both: Both, rng: Random) -> None:
    name = rng.choice(words("tobit bnot band bor bxor lshift rshift arshift rol ror bswap tohex"))
    values = "".join(f",{rng.choice([*NUMBERS, *NO_NUMBERS, *ODD_NUMBERS])}" for _ in range(rng.randrange(4)))
    both.ask(f"return {{pcall(bit.{name}{values})}}")


OPTIONS = [
    "return {tostring((cjson.encode_sparse_array())), select(2, cjson.encode_sparse_array())}",
    "local c = cjson.new() c.encode_max_depth(2) return {c.encode({{1}}), tostring(pcall(c.encode, {{{1}}}))}",
    "local c = cjson.new() c.encode_sparse_array(true) return c.encode({[1] = 1, [50] = 2})",
    "local c = cjson.new() c.encode_sparse_array(false, 0) return c.encode({[1] = 1, [15] = 2})",
    "local c = cjson.new() c.encode_sparse_array(true, 2, 3) return {c.encode({[5] = 1}), c.encode({[3] = 1})}",
    "local c = cjson.new() c.encode_number_precision(3) return c.encode({1 / 3, 12345})",
    "local c = cjson.new() c.encode_invalid_numbers(true) return c.encode({1 / 0, -1 / 0})",
    "local c = cjson.new() c.encode_invalid_numbers('null') return c.encode({1 / 0, 0 / 0})",
    "local c = cjson.new() c.decode_max_depth(2) return {#c.decode('[[1]]')[1], tostring(pcall(c.decode, '[[[1]]]'))}",
    "local c = cjson.new() return {c.encode_max_depth(5), c.encode_max_depth(), cjson.encode_max_depth()}",
    "return {pcall(cjson.encode_max_depth, 0), pcall(cjson.encode_max_depth, 1, 2)}",
    'return cjson.encode(cjson.decode(\'{"a":[1,{"b":null}],"c":"\\\\u00e9"}\').a)',
    "return cjson.encode(setmetatable({1}, {__index = function() return 2 end}))",
    "return tostring(cjson.decode('{\"a\":null}').a == cjson.null)",
    "return {#cmsgpack.pack(('x'):rep(70000)), #cmsgpack.pack(cjson.decode('[' .. ('1,'):rep(3000) .. '1]'))}",
    "local t = {} for i = 1, 20 do t = {t} end return cmsgpack.pack(t)",
    "return {pcall(cmsgpack.pack)}",
    "return {pcall(cmsgpack.unpack)}",
]


@pytest.mark.parametrize("script", OPTIONS)
def test_options(both: Both, script: str) -> None:
    both.ask(script)
