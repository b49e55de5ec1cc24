"""The service manager: the sockets it hands over, and what it is told, in systemd's plain text.

Called by: ``app.process``, ``gpushare serve``.  Rules: without a service manager nothing happens; what cannot
be delivered is dropped, because nobody's call may depend on it.
"""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

FIRST_DESCRIPTOR = 3  # systemd hands sockets over from here on
SEND_TIMEOUT_S = 1.0  # longest time the loop waits for a service manager that reads nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """Tells the service manager how the server is.

    ``address`` is empty where nobody listens.  ``watchdog_s`` is how long it waits for ``alive`` before it
    restarts the service, None where it does not wait.
    """

    address: str = ""
    watchdog_s: float | None = None

    def ready(self, status: str) -> None:
        """The server serves: after its start, or after a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Reloading.")

    def stopping(self, status: str, *, within_s: float) -> None:
        """The server closes down, and has ended by then; the service manager waits so long."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(within_s * 1e6)}", f"STATUS={status}")

    def failed(self, why: str) -> None:
        """The server does not start; ``systemctl status`` shows why until the next try."""
        self._tell(f"STATUS={why}")

    def alive(self, status: str) -> None:
        """The server makes progress."""
        self._tell("WATCHDOG=1", f"STATUS={status}")

    def _tell(self, *lines: str) -> None:
        if not self.address:
            return
        target = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            try:
                sender.sendto("\n".join(lines).encode(errors="replace"), target)
            except OSError:
                return


def take_notifier(env: MutableMapping[str, str], pid: int) -> Notifier:
    """Returns how to reach the service manager, and takes that out of the environment of child processes."""
    address = env.pop("NOTIFY_SOCKET", "")
    usec, whose = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
    ours = usec.isdecimal() and int(usec) and whose in ("", str(pid))
    return Notifier(address=address, watchdog_s=int(usec) / 1e6 if ours else None)


def take_listeners(env: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """Returns the listening sockets handed over to this process; later calls return none.

    Raises:
        OSError: one of them is not a TCP socket that listens; the message names it.
    """
    passed = _passed(env, pid)
    found: list[socket.socket] = []
    try:
        for descriptor, name in passed.items():
            os.set_inheritable(descriptor, False)
            found.append(_listener(descriptor, name))
    except OSError:
        for listener in found:
            listener.close()
        raise
    return found


def _passed(env: MutableMapping[str, str], pid: int) -> Mapping[int, str]:
    """Returns the descriptors meant for this process, each with its name."""
    count, whose = env.pop("LISTEN_FDS", ""), env.pop("LISTEN_PID", "")
    names = env.pop("LISTEN_FDNAMES", "").split(":")
    if whose != str(pid) or not count.isdecimal():
        return {}
    names += ["unnamed"] * int(count)
    return {FIRST_DESCRIPTOR + number: names[number] or "unnamed" for number in range(int(count))}


def _listener(descriptor: int, name: str) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(error.errno, f"the socket {name!r} handed over cannot be used") from error
    tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
    if not tcp or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()  # not ours to close
        raise OSError(None, f"the socket {name!r} handed over is not a TCP socket that listens")
    return found
