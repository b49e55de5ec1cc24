"""What each check says of what was found, and that everything wrong comes with a remedy."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from gpushare.core import breaker
from gpushare.core.about import Probe
from gpushare.core.config import Config, parse
from gpushare.core.doctor import CHECKS, Level, examine, repairs, report, summary
from gpushare.core.doctor.base import Finding
from gpushare.core.doctor.facts import (
    Clock,
    Disk,
    Door,
    Entry,
    Facts,
    Front,
    Keys,
    Ledger,
    Listener,
    Machine,
    Ollama,
    Process,
    Running,
)
from gpushare.core.doctor.server import AS_ROOT, WHY
from gpushare.core.gpu import GpuReading, GpuReport
from gpushare.core.ledger import LedgerState
from gpushare.core.problems import Problem

NOW = datetime(2026, 11, 20, 14, 3, tzinfo=UTC)
FOLDER = "/var/lib/gpushare"
CARD = GpuReading(index=0, name="NVIDIA RTX 4090", memory_total=24 * 1024**3)
LISTEN = "127.0.0.1:11435"


def machine(**changes: Any) -> Machine:
    """A machine on which all is well and gpushare runs."""
    holder = Listener(address="127.0.0.1", port=11435, holders=(Process(pid=700, name="gpushare"),))
    well = Machine(
        door=Door(where=LISTEN, listeners=(holder,), server="gpushare"),
        clock=Clock(now=NOW, newest=NOW - timedelta(days=30), synchronized=True),
        folder=FOLDER,
        entries=(
            Entry(path=FOLDER, mode=0o700, owner=990, allowed=0o055),
            Entry(path=f"{FOLDER}/keys.toml", mode=0o600, owner=990),
        ),
        disk=Disk(free=90_000_000_000, total=100_000_000_000),
        service={"ActiveState": "active", "Type": "notify"},
        socket={"ActiveState": "active", "Listen": f"{LISTEN} (Stream)"},
        descriptors=8192,
        certificate_ends=NOW + timedelta(days=60),
    )
    return replace(well, **changes)


def facts(settings: str = "", **changes: Any) -> Facts:
    """Facts of which nothing is wrong, but for the changes; those of the machine go by their own names."""
    own = {name: value for name, value in changes.items() if name in Machine.__dataclass_fields__}
    well = Facts(
        config=parse(settings, source="test", env={}),
        source="/etc/gpushare/config.toml",
        differing=6,
        keys=Keys(people=4, admins=1),
        ledger=Ledger(path=f"{FOLDER}/ledger.db", size=14_200_000),
        ollama=Ollama(version="0.21.0", models=7, answer_s=0.003, environment={}),
        gpu=GpuReport(readings=(CARD,), driver="580.65"),
        machine=machine(**own),
    )
    return replace(well, **{name: value for name, value in changes.items() if name not in own})


def about(subject: str, found: Facts) -> list[tuple[str, str, str]]:
    """Returns level, text and remedy of everything that is said of a subject."""
    findings = examine(found).findings
    return [(one.level.value, one.text, one.fix) for one in findings if one.subject == subject]


def the(subject: str, found: Facts) -> tuple[str, str, str]:
    """Returns the one thing that is said of a subject."""
    (one,) = about(subject, found)
    return one


WELL = Running(
    breaker=breaker.Door.CLOSED,
    failing=(),
    ledger=LedgerState(writable=True, lag_s=0.0, waiting=0, written=7, lost=0, answered_s=0.1),
    rejected=False,
)


@pytest.mark.parametrize(
    ("running", "level", "subject", "text"),
    [
        (replace(WELL, breaker=breaker.Door.OPEN), "fail", "ollama", "kept failing: nothing is sent to it"),
        (
            replace(WELL, breaker=breaker.Door.HALF_OPEN),
            "fail",
            "ollama",
            "kept failing: one call at a time, on trial",
        ),
        (replace(WELL, failing=("m",)), "warn", "ollama", "kept failing with m: its calls are refused"),
        (
            replace(WELL, rejected=True),
            "warn",
            "config",
            "what is on disk has mistakes, so the earlier settings and keys are in use",
        ),
        (
            replace(WELL, ledger=structs.replace(WELL.ledger, writable=False, waiting=3)),
            "fail",
            "ledger",
            "cannot be written; 3 rows wait, and calls are served all the same",
        ),
        (
            replace(WELL, ledger=structs.replace(WELL.ledger, lost=2)),
            "warn",
            "ledger",
            "2 rows were lost since the start, because the disk took none for too long",
        ),
    ],
)
def test_what_a_server_knows_of_itself(running: Running, level: str, subject: str, text: str) -> None:
    """From within more is to be seen; each with its remedy."""
    assert examine(facts(running=WELL)) == examine(facts())
    (found,) = [one for one in examine(facts(running=running)).findings if one.level is not Level.OK]
    assert (found.level.value, found.subject, found.text) == (level, subject, text)
    assert found.fix


def test_a_server_does_not_say_that_it_does_not_run() -> None:
    """It may listen elsewhere than its settings say; from outside nobody can know that."""
    free = Door(where=LISTEN)
    assert the("port", facts(door=free))[1] == f"{LISTEN} is free: gpushare does not run"
    level, text, _ = the("port", facts(door=free, running=WELL))
    assert (level, text) == (
        "ok",
        f"nobody listens on {LISTEN}: this server was started with another address",
    )


def test_all_is_well() -> None:
    """One line for each subject, as people have seen them in the documents."""
    found = examine(facts())
    assert {finding.level for finding in found.findings} == {Level.OK}
    assert {finding.subject: finding.text for finding in found.findings} == {
        "config": "/etc/gpushare/config.toml, 6 settings differ from the defaults",
        "ollama": "0.21.0 at 127.0.0.1:11434, 7 models, answers in 3 ms",
        "gpu": "NVIDIA RTX 4090, driver 580.65, 24.0 GB",
        "slots": "1, as many as Ollama runs at a time",
        "keys": "4 people, 1 of them admin",
        "ledger": "/var/lib/gpushare/ledger.db, 14 MB, integrity ok",
        "port": "127.0.0.1:11435 is answered by gpushare",
        "tls": "the certificate holds until 2027-01-19",
        "clock": "kept right by NTP",
        "disk": "90.0 GB of 100.0 GB are free for /var/lib/gpushare",
        "files": "what is kept in /var/lib/gpushare is for its owner alone",
        "limits": "8192 files may be open, 771 are needed for 512 connections",
        "service": "gpushare.service is active",
    }
    assert summary(found) == "all is well"


def test_counts() -> None:
    """The last line says how many, in the singular too, and leaves out what there is none of."""
    bad = [Finding(level=level, subject="x", text="x", fix="x") for level in (Level.WARN, Level.FAIL)]
    assert summary(report([bad[0], bad[0], bad[1]])) == "2 warnings, 1 problem"
    assert summary(report(bad[:1])) == "1 warning"
    assert summary(report(bad[1:] * 2)) == "2 problems"


# --- config, keys, ledger --------------------------------------------------------------------------------


def test_settings_that_cost_something_are_told_under_their_subject() -> None:
    """A listener without TLS is a matter of listening, a long wait one of the settings."""
    text = '[server]\nlisten = "0.0.0.0:11435"\n[queue]\nmax_wait = "6m"\n'
    level, said, fix = about("listen", facts(text, socket={}))[0]
    assert (level, said) == ("warn", "server.listen is 0.0.0.0:11435: other machines reach it without TLS")
    assert "firewall" in fix
    assert [level for level, _, _ in about("config", facts(text))] == ["ok", "warn"]
    assert "1 setting differs" in the("config", facts(differing=1))[1]


PROBLEM = Problem(
    source=f"{FOLDER}/keys.toml", message="others may read or write it", hint="fix: chmod 600 it"
)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            Keys(),
            ("fail", "nobody has a key, so every call is refused", "gpushare key add NAME --role admin"),
        ),
        (
            Keys(people=1),
            ("warn", "1 person, none of them an admin", "gpushare key set NAME --role admin"),
        ),
        (
            Keys(problem=PROBLEM),
            ("fail", f"{FOLDER}/keys.toml: others may read or write it", "chmod 600 it"),
        ),
        (
            Keys(problem=replace(PROBLEM, message="cannot be read", hint="")),
            (
                "fail",
                f"{FOLDER}/keys.toml: cannot be read",
                "sudo gpushare doctor, if this user may not read it",
            ),
        ),
    ],
)
def test_keys(keys: Keys, expected: tuple[str, str, str]) -> None:
    """Nobody, nobody who can give out more, a file that cannot be used, a file that this user cannot read."""
    assert the("keys", facts(keys=keys)) == expected


def test_a_ledger() -> None:
    """None yet is fine, one that cannot be read now is a warning, damage is a problem with its own remedy."""
    path = f"{FOLDER}/ledger.db"
    assert the("ledger", facts(ledger=Ledger(path=path)))[:2] == (
        "ok",
        f"{path} is made when gpushare first runs",
    )
    locked = Ledger(path=path, error="database is locked")
    assert the("ledger", facts(ledger=locked)) == (
        "warn",
        f"{path} cannot be read now (database is locked)",
        f"{AS_ROOT}; calls run all the same; if it lasts: {WHY}",
    )
    damaged = Ledger(path=path, problem=Problem(source=path, message="is damaged", hint="fix: mv it"))
    assert the("ledger", facts(ledger=damaged)) == ("fail", f"{path}: is damaged", "mv it")


# --- Ollama, slots, GPU ----------------------------------------------------------------------------------


def test_ollama_that_does_not_answer() -> None:
    """Where it was asked, and why nothing came."""
    level, text, fix = the("ollama", facts(ollama=Ollama(error="connection refused")))
    assert (level, text) == ("fail", "does not answer at 127.0.0.1:11434 (connection refused)")
    assert "systemctl status ollama" in fix


def test_ollama_without_models() -> None:
    """It answers, and no call can succeed yet."""
    level, _, fix = the("ollama", facts(ollama=Ollama(version="0.21.0", environment={})))
    assert (level, fix) == ("warn", "ollama pull MODEL")


@pytest.mark.parametrize(
    ("settings", "own"),
    [("", "127.0.0.1"), ('[ollama]\nurl = "http://127.0.0.1:9999"', "127.0.0.1:9999")],
)
def test_ollama_around_the_queue(settings: str, own: str) -> None:
    """Told with the line that closes it."""
    open_one = replace(facts().ollama, open_at=("0.0.0.0:11434",))
    _, (level, text, fix) = about("ollama", facts(settings, ollama=open_one))
    assert (level, text) == ("warn", "listens on 0.0.0.0:11434: people can go round gpushare")
    assert fix == f"sudo systemctl edit ollama  → Environment=OLLAMA_HOST={own}, then restart it"


UNSEEN = "how many it runs at a time cannot be seen from here"


@pytest.mark.parametrize(
    ("slots", "environment", "version", "level", "text"),
    [
        (1, {}, "0.21.0", "ok", "1, as many as Ollama runs at a time"),
        (1, {}, "0.10.0", "ok", "1, as many as Ollama runs at a time"),
        (4, {"OLLAMA_NUM_PARALLEL": "4"}, "0.21.0", "ok", "4, as many as Ollama runs at a time"),
        (4, {"OLLAMA_NUM_PARALLEL": "4"}, "", "ok", "4, as many as Ollama runs at a time"),
        (2, {}, "0.21.0", "warn", "queue.slots is 2 but Ollama runs 1 at a time (OLLAMA_NUM_PARALLEL)"),
        (
            1,
            {"OLLAMA_NUM_PARALLEL": "4"},
            "0.21.0",
            "warn",
            (
                "queue.slots is 1 but Ollama runs 4 at a time (OLLAMA_NUM_PARALLEL), "
                "and keeps memory for all of them"
            ),
        ),
        (1, None, "0.21.0", "ok", f"1, which suits every Ollama; {UNSEEN}"),
        (1, {}, "0.9.6", "ok", f"1, which suits every Ollama; {UNSEEN}"),
        (1, {}, "unknown", "ok", f"1, which suits every Ollama; {UNSEEN}"),
        (1, {"OLLAMA_NUM_PARALLEL": "0"}, "0.21.0", "ok", f"1, which suits every Ollama; {UNSEEN}"),
        (1, {"OLLAMA_NUM_PARALLEL": "two"}, "0.21.0", "ok", f"1, which suits every Ollama; {UNSEEN}"),
        (
            2,
            None,
            "0.21.0",
            "warn",
            "queue.slots is 2; whether Ollama runs as many at a time cannot be seen from here",
        ),
    ],
)
def test_slots(
    slots: int, environment: Mapping[str, str] | None, version: str, level: str, text: str
) -> None:
    """Compared with what Ollama was started with, else its version's default; nothing is guessed."""
    ollama = replace(facts().ollama, environment=environment, version=version)
    found = facts(f"[queue]\nslots = {slots}", ollama=ollama)
    assert the("slots", found)[:2] == (level, text)


def test_slots_have_two_remedies() -> None:
    """Either side can follow the other."""
    assert (
        the("slots", facts("[queue]\nslots = 2"))[2] == "set slots = 1, or OLLAMA_NUM_PARALLEL=2 for Ollama"
    )


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (None, [("ok", "no numbers are wanted (gpu.backend)")]),
        (GpuReport(), []),
        (
            GpuReport(readings=(CARD, GpuReading(index=1, lost=True)), error="GPU 1: GPU is lost"),
            [("ok", "NVIDIA RTX 4090, 24.0 GB"), ("fail", "numbers are missing: GPU 1: GPU is lost")],
        ),
        (
            GpuReport(error="Driver Not Loaded"),
            [("warn", "numbers are missing: Driver Not Loaded")],
        ),
        (
            GpuReport(error="NVML Shared Library Not Found", absent=True),
            [
                (
                    "warn",
                    "no NVIDIA driver here, so pages have no GPU numbers: NVML Shared Library Not Found",
                ),
            ],
        ),
    ],
)
def test_gpu(report: GpuReport | None, expected: list[tuple[str, str]]) -> None:
    """Each card has a line; what is missing is told in the driver's own words."""
    assert [(level, text) for level, text, _ in about("gpu", facts(gpu=report))] == expected


# --- the address -----------------------------------------------------------------------------------------


def listener(*holders: Process) -> tuple[Listener, ...]:
    """Returns that these hold the address."""
    return (Listener(address="127.0.0.1", port=11435, holders=holders),)


@pytest.mark.parametrize(
    ("door", "level", "text", "fix"),
    [
        (Door(where=LISTEN), "ok", f"{LISTEN} is free: gpushare does not run", ""),
        (
            Door(where=LISTEN, listeners=listener(Process(pid=812, name="node")), server="Express"),
            "fail",
            f"{LISTEN} is taken by pid 812 (node)",
            "stop it, or set server.listen to another port",
        ),
        (
            Door(where=LISTEN, listeners=listener(), server=None),
            "fail",
            f"{LISTEN} is taken by another program",
            "sudo gpushare doctor names it; stop it, or set server.listen to another port",
        ),
        (
            Door(where=LISTEN, listeners=listener(Process(pid=812, name="gpushare")), server=None),
            "fail",
            f"{LISTEN} is held by gpushare, pid 812 (gpushare), which does not answer",
            "journalctl -u gpushare -n 50, then: sudo systemctl restart gpushare",
        ),
        (
            Door(where="127.0.0.1:80", refused="permission denied"),
            "fail",
            "nobody can listen on 127.0.0.1:80 (permission denied)",
            "set server.listen to an address of this machine, with a port from 1024 on",
        ),
    ],
)
def test_port(door: Door, level: str, text: str, fix: str) -> None:
    """Free, taken, taken by whom nobody sees, held by a gpushare that hangs, not to be had."""
    assert the("port", facts(door=door, socket={})) == (level, text, fix)


@pytest.mark.parametrize("holders", [(), (Process(pid=1, name="systemd"),)])
def test_a_port_that_the_socket_unit_holds(holders: tuple[Process, ...]) -> None:
    """Whoever sees that systemd has it is not told to stop systemd."""
    level, text, fix = the("port", facts(door=Door(where=LISTEN, listeners=listener(*holders))))
    assert (level, text) == ("fail", f"{LISTEN} is held by gpushare.socket, whose service does not answer")
    assert fix == "journalctl -u gpushare -n 50, then: sudo systemctl restart gpushare"


def test_a_socket_unit_at_another_address() -> None:
    """It counts in place of the setting, which people should know."""
    found = facts('[server]\nlisten = "127.0.0.1:8000"')
    level, text, _ = the("listen", found)
    assert level == "warn"
    assert text == f"gpushare.socket listens on {LISTEN}, in place of server.listen (127.0.0.1:8000)"


SHUT = {"ActiveState": "active", "Type": "notify", "IPAddressDeny": "::/0 0.0.0.0/0"}
LOOPBACK = {**SHUT, "IPAddressAllow": "127.0.0.0/8 ::1/128"}
LAN = {**SHUT, "IPAddressAllow": "127.0.0.0/8 192.168.0.0/16"}
OPEN = '[server]\nlisten = "0.0.0.0:11435"\ntls_cert = "a"\ntls_key = "b"\n'
HELD = {"ActiveState": "active", "Listen": "0.0.0.0:11435 (Stream)"}


@pytest.mark.parametrize(
    ("service", "socket", "said"),
    [
        (LOOPBACK, {}, ["the service lets only this machine reach 0.0.0.0:11435 (IPAddressAllow)"]),
        (LOOPBACK, HELD, []),
        (LAN, {}, []),
        ({"ActiveState": "active"}, {}, []),
    ],
)
def test_a_unit_that_lets_nobody_in(
    service: Mapping[str, str], socket: Mapping[str, str], said: list[str]
) -> None:
    """Which goes unnoticed until a colleague tries; what comes through a socket unit it cannot refuse."""
    found = about("listen", facts(OPEN, service=service, socket=socket))
    assert [text for level, text, _ in found if level == "fail"] == said


def test_a_unit_that_lets_nobody_out() -> None:
    """The shipped one reaches an Ollama on the same machine alone."""
    far = facts('[ollama]\nurl = "http://10.0.0.2:11434"', service=LOOPBACK, socket=HELD)
    level, text, fix = about("ollama", far)[-1]
    assert (level, text) == ("fail", "the service may not reach http://10.0.0.2:11434 (IPAddressAllow)")
    assert fix.endswith("IPAddressAllow=10.0.0.2, then restart it")
    assert len(about("ollama", replace(far, machine=machine(service=LAN)))) == 2


@pytest.mark.parametrize(
    ("left", "level", "text"),
    [
        (timedelta(days=-1), "fail", "the certificate ended on 2026-11-19"),
        (timedelta(), "fail", "the certificate ended on 2026-11-20"),
        (timedelta(days=3), "warn", "the certificate ends on 2026-11-23, in 3 days"),
    ],
)
def test_certificate(left: timedelta, level: str, text: str) -> None:
    """Ended, or about to."""
    assert the("tls", facts(certificate_ends=NOW + left))[:2] == (level, text)


# --- the way people come ---------------------------------------------------------------------------------

PUBLIC = '[server]\npublic_url = "https://gpu.example.lan"'


def lines(**changes: Any) -> tuple[Probe, ...]:
    """Returns five lines sent over a second."""
    seen = {"peer": "127.0.0.1", "client": "192.0.2.7", "forwarded": True, "trusted": True, **changes}
    return tuple(Probe(line=number + 1, of=5, sent_s=number / 4, **seen) for number in range(5))


APART = (0.0, 0.24, 0.51, 0.75, 1.0)
TOGETHER = (0.0, 0.0, 0.001, 0.001, 0.002)


@pytest.mark.parametrize(
    ("front", "level", "text"),
    [
        (Front(), "warn", "https://gpu.example.lan was not tried: that needs a key"),
        (
            Front(asked=True, error="no such host"),
            "warn",
            "https://gpu.example.lan does not lead to gpushare (no such host)",
        ),
        (
            Front(asked=True, lines=lines(), arrived_s=TOGETHER, via="nginx/1.22.1"),
            "fail",
            (
                "https://gpu.example.lan (nginx/1.22.1) holds answers back: "
                "lines sent over 1.0 s arrive within 0.0 s"
            ),
        ),
        (
            Front(asked=True, lines=lines(), arrived_s=APART, via="1.1 Caddy"),
            "ok",
            (
                "https://gpu.example.lan (1.1 Caddy) passes answers on as they come; "
                "that it waits out 4 min of silence was not tried, see extras/nginx.conf"
            ),
        ),
        (
            Front(asked=True, lines=lines(), arrived_s=APART),
            "ok",
            "https://gpu.example.lan passes answers on as they come",
        ),
    ],
)
def test_front(front: Front, level: str, text: str) -> None:
    """Not tried, not reached, held back, passed on by somebody, passed on by nobody."""
    assert the("proxy", facts(PUBLIC, front=front))[:2] == (level, text)


def test_without_a_public_address_nothing_is_said() -> None:
    """There is nothing to try."""
    assert about("proxy", facts()) == []


def test_a_proxy_that_is_not_believed() -> None:
    """Its callers share one address, and so its limits."""
    stranger = lines(peer="10.0.0.5", client="10.0.0.5", trusted=False)
    front = Front(asked=True, lines=stranger, arrived_s=APART)
    _, (level, text, fix) = about("proxy", facts(PUBLIC, front=front))
    assert (level, fix) == ("warn", 'add "10.0.0.5" to server.trusted_proxies')
    assert text.startswith("10.0.0.5 says who its callers are and is not believed")
    direct = Front(asked=True, lines=lines(trusted=False, forwarded=False), arrived_s=APART)
    assert len(about("proxy", facts(PUBLIC, front=direct))) == 1


# --- the machine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "level", "text"),
    [
        (
            Clock(now=NOW, newest=NOW + timedelta(days=1), synchronized=True),
            "fail",
            "it says 2026-11-20 14:03, but this program is from 2026-11-21 14:03",
        ),
        (
            Clock(now=NOW, newest=NOW, synchronized=False),
            "warn",
            "nothing keeps it right (NTP is off or finds no server)",
        ),
        (
            Clock(now=NOW, newest=NOW),
            "ok",
            "plausible; whether NTP keeps it right cannot be seen from here",
        ),
    ],
)
def test_clock(clock: Clock, level: str, text: str) -> None:
    """Impossible, left alone, unknown."""
    assert the("clock", facts(clock=clock))[:2] == (level, text)


def test_disk() -> None:
    """Below a twentieth it is told."""
    assert the("disk", facts(disk=Disk(free=5, total=100)))[0] == "ok"
    level, text, _ = the("disk", facts(disk=Disk(free=49_000_000, total=1_000_000_000)))
    assert (level, text) == ("warn", "49 MB of 1.0 GB are free for /var/lib/gpushare")
    assert about("disk", facts(disk=None)) == []


def test_files_that_others_may_read() -> None:
    """Each is a problem, and can be repaired; a folder may be read and not written in."""
    entries = (
        Entry(path=FOLDER, mode=0o775, owner=990, allowed=0o055),
        Entry(path=f"{FOLDER}/keys.toml", mode=0o644, owner=990),
        Entry(path=f"{FOLDER}/ledger.db", mode=0o600, owner=990),
        Entry(path="/etc/ssl/private/atlas.key", mode=0o640, owner=0, allowed=0o070),
    )
    found = facts(entries=entries)
    assert [text for _, text, _ in about("files", found)] == [
        "/var/lib/gpushare: others may read or write it (mode 775)",
        "/var/lib/gpushare/keys.toml: others may read or write it (mode 644)",
    ]
    assert about("files", found)[1][2] == "chmod 600 /var/lib/gpushare/keys.toml, or: gpushare doctor --fix"
    assert list(repairs(found)) == [(FOLDER, 0o755), (f"{FOLDER}/keys.toml", 0o600)]


def test_a_file_is_told_once() -> None:
    """What the key file's own check says is not said again, and is repaired all the same."""
    entries = (
        Entry(path=FOLDER, mode=0o700, owner=9),
        Entry(path=f"{FOLDER}/keys.toml", mode=0o644, owner=9),
    )
    found = facts(entries=entries, keys=Keys(problem=PROBLEM))
    assert [finding.subject for finding in examine(found).findings if finding.level is Level.FAIL] == ["keys"]
    assert list(repairs(found)) == [(f"{FOLDER}/keys.toml", 0o600)]


def test_a_file_of_another_user() -> None:
    """The service could not read what root left there."""
    entries = (
        Entry(path=FOLDER, mode=0o700, owner=990, allowed=0o055),
        Entry(path=f"{FOLDER}/keys.toml", mode=0o600, owner=0),
    )
    level, text, fix = the("files", facts(entries=entries))
    assert level == "fail"
    assert text == f"{FOLDER}/keys.toml belongs to another user than {FOLDER}"
    assert fix == f"sudo chown --reference={FOLDER} {FOLDER}/keys.toml"


def test_limits() -> None:
    """Fewer descriptors than connections is a warning that names the number to set."""
    level, text, fix = the("limits", facts("[server]\nmax_connections = 9000"))
    assert (level, text) == ("warn", "8192 files may be open, 9259 are needed for 9000 connections")
    assert "LimitNOFILE=9259" in fix
    assert about("limits", facts(descriptors=None)) == []


@pytest.mark.parametrize(
    ("service", "socket", "expected"),
    [
        ({}, {}, []),
        ({"ActiveState": "failed"}, {}, [("fail", "gpushare.service has failed")]),
        (
            {"ActiveState": "activating", "SubState": "auto-restart"},
            {"ActiveState": "active"},
            [("fail", "gpushare.service does not start; it is tried again every few seconds")],
        ),
        (
            {"ActiveState": "activating", "SubState": "start"},
            {"ActiveState": "active"},
            [("ok", "gpushare.service is activating")],
        ),
        ({"ActiveState": "inactive"}, {}, [("warn", "gpushare.service is installed and does not run")]),
        (
            {"ActiveState": "inactive"},
            {"ActiveState": "active"},
            [("ok", "gpushare.service is inactive")],
        ),
        (
            {"ActiveState": "active", "Type": "exec", "TimeoutStopUSec": "1min"},
            {},
            [
                ("ok", "gpushare.service is active"),
                ("warn", "systemd kills after 60 s, while answers may finish for 60 s"),
            ],
        ),
        (
            {"ActiveState": "active", "Type": "exec", "TimeoutStopUSec": "1min 14s"},
            {},
            [("ok", "gpushare.service is active")],
        ),
        (
            {"ActiveState": "active", "Type": "exec", "TimeoutStopUSec": "infinity"},
            {},
            [("ok", "gpushare.service is active")],
        ),
        (
            {"ActiveState": "active", "Type": "notify", "TimeoutStopUSec": "1s"},
            {},
            [("ok", "gpushare.service is active")],
        ),
    ],
)
def test_service(
    service: Mapping[str, str], socket: Mapping[str, str], expected: list[tuple[str, str]]
) -> None:
    """Not there, failed, failing again and again, stopped, started when asked, without the time to end."""
    found = facts(service=service, socket=socket)
    assert [(level, text) for level, text, _ in about("service", found)] == expected


SICK = facts(
    '[server]\nlisten = "0.0.0.0:80"\npublic_url = "http://atlas"\nmax_connections = 9000\n'
    "[queue]\nslots = 3\n",
    keys=Keys(),
    ledger=Ledger(path="x", error="locked"),
    ollama=Ollama(error="refused", open_at=("0.0.0.0:11434",)),
    gpu=GpuReport(readings=(GpuReading(index=0, lost=True),), error="lost"),
    front=Front(asked=True, error="no such host"),
    door=Door(where="0.0.0.0:80", refused="permission denied"),
    clock=Clock(now=NOW, newest=NOW, synchronized=False),
    disk=Disk(free=0, total=1),
    entries=(Entry(path="x", mode=0o777, owner=1),),
    service={"ActiveState": "failed", "Type": "exec", "TimeoutStopUSec": "1s"},
    certificate_ends=NOW,
    running=Running(
        breaker=breaker.Door.OPEN,
        failing=("m",),
        ledger=structs.replace(WELL.ledger, writable=False, lost=1),
        rejected=True,
    ),
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_whatever_is_wrong_has_a_remedy(check: Any) -> None:
    """No check leaves somebody alone with what it found, and none is silent where everything is wrong."""
    found = list(check(SICK))
    assert any(finding.level is not Level.OK for finding in found)
    for finding in found:
        assert bool(finding.fix) == (finding.level is not Level.OK), finding
        assert finding.text
        assert not finding.text.endswith(".")


def test_a_default_configuration_is_nothing_to_warn_of() -> None:
    """What ``init`` writes is fine."""
    assert [one for one in examine(replace(facts(), config=Config())).findings if one.fix] == []
