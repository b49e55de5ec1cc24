"""The service under systemd itself: what a stand-in for the service manager cannot show."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.booted.conftest import ELSEWHERE, Machine

CONFIG = "/etc/gpushare/config.toml"
UNITS = "/etc/systemd/system"
DATABASE = "/var/lib/gpushare/ledger.db"
ASK = "curl -sS -m 90 http://127.0.0.1:11435/api/version"


class Service:
    """The service on its machine, and the first key."""

    def __init__(self, machine: Machine, key: str) -> None:
        self.machine = machine
        self.key = key

    @property
    def restarts(self) -> int:
        """How often systemd has started it again by itself."""
        return int(self.machine.shows("NRestarts"))

    def running_stream(self) -> subprocess.Popen[str]:
        """Returns a call whose answer has begun and would take a minute."""
        body = json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": "#sim:tokens=600,delay_ms=100"}]}
        )
        url = "http://127.0.0.1:11435/api/chat"
        call = self.machine.start(f"curl -sN {url} -H 'Authorization: Bearer {self.key}' -d '{body}'")
        assert call.stdout is not None
        assert "message" in call.stdout.readline()
        return call

    def ledger(self, rows: str) -> int:
        """Returns how many rows the ledger has."""
        count = f"select count(*) from {rows}"
        code = f"import sqlite3; print(sqlite3.connect('{DATABASE}').execute(\"{count}\").fetchone()[0])"
        return int(self.machine.run(f"python3 -c {shlex.quote(code)}"))


@pytest.fixture
def service(booted: Machine) -> Iterator[Service]:
    """The service, installed for the test and purged after it."""
    said = booted.run("./run install --yes --listen 0.0.0.0:11435")
    found = re.search(r"^gs_\w+$", said, re.MULTILINE)
    assert found, said
    yield Service(booted, found[0])
    booted.run("gpushare uninstall --purge --yes")
    left = " ".join(f"{place}/gpushare*" for place in ("/etc", "/opt", "/var/lib", "/usr/local/bin", UNITS))
    booted.run(f"ls -d {left}", status=2)
    booted.run("id gpushare", status=1)


def test_it_serves_once_it_is_installed(service: Service) -> None:
    """P25: active means that it serves; doctor finds nothing wrong, and the exposure is what was promised."""
    machine = service.machine
    assert machine.shows("StatusText").startswith("Serving on http://0.0.0.0:11435.")
    machine.run("systemd-analyze security --threshold=15 gpushare")
    machine.run("gpushare doctor")
    assert machine.run(f"curl -s {ELSEWHERE}:11435/healthz")  # what comes through the socket is not filtered
    denied = (
        f"systemd-run -q --wait -p IPAddressDeny=any -p IPAddressAllow=localhost curl -sm 2 {ELSEWHERE}:11435"
    )
    machine.run(denied, status=28)


def test_a_restart_refuses_nobody(service: Service) -> None:
    """P23: no connection is refused or reset, viewers are told, and no answer is cut without a word."""
    machine = service.machine
    callers = machine.start(f".venv/bin/python -m tests.booted.callers {service.key} 20")
    while callers.poll() is None:
        machine.run("systemctl restart gpushare; sleep 1")
    seen = json.loads(callers.communicate()[0])
    assert seen.keys() >= {"list 200 whole", "chat 200 whole", "viewer 200 whole"}
    usual = {"list 503 whole", "chat 503 whole", "viewer 503"}
    assert seen.keys() - {"list 200 whole", "chat 200 whole", "viewer 200 whole", *usual} == set(), seen
    assert service.restarts == 0


def test_a_stop_ends_what_runs(service: Service) -> None:
    """P22: what runs may finish for the grace, and is then told."""
    machine = service.machine
    machine.run(
        f"sed -i 's/^shutdown_grace = .*/shutdown_grace = \"1s\"/' {CONFIG}; systemctl reload gpushare"
    )
    call = service.running_stream()
    machine.run("systemctl stop gpushare.socket gpushare")
    assert "error" in call.communicate()[0].splitlines()[-1]
    assert machine.shows("Result") == "success"


def test_a_mistake_in_the_settings(service: Service) -> None:
    """A reload says so and changes nothing; a restart says why it fails, and who waits is served then."""
    machine, process = service.machine, service.machine.shows("MainPID")
    machine.run(f"cp {CONFIG} /tmp/good; echo 'nonsense = 1' >> {CONFIG}")
    machine.run("systemctl reload gpushare", status=1)
    assert machine.shows("MainPID") == process
    machine.until(lambda: "Settings or keys on disk" in machine.shows("StatusText"))
    assert "config.rejected" in machine.run("journalctl -u gpushare -p err -o cat")
    machine.run("systemctl restart gpushare", status=1)
    caller = machine.start(ASK)
    machine.until(lambda: service.restarts >= 2)
    assert machine.shows("ActiveState", "gpushare.socket") == "active"
    machine.until(lambda: "nonsense: no such setting" in machine.shows("StatusText"))
    machine.run(f"cp /tmp/good {CONFIG}")
    assert "version" in caller.communicate()[0]
    assert service.restarts < 10


def test_a_process_that_is_gone_or_stands_still(service: Service) -> None:
    """P24, P40: it is started again, once, and the ledger knows what was lost."""
    machine = service.machine
    drop_in = "/run/systemd/system/gpushare.service.d"
    machine.run(f"mkdir -p {drop_in}; printf '[Service]\\nWatchdogSec=4\\n' > {drop_in}/watchdog.conf")
    machine.run("systemctl daemon-reload; systemctl restart gpushare")
    for signal, times in (("KILL", 1), ("STOP", 2)):
        call = service.running_stream()
        machine.until(lambda: service.ledger("running") == 1)
        machine.run(f"systemctl kill --signal={signal} --kill-who=main gpushare")
        machine.until(lambda times=times: service.restarts == times)  # type: ignore[misc]
        assert "version" in machine.run(ASK)
        assert '"done":true' not in call.communicate()[0]
        assert service.ledger("calls where outcome = 'lost_crash'") == times
    assert "Watchdog timeout" in machine.run("journalctl -u gpushare -o cat")
    machine.run(f"rm -r {drop_in}; systemctl daemon-reload")
