"""``gpushare models``: which models there are, and which are in memory."""

import click

from gpushare.cli.client import Server, decode, get, request, server_options
from gpushare.cli.options import json_option
from gpushare.cli.terminal import emit_document, note, table
from gpushare.core import wording
from gpushare.core.about import Installed, Models, Unload, Unloaded
from gpushare.core.problems import printable

MODELS = "/gpushare/v1/models"


@click.group
def models() -> None:
    """Show the models there are; for admins: drop one from memory."""


@models.command(name="list")
@server_options
@json_option
def list_models(server: Server, *, as_json: bool) -> None:
    """List the models, those in memory first."""
    found = get(server, MODELS, Models)
    if as_json:
        emit_document(found)
    elif found.models:
        headers = ("model", "state", "memory", "on gpu", "context")
        click.echo(table(headers, [_row(row) for row in found.models], right=headers[2:]))
    else:
        note("Ollama has no model yet. An admin adds one: ollama pull NAME")


@models.command
@click.argument("model")
@server_options
@json_option
def unload(server: Server, model: str, *, as_json: bool) -> None:
    """Drop a model from memory once nothing runs on it.  For admins."""
    done = decode(server, request(server, "POST", f"{MODELS}/unload", Unload(model=model)), Unloaded)
    if as_json:
        emit_document(done)
    else:
        note(
            f"{printable(done.model)} leaves memory once nothing runs on it; the next request loads it again."
        )


def _row(model: Installed) -> tuple[str, ...]:
    if not model.loaded:
        return (model.name, "", "", "", "")
    return (
        model.name,
        "in memory",
        wording.size(model.vram_bytes) if model.vram_bytes is not None else "",
        wording.percent(model.on_gpu) if model.on_gpu is not None else "",
        wording.number(model.context) if model.context is not None else "",
    )
