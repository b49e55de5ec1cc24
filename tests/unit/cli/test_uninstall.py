"""What goes and what stays when the service is removed."""

from pathlib import Path

import pytest

from gpushare.cli import install, uninstall
from gpushare.cli.layout import Layout
from gpushare.cli.terminal import ExitCode

from .conftest import Run
from .test_install import Machine, _quick, files, machine, tree

__all__ = ["_quick", "machine", "tree"]

STAYS = {"/etc/gpushare/config.toml", "/var/lib/gpushare/keys.lock", "/var/lib/gpushare/keys.toml"}


@pytest.fixture
def installed(run: Run, tree: Layout) -> Layout:
    """A tree with everything in it, drop-ins too."""
    assert run("install", "--root", str(tree.root), "--yes", "--gpu", "-l", "0.0.0.0:1").code == 0
    return tree


def test_settings_and_keys_stay(run: Run, installed: Layout) -> None:
    """Whoever installs it again goes on with the same people."""
    said = run("uninstall", "--root", str(installed.root), "--yes")
    assert (said.code, files(installed)) == (0, STAYS)
    assert "--purge" in said.err
    assert "Nothing to do." in run("uninstall", "--root", str(installed.root), "--yes").err
    assert run("install", "--root", str(installed.root), "--yes").out == ""


def test_a_purge_leaves_nothing(run: Run, installed: Layout) -> None:
    """Records of who asked what are gone as well."""
    assert run("uninstall", "--root", str(installed.root), "--purge", "--yes").code == 0
    assert files(installed) == set()
    assert not (installed.units / "gpushare.socket.d").exists()


def test_a_look_changes_nothing(run: Run, installed: Layout) -> None:
    """The plan names what would go."""
    before = files(installed)
    said = run("uninstall", "--root", str(installed.root), "--purge", "--dry-run")
    assert (said.code, files(installed)) == (0, before)
    assert f"  - {installed.state}, with all that is in it" in said.err


def test_what_is_not_ours_stays(run: Run, installed: Layout) -> None:
    """Somebody else's drop-in, and a command that leads elsewhere."""
    theirs = installed.units / "gpushare.service.d" / "theirs.conf"
    theirs.touch()
    installed.command.unlink()
    installed.command.symlink_to("/opt/other")
    assert run("uninstall", "--root", str(installed.root), "--purge", "--yes").code == 0
    assert files(installed) == {
        "/etc/systemd/system/gpushare.service.d/theirs.conf",
        "/usr/local/bin/gpushare",
    }


def test_a_machine_is_left_as_it_was(
    run: Run, machine: Machine, tree: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service is stopped before its files go, and the user goes last."""
    assert run("install", "--yes").code == 0
    machine.commands.clear()
    for name in ("Layout", "run", "SYSTEMD"):
        monkeypatch.setattr(uninstall, name, getattr(install, name))
    assert run("uninstall", "--purge", "--yes").code == 0
    assert machine.commands == [
        "systemctl disable --now --quiet gpushare.socket gpushare.service",
        "systemctl daemon-reload",
        "userdel gpushare",
    ]
    assert files(tree) == set()


def test_what_is_left_is_named(run: Run, installed: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be removed, and everything that would have come after it."""

    def busy(_path: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("shutil.rmtree", busy)
    said = run("uninstall", "--root", str(installed.root), "--purge", "--yes")
    assert said.code == ExitCode.FAILED
    assert "still there:" in said.err
    assert files(installed) >= STAYS
