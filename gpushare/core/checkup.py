"""Whether every part of the server is well: what the admins' page says of its health.

Called by: ``web.pages.admin``.  Rules: each finding says what is the case; one that is not well says what it
means or what to do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gpushare.core import wording
from gpushare.core.breaker import Door
from gpushare.core.ledger import LedgerState
from gpushare.core.picture import Picture


class Grade(StrEnum):
    """How well a part is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is the case with one part."""

    grade: Grade
    part: str
    text: str


def checkup(picture: Picture, ledger: LedgerState) -> tuple[Finding, ...]:
    """Returns one finding for each part, or more where more is wrong."""
    return (
        *_ollama(picture),
        *_gpus(picture),
        _ledger(ledger),
        _settings(picture),
        Finding(grade=Grade.OK, part="version", text=f"gpushare {picture.version}"),
    )


def _ollama(picture: Picture) -> Iterator[Finding]:
    view = picture.ollama
    if view.since is None:
        yield Finding(grade=Grade.WARN, part="ollama", text="has not been asked yet")
        return
    since = wording.duration(picture.now - view.since)
    if view.up:
        text = f"{view.version or 'unknown version'}, up for {since}, {len(view.models)} models, "
        yield Finding(grade=Grade.OK, part="ollama", text=f"{text}{len(view.loaded)} in memory")
    else:
        yield Finding(grade=Grade.FAIL, part="ollama", text=f"does not answer for {since}; calls are refused")
    if view.breaker is not Door.CLOSED:
        how = "nothing is sent to it" if view.breaker is Door.OPEN else "one call at a time, on trial"
        yield Finding(grade=Grade.FAIL, part="ollama", text=f"kept failing: {how}")
    for model in view.failing:
        yield Finding(
            grade=Grade.WARN, part="ollama", text=f"kept failing with {model}; its calls are refused"
        )


def _gpus(picture: Picture) -> Iterator[Finding]:
    view = picture.gpus
    if view is None:
        yield Finding(grade=Grade.OK, part="gpu", text="not read, as gpu.backend says")
        return
    if view.note:
        yield Finding(grade=Grade.WARN, part="gpu", text=view.note)
    for card in view.readings:
        name = card.name or f"card {card.index}"
        if card.lost:
            yield Finding(grade=Grade.FAIL, part="gpu", text=f"{name} no longer answers")
        else:
            yield Finding(grade=Grade.OK, part="gpu", text=name)


def _ledger(state: LedgerState) -> Finding:
    if not state.writable:
        text = f"cannot be written; {state.waiting} rows wait. Calls are served all the same"
        return Finding(grade=Grade.FAIL, part="ledger", text=text)
    if state.lost:
        return Finding(grade=Grade.WARN, part="ledger", text=f"{state.lost} rows were lost since the start")
    return Finding(grade=Grade.OK, part="ledger", text=f"{state.written} rows written since the start")


def _settings(picture: Picture) -> Finding:
    if picture.config_rejected:
        text = "what is on disk has mistakes, the earlier ones are in use: gpushare config check"
        return Finding(grade=Grade.WARN, part="settings", text=text)
    return Finding(grade=Grade.OK, part="settings", text="in use as they are on disk")
