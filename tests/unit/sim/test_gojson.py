"""Go's JSON, times and durations."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.sim import gojson

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_html_characters_and_line_separators_are_escaped() -> None:
    """The five characters json.Marshal escapes are escaped, other text stays raw UTF-8."""
    assert gojson.dump("<a&b>\u2028\u2029é😀") == '"\\u003ca\\u0026b\\u003e\\u2028\\u2029é😀"'.encode()


@given(JSON)
def test_dump_reads_back_and_never_holds_a_raw_separator(value: object) -> None:
    """Whatever is dumped reads back equal, in one line."""
    data = gojson.dump(value)
    assert json.loads(data) == value
    assert not any(raw in data.decode() for raw in "<>&\u2028\u2029\n")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_000_000_000 + 120_000_000, "1970-01-01T00:00:01.12Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
    ],
)
def test_timestamps_drop_trailing_zeros(nanoseconds: int, text: str) -> None:
    """The fraction is as long as it must be and absent when zero."""
    assert gojson.timestamp(nanoseconds) == text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (300, 300.0), (0.5, 0.5), ("5m", 300.0), ("1h30m", 5400.0), ("0", 0.0), ("0s", 0.0)],
)
def test_keep_alive_forms(value: object, seconds: float | None) -> None:
    """A number is seconds, a string is a Go duration, absent is absent."""
    assert gojson.seconds_of(value) == seconds


@pytest.mark.parametrize("value", [-1, "-1s", "-5m"])
def test_a_negative_keep_alive_is_for_ever(value: object) -> None:
    """Every negative value means the longest duration Go knows."""
    assert gojson.seconds_of(value) == gojson.FOREVER_S


@pytest.mark.parametrize("value", ["300", "", "five", "5 m", "1.2.3s"])
def test_a_string_that_is_no_duration_is_refused(value: str) -> None:
    """A bare number in a string is no duration."""
    with pytest.raises(ValueError, match=r"duration|float"):
        gojson.seconds_of(value)
