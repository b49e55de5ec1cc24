from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct
from msgspec.structs import fields

from gpushare.core import forms
from gpushare.core.leaves import as_toml, convert, fix, mismatch, shown, to_toml, written


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Sample(Struct, kw_only=True):
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    flag: bool = True
    part: Annotated[float, Meta(gt=0, le=1)] = 0.5
    text: Annotated[str, Meta(max_length=3)] = ""
    word: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    wait: Annotated[float, Meta(extra={"form": forms.TIME})] = 30.0
    nets: tuple[Annotated[str, Meta(extra={"form": forms.NETWORK})], ...] = ("10.0.0.0/8",)
    marked_word: Annotated[Literal["a", "b"], Meta(extra={"restart": True})] = "a"
    marked_counts: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(extra={"restart": True})] = ()


FIELDS = {field.name: field for field in fields(Sample)}


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("count", "2", 'expected a whole number from 1 to 9, got "2"'),
        ("count", 0, "expected a whole number from 1 to 9, got the number 0"),
        ("count", True, "expected a whole number from 1 to 9, got true"),
        ("flag", 1, "expected true or false, got the number 1"),
        ("part", 0, "expected a number above 0 to 1, got the number 0"),
        ("part", float("nan"), "expected a number above 0 to 1, got the number nan"),
        ("text", "long", 'expected text of at most 3 characters, got "long"'),
        ("word", "c", 'expected "a" or "b", got "c"'),
        ("colour", "green", 'expected "red" or "blue", got "green"'),
        ("wait", 30, 'expected a time such as "30s", got the number 30'),
        (
            "nets",
            "10.0.0.0/8",
            'expected a list, each item of it a network such as "10.0.0.0/8", got "10.0.0.0/8"',
        ),
        ("nets", ["10.0.0.1/8"], 'expected a network such as "10.0.0.0/8", got "10.0.0.1/8"'),
        ("marked_word", "c", 'expected "a" or "b", got "c"'),
        ("marked_counts", [1, -2], "expected a whole number from 0, got the number -2"),
        ("text", date(2026, 1, 1), "expected text of at most 3 characters, got a date or time"),
    ],
)
def test_a_wrong_value_is_refused_and_named(name: str, raw: object, said: str) -> None:
    """Nothing is coerced, and the sentence says what was expected and what was found."""
    kind = FIELDS[name].type
    with pytest.raises(ValueError, match=r"\S"):
        convert(raw, kind)
    assert mismatch(raw, kind) == said


@pytest.mark.parametrize(
    ("name", "raw", "line"),
    [
        ("count", "2", "count = 2"),
        ("count", "two", "count = 1"),
        ("wait", 240, 'wait = "240s"'),
        ("nets", "127.0.0.0/8", 'nets = ["127.0.0.0/8"]'),
        ("flag", "false", "flag = false"),
        ("flag", "yes", "flag = true"),
        ("text", 12, 'text = "12"'),
    ],
)
def test_the_remedy_is_a_line_that_works(name: str, raw: object, line: str) -> None:
    """A value that only lacks quotes, brackets or a unit is repaired; any other becomes the default."""
    assert fix(raw, FIELDS[name]) == f"fix: {line}"
    (value,) = as_toml(line.partition(" = ")[2])
    convert(value, FIELDS[name].type)


def test_a_value_is_written_as_it_is_read() -> None:
    """Writing is the opposite of reading."""
    assert to_toml(written(90.0, FIELDS["wait"].type)) == '"90s"'
    assert to_toml(written(("10.0.0.0/8",), FIELDS["nets"].type)) == '["10.0.0.0/8"]'


def test_text_is_taken_as_toml_only_when_it_is_one_value() -> None:
    """Text that would smuggle in a second setting, or is no value, is not TOML."""
    assert as_toml("2") == [2]
    assert as_toml("two") == []
    assert as_toml("2\nother = 3") == []
    assert as_toml("[" * 5000) == []


def test_a_long_value_is_cut() -> None:
    """A message does not repeat a page of text."""
    assert len(shown("x" * 1000)) < 100
    assert len(shown(10**1000)) < 100
