"""What ``gpushare doctor`` says: facts in, findings out, each with its remedy.

Called by: ``app.examination``.  Rules: a check yields nothing where there is nothing to say; what could not
be found out is told as that, never as good.
"""

from collections.abc import Callable, Iterable

from gpushare.core.doctor import around, machine, running, server
from gpushare.core.doctor.base import Finding, Level, Report, failed, report, summary
from gpushare.core.doctor.facts import Facts
from gpushare.core.doctor.machine import repairs

__all__ = [
    "CHECKS",
    "Facts",
    "Finding",
    "Level",
    "Report",
    "examine",
    "failed",
    "repairs",
    "report",
    "summary",
]

CHECKS: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    server.settings,
    running.settings,
    around.ollama,
    running.breaker,
    around.gpu,
    around.slots,
    server.keys,
    server.ledger,
    running.ledger,
    server.door,
    server.listen,
    server.certificate,
    around.front,
    machine.clock,
    machine.disk,
    machine.files,
    server.limits,
    server.service,
)


def examine(facts: Facts) -> Report:
    """Returns what every check says, in their order."""
    return report(finding for check in CHECKS for finding in check(facts))
