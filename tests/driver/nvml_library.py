"""A driver's library made of Python: it stands in for ``libnvidia-ml.so.1`` below the real ``pynvml``.

So what is tested is the package as it is installed, with its own structures, versions and errors.  What the
library says is in a description, which may change at any time:

``cards``: a list, each with the values below, ``errors`` (function -> NVML's error code) and ``hang`` (the
function that never returns).  ``missing``: functions that an older driver does not have.  ``init``: the error
code of the start.  ``names``: pid -> what the driver calls the program.
"""

import ctypes
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Description = Mapping[str, Any]

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE = 3, 4, 6, 7
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED, WRONG_VERSION = 9, 12, 15, 16, 25
MEMORY_V2, TEMPERATURE_V1 = 0x02000028, 0x0100000C
SIZE_UNKNOWN = 2**64 - 1
VERSION = "580.65.06"

CARD: dict[str, Any] = {
    "name": "NVIDIA GeForce RTX 4090",
    "uuid": "GPU-8f6d3c1e-0000-0000-0000-000000000000",
    "gpu": 87,
    "total": 25_757_220_864,
    "used": 22_870_000_000,
    "reserved": 500_000_000,
    "celsius": 71,
    "milliwatts": 338_400,
    "limit": 450_000,
    "reasons": 0,
    "compute": [],
    "graphics": [],
}


class Library:
    """Answers as the C library would: an error code, and results in the caller's buffers.

    ``on_hang`` is told before a call that never returns.
    """

    def __init__(
        self, describe: Callable[[], Description], on_hang: Callable[[], object] = lambda: None
    ) -> None:
        self._describe = describe
        self._on_hang = on_hang

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name in self._describe().get("missing", ()):
            raise AttributeError(name)
        if name in ON_CARD:
            return lambda handle, *buffers: self._on_card(name, handle, buffers)
        general: dict[str, Callable[..., int]] = {
            "nvmlInitWithFlags": lambda _flags: self._describe().get("init", 0),
            "nvmlDeviceGetCount_v2": self._count,
            "nvmlDeviceGetHandleByIndex_v2": self._handle,
            "nvmlSystemGetProcessName": self._name,
            "nvmlSystemGetDriverVersion": lambda buffer, _length: _write(buffer, VERSION),
        }
        return general[name]

    def _count(self, count: Any) -> int:
        return _put(count, value=len(self._describe()["cards"]))

    def _handle(self, index: Any, handle: Any) -> int:
        """Gives a handle that is the index, moved by one so that it is no null pointer."""
        place = ctypes.addressof(handle._obj)  # noqa: SLF001
        ctypes.c_void_p.from_address(place).value = index.value + 1
        return _fault(self._describe()["cards"][index.value], "nvmlDeviceGetHandleByIndex_v2")

    def _name(self, pid: Any, buffer: Any, _length: Any) -> int:
        name = self._describe().get("names", {}).get(str(pid.value))
        if name is None:
            return NOT_FOUND
        buffer.value = name.encode()
        return 0

    def _on_card(self, name: str, handle: Any, buffers: Sequence[Any]) -> int:
        index = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1
        while self._describe()["cards"][index].get("hang") == name:
            self._on_hang()
            signal.pause()
        card = self._describe()["cards"][index]
        return _fault(card, name) or ON_CARD[name](card, *buffers)


def _fault(card: Description, name: str) -> int:
    errors = card.get("errors", {})
    code: int = errors.get(name, errors.get("every call", 0))
    return code


def _put(reference: Any, **fields: object) -> int:
    """Writes through a reference, and reports success."""
    for name, value in fields.items():
        setattr(reference._obj, name, value)  # noqa: SLF001
    return 0


def _write(buffer: Any, text: str) -> int:
    buffer.value = text.encode()
    return 0


def _memory(card: Description, memory: Any) -> int:
    if memory._obj.version != MEMORY_V2:  # noqa: SLF001
        return WRONG_VERSION
    return _put(memory, total=card["total"], used=card["used"])


def _temperature(card: Description, found: Any) -> int:
    if found._obj.version != TEMPERATURE_V1:  # noqa: SLF001
        return WRONG_VERSION
    return _put(found, temperature=card["celsius"])


def _list(processes: Sequence[tuple[int, int]], count: Any, found: Any) -> int:
    """Fills a list of processes, or says how many places it takes."""
    room = count._obj.value  # noqa: SLF001
    _put(count, value=len(processes))
    if room < len(processes):
        return INSUFFICIENT_SIZE
    for place, (pid, size) in zip(found or (), processes, strict=False):
        place.pid, place.usedGpuMemory = pid, size
    return 0


ON_CARD: dict[str, Callable[..., int]] = {
    "nvmlDeviceGetName": lambda card, buffer, _length: _write(buffer, card["name"]),
    "nvmlDeviceGetUUID": lambda card, buffer, _length: _write(buffer, card["uuid"]),
    "nvmlDeviceGetUtilizationRates": lambda card, rates: _put(rates, gpu=card["gpu"], memory=30),
    "nvmlDeviceGetMemoryInfo_v2": _memory,
    "nvmlDeviceGetMemoryInfo": lambda card, memory: _put(
        memory, total=card["total"], used=card["used"] + card["reserved"]
    ),
    "nvmlDeviceGetTemperatureV": _temperature,
    "nvmlDeviceGetTemperature": lambda card, _sensor, found: _put(found, value=card["celsius"]),
    "nvmlDeviceGetPowerUsage": lambda card, found: _put(found, value=card["milliwatts"]),
    "nvmlDeviceGetEnforcedPowerLimit": lambda card, found: _put(found, value=card["limit"]),
    "nvmlDeviceGetPowerManagementLimit": lambda card, found: _put(found, value=card["limit"]),
    "nvmlDeviceGetCurrentClocksEventReasons": lambda card, found: _put(found, value=card["reasons"]),
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda card, found: _put(found, value=card["reasons"]),
    "nvmlDeviceGetComputeRunningProcesses_v3": lambda card, *list_: _list(card["compute"], *list_),
    "nvmlDeviceGetComputeRunningProcesses_v2": lambda card, *list_: _list(card["compute"], *list_),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": lambda card, *list_: _list(card["graphics"], *list_),
    "nvmlDeviceGetGraphicsRunningProcesses_v2": lambda card, *list_: _list(card["graphics"], *list_),
}
