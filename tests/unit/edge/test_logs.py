import ast
import errno
import io
import json
import logging
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import structlog
from msgspec.structs import replace

from gpushare.core.config import Log
from gpushare.core.model import Outcome, Phase
from gpushare.edge import logs
from tests.unit import records

REPOSITORY = Path(__file__).parents[3]
MANY = 30_000
"""More lines than a pipe holds, however wide."""
HANG_S = 60.0
CANARY = "canary-5b1f-prompt"
KEY = "gs_7f3a2c_V8kQzzzzzzzzzzzzzzzzzzzzzzzzzzzz"

CALL = msgspec.structs.replace(
    records.CALL,
    request_id="r_9f31",
    tool="continue",
    waited_s=1.25,
    connect_s=1.2512345,
    first_s=2.0,
    total_s=3.5,
    slot_s=2.2,
    records=21,
    bytes_out=1234,
    load_s=None,
)

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    """Returns what the log was written to, configured for JSON at debug."""
    out = io.StringIO()
    logs.configure(Log(level="debug", format="json"), out)
    return out


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    """Returns a function that reads what was logged."""
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_line_has_every_fact_of_a_call(lines: Lines) -> None:
    """``request.done`` holds all the fields the documentation promises, in seconds and tokens."""
    logs.log_record(CALL)
    (line,) = lines()
    del line["time"]
    assert line == {
        "event": "request.done",
        "level": "info",
        "request": "r_9f31",
        "key": "7f3a2c",
        "person": "bob",
        "tool": "continue",
        "api": "ollama",
        "route": "/api/chat",
        "model": "qwen3:8b",
        "class": "interactive",
        "phase": "data",
        "outcome": "ok",
        "status": 200,
        "waited_s": 1.25,
        "connect_s": 1.251,
        "first_s": 2.0,
        "ran_s": 2.25,
        "total_s": 3.5,
        "slot_s": 2.2,
        "tokens_in": 10,
        "tokens_out": 20,
        "records": 21,
        "bytes_out": 1234,
        "swap": False,
        "delivered": True,
    }


def test_phases_not_reached_have_no_timer(lines: Lines) -> None:
    """A call that ended in the queue has no field for what came after it."""
    logs.log_record(replace(CALL, phase=Phase.QUEUE, waited_s=None, connect_s=None, first_s=None))
    assert lines()[0].keys().isdisjoint({"waited_s", "connect_s", "first_s", "ran_s"})


def test_refusals_before_the_queue_are_logged_at_debug(lines: Lines) -> None:
    """A flood of refused calls does not fill the log of a normal day."""
    logs.log_record(replace(CALL, admitted=False, outcome=Outcome.REJECTED_KEY_LIMIT, status=429))
    assert lines()[0]["level"] == "debug"


def test_lines_below_the_level_are_not_written() -> None:
    """The level of the configuration is the lowest one written."""
    out = io.StringIO()
    logs.configure(Log(level="warning", format="json"), out)
    logs.log_record(CALL)
    assert not out.getvalue()


def test_fields_off_the_list_are_dropped_and_named(stream: io.StringIO, lines: Lines) -> None:
    """A value nobody listed does not reach the log, only its name does."""
    structlog.get_logger().info("server.started", address="127.0.0.1:11435", prompt=CANARY)
    assert lines()[0]["unlisted"] == ["prompt"]
    assert CANARY not in stream.getvalue()


class FullDisk(io.StringIO):
    """A stream that takes nothing while ``full``."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_line_that_cannot_be_written_is_lost_and_counted() -> None:
    """P27: nobody's call fails because the log does; the first line that gets through tells of the gap."""
    out = FullDisk()
    logs.configure(Log(format="json"), out)
    for _ in range(3):
        structlog.get_logger().info("server.started")
    out.full = False
    structlog.get_logger().info("server.draining")
    structlog.get_logger().info("server.stopped")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["event"], first["lost_lines"]) == ("server.draining", 3)
    assert (second["event"], "lost_lines" in second) == ("server.stopped", False)


def test_a_reload_forgets_no_line_that_was_lost() -> None:
    """The settings of the log are read again while nothing can be written."""
    out = FullDisk()
    logs.configure(Log(format="json"), out)
    structlog.get_logger().info("server.started")
    logs.configure(Log(format="json", level="debug"), out)
    out.full = False
    structlog.get_logger().info("config.loaded")
    (line,) = (json.loads(line) for line in out.getvalue().splitlines())
    assert line["lost_lines"] == 1


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Sets how many bytes files still take; None for any number."""
    room: int | None = None
    write = os.write

    def put(file: int, data: bytes) -> int:
        nonlocal room
        if room is None:
            return write(file, data)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(file, data[:room])
        room -= taken
        return taken

    def limit(new: int | None) -> None:
        nonlocal room
        room = new

    monkeypatch.setattr(os, "write", put)
    return limit


def test_a_full_disk_leaves_half_a_line_and_the_next_one_whole(
    full: Callable[[int | None], None], tmp_path: Path
) -> None:
    """P27: what is told to be lost is not written later, and nothing is glued to the half that was."""
    path = tmp_path / "log"
    with path.open("w") as out:
        logs.configure(Log(format="json"), out)
        full(20)
        for _ in range(3):
            structlog.get_logger().info("server.started")
        assert path.stat().st_size == 20
        full(None)
        structlog.get_logger().info("server.draining")
        structlog.get_logger().info("server.stopped")
    half, *whole = path.read_text().splitlines()
    first, second = (json.loads(line) for line in whole)
    assert len(half) == 20
    assert (first["event"], first["lost_lines"]) == ("server.draining", 3)
    assert (second["event"], "lost_lines" in second) == ("server.stopped", False)


@pytest.mark.parametrize("make", [os.pipe, os.openpty], ids=["pipe", "terminal"])
def test_a_reader_that_does_not_read_stops_nothing(make: Callable[[], tuple[int, int]]) -> None:
    """P27: where the log goes into a pipe or a terminal that nobody empties, lines are lost and no more."""
    reading, writing = make()
    with os.fdopen(writing, "w") as out, os.fdopen(reading, "rb") as reader:
        os.set_blocking(reading, False)
        logs.configure(Log(format="json"), out)
        writer = threading.Thread(target=_log_much, daemon=True)  # it would wait for ever
        writer.start()
        writer.join(HANG_S)
        stuck = writer.is_alive()
        before = reader.read()
        assert not stuck
        structlog.get_logger().info("server.stopped")
        *_, last = reader.read().splitlines()
    assert json.loads(last)["lost_lines"] + before.count(b"\n") >= MANY


def test_a_reader_that_falls_behind_misses_nothing() -> None:
    """P36: a thousand lines wait for it in the pipe."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as out, os.fdopen(reading, "rb") as reader:
        os.set_blocking(reading, False)
        logs.configure(Log(format="json"), out)
        for _ in range(1_000):
            structlog.get_logger().info("server.started", address="127.0.0.1:11435", version="x" * 100)
        lines = reader.read().splitlines()
    assert len(lines) == 1_000


def test_a_reader_that_is_slow_slows_nothing_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """P27: what it takes in time is written, and not every line waits for it."""
    reading, writing = os.pipe()
    waits = 0

    class Slow:
        """Reads a piece whenever it is waited for."""

        def __init__(self) -> None:
            self._poll = poll()
            self.register = self._poll.register

        def poll(self, timeout_ms: int) -> object:
            nonlocal waits
            if timeout_ms and not self._poll.poll(0):
                waits += 1
                os.read(reading, 65536)
            return self._poll.poll(0)

    poll = select.poll
    monkeypatch.setattr(select, "poll", Slow)
    monkeypatch.setattr(logs, "PATIENT_EVERY_S", 3600.0)
    with os.fdopen(writing, "w") as out, os.fdopen(reading, "rb"):
        logs.configure(Log(format="json"), out)
        _log_much()
    assert waits == 1


def _log_much() -> None:
    for _ in range(MANY):
        structlog.get_logger().info("server.started", address="x" * 300)


def test_exceptions_leave_their_class_and_place_only(stream: io.StringIO, lines: Lines) -> None:
    """The text of an exception can quote input, so it is not logged."""
    try:
        raise ValueError(CANARY)
    except ValueError:
        structlog.get_logger().exception("monitor.failed")
    (line,) = lines()
    assert line["error"] == "ValueError"
    assert line["frames"][-1].startswith("test_logs.py:")
    assert CANARY not in stream.getvalue()


def test_of_a_group_the_first_is_told(lines: Lines) -> None:
    """Tasks that belong together fail as a group, whose own place is in the library."""
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as error:
            raise ExceptionGroup(CANARY, [ExceptionGroup(CANARY, [error]), OSError()]) from None
    except ExceptionGroup as group:
        structlog.get_logger().error("doctor.failed", exc_info=group)
    (line,) = lines()
    assert line["error"] == "ValueError"
    (place,) = line["frames"]
    assert place.endswith(" test_of_a_group_the_first_is_told")


@pytest.mark.parametrize("name", ["aiohttp.server", "asyncio", "aiohttp.access", "anything"])
def test_messages_of_libraries_are_never_quoted(name: str, stream: io.StringIO, lines: Lines) -> None:
    """P31: what a library says about a malformed request is reduced to the place that said it."""
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger(name).exception("Error handling %s %r", CANARY, {"Authorization": KEY})
    (line,) = lines()
    assert line["event"] == "library.reported"
    assert line["place"].startswith(f"{name}:test_logs.py:")
    assert line["error"] == "ValueError"
    assert CANARY not in stream.getvalue()
    assert "gs_7f3a2c" not in stream.getvalue()


def test_libraries_are_heard_once_a_second_for_each_place(lines: Lines) -> None:
    """A flood from one place is one line a second that tells how many were passed over."""
    now = 100.0
    handler = logs.LibraryHandler(lambda: now)
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "x.py", 7, CANARY, (), None)
    elsewhere = logging.LogRecord("aiohttp.server", logging.ERROR, "x.py", 8, CANARY, (), None)
    for each in (record, record, record, elsewhere):
        handler.emit(each)
    now = 101.0
    handler.emit(record)
    found = [(line["place"], line.get("dropped")) for line in lines()]
    assert found == [
        ("aiohttp.server:x.py:7", None),
        ("aiohttp.server:x.py:8", None),
        ("aiohttp.server:x.py:7", 2),
    ]


def test_keys_are_cut_out_of_every_value(stream: io.StringIO) -> None:
    """A key that got into a listed field by mistake is not written."""
    structlog.get_logger().info("keys.rejected", reason=[f"/k/{KEY}/api/chat"], error=KEY)
    assert "V8kQ" not in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "text"])
def test_control_characters_do_not_reach_the_terminal(style: Literal["json", "text"]) -> None:
    """P34: escape sequences, line breaks and direction marks arrive spelled out."""
    out = io.StringIO()
    logs.configure(Log(level="info", format=style), out)
    logs.log_record(replace(CALL, person="a\x1b[2Jb\nlevel=error\u202ec"))
    assert out.getvalue().count("\n") == 1
    assert not {"\x1b", "\u202e"} & set(out.getvalue())


def test_auto_is_json_where_no_terminal_reads() -> None:
    """Under the service manager lines are JSON without being told."""
    out = io.StringIO()
    logs.configure(Log(), out)
    logs.log_record(CALL)
    assert json.loads(out.getvalue())["event"] == "request.done"


def test_auto_is_text_on_a_terminal() -> None:
    """A person at a terminal reads ``name=value``."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    logs.configure(Log(), out)
    logs.log_record(CALL)
    assert "request.done" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_long_values_are_cut(lines: Lines) -> None:
    """One field cannot swell the log."""
    structlog.get_logger().info("keys.rejected", reason="x" * 10_000)
    assert len(lines()[0]["reason"]) < 500


def test_configuring_again_takes_effect_for_loggers_in_use() -> None:
    """A reload changes the level of loggers that modules made at import."""
    log = structlog.get_logger()
    quiet, loud = io.StringIO(), io.StringIO()
    logs.configure(Log(level="error", format="json"), quiet)
    log.info("server.started")
    logs.configure(Log(level="info", format="json"), loud)
    log.info("server.started")
    assert not quiet.getvalue()
    assert loud.getvalue()


COMPUTED = {
    "health.py": {"breaker.opened", "breaker.half_opened", "breaker.closed"},
    "keys.py": {"key.opened", "key.replaced"},
}
"""The events of modules that work out their names."""


def _logged(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Yields the calls of the structlog loggers of a module, each with the event or what gives it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on = node.func.value
            if isinstance(on, ast.Name) and on.id == "_log":
                yield node, node.args[node.func.attr == "log"]


def _names(event: ast.expr, module: str) -> set[str]:
    """Returns the events that a call may log."""
    if isinstance(event, ast.IfExp):
        return _names(event.body, module) | _names(event.orelse, module)
    return {str(event.value)} if isinstance(event, ast.Constant) else COMPUTED[module]


def test_every_event_is_documented_with_its_fields() -> None:
    """No module logs a field that would be dropped, nor an event the documentation does not name."""
    manual = (REPOSITORY / "docs" / "logs.md").read_text(encoding="utf-8")
    for module in (REPOSITORY / "gpushare").rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        if "structlog.get_logger" not in text:
            continue
        for call, event in _logged(ast.parse(text)):
            for name in _names(event, module.name):
                assert f"`{name}`" in manual, f"{module.name}: {name}"
            fields = {keyword.arg for keyword in call.keywords if keyword.arg} - {"exc_info"}
            assert fields <= logs.FIELDS, f"{module.name}:{call.lineno}: {fields - logs.FIELDS}"
    for field in logs.FIELDS:
        assert f"`{field}`" in manual, field


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_journal_learns_the_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Literal["json", "text"]
) -> None:
    """Where it reads the stream it takes the rank off each line; anybody else gets the line alone."""
    with (tmp_path / "log").open("w+") as stream:
        found = (tmp_path / "log").stat()
        for inode in (found.st_ino, found.st_ino + 1):
            monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{inode}")
            logs.configure(Log(level="debug", format=form), stream)
            for say in ("debug", "info", "warning", "error", "exception"):
                getattr(structlog.get_logger(), say)("server.started")
            structlog.get_logger().log(logging.ERROR, "server.started")
    written = (tmp_path / "log").read_text().splitlines()
    assert [line[:3] for line in written[:6]] == ["<7>", "<6>", "<4>", "<3>", "<3>", "<3>"]
    assert not any(line.startswith("<") for line in written[6:])
