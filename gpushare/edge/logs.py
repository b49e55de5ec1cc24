"""The log: its format, what may be in it, and the one line per finished call.

Called by: ``app`` (``configure``, and ``log_record`` for each record).  Others log through structlog.

Rules: a field that is not in ``FIELDS`` is dropped and its name noted, so that a prompt, an answer or a
header cannot get in by accident.  Of an exception the class and the place are logged, never its text, because
the text can quote input.  The same goes for other libraries: aiohttp and asyncio put raw header lines and
whole requests into their messages, so of theirs only the place of the call is kept.
"""

import fcntl
import logging
import os
import re
import select
import sys
import time
import weakref
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import Processor

from gpushare.core.config import Log
from gpushare.core.model import Record

FIELDS = frozenset(
    {
        # every line
        "event", "level", "lost_lines", "time",
        # request.done
        "request", "key", "person", "tool", "api", "route", "model", "class", "phase", "outcome", "status",
        "waited_s", "connect_s", "first_s", "ran_s", "total_s", "slot_s", "load_s", "tokens_in", "tokens_out",
        "records", "bytes_out", "swap", "delivered",
        # the server and its keys
        "address", "changed", "failing", "lost", "ollama", "people", "problems", "reason", "restart",
        "running", "target", "version", "waiting", "what",
        # faults
        "dropped", "error", "frames", "place", "source", "unlisted",
    }
)  # fmt: skip

RANKS = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # the journal's priorities
_TEXT_MAX = 400
_FRAMES = 4
PATIENCE_MS = 20
"""How long a line waits for who reads the log; nothing else happens in the process meanwhile."""
PATIENT_EVERY_S = 1.0
"""So rarely a line waits: else a slow reader would slow down everything."""
PIPE_BYTES = 1 << 20  # what every user may have
_CAUSE_INTERVAL_S = 1.0
_CAUSE_LIMIT = 200
_KEY = re.compile(r"gs_[0-9A-Za-z_]{6,}")
_HARMLESS = frozenset({bool, int, float, type(None)})
_COLLECTIONS = (list, tuple, set, frozenset)  # named: to join them with "|" costs more than to ask

_log = structlog.get_logger()

Event = MutableMapping[str, Any]


def configure(settings: Log, stream: TextIO | None = None) -> None:
    """Sets the whole process's logging up.  May be called again.

    Args:
        settings: level and format; ``auto`` is text where the stream is a terminal, else JSON.
        stream: where lines go; standard error unless told otherwise.
    """
    stream = stream or sys.stderr
    console = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    colors = console and stream.isatty() and "NO_COLOR" not in os.environ
    render: Processor = _console(colors=colors) if console else _json
    threshold = logging.getLevelNamesMapping()[settings.level.upper()]
    writer = _writer_to(stream)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            writer.note_losses,
            _place_exception,
            _allow,
            _clean,
            _ranked(render) if _is_the_journal(stream) else render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,  # module loggers must follow a second configure
    )
    logging.raiseExceptions = False  # its complaint on stderr would print the offending record
    root = logging.getLogger()
    root.handlers[:] = [LibraryHandler(time.monotonic)]
    root.setLevel(max(threshold, logging.WARNING))  # libraries say nothing of use below


def _writer_to(stream: TextIO) -> "_Writer":
    """Returns what writes to a stream; after a reload the one before, which knows what is lost."""
    used = structlog.get_config()["logger_factory"]()
    return used if isinstance(used, _Writer) and used.stream is stream else _Writer(stream)


def _is_the_journal(stream: TextIO) -> bool:
    """Whether systemd's journal reads the stream; it tells the processes it starts which one that is."""
    file = _number(stream)
    if file is None:
        return False
    found = os.fstat(file)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _number(stream: TextIO) -> int | None:
    """Returns the number of the open file behind a stream, None where there is none."""
    try:
        file = stream.fileno()
        os.fstat(file)
    except (OSError, ValueError):
        return None
    return file


def _widen(file: int) -> None:
    """Lets some thousand lines wait in a pipe for a reader that falls behind."""
    with suppress(OSError):  # no pipe, or others of this user have taken all that may be
        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _own_terminal(stream: TextIO) -> int | None:
    """Opens the terminal behind a stream anew, for writes that do not wait; None where there is none.

    A terminal says that it is ready long before it takes a whole line, and is not ours alone to change.
    """
    file = _number(stream)
    if file is None or not os.isatty(file):
        return None
    try:
        return os.open(os.ttyname(file), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # it is somebody else's, as after su
        return None


def _ranked(render: Processor) -> Processor:
    """Puts the level before each line, where the journal takes it from, for ``journalctl -p warning``."""
    return lambda logger, method, event: f"<{RANKS[method]}>{render(logger, method, event)!s}"


def finish() -> None:
    """Drops what others have written to standard error and it still does not take, once the server has ended.

    Python would try it again when it exits, and turn a good end into exit status 120.
    """
    try:
        sys.stderr.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def log_record(record: Record) -> None:
    """Logs one finished call: at debug what was refused before the queue, at info everything else.

    Timers of phases that were not reached are left out.

    Args:
        record: the call's, with nothing in it that a client can make up.
    """
    level = logging.INFO if record.admitted else logging.DEBUG
    if not _enabled(level):
        return
    waited_s = record.waited_s
    facts = {
        "request": record.request_id,
        "key": record.key_id,
        "person": record.person,
        "tool": record.tool,
        "api": record.api,
        "route": record.route,
        "model": record.model,
        "class": record.service,
        "phase": record.phase,
        "outcome": record.outcome,
        "status": record.status,
        "waited_s": _rounded(waited_s),
        "connect_s": _rounded(record.connect_s),
        "first_s": _rounded(record.first_s),
        "ran_s": _rounded(None if waited_s is None else record.total_s - waited_s),
        "total_s": _rounded(record.total_s),
        "slot_s": _rounded(record.slot_s),
        "load_s": _rounded(record.load_s),
        "tokens_in": record.input_tokens,
        "tokens_out": record.output_tokens,
        "records": record.records,
        "bytes_out": record.bytes_out,
        "swap": record.swap,
        "delivered": record.delivered,
    }
    _log.log(level, "request.done", **{name: value for name, value in facts.items() if value is not None})


def _enabled(level: int) -> bool:
    """Whether lines of a level are written; asking a logger would first make one."""
    return bool(structlog.get_config()["wrapper_class"].is_enabled_for(None, level))


class _Writer:
    """Where lines go; no call may fail because of the log.

    A line that cannot be written, on a full disk, to a closed terminal or a reader that does not read, is
    lost, and the next one that is written says how many were.  Files are written to without Python's
    buffers, which would keep such a line and write it after all.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._is_file = _number(stream) is not None
        if self._is_file:
            _widen(stream.fileno())
        self._terminal = _own_terminal(stream)
        if self._terminal is not None:
            weakref.finalize(self, os.close, self._terminal).atexit = False  # the last line comes later
        self._lost = 0
        self._patient_from = 0.0  # when a line may wait again
        self._within_line = False  # a part of a line is out, the rest of which is lost

    def msg(self, line: str) -> None:
        """Writes a line."""
        text = f"\n{line}\n" if self._within_line else f"{line}\n"
        try:
            if self._is_file:
                self._put(text.encode(self._encoding, "backslashreplace"))
            else:
                print(text, end="", file=self.stream, flush=True)
        except (OSError, ValueError):  # a closed file is a ValueError
            self._lost += 1
        else:
            self._lost = 0

    def _put(self, rest: bytes) -> None:
        """Writes to the file; one on a full disk takes a part and no more.

        Raises:
            OSError, ValueError: the rest is lost.
        """
        file = self.stream.fileno() if self._terminal is None else self._terminal
        ready = select.poll()
        ready.register(file, select.POLLOUT)
        while rest:
            if not ready.poll(0) and not (self._may_wait() and ready.poll(PATIENCE_MS)):
                raise BlockingIOError
            taken = os.write(file, rest[: select.PIPE_BUF])  # so much a pipe takes without waiting
            self._within_line = not rest[:taken].endswith(b"\n")
            rest = rest[taken:]

    def _may_wait(self) -> bool:
        """Whether this piece may wait for its reader; for a while after it none may."""
        now = time.monotonic()
        if self._lost or now < self._patient_from:
            return False
        self._patient_from = now + PATIENT_EVERY_S
        return True

    debug = info = warning = error = critical = msg

    def note_losses(self, _logger: object, _method: str, event: Event) -> Event:
        """Adds how many lines were lost since the last one that was written."""
        if self._lost:
            event["lost_lines"] = self._lost
        return event


@dataclass(slots=True)
class _Cause:
    """When a place last logged, and how often it was passed over since."""

    at: float
    dropped: int = 0


class LibraryHandler(logging.Handler):
    """Turns a library's log record into one of our events, at most one a second for each place.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._causes: dict[str, _Cause] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Logs where the record was made and the class of its exception; never its message."""
        place = f"{record.name}:{record.filename}:{record.lineno}"
        dropped = self._turn(place)
        if dropped is None:
            return
        facts: dict[str, object] = {"source": record.name, "place": place}
        if record.exc_info:
            facts["exc_info"] = record.exc_info
        if dropped:
            facts["dropped"] = dropped
        say = _log.error if record.levelno >= logging.ERROR else _log.warning
        say("library.reported", **facts)

    def _turn(self, place: str) -> int | None:
        """Returns how many records were passed over since this place's last line, None to pass over."""
        now = self._clock()
        cause = self._causes.get(place)
        if cause is not None and now - cause.at < _CAUSE_INTERVAL_S:
            cause.dropped += 1
            return None
        if len(self._causes) >= _CAUSE_LIMIT:
            self._causes.clear()
        self._causes[place] = _Cause(now)
        return cause.dropped if cause is not None else 0


def _place_exception(_logger: object, _method: str, event: Event) -> Event:
    """Replaces ``exc_info`` by the class of the exception and the innermost places it passed."""
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    found = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(found, BaseException):
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]  # of a group of tasks: the place of the group says nothing
        event.setdefault("error", type(found).__name__)
        event["frames"] = _places(found.__traceback__)
    return event


def _places(traceback: TracebackType | None) -> list[str]:
    """Returns the innermost frames as ``file:line function``."""
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-_FRAMES:]


def _allow(_logger: object, _method: str, event: Event) -> Event:
    """Drops every field that is not listed and says which; the missing name shows up in review and tests."""
    if not FIELDS.issuperset(event):
        unlisted = sorted(event.keys() - FIELDS)
        for name in unlisted:
            del event[name]
        event["unlisted"] = unlisted
    return event


def _clean(_logger: object, _method: str, event: Event) -> Event:
    """Makes every value inert; the event's own words are constants."""
    for name, value in event.items():
        if type(value) not in _HARMLESS:
            event[name] = _inert(value)
    return event


def _inert(value: object) -> object:
    """Returns a value without keys, control and direction characters, or text beyond the limit."""
    if not isinstance(value, str):
        if type(value) in _HARMLESS:
            return value
        if isinstance(value, _COLLECTIONS):
            return [_inert(part) for part in value]
    text = str(value)
    if "gs_" in text:
        text = _KEY.sub("gs_***", text)
    if not text.isprintable():
        text = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"


def _json(_logger: object, _method: str, event: Event) -> str:
    return msgspec.json.encode(event).decode()


def _console(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time", pad_event_to=0)


def _rounded(seconds: float | None) -> float | None:
    """Returns milliseconds' precision: below it lies only noise."""
    return None if seconds is None else round(1000 * seconds) / 1000
