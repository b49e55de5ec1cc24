"""Fixtures of the suite that runs the programs of ``docs/connect.md``.

They take more than a gigabyte; that is why this suite runs by name only: ``./run test tools``.
"""

import faulthandler
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpushare.sim import Plan, Script, SimModel
from tests.harness import Gate, gateway
from tests.npm import install
from tests.tools.programs import HERE, MODEL

__all__ = ["gate"]

GREETING = ("Hello ", "from ", "the GPU.")


@pytest.fixture(scope="session")
def packages() -> None:
    """The programs, at their locked versions."""
    faulthandler.cancel_dump_traceback_later()  # fetching them may take longer than a test may
    install(HERE)


@pytest.fixture
async def gate(packages: None, tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway whose Ollama has the model of the steps and greets; one call of a person may wait."""
    script = Script(models=(SimModel(name=MODEL),), default=Plan(pieces=GREETING))
    settings = "[queue]\nmax_waiting_per_person = 1"
    async with gateway(tmp_path / "gateway", script=script, settings=settings) as running:
        yield running
