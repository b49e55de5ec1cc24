"""Reads the GPUs through NVIDIA's management library, in its own process, because that library can hang.

Run by ``edge.gpu`` as ``python -m gpushare.edge.nvml PARENT [INDEX ...]``.  Each line on standard input asks
once and is answered with one line of JSON, a ``GpuReport``; the end of standard input, or of the parent
process, ends it.

Rules: every value is asked for by itself, and one that fails is None.  Only "this card is gone" takes the
whole card.  Of gpushare only the values are imported, so that the process stays small.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from gpushare.core.gpu import GpuReading, GpuReport, slowed_by

TEXT_MAX = 120  # characters of a name or an error

_PR_SET_PDEATHSIG = 1
_RUNNER = "llama-server"  # the others are called ollama_llama_server, or ollama itself


class Lost(Exception):
    """The card fell off the bus, or cannot be used before a reset."""


def main(arguments: Sequence[str]) -> None:
    """Answers until standard input ends.  Without a driver it says so once and ends."""
    parent, *devices = [int(text) for text in arguments]
    _die_with(parent)
    out = _own_output()
    nvml, failed = _open()
    while sys.stdin.buffer.readline():
        report = failed or read(nvml, devices)
        out.write(msgspec.json.encode(report) + b"\n")
        out.flush()
        if failed:
            return


def read(nvml: Any, devices: Sequence[int]) -> GpuReport:  # noqa: ANN401 - the package has no types
    """Reads all cards, or those of ``devices``."""
    try:
        count = nvml.nvmlDeviceGetCount()
    except Exception as error:  # noqa: BLE001 - whatever the driver raises is told in its own words
        return GpuReport(error=_words(error))
    if not count:
        return GpuReport(error="the driver finds no GPU")
    readings, errors = [], []
    for index in devices or range(count):
        try:
            readings.append(_values(nvml, index, _handle(nvml, index, count)))
        except Lost as lost:
            readings.append(GpuReading(index=index, lost=True))
            errors.append(f"GPU {index}: {lost}")
    version = _ask(nvml, nvml.nvmlSystemGetDriverVersion)
    return GpuReport(
        readings=tuple(readings),
        error=", ".join(errors)[:TEXT_MAX] or None,
        driver=None if version is None else _text(version),
    )


def _open() -> tuple[Any, GpuReport | None]:
    """Returns the library, ready for use, or the report that says why there is none."""
    try:
        import pynvml as nvml  # noqa: PLC0415 - large, and not everybody has it
    except ImportError:
        return None, GpuReport(error="the Python package nvidia-ml-py is missing")
    try:
        nvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - as in read
        absent = getattr(error, "value", None) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND
        return None, GpuReport(error=_words(error), absent=absent)
    return nvml, None


def _handle(nvml: Any, index: int, count: int) -> Any:  # noqa: ANN401
    """Returns a card's handle, fetched anew each time, so that a card that was reset comes back.

    Raises:
        Lost: there is no such card, it does not answer, or this user may not open it.
    """
    if index >= count:
        raise Lost(f"there are {count}, counted from 0")
    try:
        return nvml.nvmlDeviceGetHandleByIndex(index)
    except Exception as error:
        raise Lost(_words(error)) from error


def _values(nvml: Any, index: int, handle: Any) -> GpuReading:  # noqa: ANN401
    """Asks for each value; where there are two ways, the newer one comes first."""
    core = nvml.NVML_TEMPERATURE_GPU
    name = _ask(nvml, lambda: nvml.nvmlDeviceGetName(handle))
    uuid = _ask(nvml, lambda: nvml.nvmlDeviceGetUUID(handle))
    used = _ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    memory = _ask(  # the older one counts what the driver keeps for itself as used
        nvml,
        lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2),
        lambda: nvml.nvmlDeviceGetMemoryInfo(handle),
    )
    celsius = _ask(
        nvml,
        lambda: nvml.nvmlDeviceGetTemperatureV(handle, core),
        lambda: nvml.nvmlDeviceGetTemperature(handle, core),
    )
    milliwatts = _ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit = _ask(
        nvml,
        lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle),
        lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle),
    )
    reasons = _ask(
        nvml,
        lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
    )
    others, others_bytes = _others(nvml, handle)
    return GpuReading(
        index=index,
        name=None if name is None else _text(name),
        uuid=None if uuid is None else _text(uuid),
        busy=None if used is None else min(1.0, used / 100),
        memory_used=None if memory is None else memory.used,
        memory_total=None if memory is None else memory.total,
        celsius=celsius,
        watts=None if milliwatts is None else milliwatts / 1000,
        watts_limit=None if limit is None else limit / 1000,
        slowed=None if reasons is None else slowed_by(reasons),
        others=others,
        others_bytes=others_bytes,
    )


def _others(nvml: Any, handle: Any) -> tuple[int | None, int | None]:  # noqa: ANN401
    """Returns how many programs on the card are not Ollama's, and the bytes they hold.

    What can be known: the driver lists the processes, and a process is Ollama's if its program is called so.
    So a second Ollama beside the queue counts as Ollama's, as does anything that takes its name.  Where one
    name is hidden (``ProtectProc``, another user's container) nobody can say whose the process is, and where
    the driver keeps a size to itself nobody can say how much is held: then it is None.  Inside a container of
    its own the driver lists few processes or none, so the count is too low there.
    """
    compute = _ask(
        nvml,
        lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle),
        lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle),
    )
    drawing = _ask(
        nvml,
        lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle),
        lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses_v2(handle),
    )
    if compute is None and drawing is None:
        return None, None
    # One that computes and draws is in both lists, with the same size.
    sizes = {process.pid: process.usedGpuMemory for process in [*(compute or ()), *(drawing or ())]}
    names = {pid: _program(nvml, pid) for pid in sizes}
    if None in names.values():
        return None, None
    held = [sizes[pid] for pid, name in names.items() if name and not is_ollama(name)]
    return len(held), None if None in held else sum(held)


def is_ollama(program: str) -> bool:
    """Whether a program of this name is Ollama's: itself, or a runner that it started."""
    return program.startswith("ollama") or program == _RUNNER


def _program(nvml: Any, pid: int) -> str | None:  # noqa: ANN401
    """Returns the name of a process's program, as the kernel or else the driver gives it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    path = _ask(nvml, lambda: nvml.nvmlSystemGetProcessName(pid))
    return Path(_text(path).partition(" ")[0]).name if path else None


def _ask(nvml: Any, *questions: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Returns the first answer there is, None without one: a card, a driver or the package may lack any.

    Raises:
        Lost: the whole card is gone.
    """
    for question in questions:
        try:
            return question()
        except Exception as error:
            if getattr(error, "value", None) in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                raise Lost(_words(error)) from error
    return None


def _words(error: Exception) -> str:
    """Returns what went wrong as the driver says it, fit for the middle of a sentence."""
    return _text(str(error)).rstrip(".") or type(error).__name__


def _text(given: str | bytes) -> str:
    """Returns a text of the driver's; older versions of the package give bytes."""
    text = given.decode(errors="replace") if isinstance(given, bytes) else given
    return " ".join(text.split())[:TEXT_MAX]


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, however either of them hangs."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit()


def _own_output() -> BinaryIO:
    """Returns standard output for our lines alone: what the driver prints goes nowhere."""
    out = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return out


if __name__ == "__main__":
    main(sys.argv[1:])
