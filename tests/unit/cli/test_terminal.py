import json
from datetime import UTC, datetime

import pytest

from gpushare.cli.terminal import emit, report, table


def test_a_table_is_aligned_without_frames() -> None:
    """Headers are upper-case, columns two spaces apart, numbers to the right, no space at the line's end."""
    assert table(("who", "n", ""), [("erin", "7", ""), ("b", "1204", "x")], right=("n",)).split("\n") == [
        "WHO      N",
        "erin     7",
        "b     1204  x",
    ]


def test_a_table_counts_columns_of_the_screen() -> None:
    """A letter that takes two of them counts twice, one that stands on the letter before it not at all."""
    assert table(("who", "n"), [("山田", "1"), ("anna", "12"), ("e\u0301", "3")], right=("n",)).split(
        "\n"
    ) == [
        "WHO    N",
        "山田   1",
        "anna  12",
        "e\u0301      3",
    ]


def test_a_table_lets_no_control_character_through() -> None:
    """A hostile model name cannot clear the screen or break the columns."""
    assert table(("m",), [("\x1b[2Ja\nb",)]) == "M\n?[2Ja?b"


def test_json_names_its_schema_and_writes_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    """A document begins with its schema; a time is UTC with a Z."""
    emit("x/1", at=datetime(2026, 11, 20, 10, tzinfo=UTC), name="Ирина")
    assert json.loads(capsys.readouterr().out) == {
        "schema": "x/1",
        "at": "2026-11-20T10:00:00Z",
        "name": "Ирина",
    }


def test_what_json_cannot_hold_is_an_error() -> None:
    """An unknown type is not written as something else."""
    with pytest.raises(TypeError, match="object"):
        emit("x/1", value=object())


def test_an_error_has_its_remedy_below(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is on the first line, the way out on the second, all on stderr."""
    report("c", "it broke", hint="mend it", as_json=False)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: it broke\n  mend it\n")
