"""The units of systemd: without mistakes, tightly closed, and open enough for the service to run in them."""

import asyncio
import configparser
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from gpushare.core.config import Config
from gpushare.edge.files import asset
from gpushare.sim import SimOllama
from tests.conformance.tools import SERVE, environment, served
from tests.harness import chat
from tests.integration.manager import service_manager
from tests.packaging import sandbox

UNITS = ("gpushare.service", "gpushare.socket")
MOST_EXPOSED = 15
"""Ten times the score of ``systemd-analyze security``; a unit without any rule has 95."""


def unit(name: str) -> str:
    """Returns a unit's text."""
    return (asset("systemd") / name).read_text()


def settings(name: str) -> configparser.ConfigParser:
    """Returns a unit's settings; of those that may be given twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their capitals
    parser.read_string(unit(name))
    return parser


@pytest.mark.needs("systemd-analyze")
def test_the_units_have_no_mistake(tmp_path: Path) -> None:
    """Systemd warns of nothing, once the program is where the unit says."""
    program = tmp_path / "gpushare"
    program.symlink_to(sys.executable)
    for name in UNITS:
        text = unit(name).replace("/opt/gpushare/venv/bin/gpushare", str(program))
        (tmp_path / name).write_text(text)
    shutil.copytree(asset("systemd") / "gpushare.service.d", tmp_path / "gpushare.service.d")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("gpu", [False, True])
def test_the_service_is_tightly_closed(tmp_path: Path, gpu: bool) -> None:  # noqa: FBT001 - a parameter
    """With and without the GPU's device files the exposure is at most 1.5 of 10."""
    (tmp_path / "gpushare.service").write_text(unit("gpushare.service"))
    if gpu:
        shutil.copytree(asset("systemd") / "gpushare.service.d", tmp_path / "gpushare.service.d")
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager"),
            str(tmp_path / "gpushare.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert "Overall exposure level for gpushare.service" in done.stdout


def test_the_units_agree_with_the_program() -> None:
    """The socket is where the settings say, and systemd waits longer than the program takes."""
    service, listen = settings("gpushare.service")["Service"], settings("gpushare.socket")["Socket"]
    defaults = Config().server
    assert listen["ListenStream"] == defaults.listen
    assert int(service["TimeoutStopSec"]) > defaults.shutdown_grace + 10
    assert int(service["LimitNOFILE"]) > 2 * defaults.max_connections
    assert service["User"] == "gpushare"


def test_a_service_that_does_not_start_is_tried_again_and_again() -> None:
    """At the limit of starts systemd would close the socket: nobody could connect, mended or not.

    A status that ended the tries would not end them: each caller who connects starts the service once more.
    """
    parsed = settings("gpushare.service")
    limit, service = parsed["Unit"], parsed["Service"]
    assert int(service["RestartSec"]) * int(limit["StartLimitBurst"]) > int(limit["StartLimitIntervalSec"])
    assert "RestartPreventExitStatus" not in service


@pytest.mark.needs("systemd-analyze")
@pytest.mark.skipif(
    not sandbox.NUMBERS.exists(), reason="linux-libc-dev is missing: the numbers of system calls"
)
async def test_the_service_runs_under_its_own_rules(tmp_path: Path) -> None:
    """T8: it starts, answers, reloads and ends where every other system call fails and no memory turns code.

    A filter nobody ran under is a guess.
    """
    sim = SimOllama()
    await sim.start()
    inside = (sys.executable, str(Path(sandbox.__file__)), str(asset("systemd") / "gpushare.service"))
    try:
        with service_manager(tmp_path) as manager:
            env = {**manager.env, "WATCHDOG_USEC": "200000"}
            async with (
                served(tmp_path, sim.url, people={"alice": {}}, env=env, inside=inside) as server,
                aiohttp.ClientSession() as session,
            ):
                await manager.heard("READY")
                await manager.heard("WATCHDOG")
                url, bearer = server.url, server.bearer("alice")
                async with session.post(
                    url + "/api/chat", json=chat("#sim:tokens=9"), headers=bearer
                ) as answer:
                    assert (await answer.read()).endswith(b"}\n")
                for page in ("/status", "/metrics", "/connect", "/gpushare/v1/status"):
                    async with session.get(url + page, headers=bearer) as answer:
                        assert answer.status == 200
                server.process.send_signal(signal.SIGHUP)
                await server.said("config.loaded")
                assert await exit_status_of_a_reload(inside, server.config) == 0
                server.config.write_text("nonsense = 1\n")
                assert await exit_status_of_a_reload(inside, server.config) == 3
                assert "EPERM" in await forbidden(inside)
                server.terminate()
                async with asyncio.timeout(30):
                    assert await server.process.wait() == 0
                assert [line for line in server.log if line["level"] == "error"] == []
    finally:
        await sim.stop()


async def exit_status_of_a_reload(inside: tuple[str, ...], config: Path) -> int | None:
    """Returns how ``systemctl reload`` ends: as the last of the unit's commands for it, under its rules."""
    program, *words = settings("gpushare.service")["Service"]["ExecReload"].split()
    assert program == "/opt/gpushare/venv/bin/gpushare"
    child = await asyncio.create_subprocess_exec(
        *(*inside, sys.executable, "-c", SERVE, *words, "-c", str(config)),
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await child.wait()


async def forbidden(inside: tuple[str, ...]) -> str:
    """Returns the error of what the rules forbid, to know that they hold."""
    code = "import errno, os\ntry: os.nice(1)\nexcept OSError as error: print(errno.errorcode[error.errno])"
    child = await asyncio.create_subprocess_exec(
        *(*inside, sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    child._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - or it is closed after the check
    return out.decode()
