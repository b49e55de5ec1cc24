"""Status documents of a gateway as they change: from its event stream, else by asking again and again.

Called by: ``gpushare status --watch`` and ``gpushare top``.  Rules: a lost connection is told and tried again
for ever; only a refusal that trying again does not change ends a feed.
"""

import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

import msgspec

from gpushare.cli.client import Refused, Server, answer, decode, request, unreachable, why
from gpushare.cli.terminal import ExitCode, Failure
from gpushare.core.document import Document

STATUS = "/gpushare/v1/status"
EVENTS = "/events?view=status&format=json"
SILENCE_S = 25.0  # the stream says something every ten seconds
LONGEST_WAIT_S = 10.0  # between two tries: somebody sits in front of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A new document; ``body`` is the JSON it came as."""

    document: Document
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No connection: why, how many tries failed so far, and how long until the next one."""

    failure: Failure
    tries: int
    wait_s: float


class _Bye(msgspec.Struct):
    why: str = ""


def follow(server: Server, *, interval_s: float) -> Generator[Heard | Lost]:
    """Yields what is heard, and what goes wrong in between.

    Args:
        server: where to ask.
        interval_s: how often to ask where there is no event stream.

    Raises:
        Failure: the key is refused, or it has ended.
    """
    tries = 0
    while True:
        try:
            for heard in _once(server, interval_s):
                tries = 0
                yield heard
        except Failure as failure:
            if failure.exit_code == ExitCode.NOT_ALLOWED:
                raise
            tries += 1
            lost = Lost(failure=failure, tries=tries, wait_s=_wait_s(tries))
            yield lost
            time.sleep(lost.wait_s)


def _wait_s(tries: int) -> float:
    """Returns how long to wait after so many failures; no two viewers come back in the same moment."""
    return min(LONGEST_WAIT_S, 2.0 ** min(tries - 1, 10)) * random.uniform(0.7, 1.3)  # noqa: S311 - no secret


def _once(server: Server, interval_s: float) -> Iterator[Heard]:
    """Yields documents until the connection is lost."""
    try:
        with answer(server, "GET", EVENTS, timeout_s=SILENCE_S) as response:
            yield from _streamed(server, response)
    except Refused as refused:
        if refused.status not in (404, 429, 503):
            raise
    while True:  # no stream, or none free: asking costs more, and shows the same
        yield _heard(server, request(server, "GET", STATUS))
        time.sleep(interval_s)


def _streamed(server: Server, response: HTTPResponse) -> Iterator[Heard]:
    """Yields the ``state`` events of a stream."""
    for event, data in events(server, response):
        if event == "state":
            yield _heard(server, data)
        elif event == "bye" and decode(server, data, _Bye).why == "signed-out":
            raise Failure(
                "signed_out", "the key has ended while this was open", exit_code=ExitCode.NOT_ALLOWED
            )
    unreachable(server, "it ended the connection")


def events(server: Server, response: HTTPResponse) -> Iterator[tuple[str, bytes]]:
    """Yields name and data of each server-sent event."""
    name, data = "", b""
    while True:
        try:
            line = response.readline()
        except (OSError, HTTPException) as error:
            unreachable(server, why(error))
        if not line:
            return
        field, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode(errors="replace")
        elif field == b"data":
            data += value
        elif not field and not value:
            if name:
                yield name, data
            name, data = "", b""


def _heard(server: Server, body: bytes) -> Heard:
    return Heard(document=decode(server, body, Document), body=body)
