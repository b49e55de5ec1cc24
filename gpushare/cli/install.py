"""``gpushare install``: the service on this machine, or in a tree that is prepared for another one."""

import os
import pwd
import shutil
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import click

from gpushare import __version__
from gpushare.cli.init import write_config
from gpushare.cli.key import hand_over, make_record
from gpushare.cli.layout import PROGRAM, STATE, USER, Layout
from gpushare.cli.options import base_url
from gpushare.cli.program import (
    find_python,
    is_current,
    make_program,
    old_of,
    remove_program,
    restore_program,
)
from gpushare.cli.steps import Plan, Step, agree, remove_file, require_root, run
from gpushare.cli.terminal import ExitCode, Failure, note
from gpushare.core.config import Config, parse, warnings
from gpushare.core.hosts import with_port
from gpushare.core.model import Role
from gpushare.edge.files import KeyFile, asset, read_text, write_text

SERVICE, SOCKET = UNITS = ("gpushare.service", "gpushare.socket")
GPU_DROP_IN = f"{SERVICE}.d/gpu.conf"
LISTEN_DROP_IN = f"{SOCKET}.d/listen.conf"
DRIVER = Path("/proc/driver/nvidia")
SYSTEMD = Path("/run/systemd/system")

_LISTEN_TEXT = """# From server.listen, by gpushare install; after a change there, run it again.
[Socket]
ListenStream=
ListenStream={}
"""
_NOT_STARTED = """everything is in place. Why it does not start: journalctl -u gpushare -n 20
then: systemctl restart gpushare.socket gpushare"""


@click.command
@click.option("-l", "--listen", metavar="HOST:PORT", help="Listen here; for a new configuration.")
@click.option("--name", default="admin", show_default=True, help="Whose key the first one is.")
@click.option(
    "--gpu/--no-gpu", default=None, help="Whether the service reads the GPUs; else as there are any."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), help="Prepare this tree."
)
def install(*, listen: str | None, name: str, gpu: bool | None, yes: bool, dry_run: bool, root: Path) -> None:
    """Make a service of this program; run again, it upgrades. Shows the plan first."""
    layout = Layout(root.resolve())
    require_root(live=layout.is_live, dry_run=dry_run)
    work = Installation(layout, listen=listen, name=name, gpu=gpu)
    if agree(work.plan, yes=yes, dry_run=dry_run):
        os.umask(0o022)  # what is made here is for the service to read, whoever calls
        try:
            work.plan.carry_out()
        finally:
            work.show_key()
        work.say_what_next()


class Installation:
    """The plan, and what it has brought about.

    Args:
        layout: where everything goes.
        listen: address for a new configuration.
        name: whose key the first one is.
        gpu: whether the service may read the GPUs; None: as it is, and yes where there is a driver.

    Raises:
        Failure: what is there or wanted cannot be a service.
        ConfigErrors: the configuration or the keys that are there, or would be made, cannot be used.
    """

    def __init__(self, layout: Layout, *, listen: str | None, name: str, gpu: bool | None) -> None:
        self.layout = layout
        self.plan = Plan(f"This makes a service of gpushare {__version__}")
        self.config = _config(layout.config, listen)
        self._keys = KeyFile(layout.state)
        self._show_key: Callable[[], None] | None = None
        self._add_files(find_python(), listen)
        socket_changed = False
        for unit, text in _units(self.config, gpu=gpu).items():
            if text is not None or (layout.units / unit).exists():
                step = _file(layout.units / unit, text)
                self._add(step)
                socket_changed |= step.needed and unit.startswith(SOCKET)
        self._add(self._first_key(name))
        if layout.is_live:
            changed = any(step.needed for step in self.plan.steps)
            self._add(_start(changed=changed, socket_changed=socket_changed))

    def show_key(self) -> None:
        """Shows the first key, if one was made: it cannot be shown again."""
        if self._show_key is not None:
            self._show_key()

    def say_what_next(self) -> None:
        """Ends what went well."""
        remove_program(old_of(self.layout.program))
        for warning in warnings(self.config):
            note(f"warning: {warning}")
        note(f"Next: open {base_url(self.config)}/status    more people: sudo gpushare key add NAME")
        note("Is all well? sudo gpushare doctor")

    def _add(self, step: Step) -> None:
        self.plan.steps.append(step)

    def _add_files(self, python: str, listen: str | None) -> None:
        layout = self.layout
        if layout.is_live:
            self._add(_user())
        self._add(_state_folder(layout))
        self._add(
            Step(
                text=f"program {layout.program}, on {python}",
                needed=not is_current(layout.program, python),
                do=lambda: make_program(layout.program, python),
                undo=lambda: restore_program(layout.program),
            )
        )
        self._add(_command(layout.command))
        self._add(
            Step(
                text=f"configuration {layout.config}",
                needed=not layout.config.exists(),
                do=lambda: write_config(layout.config, listen, state=STATE),
                undo=lambda: remove_file(layout.config),
            )
        )

    def _first_key(self, name: str) -> Step:
        def make() -> None:
            record, secret = make_record(name, role=Role.ADMIN)
            self._keys.edit(lambda ring: ring.added(record, record.made))
            self._show_key = lambda: hand_over(record, secret)

        def undo() -> None:
            self._show_key = None
            self._keys.path.unlink()

        missing = not self.layout.state.exists() or not self._keys.load().records
        text = f"first key, an admin's, for {name}" if missing else f"keys {self._keys.path}"
        return Step(text=text, needed=missing, do=make, undo=undo)


def _config(path: Path, listen: str | None) -> Config:
    """Returns the configuration that there is, or the one that is going to be made."""
    if not path.exists():
        return parse("", source=str(path), env={}, options={"server.listen": listen} if listen else {})
    if listen:
        raise Failure(
            "exists",
            f"{path} is there already; --listen would not change it",
            exit_code=ExitCode.FAILED,
            hint=f'set it there, under [server]: listen = "{listen}"',
        )
    config = parse(read_text(path), source=str(path), env={})
    if Path(config.state.dir) != STATE:
        raise Failure(
            "other-state",
            f"{path} keeps its state elsewhere than the service",
            exit_code=ExitCode.FAILED,
            hint=f'set it there, under [state]: dir = "{STATE}"',
        )
    return config


def _units(config: Config, *, gpu: bool | None) -> dict[str, str | None]:
    """Returns the text of each unit and drop-in, None for one that is not to be there."""
    folder = asset("systemd")
    units: dict[str, str | None] = {name: (folder / name).read_text() for name in UNITS}
    if gpu or (gpu is None and DRIVER.exists()):
        units[GPU_DROP_IN] = (folder / GPU_DROP_IN).read_text()
    elif gpu is False:
        units[GPU_DROP_IN] = None
    usual = config.server.listen == Config().server.listen
    units[LISTEN_DROP_IN] = None if usual else _LISTEN_TEXT.format(_stream(config))
    return units


def _stream(config: Config) -> str:
    """Returns where the socket listens, in systemd's form."""
    host, port = config.server.address
    host = {"localhost": "127.0.0.1"}.get(host, host)
    try:
        address = ip_address(host)
    except ValueError:
        raise Failure(
            "listen-name",
            f"server.listen is {config.server.listen}: the service's socket takes no name",
            exit_code=ExitCode.FAILED,
            hint='give the address, or "0.0.0.0" for all: gpushare install --listen 0.0.0.0:11435',
        ) from None
    return with_port(str(address), port)


# --- single steps -----------------------------------------------------------------------------------------


def _user() -> Step:
    return Step(
        text=f"user {USER}, who cannot log in",
        needed=not user_exists(),
        do=lambda: run(
            *("useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", str(STATE), "--shell", "/usr/sbin/nologin", USER),
        ),
        undo=lambda: run("userdel", USER),
    )


def user_exists() -> bool:
    """Whether the service's user is there."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def _state_folder(layout: Layout) -> Step:
    folder = layout.state

    def owner() -> tuple[int, int]:
        """Returns whose the folder is to be; in a prepared tree it stays ours."""
        if not layout.is_live:
            return os.geteuid(), os.getegid()
        account = pwd.getpwnam(USER)
        return account.pw_uid, account.pw_gid

    def is_right() -> bool:
        if not folder.exists() or (layout.is_live and not user_exists()):
            return False
        found = folder.stat()
        return (found.st_mode & 0o7777, found.st_uid) == (0o700, owner()[0])

    def make() -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, *owner())

    return Step(
        text=f"state directory {folder}",
        needed=not is_right(),
        do=make,
        undo=None if folder.exists() else lambda: shutil.rmtree(folder),
    )


def _command(link: Path) -> Step:
    """Makes the command known to everybody's shell, unless something else has the name."""
    ours = is_our_command(link)
    taken = not ours and (link.is_symlink() or link.exists())

    def make() -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(PROGRAM / "bin" / "gpushare")

    text = f"command {link}" if not taken else f"command {link}: something else is there"
    return Step(text=text, needed=not ours and not taken, do=make, undo=link.unlink)


def is_our_command(link: Path) -> bool:
    """Whether the command leads to the service's program."""
    return link.is_symlink() and link.readlink() == PROGRAM / "bin" / "gpushare"


def _file(path: Path, text: str | None) -> Step:
    """Writes a file of ours, or with None removes it."""
    before = path.read_text() if path.exists() else None

    def put(content: str | None) -> None:
        if content is None:
            remove_file(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, content, mode=0o644)

    shown = str(path) if text is not None else f"no {path}"
    return Step(text=shown, needed=before != text, do=lambda: put(text), undo=lambda: put(before))


def _start(*, changed: bool, socket_changed: bool) -> Step:
    def start() -> None:
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--quiet", *UNITS)
        # One that stays open refuses nobody; opening it anew would end who waits in it.
        run("systemctl", "restart" if socket_changed else "start", SOCKET)
        run("systemctl", "restart", SERVICE)

    if not SYSTEMD.exists():
        return Step(text="start: this machine was not started by systemd", needed=False, do=start)
    needed = changed or not _is_active()
    return Step(text="start, now and with the machine", needed=needed, do=start, keep=True, hint=_NOT_STARTED)


def _is_active() -> bool:
    try:
        run("systemctl", "is-active", "--quiet", *UNITS)
    except OSError:
        return False
    return True
