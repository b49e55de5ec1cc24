"""What the measures share: how they tell what they found."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence


def tell(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table as documents have it."""
    tell(f"| {' | '.join(head)} |")
    tell(f"|{'---|' * len(head)}")
    for row in rows:
        tell(f"| {' | '.join(map(str, row))} |")


def at(share: float, values: Sequence[float]) -> float:
    """Returns the value below which this share of them lies."""
    return sorted(values)[int(share * (len(values) - 1))]


def machine() -> str:
    """Returns what the figures depend on, in words."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{os.cpu_count()} processors, load {load}, Python {platform.python_version()}"
