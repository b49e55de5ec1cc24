"""``gpushare usage``: what was used, by person, model, day or tool.

Rules: on the server itself the ledger is read, running or not; elsewhere the server is asked, which tells a
person of their own calls and an admin of all.
"""

import os
import sqlite3
import time
from contextlib import closing
from urllib.parse import urlencode

import click

from gpushare.cli.client import Server, find_server, get, is_told, key_file_option, url_option
from gpushare.cli.options import Setup, config_option, json_option, read_setup
from gpushare.cli.terminal import ExitCode, Failure, emit_document, table
from gpushare.core import usage as reports
from gpushare.core import wording
from gpushare.core.usage import By, Since, Usage, UsageRow

PATH = "/gpushare/v1/usage"
HEADERS = {By.PERSON: "who", By.MODEL: "model", By.DAY: "day", By.TOOL: "tool"}


def _since(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Checks a time; it is read where the ledger is."""
    try:
        reports.parse_since(value)
    except ValueError:
        raise click.BadParameter('write "24h", "7d" or a day such as "2026-11-20"') from None
    return value


@click.command
@click.option("--by", type=click.Choice([by.value for by in By]), default="person", show_default=True)
@click.option("--since", default="7d", show_default=True, callback=_since, help="A time ago, or a day.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
@json_option
@url_option
@key_file_option
@config_option
def usage(
    by: str,
    since: str,
    url: str | None,
    key_file: str | None,
    config_path: str | None,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show how much GPU time was used, and by whom."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of the same; choose one")
    if url or (config_path is None and is_told(os.environ)):
        document = ask(find_server(url, key_file, config_path, os.environ), By(by), since)
    else:
        document = read(read_setup(config_path), By(by), reports.parse_since(since))
    if as_json:
        emit_document(document)
    elif as_csv:
        click.echo(reports.csv(document), nl=False)
    else:
        click.echo(render(document))


def ask(server: Server, by: By, since: str) -> Usage:
    """Returns the report of a server.

    Raises:
        Failure: not reachable, or a refusal.
    """
    return get(server, f"{PATH}?{urlencode({'by': by.value, 'since': since})}", Usage)


def read(setup: Setup, by: By, since: Since) -> Usage:
    """Returns the report of the ledger on this machine.

    Raises:
        ConfigErrors: it is damaged, or of another version.
        Failure: it cannot be read.
    """
    from gpushare.edge.store import NAME, reading
    from gpushare.edge.store.schema import open_reader

    path = setup.keys.path.with_name(NAME)
    try:
        with closing(open_reader(path)) as connection:
            found = reading.usage(connection, by, since, time.time())
    except (OSError, sqlite3.Error) as error:
        raise Failure(
            "not-readable",
            f"cannot read {path} ({getattr(error, 'strerror', None) or error})",
            exit_code=ExitCode.NOT_ALLOWED,
            hint="as the user of the service, or ask the server: gpushare usage --url http://HOST:PORT",
        ) from error
    ledger = setup.config.ledger
    return reports.priced(found, ledger.price_per_kwh, ledger.currency)


def render(document: Usage) -> str:
    """Returns the table, or that there is nothing to show."""
    if not document.rows:
        return f"No requests since {document.since.astimezone(None):%Y-%m-%d %H:%M}."
    rows = [*document.rows, document.total]
    name = HEADERS[document.by]
    columns = {
        name: [row.name for row in rows],
        "GPU time": [wording.worked(row.slot_s) for row in rows],
        "share": [*(_share(row) for row in document.rows), ""],
        "requests": [wording.number(row.requests) for row in rows],
        "tokens in": wording.scaled([row.tokens_in for row in rows]),
        "tokens out": wording.scaled([row.tokens_out for row in rows]),
        "waited": [wording.worked(row.waited_s) for row in rows],
    }
    if document.total.energy_j is not None:
        shown = [_energy(row) for row in rows]
        columns["energy"] = [text.rjust(max(map(len, shown))) for text in shown]
        columns["energy"][-1] += _cost(document)
    headers = tuple(columns)
    return table(headers, list(zip(*columns.values(), strict=True)), right=headers[1:7])


def _share(row: UsageRow) -> str:
    return "" if row.share is None else wording.percent(row.share)


def _energy(row: UsageRow) -> str:
    return "" if row.energy_j is None else wording.energy(row.energy_j)


def _cost(document: Usage) -> str:
    joules, price = document.total.energy_j, document.price_per_kwh
    return "" if not joules or not price else f" {wording.cost(joules, price, document.currency)}"
