"""Runs the soak: ``.venv/bin/python -m tests.soak --minutes 30``.

The real ``gpushare serve`` and a simulated Ollama are a process each.  Clients of every kind ask, leave, read
and send slowly; settings and keys change; Ollama is killed and comes back.  In the first third of the time
the gateway is killed with ``kill -9`` or stopped, and started again; then one process lives to the end.  What
clients and log say is held against the ledger.  The exit status is 1 if anything was lost, leaked or grew.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.conductor import Course, Findings, Soak, growth_bytes

MOMENT_S = 1.0


def say(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def report(found: Findings) -> None:
    """Prints the figures."""
    books, last = found.balance, found.rests[-1]
    young = len(books.missing) - len(found.lost)
    oldest_s = max(books.missing.values(), default=0.0)
    say(f"{found.seconds / 60:.1f} minutes; clients: {dict(found.did.most_common())}")
    say(f"answers with an id: {books.answers}; statuses: {dict(sorted(found.statuses.items()))}")
    say(f"calls logged: {books.calls}; rows by outcome: {dict(books.outcomes.most_common())}")
    say(f"ends of the gateway: {dict(found.ends)}; steps: {dict(found.steps)}")
    say(f"slots leaked: {found.leaked}, of {sum(rests[-1].granted for rests in found.rests)} granted at rest")
    say(f"rows lost: {len(found.lost)}; in the last {MOMENT_S} s of a life {young}, up to {oldest_s:.2f} s")
    for name in ("descriptors", "threads", "tasks", "blocks"):
        say(f"{name} of the last process at each rest: {[getattr(rest, name) for rest in last]}")
    peak = last[-1].peak_bytes / 2**20
    say(f"its memory in MiB: {[round(rest.memory_bytes / 2**20, 1) for rest in last]}, at most {peak:.1f}")
    say(f"grown since it was warm: {growth_bytes(last) / 2**20:+.1f} MiB")
    for wrong in found.wrong:
        say(f"WRONG: {wrong}")
    say("nothing is wrong" if not found.wrong else f"{len(found.wrong)} things are wrong")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    total_s = 60 * asked.minutes
    course = Course(
        total_s=total_s,
        harm_s=total_s / 3,
        step_s=3.0,
        rest_s=total_s / 10,
        clients=asked.clients,
        seed=asked.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(Soak(course, Path(folder), say).run(moment_s=MOMENT_S))
    report(found)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
