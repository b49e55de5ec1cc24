"""``gpushare queue``: who runs and waits, and what admins do to the queue."""

import sys
from datetime import datetime

import click

from gpushare.cli.client import Server, decode, get, request, server_options
from gpushare.cli.feed import STATUS
from gpushare.cli.options import json_option
from gpushare.cli.terminal import emit_document, note, table
from gpushare.core import controls, wording
from gpushare.core.about import Cancelled
from gpushare.core.controls import Control, Controls
from gpushare.core.document import Document

QUEUE = "/gpushare/v1/queue"


@click.group
def queue() -> None:
    """Show the queue, end calls; for admins: pause, drain and resume it."""


@queue.command
@server_options
@json_option
def show(server: Server, *, as_json: bool) -> None:
    """List what runs and what waits, with the ids that cancel takes."""
    document = get(server, STATUS, Document)
    if as_json:
        emit_document(document)
        return
    rows = [
        *(
            ("running", row.who, row.model, _for(document, row.started), "", row.id)
            for row in document.running
        ),
        *(
            (
                str(row.position),
                row.who,
                row.model,
                _for(document, row.since),
                wording.estimate(row.starts_in_s),
                row.id,
            )
            for row in document.waiting
        ),
    ]
    if rows:
        click.echo(table(("place", "who", "model", "for", "starts in", "id"), rows, right=("for",)))
    else:
        note("Nothing runs and nobody is waiting.")


@queue.command
@server_options
@json_option
def pause(server: Server, *, as_json: bool) -> None:
    """Start nothing more; what runs finishes, who waits keeps waiting.  For admins."""
    _act(server, Control.PAUSE, as_json=as_json)


@queue.command
@server_options
@json_option
def resume(server: Server, *, as_json: bool) -> None:
    """End a pause or a drain.  For admins."""
    _act(server, Control.RESUME, as_json=as_json)


@queue.command
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@server_options
@json_option
def drain(server: Server, *, yes: bool, as_json: bool) -> None:
    """Turn waiting and new calls away; what runs finishes.  For admins."""
    if not yes and sys.stdin.isatty():
        document = get(server, STATUS, Document)
        people = len({row.who for row in document.waiting})
        effect = controls.before(Control.DRAIN, running=len(document.running), people=people)
        click.confirm(f"{effect} Drain?", abort=True, err=True)
    _act(server, Control.DRAIN, as_json=as_json)


@queue.command
@click.argument("request_id", metavar="ID")
@server_options
@json_option
def cancel(server: Server, request_id: str, *, as_json: bool) -> None:
    """End a call that waits or runs: your own, or as an admin any."""
    if not request_id.isidentifier() or not request_id.isascii():
        raise click.UsageError("an id has letters, digits and _ alone; gpushare queue show lists them")
    done = decode(server, request(server, "DELETE", f"{QUEUE}/{request_id}"), Cancelled)
    if as_json:
        emit_document(done)
    else:
        note(f"{done.id}: cancelled")


def _act(server: Server, control: Control, *, as_json: bool) -> None:
    """Sends one control and says how the queue stands then."""
    stands = decode(server, request(server, "POST", f"{QUEUE}/{control}"), Controls)
    if as_json:
        emit_document(stands)
        return
    note(controls.standing(stands))
    if stands.paused or stands.draining:
        note("Next: gpushare queue resume")


def _for(document: Document, since: datetime) -> str:
    return wording.duration((document.now - since).total_seconds())
