"""Which suites run, what a test needs of the machine, and an honest last word on what was left out."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def read_programs() -> dict[str, str]:
    """Returns the programs tests may need, each with the Debian package that holds it."""
    lines = (HERE / "programs.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {row[0]: row[1] for row in rows}


PROGRAMS = read_programs()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--all``, which turns a test left out into a failed run."""
    parser.addoption("--all", action="store_true", dest="complete", help="fail if anything is left out")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose programs are missing, before its fixtures start anything."""
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if not shutil.which(program):
                pytest.skip(f"{program} is missing: sudo apt install {PROGRAMS[program]}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turns success into failure when everything was asked for and something was left out."""
    complete = session.config.getoption("complete") and not is_worker(session.config)
    if complete and exitstatus == pytest.ExitCode.OK and any(left_out(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints what was left out and why, just above pytest's closing line."""
    unasked = [f"{suite}: takes long; ./run test {suite}" for suite in long_suites(config)]
    missing = list(left_out(config))
    if missing or unasked:
        terminalreporter.section("not run")
    for line in missing:
        terminalreporter.line(line, red=config.getoption("complete"), yellow=not config.getoption("complete"))
    for line in unasked:
        terminalreporter.line(line)


def is_worker(config: pytest.Config) -> bool:
    """Returns whether this process runs a part of the tests for another one, which has the last word."""
    return hasattr(config, "workerinput")


def left_out(config: pytest.Config) -> Iterator[str]:
    """Yields a line for each suite without a test and each reason for which tests were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    reports = [report for kind in reporter.stats.values() for report in kind if hasattr(report, "nodeid")]
    if chose_suites_itself(config):
        ran = {suite_of(report.nodeid) for report in reports}
        yield from (f"{path}: no test found" for path in config.getini("testpaths") if path not in ran)
    skipped = Counter((suite_of(r.nodeid), reason_of(r.longrepr)) for r in reporter.stats.get("skipped", []))
    for (suite, reason), count in sorted(skipped.items()):
        yield f"{suite}: {count} skipped: {reason}"


def long_suites(config: pytest.Config) -> list[str]:
    """Returns the suites that only run by name, unless this run was asked for suites by name."""
    if not chose_suites_itself(config):
        return []
    usual = set(config.getini("testpaths"))
    suites = {path.parent for path in HERE.glob("*/test_*.py")}
    return sorted(suite.name for suite in suites if f"tests/{suite.name}" not in usual)


def chose_suites_itself(config: pytest.Config) -> bool:
    """Returns whether the run was asked for no path, so that every usual suite should have run."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


def suite_of(nodeid: str) -> str:
    """Returns the folder of a test below the root, as in ``tests/unit``."""
    return "/".join(nodeid.split("/")[:2])


def reason_of(longrepr: object) -> str:
    """Returns why a test was skipped, from the report's three forms of saying so."""
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")
