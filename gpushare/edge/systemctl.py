"""What systemd says of a unit and of the clock, asked by its own programs.

Called by: ``app.examination``.  Rules: without systemd, or without an answer in time, nothing is known.
"""

import shlex
import subprocess
from collections.abc import Mapping, Sequence

PATIENCE_S = 3.0


def unit(name: str, properties: Sequence[str]) -> Mapping[str, str]:
    """Returns some properties of a unit as systemd writes them; nothing where there is no such unit."""
    found = _shown(["systemctl", "show", name, "--property", ",".join(("LoadState", *properties))])
    return found if found.get("LoadState") == "loaded" else {}


def environment(name: str) -> Mapping[str, str] | None:
    """Returns the environment that a running unit gives its process, None where not all of it can be seen."""
    found = unit(name, ("ActiveState", "Environment", "EnvironmentFiles", "PassEnvironment"))
    if found.get("ActiveState") != "active" or found.get("EnvironmentFiles") or found.get("PassEnvironment"):
        return None
    try:
        words = shlex.split(found.get("Environment", ""))
    except ValueError:
        return None
    return dict(word.split("=", 1) for word in words if "=" in word)


def clock_is_synchronized() -> bool | None:
    """Whether the clock follows a time server, None where nobody knows."""
    said = _shown(["timedatectl", "show", "--property", "NTPSynchronized"]).get("NTPSynchronized")
    return None if said is None else said == "yes"


def _shown(command: Sequence[str]) -> dict[str, str]:
    """Returns what a program prints as ``Name=value``, nothing where it cannot do so."""
    try:
        done = subprocess.run(  # noqa: S603 - a program of systemd's and our own words
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
