"""Measures what is promised of times: ``.venv/bin/python -m tests.measures [NAME ...]``, by default all.

Run it where nothing else runs; it needs no more than the pinned packages, and about fifteen minutes.
"""

import argparse
import asyncio
from collections.abc import Callable

from tests.measures import departures, misbehaviour, refusals
from tests.measures.common import machine, tell

MEASURES: dict[str, Callable[[], object]] = {
    "departures": departures.measure,
    "refusals": lambda: asyncio.run(refusals.measure()),
    "misbehaviour": lambda: asyncio.run(misbehaviour.measure()),
}


def main() -> None:
    """Runs those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.measures", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MEASURES, []], metavar="NAME", help=", ".join(MEASURES))
    for name in parser.parse_args().names or MEASURES:
        tell(f"{name}: {machine()}")
        MEASURES[name]()


if __name__ == "__main__":
    main()
