"""A reload reads, checks, and takes everything or nothing."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpushare.app.build import build_parts
from gpushare.app.life import Life
from gpushare.app.reload import Reload
from gpushare.core.config import Config, Queue, Server
from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.problems import ConfigErrors, Problem
from gpushare.edge.beside import NAME as BESIDE
from gpushare.edge.ollama import HttpOllama
from gpushare.web.parts import Parts
from tests.harness import PATIENCE_S, every_log_line

NEW = Config(queue=Queue(slots=3), server=Server(listen="127.0.0.1:1"))
RING = KeyRing([KeyRecord(id="aaaaaa", name="alice", sha256="0" * 64)])


@dataclass
class Bench:
    """A server that is not running, and what it would read."""

    parts: Parts
    life: Life
    log: Sequence[object]
    read: Callable[[], tuple[Config, KeyRing]] = lambda: (NEW, RING)
    announced: list[str] = field(default_factory=list)
    reload: Reload = field(init=False)

    def __post_init__(self) -> None:
        self.reload = self.reload_within(PATIENCE_S)

    def reload_within(self, timeout_s: float) -> Reload:
        """Returns a reload that gives the disk so long."""
        return Reload(self.parts, self.life, self.read_now, self, timeout_s=timeout_s)

    def read_now(self) -> tuple[Config, KeyRing]:
        """Reads whatever a test has put there."""
        return self.read()

    def reloading(self) -> None:
        self.announced.append("reloading")

    def serving(self) -> None:
        self.announced.append("serving")

    def slots(self) -> int:
        """Returns how many slots there are."""
        return self.parts.slots.snapshot().backends[0].slots


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server with the default configuration and no keys."""
    life = Life()
    config = Config()
    with every_log_line() as log:
        yield Bench(
            build_parts(config, KeyRing(), HttpOllama(config.ollama.url), Path("nowhere"), life), life, log
        )


async def test_settings_and_keys_change_together(bench: Bench) -> None:
    """What acts is in use, what needs a restart is not, and the log names both."""
    await bench.reload.once()
    assert (bench.slots(), bench.parts.ring) == (3, RING)
    assert bench.parts.config == Config(queue=Queue(slots=3))
    assert bench.log == [
        {
            "event": "config.loaded",
            "log_level": "info",
            "changed": ("queue.slots",),
            "restart": ("server.listen",),
        }
    ]
    assert bench.announced == ["reloading", "serving"]


def refuse() -> tuple[Config, KeyRing]:
    """Raises two problems."""
    raise ConfigErrors((Problem(source="a.toml", message="wrong"), Problem(source="b.toml", message="bad")))


async def test_every_problem_is_logged_and_shown(bench: Bench) -> None:
    """Nothing changes, and the server knows it until the next good reload."""
    before = bench.parts.config
    bench.read = refuse
    await bench.reload.once()
    assert bench.parts.config is before
    assert bench.parts.config_rejected
    assert bench.announced == ["reloading", "serving"]
    assert bench.log == [
        {"event": "config.rejected", "log_level": "error", "problems": ("a.toml: wrong", "b.toml: bad")}
    ]
    bench.read = lambda: (NEW, RING)
    await bench.reload.once()
    assert not bench.parts.config_rejected


async def test_a_part_that_fails_undoes_the_reload(bench: Bench) -> None:
    """A fault of ours changes nothing either."""

    def fail(_new: Config) -> None:
        raise ZeroDivisionError

    bench.life.on_reload.append(fail)
    await bench.reload.once()
    assert (bench.slots(), bench.parts.ring.records, bench.parts.config) == (1, (), Config())
    assert bench.parts.config_rejected


async def test_a_file_system_that_hangs_is_given_up(bench: Bench) -> None:
    """Neither the server nor its end waits for a disk that does not answer."""
    answers = threading.Event()

    def hang() -> tuple[Config, KeyRing]:
        answers.wait()
        return NEW, RING

    bench.read = hang
    await bench.reload_within(0.05).once()
    assert (bench.slots(), bench.parts.config_rejected) == (1, True)
    assert bench.announced == ["reloading", "serving"]
    assert bench.log == [
        {"event": "config.rejected", "log_level": "error", "problems": ("cannot be read within 0.05 s",)}
    ]
    (reading,) = [thread for thread in threading.enumerate() if thread.name == BESIDE]
    assert reading.daemon
    bench.read = lambda: (NEW, RING)
    await bench.reload.once()
    assert (bench.slots(), bench.parts.config_rejected) == (3, False)
    bench.parts.ring = KeyRing()
    answers.set()
    reading.join()
    await asyncio.sleep(0)
    assert bench.parts.ring.records == ()


async def test_what_settings_name_is_read_beside_the_loop(bench: Bench) -> None:
    """It is put in use with everything else, or not at all."""
    used: list[Config] = []
    read_from: list[str] = []

    def read(new: Config) -> Callable[[], None]:
        read_from.append(threading.current_thread().name)
        return lambda: used.append(new)

    def fail(_new: Config) -> None:
        assert not used
        raise ZeroDivisionError

    bench.life.on_read.append(read)
    bench.life.on_reload.append(fail)
    await bench.reload.once()
    assert (used, bench.parts.config_rejected) == ([], True)
    bench.life.on_reload.remove(fail)
    await bench.reload.once()
    assert used == [bench.parts.config]
    assert read_from == [BESIDE, BESIDE]


async def test_a_server_that_closes_down_reads_nothing(bench: Bench) -> None:
    """There is nobody left for whom a setting could change."""
    bench.parts.slots.close()
    bench.read = refuse
    await bench.reload.once()
    assert (bench.log, bench.announced) == ([], [])


async def test_a_queue_that_is_drained_takes_settings(bench: Bench) -> None:
    """An admin's drain ends with a resume: the server goes on, and what was changed meanwhile acts."""
    bench.parts.slots.drain()
    await bench.reload.once()
    assert (bench.slots(), bench.announced) == (3, ["reloading", "serving"])
