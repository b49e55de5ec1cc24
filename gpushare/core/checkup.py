"""Whether every part of the server is well: what the admins' page says of its health.

Called by: ``web.pages.admin``.  Rules: each finding says what is the case; one that is not well says what it
means or what to do.
"""

from collections.abc import Iterator

from gpushare.core import wording
from gpushare.core.breaker import Door
from gpushare.core.doctor.base import Finding, Level, ok
from gpushare.core.ledger import LedgerState
from gpushare.core.picture import Picture


def checkup(picture: Picture, ledger: LedgerState) -> tuple[Finding, ...]:
    """Returns one finding for each part, or more where more is wrong."""
    return (
        *_ollama(picture),
        *_gpus(picture),
        _ledger(ledger),
        _settings(picture),
        ok("version", f"gpushare {picture.version}"),
    )


def _ollama(picture: Picture) -> Iterator[Finding]:
    view = picture.ollama
    if view.since is None:
        yield Finding(level=Level.WARN, subject="ollama", text="has not been asked yet")
        return
    since = wording.duration(picture.now - view.since)
    if view.up:
        text = f"{view.version or 'unknown version'}, up for {since}, {len(view.models)} models, "
        yield ok("ollama", f"{text}{len(view.loaded)} in memory")
    else:
        yield Finding(
            level=Level.FAIL, subject="ollama", text=f"does not answer for {since}; calls are refused"
        )
    if view.breaker is not Door.CLOSED:
        how = "nothing is sent to it" if view.breaker is Door.OPEN else "one call at a time, on trial"
        yield Finding(level=Level.FAIL, subject="ollama", text=f"kept failing: {how}")
    for model in view.failing:
        yield Finding(
            level=Level.WARN, subject="ollama", text=f"kept failing with {model}; its calls are refused"
        )


def _gpus(picture: Picture) -> Iterator[Finding]:
    view = picture.gpus
    if view is None:
        yield ok("gpu", "not read, as gpu.backend says")
        return
    if view.note:
        yield Finding(level=Level.WARN, subject="gpu", text=view.note)
    for card in view.readings:
        name = card.name or f"card {card.index}"
        if card.lost:
            yield Finding(level=Level.FAIL, subject="gpu", text=f"{name} no longer answers")
        else:
            yield ok("gpu", name)


def _ledger(state: LedgerState) -> Finding:
    if not state.writable:
        text = f"cannot be written; {state.waiting} rows wait. Calls are served all the same"
        return Finding(level=Level.FAIL, subject="ledger", text=text)
    if state.lost:
        return Finding(
            level=Level.WARN, subject="ledger", text=f"{state.lost} rows were lost since the start"
        )
    return ok("ledger", f"{state.written} rows written since the start")


def _settings(picture: Picture) -> Finding:
    if picture.config_rejected:
        text = "what is on disk has mistakes, the earlier ones are in use: gpushare config check"
        return Finding(level=Level.WARN, subject="settings", text=text)
    return ok("settings", "in use as they are on disk")
