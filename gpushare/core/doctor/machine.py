"""Checks of the machine: the clock, the disk, and who may read the server's files."""

from collections.abc import Iterator

from gpushare.core.doctor.base import Finding, fail, ok, size, warn
from gpushare.core.doctor.facts import Entry, Facts


def clock(facts: Facts) -> Iterator[Finding]:
    """The clock is right, as far as that can be told: keys begin and end by it."""
    found, remedy = facts.machine.clock, "sudo timedatectl set-ntp true"
    if found.now < found.newest:
        text = f"it says {found.now:%Y-%m-%d %H:%M}, but this program is from {found.newest:%Y-%m-%d %H:%M}"
        yield fail("clock", text, f"set it: {remedy}")
    elif found.synchronized is False:
        yield warn("clock", "nothing keeps it right (NTP is off or finds no server)", remedy)
    elif found.synchronized:
        yield ok("clock", "kept right by NTP")
    else:
        yield ok("clock", "plausible; whether NTP keeps it right cannot be seen from here")


def disk(facts: Facts) -> Iterator[Finding]:
    """There is room for the ledger."""
    found = facts.machine.disk
    if found is None:
        return
    text = f"{size(found.free)} of {size(found.total)} are free for {facts.machine.folder}"
    if found.nearly_full:
        yield warn(
            "disk", text, "make room: when it is full, calls run but what they use is not written down"
        )
    else:
        yield ok("disk", text)


def files(facts: Facts) -> Iterator[Finding]:
    """Nobody but the server's user reads what it keeps, and that user can."""
    folder, entries = facts.machine.folder, facts.machine.entries
    owner = next((entry.owner for entry in entries if entry.path == folder), None)
    told = {problem.source for problem in (facts.keys.problem, facts.ledger.problem) if problem}
    opened = [entry for entry in entries if _is_open(entry)]
    foreign = [entry for entry in entries if entry.path.startswith(f"{folder}/") and entry.owner != owner]
    for entry in opened:
        if entry.path not in told:
            text = f"{entry.path}: others may read or write it (mode {entry.mode:03o})"
            yield fail("files", text, f"chmod {_closed(entry):03o} {entry.path}, or: gpushare doctor --fix")
    for entry in foreign:
        text = f"{entry.path} belongs to another user than {folder}"
        yield fail("files", text, f"sudo chown --reference={folder} {entry.path}")
    if entries and not opened and not foreign:
        yield ok("files", f"what is kept in {folder} is for its owner alone")


def repairs(facts: Facts) -> Iterator[tuple[str, int]]:
    """Yields each path whose mode lets others in, and the mode that does not."""
    return ((entry.path, _closed(entry)) for entry in facts.machine.entries if _is_open(entry))


def _is_open(entry: Entry) -> bool:
    return entry.mode != _closed(entry)


def _closed(entry: Entry) -> int:
    return entry.mode & ~(0o077 & ~entry.allowed)
