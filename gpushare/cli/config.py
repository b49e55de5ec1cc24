"""``gpushare config``: check the file, show what is in effect and why, print the reference."""

import os

import click

from gpushare.cli.options import config_option, json_option, read_setup
from gpushare.cli.terminal import emit, note, table
from gpushare.core.config import differing, warnings
from gpushare.core.reference import to_markdown
from gpushare.core.schema import settings
from gpushare.edge.files import find_config, personal_config, reference_text
from gpushare.edge.tls import server_context

DEFAULT = "default"


@click.group
def config() -> None:
    """Check the configuration, or show what is in effect."""


@config.command
@config_option
@json_option
def check(config_path: str | None, *, as_json: bool) -> None:
    """Check the configuration and the key file; every problem is told at once."""
    setup = read_setup(config_path)
    keys = setup.keys.load()
    server = setup.config.server
    if server.tls_cert:
        server_context(server.tls_cert, server.tls_key)
    found = [str(advice) for advice in warnings(setup.config)]
    if as_json:
        emit("gpushare.config-check/1", path=_text(setup.path), ok=True, warnings=found)
        return
    for warning in found:
        note(f"warning: {warning}")
    where = setup.path or "no file, built-in defaults"
    changed = differing(setup.config)
    click.echo(f"ok: {where}; settings that differ from the defaults: {changed}; keys: {len(keys.records)}")


@config.command
@config_option
@json_option
def show(config_path: str | None, *, as_json: bool) -> None:
    """Show the value of every setting, and where it came from."""
    reading = read_setup(config_path).reading
    rows = [(name, toml, reading.origins.get(name, DEFAULT)) for name, toml in settings(reading.value)]
    if as_json:
        listed = [{"setting": name, "value": toml, "origin": origin} for name, toml, origin in rows]
        emit("gpushare.config/1", settings=listed)
    else:
        click.echo(table(("setting", "value", "from"), rows))


@config.command
@config_option
def path(config_path: str | None) -> None:
    """Print the path of the configuration file that is used."""
    found = find_config(config_path, os.environ)
    if found:
        click.echo(found)
    else:
        note(f"No file: built-in defaults. gpushare init writes {personal_config(os.environ)}")


@config.command
@click.option("--markdown", is_flag=True, help="As the page docs/config.md.")
def docs(*, markdown: bool) -> None:
    """Print the reference: every setting, its default and its meaning."""
    text = reference_text()
    click.echo(to_markdown(text) if markdown else text, nl=False)


def _text(path: object) -> str | None:
    return str(path) if path else None
