"""``gpushare connect``: what to type into which tool, from the same table as the page."""

import click
import msgspec

from gpushare.cli.client import Server, get, server_options
from gpushare.cli.clipboard import copy
from gpushare.cli.options import json_option
from gpushare.cli.terminal import ExitCode, Failure, emit, note, table
from gpushare.core.about import Connecting
from gpushare.core.login import tidy_url
from gpushare.core.names import is_model_name
from gpushare.core.tools import EXAMPLE_KEY, EXAMPLE_MODEL, TOOLS, USUAL_CONTEXT, Site, Tool, tools
from gpushare.core.tools.text import plain, to_markdown, to_text


@click.command
@click.argument("tool", required=False, metavar="[TOOL]", type=click.Choice(list(TOOLS)))
@click.option("--copy", "to_clipboard", is_flag=True, help="Put a block into the clipboard as well.")
@click.option("--block", default=1, show_default=True, type=click.IntRange(1), help="Which one to copy.")
@click.option("--markdown", is_flag=True, help="As the page docs/connect.md.")
@server_options
@json_option
def connect(
    tool: str | None, server: Server, block: int, *, to_clipboard: bool, markdown: bool, as_json: bool
) -> None:
    """Show what to type into TOOL, with this gateway's address and your key; without TOOL, list them."""
    if markdown:
        click.echo(to_markdown(), nl=False)
        return
    site = _site(server)
    shown = [TOOLS[tool](site)] if tool else list(tools(site))
    if as_json:
        emit("gpushare.tools/1", tools=msgspec.to_builtins(shown))
    elif tool is None:
        rows = [(one.slug, plain(one.name), plain(one.address)) for one in shown]
        click.echo(table(("tool", "name", "address"), rows))
        note("Next: gpushare connect TOOL")
    else:
        click.echo(to_text(shown[0]))
        if site.key == EXAMPLE_KEY:
            note(f"\n{EXAMPLE_KEY} stands for your key; to have it filled in: gpushare login")
        if to_clipboard:
            _copy(shown[0], block)


def _site(server: Server) -> Site:
    """Returns what to fill in; without an answer of the server, examples stand for its models."""
    base, model, context = server.url, None, None
    try:
        facts = get(server, "/gpushare/v1/connecting", Connecting)
        base, context = tidy_url(facts.base_url), facts.context
        model = facts.model if facts.model and is_model_name(facts.model) else None
    except Failure as failure:
        note(f"The model and its context are examples: {failure.message}")
    except ValueError:
        pass  # what is no address is not shown, let alone copied into a shell
    return Site(
        base_url=base,
        key=server.key or EXAMPLE_KEY,
        model=model or EXAMPLE_MODEL,
        context=context or USUAL_CONTEXT,
    )


def _copy(tool: Tool, number: int) -> None:
    blocks = tool.blocks
    if number > len(blocks):
        raise click.UsageError(f"{tool.slug} has {len(blocks)} blocks to copy.")
    means = copy(blocks[number - 1].copy)
    if means is None:
        raise Failure(
            "no-clipboard",
            "there is no clipboard here",
            exit_code=ExitCode.FAILED,
            hint="mark the text with the mouse; or install wl-clipboard, xclip or xsel",
        )
    rest = f"; the next: --block {number + 1}" if number < len(blocks) else ""
    note(f"\nCopied block {number} of {len(blocks)} with {means}{rest}")
