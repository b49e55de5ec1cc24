"""``gpushare doctor`` beside a gateway that runs, and the same from within."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpushare.app import examination
from gpushare.core.doctor import Level, Report
from gpushare.core.gpu import GpuReport
from gpushare.core.problems import ConfigErrors, Problem
from gpushare.engine.gpu import GpuWatch
from tests.conformance.tools import know_models
from tests.examined import about, doctor
from tests.harness import Gate

USUAL = {"config", "ollama", "slots", "keys", "ledger", "gpu", "clock", "disk", "files", "limits"}
"""What there is something to say of on any machine."""


def good(report: Report) -> dict[str, str]:
    """Returns what is said of each subject, after checking that nothing is wrong but with the machine."""
    bad = [finding for finding in report.findings if finding.level is not Level.OK]
    assert [finding for finding in bad if finding.subject not in {"clock", "disk", "limits"}] == []
    return {finding.subject: finding.text for finding in report.findings}


async def test_beside_a_server_that_runs(gate: Gate, tmp_path: Path) -> None:
    """Its port is its own, its ledger is whole while it is written, its files are private, answers pass."""
    await know_models(gate)
    found = good(await doctor(gate, tmp_path, who="alice", public_url=gate.url))
    assert found.keys() >= {*USUAL, "port", "proxy"}
    assert found["port"] == f"127.0.0.1:{gate.port} is answered by gpushare"
    assert found["proxy"] == f"{gate.url} passes answers on as they come"
    assert found["ledger"].endswith("integrity ok")
    assert found["keys"] == "5 people, 1 of them admin"


async def test_a_wrong_key_is_not_a_wrong_address(gate: Gate, tmp_path: Path) -> None:
    """What the address answers is told, whoever it is."""
    gate.keys["stranger"] = "gs_000000_unknown"
    (finding,) = about("proxy", await doctor(gate, tmp_path, who="stranger", public_url=gate.url))
    assert finding.text == f"{gate.url} does not lead to gpushare (it answers with status 401)"


async def test_from_within(gate: Gate) -> None:
    """The server examines itself for whoever looks at /admin, without a key, and answers meanwhile."""
    examiner = gate.parts.examiner
    assert examiner is not None
    status, _, page = await gate.request("GET", "/admin", who="root")
    assert (status, b"It is being found out." in page) == (200, True)
    await gate.until(lambda: examiner.report)
    assert examiner.report is not None
    _, _, page = await gate.request("GET", "/admin", who="root")
    assert b"integrity ok" in page
    found = good(examiner.report)
    assert found.keys() >= USUAL
    assert "proxy" not in found
    assert found["config"].startswith("as this server runs, ")


async def test_a_ledger_that_was_whole_is_not_read_through_every_minute(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be large; one that was not whole is looked at again each time, so that a remedy is seen."""
    checked: list[Path] = []
    damaged = [True]

    def check(path: Path) -> None:
        checked.append(path)
        if damaged:
            raise ConfigErrors((Problem(source=str(path), message="is damaged"),))

    monkeypatch.setattr(examination, "check", check)
    own = examination.SelfExamination(gate.parts, gate.key_file)
    assert [one.level for one in about("ledger", await own.report())] == [Level.FAIL]
    damaged.clear()
    for _ in range(3):
        assert [one.level for one in about("ledger", await own.report())] == [Level.OK]
    assert len(checked) == 2
    monkeypatch.setattr(examination, "LEDGER_AGAIN_S", 0.0)
    await own.report()
    assert len(checked) == 3


async def test_from_within_a_machine_without_a_driver(gate: Gate) -> None:
    """What the server has read tells that there is none; nobody is sent to look for a broken card."""
    gpus = GpuWatch(None, required=False, clock=lambda: 0.0)  # type: ignore[arg-type] # never run
    gpus.take(GpuReport(error="NVML Shared Library Not Found", absent=True))
    own = examination.SelfExamination(replace(gate.parts, gpus=gpus), gate.key_file)
    (finding,) = about("gpu", await own.report())
    assert finding.text.startswith("no NVIDIA driver here")
