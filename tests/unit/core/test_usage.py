import csv as spreadsheets
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gpushare.core.usage import COLUMNS, By, Since, UsageRow, add_up, csv, parse_since, priced, report

NOW = datetime(2026, 11, 20, 14, 3, tzinfo=UTC)
BOB = UsageRow(name="bob", requests=3, slot_s=30.0, tokens_in=10, tokens_out=5, waited_s=2.0)
ALICE = UsageRow(name="alice", requests=1, slot_s=10.0, tokens_in=4, tokens_out=2, waited_s=1.0, energy_j=5.0)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("24h", Since(seconds=86_400.0)),
        ("7d", Since(seconds=604_800.0)),
        ("400d", Since(seconds=400 * 86_400.0)),
        ("2026-11-20", Since(day="2026-11-20")),
    ],
)
def test_reports_begin_with_a_time_ago_or_a_day(text: str, since: Since) -> None:
    """Both are what people type."""
    assert parse_since(text) == since


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "0d",
        "-1d",
        "tomorrow",
        "2026-13-01",
        "1970-01-01",
        "9999-01-01",
        "2026-1-1",
        "99999d",
        "\u0667d",
    ],
)
def test_anything_else_is_no_time(text: str) -> None:
    """A report never begins somewhere else than was meant."""
    with pytest.raises(ValueError, match=r".*"):
        parse_since(text)


def test_a_report_has_shares_and_a_total() -> None:
    """The largest consumer first; what is not known stays unknown."""
    found = report([ALICE, BOB], by=By.PERSON, since=NOW, now=NOW)
    assert [(row.name, row.share) for row in found.rows] == [("bob", 0.75), ("alice", 0.25)]
    assert found.total == UsageRow(
        name="total", requests=4, slot_s=40.0, tokens_in=14, tokens_out=7, waited_s=3.0, energy_j=5.0
    )
    assert report([BOB], by=By.PERSON, since=NOW, now=NOW).total.energy_j is None


def test_unknown_tokens_are_not_0() -> None:
    """Those that are known count; where none is, nobody knows; without calls there were none."""
    broken = replace(ALICE, tokens_out=None)
    assert add_up([BOB, broken]).tokens_out == 5
    assert add_up([broken]).tokens_out is None
    assert add_up([broken, UsageRow(name="2026-11-19")]).tokens_out is None
    assert add_up([UsageRow(name="2026-11-19")]).tokens_out == 0
    assert csv(report([broken], by=By.PERSON, since=NOW, now=NOW)).endswith(",4,,1.0,5.0\r\n")


def test_days_stay_in_their_order() -> None:
    """A report by day is read from top to bottom."""
    days = [UsageRow(name=f"2026-11-{day}", slot_s=float(day)) for day in (20, 19, 18)]
    found = report(days, by=By.DAY, since=NOW, now=NOW)
    assert [row.name for row in found.rows] == ["2026-11-18", "2026-11-19", "2026-11-20"]


def test_nothing_used_has_no_shares() -> None:
    """A part of nothing is unknown, not zero."""
    assert report([UsageRow(name="bob")], by=By.PERSON, since=NOW, now=NOW).rows[0].share is None
    assert report([], by=By.PERSON, since=NOW, now=NOW).total == UsageRow(name="total")


def test_a_price_is_told_only_where_there_is_one() -> None:
    """Without a price there is nothing to show a currency for."""
    plain = report([ALICE], by=By.PERSON, since=NOW, now=NOW)
    assert priced(plain, 0.0, "€") == plain
    assert (priced(plain, 0.3, "€").price_per_kwh, priced(plain, 0.3, "€").currency) == (0.3, "€")


def cells(text: str) -> list[list[str]]:
    """Returns a table as a spreadsheet reads it."""
    return list(spreadsheets.reader(io.StringIO(text, newline="")))


@pytest.mark.item(77)
@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("x")'])
def test_no_cell_is_a_formula(name: str) -> None:
    """P34: what a spreadsheet would compute is text."""
    _, row = cells(csv(report([UsageRow(name=name)], by=By.MODEL, since=NOW, now=NOW)))
    assert row[0] == f"'{name}"


@given(st.text())
def test_a_table_is_read_as_it_was_written(name: str) -> None:
    """Whatever is in a name, a reader finds one row, its figures in their columns, and no line more."""
    text = csv(report([UsageRow(name=name, requests=2, slot_s=1.23456)], by=By.TOOL, since=NOW, now=NOW))
    head, row = cells(text)
    assert head == ["tool", *COLUMNS]
    assert row[0].endswith(name)
    assert row[1:] == ["2", "1.235", "1.0", "0", "0", "0.0", ""]
