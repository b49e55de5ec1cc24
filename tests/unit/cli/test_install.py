"""The plan of an installation: in a tree, on a machine with hand-made commands, again, and when it fails."""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpushare.cli import install as module
from gpushare.cli.layout import Layout
from gpushare.cli.terminal import ExitCode
from gpushare.core.keys import parse_keys
from gpushare.core.model import Role
from gpushare.edge.files import asset, write_text

from .conftest import Run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is quick to make, on a machine without a GPU; the real one has tests of its own."""

    def make(program: Path, python: str) -> None:
        program.mkdir(parents=True, exist_ok=True)
        (program / "stamp").write_text(python)

    monkeypatch.setattr(module, "find_python", lambda: "/usr/bin/python3")
    monkeypatch.setattr(module, "make_program", make)
    monkeypatch.setattr(module, "is_current", lambda program, _python: (program / "stamp").exists())
    monkeypatch.setattr(module, "DRIVER", Path("/nowhere"))


@pytest.fixture
def tree(tmp_path: Path) -> Layout:
    """An empty tree."""
    (tmp_path / "tree").mkdir()
    return Layout(tmp_path / "tree")


def files(layout: Layout) -> set[str]:
    """Returns the files in a tree, as they will lie on the machine."""
    found = (path for path in layout.root.rglob("*") if path.is_symlink() or path.is_file())
    return {f"/{path.relative_to(layout.root)}" for path in found}


UNIT = "/etc/systemd/system/gpushare"
MADE = {
    "/etc/gpushare/config.toml",
    f"{UNIT}.service",
    f"{UNIT}.socket",
    "/opt/gpushare/venv/stamp",
    "/usr/local/bin/gpushare",
    "/var/lib/gpushare/keys.lock",
    "/var/lib/gpushare/keys.toml",
}


def test_a_tree_is_prepared(run: Run, tree: Layout) -> None:
    """Everything the service needs is in it, and the first key is shown once, alone on stdout."""
    said = run("install", "--root", str(tree.root), "--yes")
    assert (said.code, files(tree)) == (0, MADE)
    config = tomllib.loads(tree.config.read_text())
    assert config["state"]["dir"] == "/var/lib/gpushare"
    (record,) = parse_keys((tree.state / "keys.toml").read_text(), source="").records
    assert (record.name, record.role) == ("admin", Role.ADMIN)
    assert said.out.strip().startswith(f"gs_{record.id}_")
    assert tree.state.stat().st_mode & 0o777 == 0o700
    assert tree.command.readlink() == Path("/opt/gpushare/venv/bin/gpushare")
    for unit in ("gpushare.service", "gpushare.socket"):
        assert (tree.units / unit).read_text() == (asset("systemd") / unit).read_text()
    assert "http://127.0.0.1:11435/status" in said.err


def test_a_look_changes_nothing(run: Run, tree: Layout) -> None:
    """The plan alone, and without anybody to agree not even that."""
    said = run("install", "--root", str(tree.root), "--dry-run")
    assert (said.code, files(tree)) == (0, set())
    assert "  + configuration " in said.err
    assert run("install", "--root", str(tree.root)).code == ExitCode.USAGE
    assert files(tree) == set()


def test_again_it_does_what_has_changed(run: Run, tree: Layout) -> None:
    """An upgrade: settings and keys stay, an older unit is replaced, nothing is made twice."""
    run("install", "--root", str(tree.root), "--yes")
    keys, config = (tree.state / "keys.toml").read_text(), tree.config.read_text()
    assert "Nothing to do." in run("install", "--root", str(tree.root), "--yes").err
    (tree.units / "gpushare.service").write_text("[Unit]\n")
    (tree.program / "stamp").unlink()
    said = run("install", "--root", str(tree.root), "--yes")
    assert [line for line in said.err.splitlines() if line.startswith("  + ")] == [
        f"  + program {tree.program}, on /usr/bin/python3",
        f"  + {tree.units}/gpushare.service",
    ]
    assert said.out == ""
    assert ((tree.state / "keys.toml").read_text(), tree.config.read_text()) == (keys, config)
    assert files(tree) == MADE


def test_the_socket_listens_where_the_settings_say(run: Run, tree: Layout) -> None:
    """Another address becomes a drop-in, which goes when the address is the usual one again."""
    drop_in = tree.units / "gpushare.socket.d" / "listen.conf"
    assert run("install", "--root", str(tree.root), "--yes", "--listen", "[::]:8080").code == 0
    assert drop_in.read_text().splitlines()[1:] == ["[Socket]", "ListenStream=", "ListenStream=[::]:8080"]
    text = tree.config.read_text()
    tree.config.write_text(text.replace('listen = "[::]:8080"', 'listen = "localhost:8081"'))
    run("install", "--root", str(tree.root), "--yes")
    assert drop_in.read_text().splitlines()[-1] == "ListenStream=127.0.0.1:8081"
    tree.config.write_text(text.replace('listen = "[::]:8080"', 'listen = "127.0.0.1:11435"'))
    run("install", "--root", str(tree.root), "--yes")
    assert not drop_in.parent.exists()


def test_gpus_are_read_where_there_are_any(
    run: Run, tree: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A driver, or the option, adds the drop-in; once there it stays until it is not wanted."""
    drop_in = tree.units / "gpushare.service.d" / "gpu.conf"
    monkeypatch.setattr(module, "DRIVER", tmp_path)
    run("install", "--root", str(tree.root), "--yes")
    assert drop_in.exists()
    monkeypatch.setattr(module, "DRIVER", tmp_path / "gone")
    run("install", "--root", str(tree.root), "--yes")
    assert drop_in.exists()
    run("install", "--root", str(tree.root), "--yes", "--no-gpu")
    assert not drop_in.exists()
    run("install", "--root", str(tree.root), "--yes", "--gpu")
    assert drop_in.read_text() == (asset("systemd") / "gpushare.service.d" / "gpu.conf").read_text()


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ("[queue]\nslots = 0\n", [], "queue.slots"),
        ('[state]\ndir = "/srv/x"\n', [], "keeps its state elsewhere than the service"),
        ('[state]\ndir = "/var/lib/gpushare"\n', ["-l", "0.0.0.0:1"], "--listen would not change it"),
        ('[state]\ndir = "/var/lib/gpushare"\n[server]\nlisten = "gpu.lan:1"\n', [], "takes no name"),
        (None, ["-l", "here"], "option --listen"),
    ],
)
def test_what_cannot_be_a_service_changes_nothing(
    run: Run, tree: Layout, config: str | None, options: list[str], said: str
) -> None:
    """A configuration with mistakes, one of another place, an address that a socket does not take."""
    if config is not None:
        tree.config.parent.mkdir(parents=True)
        tree.config.write_text(config)
    before = files(tree)
    ran = run("install", "--root", str(tree.root), "--yes", *options)
    assert (ran.code != 0, said in ran.err, files(tree)) == (True, True, before)


def test_a_name_that_is_taken_is_left_alone(run: Run, tree: Layout) -> None:
    """Somebody else's command of this name is not replaced."""
    tree.command.parent.mkdir(parents=True)
    tree.command.write_text("#!/bin/sh\n")
    said = run("install", "--root", str(tree.root), "--yes")
    assert (said.code, tree.command.read_text()) == (0, "#!/bin/sh\n")
    assert "something else is there" in said.err


def test_a_failure_leaves_the_tree_as_it_was(run: Run, tree: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the last file takes everything back."""

    def full(path: Path, text: str, *, mode: int) -> None:
        if path.name == "gpushare.socket":
            raise OSError(28, "No space left on device")
        write_text(path, text, mode=mode)

    monkeypatch.setattr(module, "write_text", full)
    said = run("install", "--root", str(tree.root), "--yes")
    assert (said.code, files(tree)) == (ExitCode.FAILED, set())
    assert f"{tree.units}/gpushare.socket: No space left on device" in said.err
    assert "everything before it was taken back" in said.err
    assert said.out == ""


# --- on a machine -------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """This machine, as far as commands go: notes them, and knows who is there and what runs."""

    commands: list[str] = field(default_factory=list)
    fails: str = "nothing"
    users: set[str] = field(default_factory=set)
    active: bool = False

    def run(self, *command: str) -> None:
        line = " ".join(command)
        if line.startswith(self.fails):
            raise OSError(1, f"{command[0]}: no")
        if line.startswith("systemctl is-active"):
            if not self.active:
                raise OSError(3, "inactive")
            return
        self.commands.append(line)
        if command[0] == "useradd":
            self.users.add(command[-1])
        if command[0] == "userdel":
            self.users.remove(command[-1])
        if line == "systemctl restart gpushare.service":
            self.active = True

    def account(self, name: str) -> object:
        if name not in self.users:
            raise KeyError(name)
        return SimpleNamespace(pw_uid=os.geteuid(), pw_gid=os.getegid())


@pytest.fixture
def machine(tree: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine whose files are those of the tree."""
    found = Machine()

    class Live(Layout):
        """The tree in the part of the whole machine."""

        is_live = True

    monkeypatch.setattr(module, "Layout", lambda _root: Live(tree.root))
    monkeypatch.setattr(module, "run", found.run)
    monkeypatch.setattr(module, "SYSTEMD", tmp_path)
    monkeypatch.setattr("pwd.getpwnam", found.account)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return found


START = [
    "systemctl daemon-reload",
    "systemctl enable --quiet gpushare.service gpushare.socket",
    "systemctl restart gpushare.socket",
    "systemctl restart gpushare.service",
]
UPGRADE = [line.replace("restart gpushare.socket", "start gpushare.socket") for line in START]


def test_a_machine_gets_a_user_and_a_running_service(run: Run, machine: Machine, tree: Layout) -> None:
    """The user first, the start last; again, nothing; stopped, only the start."""
    assert run("install", "--yes").code == 0
    assert machine.commands[0].startswith("useradd --system ")
    assert machine.commands[1:] == START
    assert files(tree) == MADE
    machine.commands.clear()
    assert "Nothing to do." in run("install", "--yes").err
    assert machine.commands == []
    machine.active = False
    assert run("install", "--yes").code == 0
    assert machine.commands == UPGRADE


def test_an_upgrade_opens_the_socket_anew_only_where_that_changes(
    run: Run, machine: Machine, tree: Layout
) -> None:
    """P23: who connects while the service is exchanged waits in the socket, which stays."""
    run("install", "--yes")
    machine.commands.clear()
    (tree.program / "stamp").unlink()
    assert run("install", "--yes").code == 0
    assert machine.commands == UPGRADE
    machine.commands.clear()
    (tree.units / "gpushare.socket").write_text("[Unit]\n")
    assert run("install", "--yes").code == 0
    assert machine.commands == START


def test_a_start_that_fails_leaves_everything_in_place(run: Run, machine: Machine, tree: Layout) -> None:
    """What is wrong may be on the machine, and the key that was made is not shown a second time."""
    machine.fails = "systemctl restart gpushare.service"
    said = run("install", "--yes")
    assert (said.code, files(tree)) == (ExitCode.FAILED, MADE)
    assert "journalctl -u gpushare" in said.err
    assert said.out.startswith("gs_")


def test_a_user_made_for_nothing_is_removed(
    run: Run, machine: Machine, tree: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step after it fails."""

    def fail(_program: Path, _python: str) -> None:
        raise OSError(1, "no environment could be made")

    monkeypatch.setattr(module, "make_program", fail)
    assert run("install", "--yes").code == ExitCode.FAILED
    assert machine.commands[-1] == "userdel gpushare"
    assert (machine.users, files(tree)) == (set(), set())


def test_only_root_may(run: Run, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may look."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run("install", "--yes").code == ExitCode.NOT_ALLOWED
    assert machine.commands == []
