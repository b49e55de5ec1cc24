import json
import subprocess
import sys

import click
import pytest

from gpushare import __version__
from gpushare.cli.main import COMMANDS, gpushare
from gpushare.cli.terminal import ExitCode

from .conftest import Gateway, Run

HEAVY = ("aiohttp", "structlog", "rich", "jinja2", "prometheus_client", "asyncio", "gpushare.app")


def loaded_by(*args: str) -> set[str]:
    """Returns which heavy modules a command imports in a process of its own."""
    script = (
        "import sys; from gpushare.cli import main; main(sys.argv[1:]);"
        f"print('\\n' + ' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "args",
    [
        ("status", "--url", "http://127.0.0.1:9"),
        ("completion", "bash"),
        ("whoami", "--url", "http://127.0.0.1:9"),
        ("connect", "--url", "http://127.0.0.1:9"),
        ("logout",),
        ("key", "list"),
        ("config", "path"),
        ("--version",),
    ],
)
def test_quick_commands_load_no_server(args: tuple[str, ...]) -> None:
    """What people type while they wait imports neither the web server nor the log."""
    assert loaded_by(*args) == set()


def test_every_command_is_there() -> None:
    """Each row of the table names a module that has the command."""
    context = click.Context(gpushare)
    assert all(isinstance(gpushare.get_command(context, name), click.Command) for name in COMMANDS)


def test_version_and_help(run: Run) -> None:
    """Version and help are results, with every command in the help."""
    assert run("-V").out == f"gpushare {__version__}\n"
    listed = run("-h")
    assert listed.code == 0
    assert all(name in listed.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("stauts",), "Did you mean 'status'?"),
        (("key", "lst"), "Did you mean one of: 'list', 'set'?"),
        (("key", "list", "--jsn"), "--json"),
        (("status", "--url", "ftp://x"), "is no address"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_near_name(run: Run, args: tuple[str, ...], said: str) -> None:
    """A slip of the finger is answered with what was probably meant."""
    ran = run(*args)
    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert said in ran.err


def test_a_wrong_configuration_is_exit_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any command that needs the configuration tells all that is wrong with it."""
    monkeypatch.setenv("GPUSHARE_QUEUE__SLOTS", "two")
    monkeypatch.setenv("GPUSHARE_QUEUE__SLOTZ", "2")
    ran = run("key", "list")
    assert ran.code == ExitCode.CONFIG
    assert ran.err.endswith("2 errors; nothing was changed. Reference: gpushare config docs\n")
    error = json.loads(run("key", "list", "--json").err)["error"]
    assert [problem["source"] for problem in error["problems"]] == [
        "environment GPUSHARE_QUEUE__SLOTZ",
        "environment GPUSHARE_QUEUE__SLOTS",
    ]


def raising(error: BaseException) -> click.Command:
    """Returns a command that ends in an error."""

    @click.command
    def broken() -> None:
        raise error

    return broken


def test_the_unexpected_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is exit 1 and one line; the traceback comes with -vv."""
    monkeypatch.setattr("gpushare.cli.status.status", raising(RuntimeError("no luck")))
    ran = run("status")
    assert (ran.code, ran.out) == (ExitCode.FAILED, "")
    assert ran.err == "error: RuntimeError: no luck\n  where it happened: gpushare -vv status\n"
    with pytest.raises(RuntimeError):
        run("-vv", "status")


def test_an_interrupt_is_exit_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command quietly."""
    monkeypatch.setattr("gpushare.cli.status.status", raising(KeyboardInterrupt()))
    ran = run("status")
    assert (ran.code, ran.err.strip()) == (ExitCode.INTERRUPTED, "interrupted")


def test_every_exit_code_is_reached(
    run: Run, gateway: Gateway, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts can tell by the number what to do; none is there that nothing ends with."""
    gateway.answer("/gpushare/v1/whoami", (401, b"{}"))
    gateway.answer("/gpushare/v1/status", (503, b"{}"))
    monkeypatch.setenv("GPUSHARE_URL", gateway.url)
    monkeypatch.setenv("GPUSHARE_OLLAMA__URL", nobody)
    reached = {
        run("--version").code: ExitCode.DONE,
        run("stauts").code: ExitCode.USAGE,
        run("whoami").code: ExitCode.NOT_ALLOWED,
        run("status").code: ExitCode.TRY_LATER,
        run("status", "--url", nobody).code: ExitCode.UNREACHABLE,
        run("key", "show", "nobody").code: ExitCode.NOT_FOUND,
        run("key", "list", "--config", "/no/such/file").code: ExitCode.CONFIG,
        run("doctor").code: ExitCode.PROBLEMS,
    }
    monkeypatch.setattr("gpushare.cli.status.status", raising(KeyboardInterrupt()))
    reached[run("status").code] = ExitCode.INTERRUPTED
    monkeypatch.setattr("gpushare.cli.status.status", raising(RuntimeError("no luck")))
    reached[run("status").code] = ExitCode.FAILED
    assert all(code == meant for code, meant in reached.items())
    assert set(reached.values()) == set(ExitCode)
