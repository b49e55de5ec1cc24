from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import Struct, field

from gpushare.core.problems import ConfigErrors
from gpushare.core.schema import Reading, Wrong, read, settings


class Tank(Struct, frozen=True, kw_only=True):
    size: int = 1
    name: str = ""
    tags: tuple[str, ...] = ()


class Pump(Struct, frozen=True, kw_only=True):
    power: int = 0


class Fish(Struct, frozen=True, kw_only=True):
    id: str
    kind: str = field(name="class", default="carp")


class Pond(Struct, frozen=True, kw_only=True):
    tank: Tank = Tank()
    pump: Pump = Pump()
    fish: tuple[Fish, ...] = ()


def judge(pond: Pond) -> Iterator[Wrong]:
    """Two rules between settings."""
    if pond.tank.size < pond.pump.power:
        yield Wrong("pump.power", "is too much for the tank", ("size",))
    for index, fish in enumerate(pond.fish):
        if fish.id == "shark":
            yield Wrong(f"fish.{index}.id", "eats the others")


def reading(
    text: str, env: dict[str, str] | None = None, options: dict[str, str] | None = None
) -> Reading[Pond]:
    """Reads a pond from these three sources."""
    return read(text, Pond, source="pond.toml", judge=judge, env=env, options=options)


def problems(
    text: str, env: dict[str, str] | None = None, options: dict[str, str] | None = None
) -> list[str]:
    """Returns the first line of each problem."""
    with pytest.raises(ConfigErrors) as caught:
        reading(text, env, options)
    return [str(problem).split("\n")[0] for problem in caught.value.problems]


def test_an_empty_text_gives_the_defaults() -> None:
    """Nothing given is nothing changed."""
    assert reading("") == Reading(Pond(), {})


def test_values_lists_of_tables_and_renamed_fields_are_read() -> None:
    """Tables become structures, lists of tables tuples of them; a field may have another name in the file."""
    pond = reading('[tank]\nsize = 3\ntags = ["a"]\n[[fish]]\nid = "x"\nclass = "pike"\n').value
    assert pond == Pond(tank=Tank(size=3, tags=("a",)), fish=(Fish(id="x", kind="pike"),))


def test_every_problem_is_told_in_the_order_of_the_file() -> None:
    """Five mistakes in a file give five problems, each with its line and column."""
    text = "sise = 1\n[tank]\nsize = 'x'\n  nmae = 'y'\npower = 2\n[pond]\n[[fish]]\nclass = 3\n"
    assert problems(text) == [
        "pond.toml:1:1: sise: no such section",
        'pond.toml:3:1: tank.size: expected a whole number, got "x"',
        "pond.toml:4:3: tank.nmae: no such setting",
        "pond.toml:5:1: tank.power: no such setting",
        "pond.toml:6:2: pond: no such section",
        "pond.toml:7:3: fish.0: id is missing",
        "pond.toml:8:1: fish.0.class: expected text, got the number 3",
    ]


def test_a_setting_in_the_wrong_table_is_sent_home() -> None:
    """A known name in another table comes with the table it belongs to."""
    with pytest.raises(ConfigErrors, match=r"it belongs under \[pump\]"):
        reading("[tank]\npower = 2\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tank = 3", "pond.toml:1:1: tank: expected a table, got the number 3"),
        ("[[tank]]", "pond.toml:1:3: tank: expected a table, got a list"),
        ("fish = 'x'", 'pond.toml:1:1: fish: expected a list of tables, got "x"'),
        ("fish = [1]", "pond.toml:1:1: fish.0: expected a table, got the number 1"),
        ("[tank]\nsize = \n", "pond.toml:2:8: not TOML: Invalid value"),
        ("[tank", "pond.toml:1:6: not TOML: Expected ']' at the end of a table declaration"),
        ("x = " + "[" * 9000, "pond.toml: nested too deeply"),
        ("[tank]\nsize = 1\nsize = 2", "pond.toml:3:9: not TOML: Cannot overwrite a value"),
    ],
)
def test_a_text_of_the_wrong_shape_is_a_problem(text: str, said: str) -> None:
    """A value for a table, a table for a list, or no TOML at all: one problem at its place."""
    assert problems(text) == [said]


def test_the_environment_wins_over_the_text_and_options_over_both() -> None:
    """The nearest source wins, and each value knows where it came from."""
    text = "[tank]\nsize = 2\nname = 'a'\n[pump]\npower = 1\n"
    found = reading(text, {"GPUSHARE_TANK__SIZE": "5", "GPUSHARE_TANK__NAME": "b"}, {"tank.name": "c"})
    assert found.value == Pond(tank=Tank(size=5, name="c"), pump=Pump(power=1))
    assert found.origins == {
        "tank.size": "environment GPUSHARE_TANK__SIZE",
        "tank.name": "option --name",
        "pump.power": "pond.toml:5",
    }


@pytest.mark.parametrize(
    ("variable", "text", "tank"),
    [
        ("GPUSHARE_TANK__TAGS", '["a", "b"]', Tank(tags=("a", "b"))),
        ("GPUSHARE_TANK__NAME", "plain words", Tank(name="plain words")),
        ("GPUSHARE_TANK__NAME", '"quoted"', Tank(name="quoted")),
        ("GPUSHARE_TANK__NAME", "2024", Tank(name="2024")),
        ("GPUSHARE_TANK__NAME", "a\nsize = 3", Tank(name="a\nsize = 3")),
        ("GPUSHARE_URL", "http://x", Tank()),
        ("OTHER_TANK__SIZE", "9", Tank()),
    ],
)
def test_a_variable_is_toml_or_else_text(variable: str, text: str, tank: Tank) -> None:
    """A variable's value is read as TOML where that fits the setting, otherwise as plain text."""
    assert reading("", {variable: text}).value.tank == tank


def test_problems_outside_of_the_file_name_their_source() -> None:
    """A wrong or unknown variable or option is reported with the file's own problems."""
    env = {
        "GPUSHARE_TANK__SIZE": "two",
        "GPUSHARE_TANK__SIZ": "1",
        "GPUSHARE_A__B": "1",
        "GPUSHARE_TANK__SIZE__X": "1",
    }
    assert problems("x = 1", env, {"pump.power": "much"}) == [
        "pond.toml:1:1: x: no such section",
        "environment GPUSHARE_A__B: no such setting",
        "environment GPUSHARE_TANK__SIZ: no such setting",
        "environment GPUSHARE_TANK__SIZE__X: no such setting",
        'environment GPUSHARE_TANK__SIZE: expected a whole number, got "two"',
        'option --power: expected a whole number, got "much"',
    ]


def test_contradictions_are_told_with_all_else() -> None:
    """What is wrong between two settings is told at one of them, or at the source that won."""
    assert problems("[pump]\npower = 2\n") == ["pond.toml:2:1: pump.power: is too much for the tank"]
    assert problems("", {"GPUSHARE_PUMP__POWER": "2"}) == [
        "environment GPUSHARE_PUMP__POWER: is too much for the tank"
    ]
    assert problems("[[fish]]\nid='a'\n[[fish]]\nid='shark'\n") == [
        "pond.toml:4:1: fish.1.id: eats the others"
    ]
    too_much = "pond.toml:2:1: pump.power: is too much for the tank"
    assert problems("[pump]\npower = 2\nx = 1") == [too_much, "pond.toml:3:1: pump.x: no such setting"]
    assert len(problems("[pump]\npower = 2\n[tank]\nsize = 'x'")) == 1  # what is too much is not known then


def test_settings_lists_every_value_as_toml() -> None:
    """Each setting of the tables is named with its table and written as it would stand in a file."""

    class Tables(Struct, frozen=True):
        tank: Tank = Tank(name='a "b"', tags=("x",))

    assert list(map(tuple, settings(Tables()))) == [
        ("tank.size", "1"),
        ("tank.name", '"a \\"b\\""'),
        ("tank.tags", '["x"]'),
    ]


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text(alphabet="[]{}=,.\"'\\#\n\r\t ax1\x00é\ud7ff", max_size=40))
def test_no_text_makes_reading_fail_in_another_way(text: str) -> None:
    """Any text either is a configuration or ends in problems that can be written."""
    try:
        said = str(reading(text))
    except ConfigErrors as errors:
        said = str(errors)
    assert said
