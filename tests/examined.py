"""The command ``gpushare doctor`` beside a gateway of a test's."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gpushare.core.doctor import Finding, Report
from tests.conformance.tools import ROOT, SERVE
from tests.harness import Gate


async def doctor(
    gate: Gate, folder: Path, *, who: str = "", public_url: str = "", env: Mapping[str, str] | None = None
) -> Report:
    """Runs the command with the settings of a gateway.

    Args:
        gate: examined.
        folder: for the settings.
        who: whose key the command has, nobody's if empty.
        public_url: the address that people type.
        env: further variables.
    """
    path = folder / "examined/config.toml"
    path.parent.mkdir()
    path.write_text(
        f'[server]\nlisten = "127.0.0.1:{gate.port}"\npublic_url = "{public_url}"\n'
        f'[ollama]\nurl = "{gate.sim.url}"\n[gpu]\nbackend = "none"\n'
        f'[state]\ndir = "{gate.key_file.path.parent}"\n'
    )
    key = {"GPUSHARE_KEY": gate.keys[who]} if who else {}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, "doctor", "--json", "-c", str(path)),
        env={"PATH": os.environ["PATH"], "HOME": str(path.parent), **key, **(env or {})},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return msgspec.json.decode(said, type=Report)


def about(subject: str, report: Report) -> list[Finding]:
    """Returns what is said of one subject."""
    return [finding for finding in report.findings if finding.subject == subject]
