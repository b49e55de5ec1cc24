"""npm packages that tests need, at their locked versions."""

import subprocess
from pathlib import Path

import pytest


def install(folder: Path) -> Path:
    """Installs what the lock in a folder names, once and again when it changes; returns where it is.

    Skips the test where npm cannot reach its registry.
    """
    lock = (folder / "package-lock.json").read_text()
    modules = folder / "node_modules"
    stamp = modules / "installed-lock.json"
    if stamp.exists() and stamp.read_text() == lock:
        return modules
    done = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"npm cannot install: {done.stderr.strip().splitlines()[-1]}")
    stamp.write_text(lock)
    return modules
