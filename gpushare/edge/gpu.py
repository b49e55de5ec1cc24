"""Where GPU numbers come from: the process that asks the driver, or a pretend card for the demo.

Called by: ``app``, which hands one of them to ``engine.gpu``.

Rules: the driver is asked by one child process, ``edge.nvml``, because a call into a driver that hangs never
comes back.  A child that does not answer in time is killed, and the next one is started only when it is
really gone.  After each failure the pause grows, and a machine without a driver is left alone at once: each
child costs a tenth of a second of a processor.
"""

import asyncio
import contextlib
import math
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import msgspec

from gpushare.core.gpu import GpuReading, GpuReport

CHILD = "gpushare.edge.nvml"
PATIENCE_S = 5.0  # an answer takes milliseconds, a hang lasts for ever
START_PATIENCE_S = 30.0  # a driver asleep wakes one card after the other, a second or two for each
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
LONGEST_ANSWER = 1_000_000  # bytes; one card takes some hundreds
END_S = 2.0  # how long the end of the gateway waits for a child that the kernel cannot end

ENDED = "the program that asks the driver has ended"
GARBLED = "the program that asks the driver says nothing that can be read"

FAKE_NAME = "Simulated card"
_FAKE_TOTAL = 24 * 1024**3

Tell = Callable[[GpuReport], None]


class _NoAnswer(Exception):
    """The child has to be replaced; the text says why."""


class NvmlGpus:
    """The cards of this machine, read by a child process.

    Args:
        interval_s: seconds from an answer to the next question.
        devices: indexes as the driver counts them; empty for all.
        patience_s: how long an answer may take.
        start_patience_s: how long the first answer of a child may take.
        pause_s: pause after the first failure; each further one doubles it.
        sleep: how time is let pass.
    """

    def __init__(
        self,
        *,
        interval_s: float,
        devices: Sequence[int] = (),
        patience_s: float = PATIENCE_S,
        start_patience_s: float = START_PATIENCE_S,
        pause_s: float = FIRST_PAUSE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval_s = interval_s
        self._devices = tuple(map(str, devices))
        self._patience_s = patience_s
        self._start_patience_s = start_patience_s
        self._pause_s = pause_s
        self._sleep = sleep

    async def run(self, tell: Tell) -> None:
        """Tells what is read, until cancelled; no child outlives it."""
        pause_s = self._pause_s
        while True:
            try:
                async with _child(self._devices) as child:
                    async for report in self._answers(child):
                        tell(report)
                        if report.readings:
                            pause_s = self._pause_s
                        elif report.absent:  # nobody installs a driver within minutes
                            pause_s = LONGEST_PAUSE_S
                    await child.end()  # however long: a second one would only hang beside it
            except OSError as error:
                tell(GpuReport(error=f"no program can be started to ask the driver ({error.strerror})"))
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _answers(self, child: "_Child") -> AsyncIterator[GpuReport]:
        """Asks one child until it fails or has no card to read."""
        patience_s = self._start_patience_s
        try:
            while True:
                report = await child.ask(patience_s)
                yield report
                if not report.readings:
                    return
                patience_s = self._patience_s
                await self._sleep(self._interval_s)
        except _NoAnswer as why:
            yield GpuReport(error=str(why))


@contextlib.asynccontextmanager
async def _child(devices: Sequence[str]) -> AsyncIterator["_Child"]:
    """Gives a running child and ends it, as far as the kernel can."""
    child = _Child(devices)
    try:
        yield child
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await child.end()


class _Child:
    """A process that asks the driver, and the line to it.

    It is started without the event loop's help, because a start that waits could be cancelled half-way and
    leave a process that nobody knows.  It has a session of its own, so that Ctrl-C is the gateway's alone.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        command = (sys.executable, "-P", "-m", CHILD, str(os.getpid()), *devices)
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                self._line.close()
                raise

    async def ask(self, patience_s: float) -> GpuReport:
        """Asks once.

        Raises:
            _NoAnswer: no answer in time, none at all, or one that cannot be read.
        """
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.get_running_loop().sock_sendall(self._line, b"\n")
                answer = await self._read_line()
            return msgspec.json.decode(answer, type=GpuReport)
        except TimeoutError as late:
            raise _NoAnswer(f"the driver does not answer within {patience_s:g} s") from late
        except OSError as broken:
            raise _NoAnswer(ENDED) from broken
        except msgspec.DecodeError as wrong:
            raise _NoAnswer(GARBLED) from wrong

    async def _read_line(self) -> bytes:
        """Returns what comes up to the end of a line, or up to what no answer is as long as."""
        read = b""
        while not read.endswith(b"\n") and len(read) < LONGEST_ANSWER:
            piece = await asyncio.get_running_loop().sock_recv(self._line, LONGEST_ANSWER)
            if not piece:
                raise _NoAnswer(ENDED)
            read += piece
        return read

    async def end(self) -> None:
        """Kills the child and waits until it is gone; may be called again when that was cancelled."""
        self._line.close()
        self._process.kill()
        pause_s = 0.001
        while self._process.poll() is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)


class FakeGpus:
    """A pretend card that is busy while calls run, for the demo; its name says what it is.

    Args:
        interval_s: seconds between two readings.
        running: tells how many calls hold a slot.
        loaded_bytes: tells how much memory the models take.
    """

    def __init__(
        self, *, interval_s: float, running: Callable[[], int], loaded_bytes: Callable[[], int]
    ) -> None:
        self._interval_s = interval_s
        self._running = running
        self._loaded_bytes = loaded_bytes

    async def run(self, tell: Tell) -> None:
        """Tells invented readings, until cancelled."""
        for reading in self.readings():
            tell(GpuReport(readings=(reading,)))
            await asyncio.sleep(self._interval_s)

    def readings(self) -> Iterator[GpuReading]:
        """Yields one reading after the other: the same calls give the same numbers."""
        step, busy, warmth = 0, 0.0, 0.0
        while True:
            wanted = 0.9 + 0.06 * math.sin(step) if self._running() else 0.02
            busy += 0.6 * (wanted - busy)
            warmth += 0.05 * (busy - warmth)
            yield GpuReading(
                index=0,
                name=FAKE_NAME,
                busy=round(busy, 2),
                memory_used=min(_FAKE_TOTAL, 600_000_000 + self._loaded_bytes()),
                memory_total=_FAKE_TOTAL,
                celsius=round(38 + 38 * warmth),
                watts=round(26 + 350 * busy),
                watts_limit=450.0,
                slowed=(),
                others=0,
                others_bytes=0,
            )
            step += 1
