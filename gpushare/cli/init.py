"""``gpushare init``: the first configuration and the first admin key."""

import os
from pathlib import Path

import click

from gpushare.cli.key import hand_over, make_record
from gpushare.cli.layout import STATE
from gpushare.cli.options import base_url, config_option, read_setup
from gpushare.cli.terminal import ExitCode, Failure, note
from gpushare.core.config import parse
from gpushare.core.leaves import to_toml
from gpushare.core.model import Role
from gpushare.core.places import fill
from gpushare.edge.files import SYSTEM_CONFIG, personal_config, reference_text, write_text


@click.command
@config_option
@click.option("-l", "--listen", metavar="HOST:PORT", help="The address to listen on.")
@click.option("--system", is_flag=True, help=f"For the service: {SYSTEM_CONFIG}, keys in {STATE}.")
@click.option("--name", default="admin", show_default=True, help="Whose key the first one is.")
def init(config_path: str | None, listen: str | None, *, system: bool, name: str) -> None:
    """Write a commented configuration and make the first admin key; run again, it changes nothing."""
    path = _target(config_path, system=system)
    if not path.exists():
        write_config(path, listen, state=STATE if system else None)
        note(f"Configuration: {path}, every setting with its default and meaning.")
    elif listen:
        raise Failure(
            "exists",
            f"{path} is there already; --listen would not change it",
            exit_code=ExitCode.FAILED,
            hint=f'set it there, under [server]: listen = "{listen}"',
        )
    else:
        note(f"Configuration: {path}, as it was.")
    setup = read_setup(str(path))
    keys = setup.keys
    if keys.load().records:
        note(f"Keys: {keys.path}, as they were.")
    else:
        record, secret = make_record(name, role=Role.ADMIN)
        keys.edit(lambda ring: ring.added(record, record.made))
        hand_over(record, secret)
    note(f"Next: gpushare serve{_named(path, config_path)}    then open {base_url(setup.config)}/status")


def _target(config_path: str | None, *, system: bool) -> Path:
    named = config_path or os.environ.get("GPUSHARE_CONFIG")
    if named and system:
        raise click.UsageError("--system has its own path; leave --config and $GPUSHARE_CONFIG out.")
    if system:
        return SYSTEM_CONFIG
    return Path(named) if named else personal_config(os.environ)


def write_config(path: Path, listen: str | None, *, state: Path | None) -> None:
    """Writes the reference text with the lines filled in that this machine needs.

    Args:
        path: of the configuration.
        listen: the address, None for the default.
        state: the state directory, None for the default.
    """
    values: dict[tuple[str | int, ...], str] = {}
    if listen:
        values["server", "listen"] = to_toml(listen)
    if state:
        values["state", "dir"] = to_toml(str(state))
    text = fill(reference_text(), values)
    parse(text, source=str(path), env={})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, mode=0o644)


def _named(path: Path, config_path: str | None) -> str:
    return f" --config {path}" if config_path else ""
