"""Checks that only the server itself can make: what it has gone through since its start."""

from collections.abc import Iterator

from gpushare.core.breaker import Door
from gpushare.core.doctor.base import Finding, fail, warn
from gpushare.core.doctor.facts import Facts

AGAIN = "it is tried again by itself; journalctl -u ollama -n 50 may say why"


def breaker(facts: Facts) -> Iterator[Finding]:
    """Calls go to Ollama, for whichever model."""
    found = facts.running
    if found is None:
        return
    if found.breaker is not Door.CLOSED:
        how = "nothing is sent to it" if found.breaker is Door.OPEN else "one call at a time, on trial"
        yield fail("ollama", f"kept failing: {how}", AGAIN)
    for model in found.failing:
        yield warn("ollama", f"kept failing with {model}: its calls are refused", AGAIN)


def settings(facts: Facts) -> Iterator[Finding]:
    """Settings and keys are in use as they are on disk."""
    if facts.running is not None and facts.running.rejected:
        text = "what is on disk has mistakes, so the earlier settings and keys are in use"
        yield warn("config", text, "gpushare config check, then: systemctl reload gpushare")


def ledger(facts: Facts) -> Iterator[Finding]:
    """What calls use is written down."""
    if facts.running is None:
        return
    found = facts.running.ledger
    if not found.writable:
        text = f"cannot be written; {found.waiting} rows wait, and calls are served all the same"
        yield fail("ledger", text, "make room on the disk, and see that the folder is the service's own")
    if found.lost:
        text = f"{found.lost} rows were lost since the start, because the disk took none for too long"
        yield warn("ledger", text, "journalctl -u gpushare | grep ledger. says when")
