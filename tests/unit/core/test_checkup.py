"""What is found of a server that is well, and of one that is not."""

from dataclasses import replace
from typing import Any

import pytest

from gpushare.core.breaker import Door
from gpushare.core.checkup import checkup
from gpushare.core.doctor import Level
from gpushare.core.gpu import GpuReading, GpuView
from gpushare.core.ledger import LedgerState
from gpushare.core.picture import OllamaView, Picture

from .test_status import PICTURE

UP = OllamaView(up=True, version="0.33.0", models=("m", "n"), since=PICTURE.now - 90)
LEDGER = LedgerState(writable=True, lag_s=0.0, waiting=0, written=7, lost=0, answered_s=0.1)
WELL = replace(PICTURE, ollama=UP)


def found(picture: Picture, **ledger: Any) -> list[tuple[str, str, str]]:
    """Returns the findings as plain values."""
    state = LedgerState(**{name: getattr(LEDGER, name) for name in LEDGER.__struct_fields__} | ledger)
    return [(finding.level.value, finding.subject, finding.text) for finding in checkup(picture, state)]


def test_a_server_that_is_well() -> None:
    """One line for each part."""
    assert found(WELL) == [
        ("ok", "ollama", "0.33.0, up for 1 min 30 s, 2 models, 0 in memory"),
        ("ok", "gpu", "not read, as gpu.backend says"),
        ("ok", "ledger", "7 rows written since the start"),
        ("ok", "settings", "in use as they are on disk"),
        ("ok", "version", f"gpushare {PICTURE.version}"),
    ]


@pytest.mark.parametrize(
    ("view", "level", "text"),
    [
        (OllamaView(), Level.WARN, "has not been asked yet"),
        (UP.changed(up=False), Level.FAIL, "does not answer for 1 min 30 s; calls are refused"),
        (UP.changed(breaker=Door.OPEN), Level.FAIL, "kept failing: nothing is sent to it"),
        (UP.changed(breaker=Door.HALF_OPEN), Level.FAIL, "kept failing: one call at a time, on trial"),
        (UP.changed(failing=("m",)), Level.WARN, "kept failing with m; its calls are refused"),
    ],
)
def test_an_ollama_that_is_not(view: OllamaView, level: Level, text: str) -> None:
    """What it does, and what that means."""
    assert (level.value, "ollama", text) in found(replace(WELL, ollama=view))


def test_cards() -> None:
    """Each by its name; those that are gone, and why numbers are missing."""
    cards = GpuView(
        readings=(GpuReading(index=0, name="RTX 4090"), GpuReading(index=1, name="A2", lost=True)),
        note="slow",
    )
    assert [row[0::2] for row in found(replace(WELL, gpus=cards)) if row[1] == "gpu"] == [
        ("warn", "slow"),
        ("ok", "RTX 4090"),
        ("fail", "A2 no longer answers"),
    ]


@pytest.mark.parametrize(
    ("state", "level", "text"),
    [
        (
            {"writable": False, "waiting": 3},
            "fail",
            "cannot be written; 3 rows wait. Calls are served all the same",
        ),
        ({"lost": 2}, "warn", "2 rows were lost since the start"),
    ],
)
def test_a_ledger_that_is_not(state: dict[str, Any], level: str, text: str) -> None:
    """Nobody is refused for it."""
    assert (level, "ledger", text) in found(WELL, **state)


def test_settings_that_were_rejected() -> None:
    """With the command that says why."""
    rows = found(replace(WELL, config_rejected=True))
    assert ("warn", "settings") in [row[:2] for row in rows]
