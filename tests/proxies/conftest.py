"""Fixtures of the suite of front proxies."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Gate, gate, nothing_left
from tests.proxies.front import PROGRAMS, Front, front

__all__ = ["folder", "gate", "name", "nothing_left", "proxy"]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name, "openssl")) for name in PROGRAMS])
def name(request: pytest.FixtureRequest) -> str:
    """Each proxy there is an example for, in turn."""
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a proxy keeps its files, beside the gateway's."""
    path = tmp_path / "proxy"
    path.mkdir()
    return path


@pytest.fixture
async def proxy(name: str, folder: Path, gate: Gate) -> AsyncIterator[Front]:
    """The example as it is, in front of a gateway."""
    async with front(name, folder, f"127.0.0.1:{gate.port}") as running:
        yield running
