"""Opening one JSON object so that every reader would open it alike."""

import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpushare.core.errors import BadJson, GpushareError, InvalidRequest
from gpushare.core.json_object import (
    BETWEEN_MAX,
    CONTAINERS_MAX,
    DEPTH_MAX,
    HALF_PAIRS_MAX,
    NAMES_MAX,
    TEXTS_MAX,
    members,
    read_object,
)
from tests.turns import at_once

KNOWN = frozenset({"model", "stream", "keep_alive", "options"})
MEGABYTE = 1 << 20


def go_reads(body: bytes) -> dict[str, object]:
    """Returns what Go's ``encoding/json`` puts into fields named as in ``KNOWN``.

    Names match without regard to case, the last one wins, and reading stops after the first value.
    """
    text = body.decode("utf-8", errors="replace").lstrip(" \t\r\n")
    pairs, _ = json.JSONDecoder(object_pairs_hook=list).raw_decode(text)
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name.casefold() in KNOWN:
            fields[name.casefold()] = value
    return fields


def gate_reads(body: bytes) -> dict[str, object]:
    """Returns what the gate takes the same fields to be."""
    found = at_once(read_object(body, known=KNOWN))
    pairs = json.JSONDecoder(object_pairs_hook=list)
    return {name: pairs.decode(bytes(found[name]).decode()) for name in KNOWN if name in found}


names = st.sampled_from(
    [
        "model",
        "MODEL",
        "Model",
        "stream",
        "\u017ftream",
        "\u212aeep_alive",
        "keep_alive",
        "options",
        "x",
        "X",
        "",
    ]
) | st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Draws the text of an object in which names may repeat, be escaped and be spaced out."""
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    ascii_only = draw(st.booleans())
    pairs = draw(st.lists(st.tuples(names, values), max_size=5))
    shown = (
        f"{space}{json.dumps(name, ensure_ascii=ascii_only)}{space}:{space}"
        f"{json.dumps(value, ensure_ascii=ascii_only)}{space}"
        for name, value in pairs
    )
    return (space + "{" + ",".join(shown) + "}" + space).encode()


@given(objects())
def test_what_is_accepted_reads_alike_everywhere(body: bytes) -> None:
    """A reader that folds case and lets the last name win reads the same fields as the gate."""
    try:
        mine = gate_reads(body)
    except GpushareError:
        return
    assert mine == go_reads(body)


@given(st.binary(max_size=80) | st.text(alphabet='{}[]":,\\u0d8aetrfn \u00e4', max_size=40).map(str.encode))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":"\\ud800"}')
@example(b'{"\\ud800":1}')
@example(b'{"\xff":1}')
@example(b'"' + b"\\" * 70000)
def test_any_bytes_give_an_object_or_a_refusal(body: bytes) -> None:
    """No bytes raise anything but a 400 of ours, and what passes is JSON for the standard reader too."""
    try:
        found = at_once(read_object(body, known=KNOWN))
    except InvalidRequest:
        return
    assert list(found) == [whole(name) for name in json.loads(body)]


def whole(text: str) -> str:
    """Returns what Ollama makes of a text: U+FFFD in the place of each half of a surrogate pair."""
    return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)


escapes = st.sampled_from(
    [
        r"\ud83d",
        r"\uDE00",
        r"\ud83d\ude00",
        r"\udbff",
        r"\udfff",
        r"\ud7ff",
        r"\ue000",
        r"\u0041",
        r"\\",
        r"\n",
        "x",
    ]
)


@given(st.lists(escapes, max_size=12).map("".join))
@example(r"\ud83d")
@example(r"\\ud83d\ud83d\ude00\ude00")
@example(r"\\\ud83dA")
@example(r"\ud83d\\ude00")
@example(r"\\ud83d\ude00")
@example(r"\\\ud83d\ude00")
@example("\\\\" * 40 + r"\ud83d\ude00\ude00")
@example("\\\\" * 40 + r"ud83d\ude00")
def test_half_a_surrogate_pair_is_read_as_ollama_reads_it(escaped: str) -> None:
    """Tools that cut a text cut emoji in two; their call counts, and nothing else is changed."""
    body = f'{{"{escaped}":1,"a":["{escaped}"]}}'.encode()
    found = at_once(read_object(body, known=KNOWN))
    assert list(found) == [whole(json.loads(f'"{escaped}"')), "a"]
    assert json.loads(bytes(found["a"])) == [whole(json.loads(f'"{escaped}"'))]


def test_half_pairs_are_found_wherever_a_turn_ends() -> None:
    """A long body is searched in steps; what lies across two of them is neither missed nor torn."""
    for shift in range(20):
        fill = b"x" * (MEGABYTE - 50 + shift)
        body = b'{"a":"%b%b"}' % (fill, rb"\ud83d\ude00\ude00" * 4)
        found = at_once(read_object(body, known=KNOWN))
        assert bytes(found["a"]) == b'"%b%b"' % (fill, rb"\ud83d\ude00\ufffd" * 4), shift


def test_many_half_pairs_are_put_right_in_turns() -> None:
    """Each takes a step, so others come in between, and there is an end."""
    body = b'{"a":"%b"}' % (rb"\ud800" * HALF_PAIRS_MAX)
    assert sum(1 for _ in read_object(body, known=KNOWN)) > HALF_PAIRS_MAX / 5_000
    with pytest.raises(InvalidRequest, match="too many halves of surrogate pairs"):
        at_once(read_object(body.replace(b'{"', rb'{"\ud800'), known=KNOWN))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"a"}',
        b'{"model":"a","MODEL":"b"}',
        b'{"Model":"a"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\xe2\x84\xaaeep_alive":0}',
        '{"\u017ftream":true}'.encode(),
        b'{"x":1,"x":1}',
        b'{"":1,"":2}',
    ],
)
def test_names_two_readers_would_read_differently_are_refused(body: bytes) -> None:
    """Repeated names, and known names in another spelling, are 400 even where the values agree."""
    with pytest.raises(InvalidRequest, match=r"twice|another case"):
        at_once(read_object(body, known=KNOWN))


def test_unknown_names_are_left_alone() -> None:
    """A field Ollama does not read may be spelt in any way, and its value stays as it came."""
    found = at_once(read_object(b'{"maxTokens": 1 ,"Foo":[1, 2],"foo":{"a":1,"a":2}}', known=KNOWN))
    assert {name: bytes(value) for name, value in found.items()} == {
        "maxTokens": b"1",
        "Foo": b"[1, 2]",
        "foo": b'{"a":1,"a":2}',
    }


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a":1,\n "b":tru}', "line 2, column 7"),
        ('{"\u00e4\u00f6":x}'.encode(), "line 1, column 7"),
        (b'{"a"', "line 1, column 5"),
        (b'{"model":"a"}{"model":"b"}', "line 1, column 15"),
    ],
)
def test_broken_json_is_placed(body: bytes, place: str) -> None:
    """The refusal names the line and column where reading stopped, counted in characters from 1."""
    with pytest.raises(BadJson, match=place):
        at_once(read_object(body, known=KNOWN))


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":1,}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"' + b"a" * MEGABYTE + b'\xff"}',
        b'{"a":"\x00"}',
        b"{'a':1}",
    ],
)
def test_what_is_not_one_json_object_is_refused(body: bytes) -> None:
    """Other values, loose dialects of JSON and text that is not UTF-8 are 400."""
    with pytest.raises(BadJson):
        at_once(read_object(body, known=KNOWN))


def test_utf8_is_judged_across_its_pieces() -> None:
    """A long text whose characters straddle the steps of the check passes; one cut short does not."""
    text = "\u20ac" * (MEGABYTE // 4)
    at_once(read_object(f'{{"a":"{text}"}}'.encode(), known=KNOWN))
    at_once(read_object(f'{{"ab":"{text}"}}'.encode(), known=KNOWN))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
        b'{"a":"' + b'\\"[' * 70_000 + b'","b":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
        b'{"a":[' + b"[]," * (CONTAINERS_MAX + 1) + b"0]}",
        b'{"a":[' + b"{}," * (10 * MEGABYTE) + b"0]}",
        b"{" + b",".join(b'"k%d":0' % n for n in range(NAMES_MAX + 1)) + b"}",
        b'{"a":[' + b"0," * (BETWEEN_MAX // 2) + b"0]}",
        b'{"a":' + b" " * BETWEEN_MAX + b"0}",
        b'{"a":[' + b'"",' * (3 * TEXTS_MAX) + b"0]}" + b" " * BETWEEN_MAX,
    ],
)
def test_bodies_no_honest_request_has_are_refused(body: bytes) -> None:
    """Deep nesting and masses of anything are 400, never an error of the interpreter or a long wait."""
    with pytest.raises(InvalidRequest):
        at_once(read_object(body, known=KNOWN))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}",
        b'{"a":[' + b",".join([b'{"role":"user"}'] * 20_000) + b"]}",
        b'{"a":"' + b"[{" * 200_000 + b'"}',
        b'{"a":"' + b'\\\\\\"[{' * 50_000 + b'"}',
        b'{"a":["' + b"\\\\" * 32_767 + b'",["' + b"[" * 100_000 + b'"]]}',
        b'{"a":[' + b"0," * 200_000 + b"0]}",
        b'{"a":"' + b" " * (2 * BETWEEN_MAX) + b'"}',
        b'{"a":['
        + b'{"role":"user","content":"x"},' * (CONTAINERS_MAX - 2)
        + b'"'
        + b"," * BETWEEN_MAX
        + b'"]}',
    ],
)
def test_honest_bodies_within_the_limits_pass(body: bytes) -> None:
    """Brackets inside texts do not count, long conversations and long lists of numbers pass."""
    assert list(at_once(read_object(body, known=KNOWN))) == ["a"]


@given(st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "x"]), max_size=8).map("".join), st.integers(0, 3))
def test_depth_is_counted_right_where_pieces_meet(tail: str, shift: int) -> None:
    """A text that ends in quotes and backslashes where two pieces meet hides and shows no bracket."""
    text = json.dumps("x" * (65_536 - 8 - shift) + tail)
    for depth, accepted in ((DEPTH_MAX - 1, True), (DEPTH_MAX, False)):
        body = f'{{"a":{text},"b":{"[" * depth}{"]" * depth}}}'.encode()
        assert _accepted(lambda body=body: at_once(read_object(body, known=KNOWN))) is accepted  # type: ignore[misc]


def _accepted(reading: Callable[[], object]) -> bool:
    try:
        reading()
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("text", ["x", "[{", "\u20ac"])
def test_a_long_body_is_examined_in_steps(text: str) -> None:
    """About one for each megabyte, so that the streams of others go on; a short body is done in one."""

    def steps(size: int) -> int:
        body = f'{{"a":"{text * (size // len(text.encode()))}"}}'.encode()
        return sum(1 for _ in read_object(body, known=KNOWN))

    assert steps(20 * MEGABYTE) in (20, 40)  # those that are not ASCII are gone through twice
    assert steps(MEGABYTE // 2) == 0


def test_an_inner_object_is_opened_by_the_same_rule() -> None:
    """Members of a value follow the same rule with their own list of known names."""
    options = at_once(read_object(b'{"options":{"num_ctx":1,"NUM_CTX":2}}', known=KNOWN))["options"]
    assert list(members(options, known=KNOWN)) == ["num_ctx", "NUM_CTX"]
    with pytest.raises(InvalidRequest, match="num_ctx"):
        members(options, known=frozenset({"num_ctx"}))
