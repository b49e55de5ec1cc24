"""Becomes another program under the rules of a service unit that this machine can apply without systemd.

Run as: python sandbox.py UNIT PROGRAM [ARGUMENT...].  The system calls the unit forbids fail with EPERM, as
they do under systemd; memory cannot be made executable, and no new privileges can be had.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_MDWE = 38, 22, 65
SECCOMP_MODE_FILTER = 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF: take a word, compare it, end
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def call_set(name: str) -> set[str]:
    """Returns the system calls of one of systemd's sets, sets within it resolved."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
    ).stdout
    found: set[str] = set()
    for word in re.findall(r"^    (@?\w[\w-]*)$", text, re.MULTILINE):
        found |= call_set(word) if word.startswith("@") else {word}
    return found


def allowed_calls(unit: str) -> set[str]:
    """Returns what the ``SystemCallFilter`` lines of a unit leave."""
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        named = set().union(*(call_set(word) for word in line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def numbers() -> dict[str, int]:
    """Returns the kernel's number of each system call."""
    return {
        name: int(number)
        for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", NUMBERS.read_text(), re.MULTILINE)
    }


def apply_filter(libc: ctypes.CDLL, allowed: set[int]) -> None:
    """Lets the kernel fail every other system call from now on, in this process and all it becomes."""
    steps = [(LOAD, 0, 0, 0)]  # the number of the call
    for number in sorted(allowed):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, FAIL | 1))  # EPERM
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(kept))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter was refused")


def main() -> None:
    """Applies the rules and becomes the program."""
    unit = Path(sys.argv[1]).read_text()
    known = numbers()
    allowed = {known[name] for name in allowed_calls(unit) if name in known}
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no new privileges: refused")
    if "MemoryDenyWriteExecute=yes" in unit:
        libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # a kernel before 6.3 cannot
    apply_filter(libc, allowed)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
