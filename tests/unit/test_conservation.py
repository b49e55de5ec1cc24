"""The conservation check runs after every test that runs a gateway, in this process or in one of its own.

That of ``tests.harness`` is for the first, that of ``tests.conformance.tools`` for the second.
"""

import ast
import asyncio
from pathlib import Path

import pytest

from tests.harness import every_fault_seen
from tests.unit.source import ROOT

TESTS = ROOT / "tests"
HARNESS = TESTS / "harness.py"
TOOLS = TESTS / "conformance" / "tools.py"
RUNNERS = {"gate", "gateway", "running"}
WATCHERS = {"served", "watched", "serving"}
OTHERWISE = {"tools": "runs programs of others, which keep what they like"}


def files() -> list[Path]:
    """Returns every file of the tests but the harness."""
    return [path for path in sorted(TESTS.rglob("*.py")) if path != HARNESS]


def taken(path: Path, *modules: str) -> set[str]:
    """Returns what a file takes from modules, by default from any."""
    nodes = ast.walk(ast.parse(path.read_text()))
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in found if not modules or node.module in modules for alias in node.names}


def from_harness(path: Path) -> set[str]:
    """Returns what a file takes from the harness."""
    return taken(path, "tests.harness")


def test_every_gateway_comes_from_the_harness() -> None:
    """Whoever ran one by itself would leave the check out; commands under test run their own."""
    callers = [
        str(path.relative_to(TESTS))
        for path in files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"app.running", "serving.running"}
    ]
    assert callers == []


def test_every_process_is_watched() -> None:
    """Who runs ``gpushare serve`` has what looks at it in the end; unit tests run no process."""
    starts = [
        path
        for path in files()
        if path != TOOLS
        and TESTS / "unit" not in path.parents
        and any(
            isinstance(n, ast.Constant) and n.value == "serve" for n in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert [path.name for path in starts if not WATCHERS & taken(path)] == []


SUITES = sorted({path.parent.name for path in TESTS.glob("*/test_*.py") if RUNNERS & from_harness(path)})


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_counts_descriptors(suite: str) -> None:
    """The fixture that counts them runs by itself, where a suite has it."""
    if suite not in OTHERWISE:
        assert "nothing_left" in from_harness(TESTS / suite / "conftest.py")


async def test_a_fault_that_nobody_saw_is_found() -> None:
    """A task that failed and was let go of."""

    async def fail() -> None:
        raise ValueError

    async def let_go() -> None:
        await asyncio.wait([asyncio.create_task(fail())])

    with pytest.raises(AssertionError, match="Task exception was never retrieved"), every_fault_seen():
        await let_go()
