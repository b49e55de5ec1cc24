"""A Debian with the service in it, booted by systemd in a container: ``sudo ./run test booted``.

It is made once, over the network, in ``.cache/booted``, and takes half a gigabyte; that, and that only root
can boot it, is why this suite runs by name only.  The container has its own /dev, /tmp, /run and network, and
what the tests write is gone with it.
"""

import faulthandler
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREE = ROOT / ".cache" / "booted"
LOG = TREE.with_suffix(".log")
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,curl,iproute2"
SHARED = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")  # how this machine reaches the package index
BOX = ("systemd-nspawn", f"--directory={TREE}", "--register=no", "--keep-unit", "--quiet")
BPF = ("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON")  # for IPAddressDeny=
ELSEWHERE = "10.9.9.1"  # an address of the machine that is not loopback
GUARD = "test -e /run/host/container-manager || exit 99; cd /srv/gpushare"
PATIENCE_S = 120


class Machine:
    """The booted machine in its container, ``box``."""

    def __init__(self, box: subprocess.Popen[bytes]) -> None:
        self._box = box

    def start(self, command: str) -> subprocess.Popen[str]:
        """Starts a command of the shell, as root, in the checkout; never outside of the container."""
        path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inside = ["nsenter", f"--target={self._first()}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        return subprocess.Popen(
            [*inside, "env", "-i", path, "HOME=/root", "sh", "-c", f"{GUARD}; {command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _first(self) -> int:
        """Returns its first process; another one has that place while the container is being made."""
        children = Path(f"/proc/{self._box.pid}/task/{self._box.pid}/children")
        while self._box.poll() is None:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.05)
        pytest.fail(LOG.read_text())

    def run(self, command: str, *, status: int | None = 0) -> str:
        """Runs a command to its end, which is to have this exit status, and returns what it said."""
        child = self.start(command)
        said, _ = child.communicate(timeout=PATIENCE_S)
        assert status in (None, child.returncode), said
        return said.strip()

    def shows(self, name: str, unit: str = "gpushare.service") -> str:
        """Returns a property of a unit."""
        return self.run(f"systemctl show {unit} --property={name} --value")

    def until(self, condition: Callable[[], object]) -> None:
        """Waits for something to come true."""
        ends = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < ends, self.run("systemctl status gpushare", status=None)
            time.sleep(0.2)


@pytest.fixture(scope="session")
def booted() -> Iterator[Machine]:
    """The machine, with a simulated Ollama and without the service."""
    if os.geteuid() or not (shutil.which("systemd-nspawn") and shutil.which("debootstrap")):
        pytest.skip("needs root, and: sudo apt install systemd-container debootstrap")
    faulthandler.cancel_dump_traceback_later()  # fetching it may take longer than a test may
    prepare()
    command = [*BOX, "--boot", "--volatile=overlay", "--private-network", "--console=pipe", *BPF]
    env = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with LOG.open("w") as log:
        box = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        machine = Machine(box)
        machine.until(
            lambda: machine.run("systemctl is-system-running", status=None) in ("running", "degraded")
        )
        machine.run(f"ip address add {ELSEWHERE}/24 dev lo")
        ollama = "sleep infinity | .venv/bin/python -m tests.soak.ollama 11434"
        machine.run(f"systemd-run --quiet --unit=ollama --working-directory=$PWD sh -c '{ollama}'")
        machine.until(lambda: "version" in machine.run("curl -s 127.0.0.1:11434/api/version", status=None))
        yield machine
        machine.run("systemctl poweroff", status=None)
        box.wait(PATIENCE_S)
    finally:
        box.terminate()  # ends everything in it
        box.wait()


def prepare() -> None:
    """Makes the tree, or brings the checkout in it up to date."""
    if not (TREE / "srv").exists():
        TREE.parent.mkdir(exist_ok=True)
        shutil.rmtree(TREE, ignore_errors=True)
        made = [f"--include={PACKAGES}", "--variant=minbase", "bookworm", str(TREE)]
        subprocess.run(["debootstrap", *made], check=True)
    for path in map(Path, SHARED):
        if path.exists():
            shutil.copyfile(path, TREE / path.relative_to("/"))
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        target = TREE / "srv" / "gpushare" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    subprocess.run([*BOX, "/srv/gpushare/run", "--version"], check=True, stdin=subprocess.DEVNULL)
