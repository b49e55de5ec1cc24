"""``gpushare status``: the queue on one screen, from the server's own status document.

Rules: nothing heavy is imported, because people type this while they wait.
"""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click

from gpushare.cli.client import Server, decode, request, server_options
from gpushare.cli.feed import STATUS, Heard, follow
from gpushare.cli.options import color_option, json_option
from gpushare.cli.terminal import colored, note, table
from gpushare.core import wording
from gpushare.core.document import Document, Gpu, Running, State, Waiting
from gpushare.core.gpu_status import line as gpu_line
from gpushare.core.problems import printable

CLEAR = "\x1b[H\x1b[2J"


@click.command
@server_options
@json_option
@click.option("--watch", is_flag=True, help="Show every change; with --json one document a line.")
@click.option("--utc", is_flag=True, help="Exact times instead of how long ago.")
@color_option
def status(server: Server, color: str, *, as_json: bool, watch: bool, utc: bool) -> None:
    """Show who is running and who is waiting, and when a request sent now would start."""
    if watch:
        _watch(server, color=color, as_json=as_json, utc=utc)
        return
    body = request(server, "GET", STATUS)
    document = decode(server, body, Document)
    if as_json:
        click.echo(json.dumps(json.loads(body), ensure_ascii=False, indent=2))
    else:
        click.echo(render(document, utc=utc), color=colored(color))


def _watch(server: Server, *, color: str, as_json: bool, utc: bool) -> None:
    """Shows each document until interrupted; on a terminal each in the place of the one before."""
    clear = CLEAR if sys.stdout.isatty() else ""
    for event in follow(server, interval_s=1.0):
        if not isinstance(event, Heard):
            if event.tries == 1:
                note(f"lost: {event.failure.message}; trying again")
        elif as_json:
            click.echo(json.dumps(json.loads(event.body), ensure_ascii=False))
        else:
            click.echo(f"{clear}{render(event.document, utc=utc)}\n", color=colored(color))


def render(document: Document, *, utc: bool = False) -> str:
    """Returns the screen, with the codes for colours: the headline, notices, the queue and the GPU."""
    lines = [_headline(document, utc=utc)]
    lines += [click.style(printable(f"! {notice.text}"), fg="yellow") for notice in document.notices]
    times = _exact if utc else _relative(document.now)
    widths = _widths(document)
    if document.running:
        lines += ["", *_running(document, times, widths)]
    if document.waiting:
        lines += ["", *_waiting(document, times, widths)]
    if document.gpus:
        lines += ["", *_gpus(document.gpus)]
    return "\n".join(lines)


def _gpus(gpus: tuple[Gpu, ...]) -> list[str]:
    """Returns one line for each card; those that do not answer are dim."""
    alone = len(gpus) == 1
    return [click.style(printable(gpu_line(gpu, alone=alone)), dim=gpu.lost or None) for gpu in gpus]


def _headline(document: Document, *, utc: bool) -> str:
    head = wording.opening(document)
    if document.state in (State.BUSY, State.SWAP):
        sentence = newcomer(document, document.new_request_starts_in_s)
        head += f" · {sentence[:1].lower()}{sentence[1:]}"
    now = document.now.astimezone(UTC if utc else None)
    when = f"{now:%H:%M:%S} UTC" if utc else f"{now:%H:%M}"
    right = click.style(printable(f"{document.host} · {when}"), dim=True)
    return f"{click.style(printable(head), bold=True)}   {right}"


def _exact(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _relative(now: datetime) -> Callable[[datetime], str]:
    return lambda instant: wording.duration((now - instant).total_seconds())


def _widths(document: Document) -> dict[str, int]:
    """Returns the widths of the columns that both tables have, so that they stand below one another."""
    rows: list[Running | Waiting] = [*document.running, *document.waiting]
    names, models = [who(row) for row in rows], [row.model for row in rows]
    return {
        "": 1,
        "#": 1,
        "who": max(map(len, map(printable, names)), default=0),
        "model": max(map(len, map(printable, models)), default=0),
        "waited": len("running"),
    }


def _running(document: Document, times: Callable[[datetime], str], widths: dict[str, int]) -> list[str]:
    headers = ("", "who", "model", "running", "tokens", "speed")
    rows = [(">", who(row), row.model, times(row.started), *progress(row)) for row in document.running]
    return _styled(table(headers, rows, right=headers[3:], at_least=widths), document.running)


def _waiting(document: Document, times: Callable[[datetime], str], widths: dict[str, int]) -> list[str]:
    headers = ("#", "who", "model", "waited", "starts in", "")
    rows = [
        (
            str(row.position),
            who(row),
            row.model,
            times(row.since),
            wording.estimate(row.starts_in_s),
            remark(row),
        )
        for row in document.waiting
    ]
    return _styled(table(headers, rows, right=("waited",), at_least=widths), document.waiting)


def _styled(text: str, rows: Sequence[Running | Waiting]) -> list[str]:
    """Returns a table's lines, indented: headers pale, the viewer's own rows bold."""
    head, *lines = (f"  {line}" for line in text.split("\n"))
    shown = [click.style(line, bold=True) if row.you else line for line, row in zip(lines, rows, strict=True)]
    return [click.style(head, dim=True), *shown]


def remark(call: Waiting) -> str:
    """Returns why a request starts late, if there is a reason to tell."""
    return call.reason or ("loads the model first" if call.swap else "")


def newcomer(document: Document, left_s: float | None) -> str:
    """Returns when a new request would start, as a sentence; ``left_s`` is the time left to what was told."""
    return wording.newcomer(left_s, told=document.new_request_starts is not None)


def who(call: Running | Waiting) -> str:
    """Returns the person of a row."""
    return f"{call.who} (you)" if call.you else call.who


def progress(call: Running) -> tuple[str, str]:
    """Returns tokens and speed; empty where there are none yet, or none that the viewer may see."""
    tokens = wording.number(call.tokens) if isinstance(call.tokens, int) and call.tokens else ""
    speed = f"{call.tokens_per_s:.0f} tok/s" if isinstance(call.tokens_per_s, float) else ""
    return tokens, speed
