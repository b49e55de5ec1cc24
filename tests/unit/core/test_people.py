import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushare.core.people import look_alike, name_problem


@pytest.mark.parametrize(
    "name",
    [
        "erin",
        "Erin O",
        "a.b-c_d@example.org",
        "José",
        "Łukasz",
        "Ирина",
        "Ελένη",
        "田中",
        "たなか太郎",
        "7up",
        "x" * 64,
    ],
)
def test_ordinary_names_are_fine(name: str) -> None:
    """Names in any one script, and those that look like accounts, are taken."""
    assert name_problem(name) == ""


@pytest.mark.item(76)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 65,
        "<img src=x onerror=alert(1)>",
        '"><script>',
        "{{7*7}}",
        "a\u202eb",
        "a\u200bb",
        "a\u0301\u0301\u0301",
        "e\u0301rin",
        "\x1b[2J",
        "a\nb",
        "a\x00b",
        "=HYPERLINK(1)",
        "+cmd",
        "@SUM",
        "-rf",
        " a",
        "a ",
        "$(reboot)",
        "a;b",
        "\uff45rin",
        "\U0001d41ferin",
        "\uff45\uff52\uff49\uff4e",
        "p\u0430ypal",
        "gs_7f3a2c_0123456789",
        "\ud800",
        "😀",
        "ʰello",
    ],
)
def test_names_that_could_act_or_deceive_are_refused(name: str) -> None:
    """Markup, formulas, escapes, hidden characters, mixed scripts and keys are no names."""
    assert name_problem(name)


@settings(deadline=None)
@given(st.text(max_size=70))
def test_a_name_that_is_taken_is_inert(name: str) -> None:
    """Whatever is accepted has no control, mark, direction sign or markup in it."""
    if not name_problem(name):
        assert name.isprintable()
        assert not set(name) & set("<>&\"'`$(){}[];|\\/=+,%*?!#:~^\n")
        assert not any(unicodedata.combining(char) for char in name)


@pytest.mark.item(78)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("erin", "Erin"),
        ("bill", "biIl"),
        ("bob", "b0b"),
        ("anna1", "annal"),
        ("coco", "\u0441\u043e\u0441\u043e"),
        ("Ian", "ian"),
        ("STRASSE", "straße"),
    ],
)
def test_names_that_read_the_same_are_the_same(one: str, other: str) -> None:
    """Case and letters of the same shape do not make another person."""
    assert look_alike(one, other)
    assert look_alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("erin", "eric"), ("erin", "erin-2"), ("gil", "gel"), ("rené", "rene")]
)
def test_names_that_differ_are_different(one: str, other: str) -> None:
    """One visible difference is enough."""
    assert not look_alike(one, other)
