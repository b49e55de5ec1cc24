"""systemd's protocols, spoken to and by a stand-in of the service manager."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpushare.edge.systemd import Notifier, take_listeners, take_notifier

ROOT = Path(__file__).parents[3]


class Manager:
    """The end of the notify socket that a service manager reads."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def heard(self) -> dict[str, str]:
        """Returns the next message as names and values."""
        text = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A manager at a path, and one at an abstract address."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@gpushare-test-{os.getpid()}"
    found = Manager(address)
    yield found
    found.close()


def test_each_state_is_a_message(manager: Manager) -> None:
    """What systemd acts on comes first; a reload carries the time of the clock it is compared with."""
    notifier = Notifier(address=manager.address)
    notifier.ready("Serving.")
    assert manager.heard() == {"READY": "1", "STATUS": "Serving."}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    message = manager.heard()
    assert message.pop("STATUS")
    assert before <= int(message.pop("MONOTONIC_USEC")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert message == {"RELOADING": "1"}
    notifier.alive("2 running")
    assert manager.heard() == {"WATCHDOG": "1", "STATUS": "2 running"}
    notifier.failed("It does not start: why")
    assert manager.heard() == {"STATUS": "It does not start: why"}
    notifier.failed("It does not start: /srv/\udcff is in use")  # a name that is no text
    assert manager.heard() == {"STATUS": "It does not start: /srv/? is in use"}
    notifier.stopping("Closing down.", within_s=80.5)
    assert manager.heard() == {
        "STOPPING": "1",
        "EXTEND_TIMEOUT_USEC": "80500000",
        "STATUS": "Closing down.",
    }


def test_nobody_to_tell_is_no_error(tmp_path: Path) -> None:
    """Without a service manager, or with one that is gone, nothing happens."""
    Notifier().ready("")
    Notifier(address=str(tmp_path / "gone")).ready("")


def test_the_environment_names_the_manager_once() -> None:
    """Child processes do not inherit the address."""
    env = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert take_notifier(env, 7) == Notifier(address="/run/n", watchdog_s=30.0)
    assert env == {"HOME": "/"}
    assert take_notifier(env, 7) == Notifier()


@pytest.mark.parametrize(
    ("env", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_this_process(env: dict[str, str], watchdog_s: float | None) -> None:
    """A limit for another process, or no number, is none."""
    assert take_notifier(env, 7).watchdog_s == watchdog_s


TAKE = """
import fcntl, os, sys
from gpushare.edge.systemd import FIRST_DESCRIPTOR, take_listeners
out_of_the_way = [fcntl.fcntl(int(descriptor), fcntl.F_DUPFD, 100) for descriptor in sys.argv[2:]]
for number, descriptor in enumerate(out_of_the_way):
    os.dup2(descriptor, FIRST_DESCRIPTOR + number)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
try:
    found = take_listeners(os.environ, os.getpid())
except OSError as error:
    print(error.strerror)
else:
    print([listener.getsockname()[1] for listener in found], [os.get_inheritable(s.fileno()) for s in found])
    print(take_listeners(os.environ, os.getpid()))
"""


def taken(*descriptors: int, names: str = "", other: int = 0) -> list[str]:
    """Returns what a process prints that was handed these sockets, or that another one was handed."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LISTEN_FDS": str(len(descriptors)),
        "LISTEN_FDNAMES": names,
    }
    command = [sys.executable, "-c", TAKE, str(other), *map(str, descriptors)]
    done = subprocess.run(command, env=env, pass_fds=descriptors, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening TCP socket."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def test_sockets_handed_over_are_taken_once(listener: socket.socket) -> None:
    """They come in their order, are not inherited further, and cannot be taken twice."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = [each.getsockname()[1] for each in (listener, other)]
        assert taken(listener.fileno(), other.fileno()) == [f"{ports} [False, False]", "[]"]


def test_sockets_of_another_process_are_left_alone(listener: socket.socket) -> None:
    """The variables are inherited; the sockets are for one process alone."""
    assert taken(listener.fileno(), other=1)[0] == "[] []"


def test_what_is_no_listener_is_refused_by_its_name(listener: socket.socket) -> None:
    """One line tells which socket of which unit is wrong."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wrong, socket.socket() as silent:
        for found in (wrong, silent):
            (line,) = taken(listener.fileno(), found.fileno(), names="http:stray")
            assert line == "the socket 'stray' handed over is not a TCP socket that listens"
    assert take_listeners({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 8) == []
