"""What the kernel tells of this machine: who listens where, its addresses, its processes, its files.

Called by: ``app.examination``, ``app.disk``.  Rules: what this user may not see is left out; nothing waits
for anybody.
"""

import os
import resource
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from gpushare.core.doctor.facts import Disk, Entry, Listener, Process

PROC = Path("/proc")
_LISTENING = "0A"
_LOOPBACK, _LINK_LOCAL = "10", "20"  # scopes in if_inet6


def listeners(port: int, proc: Path = PROC) -> tuple[Listener, ...]:
    """Returns who listens on a port, at whichever address."""
    found = [
        (address, inode)
        for name in ("tcp", "tcp6")
        for address, inode in _listening(proc / "self/net" / name, port)
    ]
    holders = _holders({inode for _, inode in found}, proc) if found else {}
    return tuple(
        Listener(address=address, port=port, holders=tuple(holders.get(inode, ())))
        for address, inode in found
    )


def own_addresses(proc: Path = PROC) -> tuple[str, ...]:
    """Returns the addresses of this machine that others could reach: no loopback, no link-local ones."""
    found: dict[str, None] = {}
    before = ""
    for line in _lines(proc / "self/net/fib_trie"):
        if line.endswith("/32 host LOCAL"):
            found[before] = None
        before = line.rpartition("-- ")[2].strip()
    for line in _lines(proc / "self/net/if_inet6"):
        number, _, _, scope, *_ = line.split()
        if scope not in (_LOOPBACK, _LINK_LOCAL):
            found[str(IPv6Address(int(number, 16)))] = None
    return tuple(address for address in found if not address.startswith("127."))


def environment(pid: int, proc: Path = PROC) -> Mapping[str, str] | None:
    """Returns what a process was started with, None where this user may not see it."""
    try:
        text = (proc / str(pid) / "environ").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


def descriptors(pid: int | None, proc: Path = PROC) -> int | None:
    """Returns how many files a process may have open; without one, a process that is started from here."""
    if pid is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return soft
    for line in _lines(proc / str(pid) / "limits"):
        if line.startswith("Max open files"):
            soft_text = line.split()[3]
            return int(soft_text) if soft_text.isdigit() else None
    return None


def disk(folder: Path) -> Disk | None:
    """Returns the room that users have on the disk of a folder, which need not be there yet."""
    for path in (folder, *folder.parents):
        try:
            found = os.statvfs(path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return Disk(free=found.f_bavail * found.f_frsize, total=found.f_blocks * found.f_frsize)
    return None


def entry(path: Path, *, allowed: int = 0) -> Entry | None:
    """Returns whose a file or folder is and what others may do with it; None where there is neither.

    A link is neither: its mode says nothing, and what it leads to belongs to others.
    """
    try:
        found = path.lstat()
    except OSError:
        return None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    return Entry(path=str(path), mode=found.st_mode & 0o777, owner=found.st_uid, allowed=allowed)


def inside(folder: Path) -> tuple[Path, ...]:
    """Returns the files in a folder, none of one that this user may not look into."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(Path(each.path) for each in entries if each.is_file(follow_symlinks=False)))
    except OSError:
        return ()


def newest(folder: Path) -> float:
    """Returns when the newest Python file of a folder was written, in seconds since 1970."""
    return max(path.stat().st_mtime for path in folder.rglob("*.py"))


def _listening(table: Path, port: int) -> Iterator[tuple[str, str]]:
    """Yields address and inode of each listening socket of a port."""
    for line in _lines(table)[1:]:
        fields = line.split()
        address, _, number = fields[1].partition(":")
        if fields[3] == _LISTENING and int(number, 16) == port:
            yield _address(address), fields[9]


def _address(digits: str) -> str:
    """Returns an address of the table: words of four bytes, each in the order of this machine."""
    words = [int(digits[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(digits), 8)]
    packed = b"".join(words)
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))


def _holders(inodes: set[str], proc: Path) -> dict[str, list[Process]]:
    """Returns for each socket the processes that have it, among those that this user may look into."""
    found: dict[str, list[Process]] = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        held = _sockets(folder) & inodes
        for inode in held:
            found.setdefault(inode, []).append(Process(pid=int(folder.name), name=_name(folder)))
    return found


def _sockets(process: Path) -> set[str]:
    """Returns the inodes of a process's sockets."""
    found = set()
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                kind, _, inode = str(descriptor.readlink()).partition(":")
                if kind == "socket":
                    found.add(inode.strip("[]"))
    return found


def _name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    return "?"


def _lines(path: Path) -> list[str]:
    """Returns the lines of a file, none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
