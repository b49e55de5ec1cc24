import io
import json
import time
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from gpushare.cli.top.screen import HELP, render, sparkline
from gpushare.cli.top.state import State, press
from gpushare.core import wording
from gpushare.core.document import Document

from .test_status import DOCUMENT
from .test_top_state import LOST

SIZES = [(80, 24), (200, 50), (40, 10)]
DAY = {
    "requests": 490,
    "wait_p50_s": 2.8,
    "wait_p95_s": 22.0,
    "swaps": 14,
    "people": [
        {"who": "bob", "you": False, "requests": 1412, "slot_s": 4321.0, "share": 0.44},
        {"who": "alice", "you": True, "requests": 88, "slot_s": 1800.0, "share": None},
    ],
}
MODELS = [{"name": "m:30b", "vram_bytes": 19_800_000_000, "on_gpu": 1.0, "context": 32768, "unloads": None}]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this machine shows UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def state(**changes: object) -> State:
    """What is known a moment after the start."""
    known = State()
    text = json.dumps(DOCUMENT | {"day": DAY, "models": MODELS} | changes)
    known.hear(msgspec.json.decode(text, type=Document), 100.0)
    return known


def crowd(count: int) -> dict[str, Any]:
    """So many waiting requests, of wide names too."""
    row: dict[str, Any] = DOCUMENT["waiting"][0]  # type: ignore[index]
    names = ("dave", "\u5f20\u4f1f", "a-name-that-is-far-longer-than-any-column-should-be")
    return {
        "waiting": [
            row | {"id": f"w{n}", "position": n + 1, "who": names[n % 3], "you": False} for n in range(count)
        ]
    }


def lines(known: State, width: int = 80, height: int = 24, *, now: float = 101.0) -> list[str]:
    """Returns what a terminal of this size shows."""
    console = Console(width=width, height=height, record=True, file=io.StringIO(), color_system="truecolor")
    console.print(render(known, width=width, height=height, now=now))
    return console.export_text().replace("\u202f", " ").rstrip("\n").split("\n")


def test_a_screen_of_80_by_24() -> None:
    """The sentence first, then who runs and waits, the last day, and the keys."""
    known = state()
    known.selected = "r2"
    shown = [line.rstrip() for line in lines(known)]
    assert shown == [
        "Busy: 2 running, 2 waiting                                      atlas · 14:03:13",
        "A new request would start in about 1 min 30 s",
        "! The GPU is hot.",
        "Waiting 2  █",
        "",
        "    WHO            MODEL                     RUNNING            TOKENS     SPEED",
        ">   bob            m:30b                        32 s             1 204  41 tok/s",
        ">   somebody       ?[2J                          1 s",
        "",
        "#   WHO            MODEL                      WAITED  STARTS IN",
        "1   alice (you)    m:30b                        15 s  about 10 s",
        "2   dave           g:27b                         5 s  no estimate yet   loads",
        "",
        "LAST 24 HOURS                 GPU TIME   SHARE  REQUESTS",
        "bob                         1 h 12 min    44 %     1 412",
        "alice (you)                     30 min                88",
        *[""] * 7,
        "q quit  ? help  ↑↓ select  c cancel  p pause  s order  / filter  d models  +- 1",
    ]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("count", [0, 3, 60])
@pytest.mark.parametrize("keys", ["", "?", "d", "p", "jjj", "kkkk", "/dave"])
def test_every_screen_fits_its_window(width: int, height: int, count: int, keys: str) -> None:
    """Line by line and in its height, whatever is open and however long the queue and the names are."""
    known = state(**crowd(count))
    for key in keys:
        press(known, key)
    shown = lines(known, width, height)
    assert len(shown) == height
    assert all(cell_len(line) <= width for line in shown)
    assert shown[-1].strip()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_selected_row_is_never_out_of_sight(width: int, height: int) -> None:
    """Going down a long queue, it moves along, and what is left out is counted."""
    known = state(**crowd(60))
    for _ in range(62):
        press(known, "j")
        position = known.selected.removeprefix("w")
        if known.selected.startswith("w"):
            assert any(line.startswith(f"{int(position) + 1} ") for line in lines(known, width, height))
    assert any(line.rstrip().endswith(" more") for line in lines(known, width, height))


def test_times_go_on_between_two_documents() -> None:
    """Waited time up, estimates down and never below zero; a lost picture stands still, pale."""
    known = state()
    text = "\n".join(lines(known, now=112.0))
    assert "26 s  any moment" in text
    assert "in about 1 min 30 s" in text
    assert "A new request would start any moment" in lines(known, now=200.0)[1]
    known.lost = LOST
    lost = lines(known, now=500.0)
    assert lost[0].rstrip().endswith("No connection since 14:03:12, try 3")
    assert "14 s  about 10 s" in "\n".join(lost)
    console = Console(width=80, height=24, record=True, file=io.StringIO(), color_system="standard")
    console.print(render(known, width=80, height=24, now=0.0))
    styled = console.export_text(styles=True).split("\n")
    assert all(line.startswith("\x1b[90m") for line in styled[1:12] if line)


GPU: dict[str, Any] = {
    "index": 0,
    "name": "NVIDIA RTX 4090",
    "busy": 0.87,
    "memory_used_bytes": 22_870_000_000,
    "memory_total_bytes": 25_760_000_000,
    "celsius": 71,
    "watts": 338.0,
    "watts_limit": 450.0,
    "slowed": [],
    "others": 0,
    "others_bytes": 0,
    "lost": False,
    "busy_history": [0.0, 0.5, 1.0, None, 0.87],
}


def test_each_card_has_a_line_with_its_last_minutes() -> None:
    """Instead of how many waited; one that has gone is told all the same, and hurts nothing."""
    one = lines(state(gpus=[GPU]))
    assert one[3].startswith("GPU 87 %")
    assert one[3].rstrip().endswith("  ▁▅█ ▇")
    two = lines(state(gpus=[GPU, GPU | {"index": 1, "lost": True, "busy": None, "busy_history": []}]))
    assert two[3].startswith("GPU 0")
    assert two[4].startswith("GPU 1")
    assert len(two) == 24


def test_a_wide_window_has_room_for_the_reason() -> None:
    """Why somebody starts later than was told first stands behind the estimate."""
    waiting = [row | {"reason": "bob's answer is longer than usual"} for row in DOCUMENT["waiting"]]  # type: ignore[attr-defined]
    shown = lines(state(waiting=waiting), 140, 24)
    assert shown[10].rstrip().endswith("about 10 s        bob's answer is longer than usual")


def test_a_pause_is_told_with_its_time() -> None:
    """So that nobody takes an old picture for a new one."""
    known = state()
    press(known, "p")
    assert lines(known)[0].rstrip().endswith("Paused at 14:03:12")


def test_below_are_people_or_models() -> None:
    """People are for those who may see the last day; models are for all."""
    known = state()
    press(known, "d")
    text = "\n".join(lines(known))
    assert f"m:30b                                      {wording.size(19_800_000_000)}      32 768" in text
    assert "LAST 24 HOURS" not in text
    assert "d people" in text
    nobody = State()
    nobody.hear(msgspec.json.decode(json.dumps(DOCUMENT), type=Document), 100.0)
    assert "LAST 24 HOURS" not in "\n".join(lines(nobody))


def test_the_bottom_line_asks_answers_and_shows_what_is_typed() -> None:
    """Instead of the keys, which come back."""
    known = state()
    known.asks = "r3"
    assert "y: yes" in lines(known)[-1]
    known.asks, known.said = "", "Cancelled."
    assert lines(known)[-1].rstrip() == "Cancelled."
    for key in "/bob":
        press(known, key)
    assert lines(known)[-1].rstrip() == "/bob_"
    press(known, "enter")
    assert lines(known)[-1].startswith("only: bob  q quit")


def test_help_names_every_key() -> None:
    """Over the whole screen."""
    known = state()
    press(known, "?")
    shown = "\n".join(lines(known))
    assert all(what in shown for _, what in HELP)
    assert "WAITED" not in shown


def test_before_the_first_document_it_says_so() -> None:
    """It never shows an empty queue that nobody has seen."""
    assert lines(State())[0].rstrip() == "Waiting for the first answer"


@pytest.mark.parametrize(
    ("values", "width", "top", "bars"),
    [
        ([0, 1, 2, 4], 4, 0, "▁▃▅█"),
        ([0, 0], 9, 0, "▁▁"),
        ([50, None, 100, 200], 9, 100, "▅ ██"),
        ([1, 2, 3], 2, 3, "▆█"),
        ([], 5, 0, ""),
        ([1], -3, 0, ""),
    ],
)
def test_a_sparkline_shows_the_last_values(
    values: list[float | None], width: int, top: float, bars: str
) -> None:
    """As many as there is room for, against the highest or a given one."""
    assert sparkline(values, width, top=top) == bars
