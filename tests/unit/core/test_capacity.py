"""Whether the hardware is enough, from made-up weeks."""

import pytest

from gpushare.core.capacity import verdict
from gpushare.core.config import Capacity
from gpushare.core.usage import DayLoad

FRIDAY = 20  # of November 2026


def week(*waits: float | None, requests: int = 50, load_s: float = 10.0) -> list[DayLoad]:
    """Returns the days before and up to Friday, each with what 95 % waited at most."""
    return [
        DayLoad(day=f"2026-11-{day}", requests=requests, wait_p95_s=wait, busy_s=100.0, load_s=load_s)
        for day, wait in enumerate(waits, start=FRIDAY - len(waits) + 1)
    ]


def said(loads: list[DayLoad], *, cards: int = 1, **settings: object) -> str:
    """Returns the verdict."""
    return verdict(loads, Capacity(**settings), cards=cards).text  # type: ignore[arg-type]


def test_enough() -> None:
    """The worst day bounds the week."""
    loads = week(5.0, 21.2, 3.0)
    assert said(loads) == "One card is enough: 95 % of requests this week started within 22 s."
    assert said(loads, cards=2).startswith("The 2 cards are enough")
    assert said(loads, cards=0).startswith("One card is enough")


def test_tight() -> None:
    """Some days are over what the settings allow."""
    text = "Tight: on 2 of 5 working days it took up to 1 min 14 s until 95 % of requests had started."
    assert said(week(5.0, 74.0, 31.0, 30.0, 2.0)) == text
    assert said(week(5.0, 74.0, 31.0, 30.0, 2.0), wait_p95=80.0).startswith("One card is enough")


def test_loading_is_named_where_it_takes_the_time() -> None:
    """Then another card is not what would help most."""
    loads = week(74.0, 80.0, load_s=41.0)
    assert said(loads).endswith(
        " 41 % of the busy time was loading models: agreeing on one model would help more than a second card."
    )
    assert "second card" not in said(week(74.0, 80.0, load_s=24.0))


def test_only_working_days_count() -> None:
    """The Saturday and the Sunday before are left out, unless they are worked on."""
    loads = week(500.0, 500.0, 5.0, 5.0, 5.0, 5.0, 5.0)
    found = verdict(loads, Capacity(), cards=1)
    assert (len(found.days), found.text.startswith("One card is enough")) == (5, True)
    assert said(loads, working_days=("sat", "sun")).startswith("Tight: on 2 of 2 working days")


@pytest.mark.parametrize(
    ("loads", "found"),
    [
        ([], "no request this week"),
        (week(5.0), "50 requests on 1 working day this week"),
        (week(5.0, 5.0, requests=9), "18 requests on 2 working days this week"),
        (week(None, 5.0, requests=1), "1 request on 1 working day this week"),
    ],
)
def test_too_little_is_no_verdict(loads: list[DayLoad], found: str) -> None:
    """It is told, with what is missing."""
    assert said(loads) == (f"There is not enough data yet: {found}. A verdict takes at least 20 on 2 days.")
