"""``gpushare status``: the queue on one screen, from the server's own status document.

Rules: nothing heavy is imported, because people type this while they wait.
"""

import json
import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import click
import msgspec

from gpushare.cli.options import base_url, config_option, json_option, read_setup
from gpushare.cli.terminal import ExitCode, Failure, table
from gpushare.core import wording
from gpushare.core.document import Document, Running, Waiting
from gpushare.core.problems import printable

TIMEOUT_S = 5.0
BIGGEST = 4_000_000  # bytes of an answer: a status document has some thousands


@click.command
@click.option("--url", help="The gateway's address; else $GPUSHARE_URL, else that of the configuration.")
@click.option("--key-file", metavar="FILE", help="A file that holds your key; else $GPUSHARE_KEY.")
@config_option
@json_option
def status(url: str | None, key_file: str | None, config_path: str | None, *, as_json: bool) -> None:
    """Show who is running and who is waiting, and when a request sent now would start."""
    address = url or os.environ.get("GPUSHARE_URL") or base_url(read_setup(config_path).config)
    answer = fetch(address, _key(key_file))
    document = _document(answer, address)
    if as_json:
        click.echo(json.dumps(json.loads(answer), ensure_ascii=False, indent=2))
    else:
        click.echo(render(document))


def fetch(address: str, key: str) -> bytes:
    """Returns the status document of the gateway at an address.

    Raises:
        Failure: not reachable, not allowed, or no gpushare there.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"{printable(address)} is no address; write http://HOST:PORT")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = f"{parts.path.rstrip('/')}/gpushare/v1/status"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection = kind(parts.netloc, timeout=TIMEOUT_S)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read(BIGGEST)
    except (OSError, HTTPException, ValueError) as error:
        _unreachable(address, getattr(error, "strerror", None) or str(error) or type(error).__name__)
    if response.status != 200:
        _refused(address, response.status)
    return body


def render(document: Document) -> str:
    """Returns the screen: the headline, the running and the waiting requests."""
    head = wording.headline(document).text
    lines = [f"{head} · {wording.newcomer(document.new_request_starts_in_s)}   {document.host}"]
    lines += [f"! {notice.text}" for notice in document.notices]
    screens = [printable(line) for line in lines]
    if document.running:
        screens += ["", _running(document)]
    if document.waiting:
        screens += ["", _waiting(document)]
    return "\n".join(screens)


def _running(document: Document) -> str:
    def row(call: Running) -> tuple[str, ...]:
        ran = wording.duration((document.now - call.started).total_seconds())
        return (">", _who(call), call.model, ran, *_progress(call))

    headers = ("", "who", "model", "running", "tokens", "speed")
    return table(headers, [row(call) for call in document.running], right=headers[3:])


def _waiting(document: Document) -> str:
    def row(call: Waiting) -> tuple[str, ...]:
        waited = wording.duration((document.now - call.since).total_seconds())
        load = "loads the model first" if call.swap else ""
        return (str(call.position), _who(call), call.model, waited, wording.estimate(call.starts_in_s), load)

    headers = ("#", "who", "model", "waited", "starts in", "")
    return table(headers, [row(call) for call in document.waiting], right=("waited",))


def _who(call: Running | Waiting) -> str:
    return f"{call.who} (you)" if call.you else call.who


def _progress(call: Running) -> tuple[str, str]:
    """Returns tokens and speed; empty where the viewer may not see them or nobody knows them."""
    tokens = wording.number(call.tokens) if isinstance(call.tokens, int) else ""
    speed = f"{call.tokens_per_s:.0f} tok/s" if isinstance(call.tokens_per_s, float) else ""
    return tokens, speed


def _key(key_file: str | None) -> str:
    if key_file is None:
        return os.environ.get("GPUSHARE_KEY", "")
    try:
        return Path(key_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"the key file {key_file} cannot be read") from error


def _document(answer: bytes, address: str) -> Document:
    try:
        return msgspec.json.decode(answer, type=Document)
    except msgspec.DecodeError:
        _unreachable(address, "what answers there is no gpushare of this version")


def _unreachable(address: str, why: str) -> NoReturn:
    raise Failure(
        "unreachable",
        f"cannot reach gpushare at {printable(address)} ({printable(why)})",
        exit_code=ExitCode.UNREACHABLE,
        hint="is it running? another address: gpushare status --url http://HOST:PORT",
    )


def _refused(address: str, status_code: int) -> NoReturn:
    if status_code in (401, 403):
        raise Failure(
            "not-allowed",
            "the status is shown only with a valid key",
            exit_code=ExitCode.NOT_ALLOWED,
            hint="put yours into $GPUSHARE_KEY or name a file with --key-file",
        )
    if status_code in (429, 503):
        raise Failure("try-later", f"gpushare is too busy ({status_code})", exit_code=ExitCode.TRY_LATER)
    _unreachable(address, f"it answered {status_code}")
