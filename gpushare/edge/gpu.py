"""Where GPU numbers come from: the process that asks the driver, or a pretend card for the demo.

Called by: ``app``, which hands one of them to ``engine.gpu``.

Rules: the driver is asked by one child process, ``edge.nvml``, because a call into a driver that hangs never
comes back.  A child that does not answer in time is killed, and the next one is started only when it is
really gone.  After each failure the pause grows, so that a machine without a driver is left alone.
"""

import asyncio
import contextlib
import math
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import cast

import msgspec

from gpushare.core.gpu import GpuReading, GpuReport

CHILD = "gpushare.edge.nvml"
PATIENCE_S = 5.0  # an answer takes milliseconds, a hang lasts for ever
START_PATIENCE_S = 30.0  # a driver asleep wakes one card after the other, a second or two for each
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
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
            readable = False
            try:
                async with self._child() as child:
                    readable = await self._converse(child, tell)
                    await _end(child)  # however long: a second one would only hang beside it
            except OSError as error:
                tell(GpuReport(error=f"no program can be started to ask the driver ({error.strerror})"))
            if readable:
                pause_s = self._pause_s
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _converse(self, child: Process, tell: Tell) -> bool:
        """Asks one child until it fails or has no card to read; returns whether it ever had one."""
        readable, patience_s = False, self._start_patience_s
        try:
            while True:
                report = await _ask(child, patience_s)
                tell(report)
                if not report.readings:
                    return readable
                readable, patience_s = True, self._patience_s
                await self._sleep(self._interval_s)
        except _NoAnswer as why:
            tell(GpuReport(error=str(why)))
        return readable

    @contextlib.asynccontextmanager
    async def _child(self) -> AsyncIterator[Process]:
        """Gives a running child, in a session of its own so that Ctrl-C is the gateway's alone; kills it."""
        command = (sys.executable, "-P", "-m", CHILD, str(os.getpid()), *self._devices)
        child = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        try:
            yield child
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await _end(child)


async def _ask(child: Process, patience_s: float) -> GpuReport:
    """Asks once.

    Raises:
        _NoAnswer: no answer in time, none at all, or one that cannot be read.
    """
    questions, answers = cast("asyncio.StreamWriter", child.stdin), cast("asyncio.StreamReader", child.stdout)
    try:
        questions.write(b"\n")
        async with asyncio.timeout(patience_s):
            line = await answers.readline()
        if not line:
            raise _NoAnswer(ENDED)
        return msgspec.json.decode(line, type=GpuReport)
    except TimeoutError as late:
        raise _NoAnswer(f"the driver does not answer within {patience_s:g} s") from late
    except (ValueError, msgspec.DecodeError) as wrong:  # ValueError: a line beyond all measure
        raise _NoAnswer(GARBLED) from wrong
    except (OSError, RuntimeError) as closed:  # RuntimeError: uvloop's word for a closed pipe
        raise _NoAnswer(ENDED) from closed


async def _end(child: Process) -> None:
    """Kills a child and waits until it and its pipes are gone; may be called again when it was cancelled."""
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    cast("asyncio.StreamWriter", child.stdin).close()
    await child.communicate()


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
