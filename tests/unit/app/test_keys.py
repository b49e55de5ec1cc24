"""Keys while the server runs: looked at beside the loop, and never replaced by older ones."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpushare.app import keys
from gpushare.app.build import build_parts
from gpushare.app.keys import KeyKeeper, watch_clock, watch_key_file
from gpushare.app.life import Life
from gpushare.app.reload import Reload
from gpushare.core.config import Config
from gpushare.core.errors import KeysUnwritable
from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.edge.beside import NAME as BESIDE
from gpushare.edge.files import KeyFile
from gpushare.edge.ollama import HttpOllama
from gpushare.web.parts import Parts
from tests.harness import PATIENCE_S, every_log_line

ALICE = KeyRecord(id="aaaaaa", name="alice", sha256="0" * 64)
BOB = KeyRecord(id="bbbbbb", name="bob", sha256="1" * 64)


class Disk(KeyFile):
    """A key file on a disk that hangs from the first look until ``answers`` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hangs = threading.Event()
        self.answers = threading.Event()
        self.looked_from: set[str] = set()

    def changed(self) -> bool:
        """Looks."""
        name = threading.current_thread().name
        self.looked_from.add(name)
        self.hangs.set()
        if name == BESIDE:  # or nothing would ever end the test
            self.answers.wait(PATIENCE_S)
        return super().changed()


@dataclass
class Bench:
    """A server that is not running, its key file and what it logs."""

    parts: Parts
    disk: Disk
    log: Sequence[object]
    announced: list[str] = field(default_factory=list)

    async def until(self, number: int, ring: KeyRing | None = None) -> None:
        """Waits until so many keys are in use, in another ring than the given one."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.parts.ring.records) != number or self.parts.ring is ring:
                await asyncio.sleep(0.001)

    async def hanging(self) -> None:
        """Waits until the disk hangs."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.disk.hangs.is_set():
                await asyncio.sleep(0.001)

    def reloading(self) -> None:
        self.announced.append("reloading")

    def serving(self) -> None:
        self.announced.append("serving")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A server with alice's key, who looks for changes all the time."""
    monkeypatch.setattr(keys, "KEY_FILE_POLL_S", 0.001)
    disk = Disk(tmp_path)
    ring = disk.edit(lambda _: KeyRing([ALICE]))
    disk.load()
    config = Config()
    with every_log_line() as log:
        parts = build_parts(config, ring, HttpOllama(config.ollama.url), tmp_path, Life())
        parts.key_store = KeyKeeper(parts, disk)
        yield Bench(parts, disk, log)
    disk.answers.set()


async def test_a_disk_that_hangs_leaves_the_loop_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P27: keys end by the clock meanwhile, the log tells of the disk, and a change acts when it answers."""
    monkeypatch.setattr(keys, "LATE_S", 0.0)
    ended: list[object] = []
    monkeypatch.setattr(bench.parts.slots, "evict", lambda chosen, _error: ended.append(chosen))
    watches = [
        asyncio.create_task(watch)
        for watch in (watch_clock(bench.parts), watch_key_file(bench.parts, bench.disk))
    ]
    await bench.hanging()
    KeyFile(tmp_path).edit(lambda ring: ring.added(BOB, datetime.now(UTC)))
    looks = len(ended)
    async with asyncio.timeout(PATIENCE_S):
        while len(ended) < looks + 3:
            await asyncio.sleep(0.001)
    assert bench.disk.looked_from == {BESIDE}
    assert bench.log == [{"event": "keys.unread", "log_level": "error", "reason": "the disk does not answer"}]
    assert len(bench.parts.ring.records) == 1
    bench.disk.answers.set()
    await bench.until(2)
    for watch in watches:
        watch.cancel()
    await asyncio.wait(watches)


async def test_a_change_that_waits_for_the_disk_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's change that hangs keeps every other one from acting, as a look that hangs does."""
    monkeypatch.setattr(keys, "LATE_S", 0.0)
    async with bench.parts.keys_turn:
        watch = asyncio.create_task(watch_key_file(bench.parts, bench.disk))
        async with asyncio.timeout(PATIENCE_S):
            while not bench.log:
                await asyncio.sleep(0.001)
    assert bench.log == [{"event": "keys.unread", "log_level": "error", "reason": "the disk does not answer"}]
    watch.cancel()
    await asyncio.wait([watch])


async def test_what_a_page_changes_acts_at_once(bench: Bench) -> None:
    """Nobody has to look at the file for it; the look that follows finds nothing new."""
    await bench.parts.edit_keys(lambda ring: ring.added(BOB, datetime.now(UTC)))
    assert len(bench.parts.ring.records) == 2
    at_once = bench.parts.ring
    bench.disk.answers.set()
    watch = asyncio.create_task(watch_key_file(bench.parts, bench.disk))
    await bench.until(2, at_once)
    watch.cancel()
    await asyncio.wait([watch])


async def test_a_reload_brings_no_older_keys_back(bench: Bench) -> None:
    """P21, P32: what is revoked while the keys are being read again is revoked after it."""
    read, goes_on = threading.Event(), threading.Event()

    def read_slowly() -> tuple[Config, KeyRing]:
        found = bench.parts.config, KeyFile(bench.disk.path.parent).load()
        read.set()
        goes_on.wait(PATIENCE_S)
        return found

    reload = Reload(bench.parts, Life(), read_slowly, bench, timeout_s=PATIENCE_S)
    now = datetime.now(UTC)
    async with asyncio.TaskGroup() as tasks:
        reloading = tasks.create_task(reload.once())
        while not read.is_set():
            await asyncio.sleep(0.001)
        revoking = tasks.create_task(
            bench.parts.edit_keys(lambda ring: ring.changed([ALICE.id], revoked=now - timedelta(seconds=1)))
        )
        await asyncio.wait([revoking], timeout=0.3)  # as long as it would take, were it not to wait
        goes_on.set()
        await asyncio.wait([reloading, revoking])
    assert not bench.parts.ring.active(ALICE.id, now)


async def test_a_reload_does_not_wait_for_a_disk_that_hangs(bench: Bench) -> None:
    """It says so, and the next one is free to find the disk well again."""
    watch = asyncio.create_task(watch_key_file(bench.parts, bench.disk))
    await bench.hanging()

    def read() -> tuple[Config, KeyRing]:
        return Config(), KeyRing([ALICE, BOB])

    await Reload(bench.parts, Life(), read, bench, timeout_s=0.05).once()
    assert bench.log == [
        {"event": "config.rejected", "log_level": "error", "problems": ("cannot be read within 0.05 s",)}
    ]
    assert (bench.parts.config_rejected, bench.announced) == (True, ["reloading", "serving"])
    watch.cancel()
    await asyncio.wait([watch])
    await Reload(bench.parts, Life(), read, bench, timeout_s=PATIENCE_S).once()
    assert (bench.parts.config_rejected, len(bench.parts.ring.records)) == (False, 2)


async def test_what_cannot_be_written_is_not_done(bench: Bench, tmp_path: Path) -> None:
    """Whoever asked is told so in words, and the log says why."""
    before = bench.parts.ring
    (tmp_path / "keys.toml").write_text("keys = 3")
    with pytest.raises(KeysUnwritable):
        await bench.parts.edit_keys(lambda ring: ring.added(BOB, datetime.now(UTC)))
    assert bench.parts.ring is before
    problem = f"{tmp_path / 'keys.toml'}:1:1: keys: no such section"
    assert bench.log == [{"event": "keys.unwritten", "log_level": "error", "problems": (problem,)}]


async def test_no_change_waits_for_a_disk_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """P19: who asks is told so, and what was asked is not done later."""
    watch = asyncio.create_task(watch_key_file(bench.parts, bench.disk))
    await bench.hanging()
    monkeypatch.setattr(keys, "LATE_S", 0.01)
    changing = asyncio.create_task(bench.parts.edit_keys(lambda _: KeyRing()))
    await asyncio.wait([changing], timeout=PATIENCE_S)
    bench.disk.answers.set()
    with pytest.raises(KeysUnwritable):
        await changing
    problems = ("the disk does not answer",)
    assert {"event": "keys.unwritten", "log_level": "error", "problems": problems} in bench.log
    watch.cancel()
    await asyncio.wait([watch])
    assert len(KeyFile(bench.disk.path.parent).load().records) == 1


async def test_what_others_did_comes_with_a_page_s_change_and_is_theirs(bench: Bench, tmp_path: Path) -> None:
    """Both act at once; only what was done past the pages is noted here."""
    noted: list[str] = []
    bench.parts.ledger = Noting(noted)  # type: ignore[assignment]
    KeyFile(tmp_path).edit(lambda ring: ring.added(BOB, datetime.now(UTC)))
    await bench.parts.edit_keys(lambda ring: ring.changed([ALICE.id], weight=2.0))
    assert noted == [BOB.id]
    assert len(bench.parts.ring.records) == 2
    assert bench.parts.ring.get(ALICE.id).weight == 2.0  # type: ignore[union-attr]


class Noting:
    """A ledger that keeps whose key was changed past the pages."""

    def __init__(self, noted: list[str]) -> None:
        self.noted = noted

    def note_action(self, _who: object, _what: str, target: str, _detail: str) -> None:
        self.noted.append(target)
