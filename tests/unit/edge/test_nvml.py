"""What is read of a driver's library, through the real ``pynvml``."""

import ast
import inspect
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pynvml
import pytest

from gpushare.core.gpu import GpuReading, GpuReport
from gpushare.edge import nvml
from tests.driver.nvml_library import (
    CARD,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    SIZE_UNKNOWN,
    VERSION,
    Library,
)
from tests.machine import Machine

HIDDEN = 2**22 + 7  # no process has this id: the kernel's largest is 2**22
SELF = os.getpid()


class Driver:
    """A made-up library in place of the driver's, as ``pynvml`` sees it."""

    def __init__(self) -> None:
        self.description: dict[str, Any] = {"cards": [dict(CARD)], "missing": [], "names": {}}

    @property
    def card(self) -> dict[str, Any]:
        """The first card."""
        card: dict[str, Any] = self.description["cards"][0]
        return card

    def read(self, *devices: int) -> GpuReport:
        """Reads through ``pynvml``."""
        pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - else a missing function is remembered
        return nvml.read(pynvml, devices)

    def reading(self) -> GpuReading:
        """Reads the one card."""
        (reading,) = self.read().readings
        return reading


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A library with one card; tests change its description."""
    made = Driver()
    monkeypatch.setattr(pynvml, "nvmlLib", Library(lambda: made.description))
    return made


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[int]:
    """A running process whose program is called as Ollama's runner was, and so cut short by the kernel."""
    program = tmp_path / "ollama_llama_server"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "60"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "ollama_llama_se\n":
            time.sleep(0.001)  # the kernel sets the name a moment after it lets us go on
        yield process.pid
        process.kill()


def test_every_name_exists() -> None:
    """A misspelt function would be taken for one that the driver does not have, and never be missed."""
    tree = ast.parse(inspect.getsource(nvml))
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nvml"
    }
    assert len(names) > 20
    assert names <= set(vars(pynvml))


def test_a_card_is_read(driver: Driver) -> None:
    """Every value of a card, in its unit."""
    driver.card["reasons"] = pynvml.nvmlClocksEventReasonSwThermalSlowdown
    assert driver.read() == GpuReport(
        readings=(
            GpuReading(
                index=0,
                name="NVIDIA GeForce RTX 4090",
                uuid="GPU-8f6d3c1e-0000-0000-0000-000000000000",
                busy=0.87,
                memory_used=22_870_000_000,
                memory_total=25_757_220_864,
                celsius=71,
                watts=338.4,
                watts_limit=450.0,
                slowed=("heat",),
                others=0,
                others_bytes=0,
            ),
        ),
        driver=VERSION,
    )


FIELDS = {
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetUtilizationRates": {"busy"},
    "nvmlDeviceGetPowerUsage": {"watts"},
}


@pytest.mark.parametrize("function", FIELDS)
def test_a_refused_call_is_one_unknown_value(driver: Driver, function: str) -> None:
    """Cards differ in what they tell; the rest of the card is read all the same."""
    before = driver.reading()
    driver.card["errors"] = {function: NOT_SUPPORTED}
    after = driver.reading()
    changed = {name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)}
    assert changed == FIELDS[function]
    assert {getattr(after, name) for name in changed} == {None}


def test_a_card_that_tells_nothing_is_there(driver: Driver) -> None:
    """When every value is refused the card is unknown, not lost."""
    driver.card["errors"] = {"every call": NOT_SUPPORTED, "nvmlDeviceGetHandleByIndex_v2": 0}
    assert driver.reading() == GpuReading(index=0)


NEWER: dict[str, dict[str, object]] = {
    "nvmlDeviceGetTemperatureV": {"celsius": 71},
    "nvmlDeviceGetEnforcedPowerLimit": {"watts_limit": 450.0},
    "nvmlDeviceGetCurrentClocksEventReasons": {"slowed": ("heat",)},
    "nvmlDeviceGetMemoryInfo_v2": {"memory_used": CARD["used"] + CARD["reserved"]},
    "nvmlDeviceGetComputeRunningProcesses_v3": {"others": 1},
    "nvmlDeviceGetGraphicsRunningProcesses_v3": {"others": 1},
}


@pytest.mark.parametrize("function", NEWER)
def test_older_drivers_are_asked_the_older_way(driver: Driver, function: str) -> None:
    """A function that this driver does not have yet, or no more, has a replacement."""
    driver.card["reasons"] = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    driver.card["compute"] = driver.card["graphics"] = [(SELF, 800_000_000)]
    driver.description["missing"] = [function]
    reading = driver.reading()
    assert {name: getattr(reading, name) for name in NEWER[function]} == NEWER[function]


@pytest.mark.parametrize("code", [GPU_IS_LOST, RESET_REQUIRED])
@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetPowerUsage"])
def test_a_lost_card_is_lost_alone(driver: Driver, function: str, code: int) -> None:
    """Whichever call finds out: that card has no numbers, and the one beside it has all of them."""
    second = {**CARD, "uuid": "GPU-2", "errors": {function: code}}
    driver.description["cards"].append(second)
    report = driver.read()
    assert report.readings[0].busy == 0.87
    assert report.readings[1] == GpuReading(index=1, lost=True)
    assert report.error == f"GPU 1: {pynvml.NVMLError(code)}"


def test_a_card_that_may_not_be_opened_says_so(driver: Driver) -> None:
    """A service without the card's device file learns why it sees nothing."""
    driver.card["errors"] = {"nvmlDeviceGetHandleByIndex_v2": NO_PERMISSION}
    assert driver.read() == GpuReport(
        readings=(GpuReading(index=0, lost=True),),
        error="GPU 0: Insufficient Permissions",
        driver=VERSION,
    )


def test_devices_pick_cards(driver: Driver) -> None:
    """Only the named indexes are read, and one that does not exist is named."""
    driver.description["cards"] = [{**CARD, "gpu": busy} for busy in (10, 20, 30)]
    assert [(r.index, r.busy) for r in driver.read(2, 0).readings] == [(2, 0.3), (0, 0.1)]
    report = driver.read(1, 3)
    assert [reading.lost for reading in report.readings] == [False, True]
    assert report.error == "GPU 3: there are 3, counted from 0"


def test_a_driver_without_cards_says_so(driver: Driver) -> None:
    """No card is an answer that people get in words."""
    driver.description["cards"] = []
    assert driver.read() == GpuReport(error="the driver finds no GPU")


def test_other_programs_are_told_from_ollama(driver: Driver, ollama: int) -> None:
    """What is called as Ollama's programs are is Ollama's; a program in both lists counts once."""
    driver.card["compute"] = [(ollama, 19_000_000_000), (SELF, 800_000_000)]
    driver.card["graphics"] = [(SELF, 800_000_000)]
    reading = driver.reading()
    assert (reading.others, reading.others_bytes) == (1, 800_000_000)


@pytest.mark.parametrize(
    ("named", "others"),
    [
        ("/usr/local/bin/ollama runner --model /blobs/sha256-1", 0),
        ("/usr/lib/ollama/llama-server", 0),
        ("/usr/bin/python3 train.py", 1),
        ("/opt/my-ollama-clone", 1),
        (None, None),
    ],
)
def test_the_driver_names_what_the_kernel_hides(
    driver: Driver, named: str | None, others: int | None
) -> None:
    """Where ``/proc`` shows nothing the driver's name is taken; without any, nothing is claimed."""
    driver.card["compute"] = [(HIDDEN, 800_000_000)]
    if named:
        driver.description["names"] = {str(HIDDEN): named}
    reading = driver.reading()
    assert reading.others == others
    assert reading.others_bytes == (others and 800_000_000)


def test_unknown_sizes_are_not_added_up(driver: Driver) -> None:
    """A driver that keeps a program's size to itself leaves the sum unknown, and the count known."""
    driver.card["compute"] = [(SELF, SIZE_UNKNOWN)]
    reading = driver.reading()
    assert (reading.others, reading.others_bytes) == (1, None)


def test_one_list_is_enough(driver: Driver) -> None:
    """Cards that cannot draw have no list of programs that do."""
    driver.card["compute"] = [(SELF, 5)]
    driver.card["errors"] = dict.fromkeys(
        ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
        NOT_SUPPORTED,
    )
    assert (driver.reading().others, driver.reading().others_bytes) == (1, 5)


def test_texts_of_older_packages_are_bytes(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come as text or as bytes, and no longer than a line."""
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda _handle: b"Tesla\n \xff " + b"x" * 500)
    name = driver.reading().name or ""
    assert name.startswith("Tesla \N{REPLACEMENT CHARACTER} xxx")
    assert len(name) == nvml.TEXT_MAX


@pytest.mark.parametrize(
    ("code", "words", "absent"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "NVML Shared Library Not Found", True),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded", False),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "RM has detected an NVML/RM version mismatch", False),
    ],
)
def test_without_a_driver_the_child_says_so_and_ends(
    tmp_path: Path,
    code: int,
    words: str,
    absent: bool,  # noqa: FBT001
) -> None:
    """It gives the driver's own words once and does not wait to be asked again."""
    machine = Machine(tmp_path / "driver.json")
    machine.says(init=code)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gpushare.edge.nvml", str(SELF)],
        input=b"\n\n\n",
        capture_output=True,
        check=True,
        env={**os.environ, **machine.environment},
    )
    assert msgspec.json.decode(done.stdout, type=GpuReport) == GpuReport(error=words, absent=absent)


def test_the_child_stays_small() -> None:
    """It loads nothing of the web server, so that it costs little memory."""
    command = "import sys; import gpushare.edge.nvml; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", command], capture_output=True, check=True, text=True
    ).stdout.split()
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(
        {"aiohttp", "structlog", "pynvml", "asyncio"}
    )
