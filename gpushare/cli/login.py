"""``gpushare login``, ``logout`` and ``whoami``: the server and the key that the other commands use."""

import os
import sys

import click

from gpushare.cli.client import Server, checked_key, find_address, get, read_key, server_options
from gpushare.cli.options import config_option, json_option
from gpushare.cli.terminal import emit_document, note
from gpushare.core.about import Whoami
from gpushare.core.login import Login
from gpushare.core.problems import printable
from gpushare.edge.files import LoginFile

WHOAMI = "/gpushare/v1/whoami"


@click.command
@click.argument("url", required=False)
@click.option("--key-file", metavar="FILE", help="A file that holds your key; else you are asked for it.")
@config_option
def login(url: str | None, key_file: str | None, config_path: str | None) -> None:
    """Keep the address of a gateway and your key for it; the key is asked for, or read from stdin."""
    address, source = find_address(url, config_path, os.environ)
    key = read_key(key_file) if key_file else _ask_key()
    if not key:
        raise click.UsageError("without a key there is nothing to keep")
    server = Server(url=address, key=checked_key(key, "what was given"), source=source)
    who = get(server, WHOAMI, Whoami)
    file = LoginFile(os.environ)
    file.save(Login(url=server.url, key=server.key))
    note(f"Signed in as {printable(who.name)} at {server.url}; kept in {file.path}, which only you can read.")
    note("Next: gpushare status    or for your tools: gpushare connect")


@click.command
def logout() -> None:
    """Forget the kept address and key; the key itself stays good."""
    file = LoginFile(os.environ)
    note(f"Removed {file.path}." if file.remove() else "Nobody was signed in here.")


@click.command
@server_options
@json_option
def whoami(server: Server, *, as_json: bool) -> None:
    """Show whose key is used, and at which gateway."""
    who = get(server, WHOAMI, Whoami)
    if as_json:
        emit_document(who)
        return
    click.echo(
        printable(
            f"{who.name} at {server.url} · key {who.key_id}, role {who.role}, class {who.service}, "
            f"weight {who.weight:g}"
        )
    )


def _ask_key() -> str:
    """Returns the key from the terminal, unseen, or from the first line of stdin."""
    if sys.stdin.isatty():
        key = str(click.prompt("Your key", hide_input=True, err=True))
    else:
        key = sys.stdin.readline()
    return key.strip()
