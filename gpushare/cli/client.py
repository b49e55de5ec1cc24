"""The client's side of the command line: which server, with which key, and how to talk to it.

Called by: every command that asks a running gateway.  Rules: nothing heavy is imported, because people type
these commands while they wait; a key is never an argument, and a kept one goes only to its own server.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from gpushare.cli.options import base_url, config_option, read_setup
from gpushare.cli.terminal import ExitCode, Failure
from gpushare.core.hosts import is_loopback
from gpushare.core.login import is_sendable, tidy_url
from gpushare.core.problems import printable
from gpushare.edge.files import LoginFile

TIMEOUT_S = 5.0
BIGGEST = 4_000_000  # bytes of an answer: a status document has some thousands

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A gateway as a command reaches it; ``source`` says where its address came from."""

    url: str
    key: str
    source: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


url_option = click.option(
    "--url", help="The gateway's address; else $GPUSHARE_URL, else that of gpushare login."
)
key_file_option = click.option(
    "--key-file", metavar="FILE", help="A file that holds your key; else $GPUSHARE_KEY."
)


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say which server is meant, and with which key; the command gets ``server``."""

    @wraps(command)
    def with_server(
        *args: object, url: str | None, key_file: str | None, config_path: str | None, **kwargs: object
    ) -> None:
        command(*args, server=find_server(url, key_file, config_path, os.environ), **kwargs)

    wrapped: Callable[..., None] = with_server
    for option in (config_option, key_file_option, url_option):
        wrapped = option(wrapped)
    return wrapped


def find_server(
    url: str | None, key_file: str | None, config_path: str | None, env: Mapping[str, str]
) -> Server:
    """Returns the server that was meant: told, logged in to, or that of the local configuration.

    Raises:
        ConfigErrors: the login or the configuration cannot be used.
        click.UsageError: an address or a key that is none.
    """
    address, source = find_address(url, config_path, env)
    return Server(url=address, key=_key(key_file, env, address), source=source)


def is_told(env: Mapping[str, str]) -> bool:
    """Returns whether there is an address besides that of the configuration of this machine.

    Raises:
        ConfigErrors: the login cannot be used.
    """
    return bool(env.get("GPUSHARE_URL")) or LoginFile(env).load() is not None


def find_address(url: str | None, config_path: str | None, env: Mapping[str, str]) -> tuple[str, str]:
    """Returns the address that was meant, and where it came from.

    Raises:
        ConfigErrors: the login or the configuration cannot be used.
        click.UsageError: what was told is no address.
    """
    for text, source in ((url, "--url"), (env.get("GPUSHARE_URL"), "$GPUSHARE_URL")):
        if text:
            try:
                return tidy_url(text), source
            except ValueError as error:
                raise click.UsageError(f"{printable(text)} {error} ({source})") from None
    login = LoginFile(env)
    if kept := login.load():
        return kept.url, _short(login.path, env)
    setup = read_setup(config_path)
    return base_url(setup.config), str(setup.path or "the built-in defaults")


def get(server: Server, path: str, kind: type[T]) -> T:
    """Returns the document at a path.

    Raises:
        Failure: not reachable, not allowed, too busy, or no gpushare there.
    """
    return decode(server, request(server, "GET", path), kind)


def decode(server: Server, body: bytes, kind: type[T]) -> T:
    """Returns a document from what a server sent.

    Raises:
        Failure: it is none.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError:
        unreachable(server, "what answers there is no gpushare of this version")


def request(server: Server, method: str, path: str, body: msgspec.Struct | None = None) -> bytes:
    """Returns the body of a good answer to a request, which may have a body of its own.

    Raises:
        Failure: not reachable, or a refusal.
    """
    with answer(server, method, path, body=body) as response:
        return read(server, response)


@contextmanager
def answer(
    server: Server,
    method: str,
    path: str,
    *,
    body: msgspec.Struct | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[HTTPResponse]:
    """Gives a good answer that has not been read yet; its connection ends with the block.

    Raises:
        Failure: not reachable, or a refusal.
    """
    parts = urlsplit(server.url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.netloc, timeout=timeout_s)) as connection:
        try:
            sent = msgspec.json.encode(body) if body else None
            connection.request(method, parts.path + path, body=sent, headers=server.headers)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            unreachable(server, why(error))
        with response:
            if response.status != 200:
                _refused(server, response.status, read(server, response))
            yield response


def read(server: Server, response: HTTPResponse) -> bytes:
    """Returns the body of an answer.

    Raises:
        Failure: it breaks off.
    """
    try:
        return response.read(BIGGEST)
    except (OSError, HTTPException) as error:
        unreachable(server, why(error))


def why(error: Exception) -> str:
    """Returns a failed connection in words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if said := getattr(error, "strerror", None):
        return f"{said[:1].lower()}{said[1:]}"
    return str(error) or type(error).__name__


class Refused(Failure):
    """The server answers, but not as asked; ``status`` is the one of HTTP."""

    def __init__(self, code: str, message: str, *, exit_code: ExitCode, status: int, hint: str = "") -> None:
        super().__init__(code, message, exit_code=exit_code, hint=hint)
        self.status = status


def unreachable(server: Server, reason: str) -> NoReturn:
    """Ends the command: nothing that can be used answers at the address."""
    raise Failure(
        "unreachable",
        _cannot_reach(server, reason),
        exit_code=ExitCode.UNREACHABLE,
        hint=_ways_out(server),
    )


def _cannot_reach(server: Server, reason: str) -> str:
    return f"cannot reach gpushare at {printable(server.url)} ({printable(reason)})"


def _ways_out(server: Server) -> str:
    """Returns what to try when nothing answers at the address."""
    host = urlsplit(server.url).hostname or ""
    there = "" if is_loopback(host) else f"ssh {printable(host)} "
    return (
        f"is it running?      {there}systemctl status gpushare\n"
        f"another address?    gpushare login http://HOST:PORT   (now from {printable(server.source)})"
    )


def _refused(server: Server, status: int, body: bytes) -> NoReturn:
    """Ends the command with what the server says of its refusal."""
    code, said = _reason(body)
    hint = ""
    if status in (401, 403):
        code, said = code or "not_allowed", said or f"the key is refused ({status})"
        exit_code, hint = ExitCode.NOT_ALLOWED, "sign in with your key: gpushare login"
    elif status in (429, 503):
        code, said = code or "try_later", said or f"gpushare is too busy ({status})"
        exit_code = ExitCode.TRY_LATER
    elif code:
        exit_code = ExitCode.NOT_FOUND if status == 404 else ExitCode.FAILED
    else:
        said = _cannot_reach(server, f"what answers there is no gpushare of this version: it said {status}")
        code, exit_code, hint = "unreachable", ExitCode.UNREACHABLE, _ways_out(server)
    raise Refused(code, said, exit_code=exit_code, status=status, hint=hint)


def _reason(body: bytes) -> tuple[str, str]:
    """Returns code and sentence of a refusal; both empty where something else than gpushare refused."""
    try:
        error = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError:
        return "", ""
    return error.code, printable(error.message)


class _Error(msgspec.Struct):
    code: str
    message: str


class _Refusal(msgspec.Struct):
    error: _Error


def _key(key_file: str | None, env: Mapping[str, str], address: str) -> str:
    """Returns the key to send to an address; the kept one only to its own."""
    if key_file is not None:
        return checked_key(read_key(key_file), f"the key file {printable(key_file)}")
    if "GPUSHARE_KEY" in env:
        return checked_key(env["GPUSHARE_KEY"], "$GPUSHARE_KEY")
    kept = LoginFile(env).load()
    return kept.key if kept and kept.url == address else ""


def checked_key(key: str, source: str) -> str:
    """Returns a key if it is one.

    Raises:
        click.UsageError: it is none.
    """
    if not is_sendable(key):
        raise click.UsageError(f"{source} holds no key; a key begins with gs_")
    return key


def read_key(path: str) -> str:
    """Returns what a key file holds.

    Raises:
        click.UsageError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"the key file {printable(path)} cannot be read") from error


def _short(path: Path, env: Mapping[str, str]) -> str:
    """Returns a path as people write it."""
    home = env.get("HOME", "")
    return f"~{str(path)[len(home) :]}" if home and str(path).startswith(f"{home}/") else str(path)
