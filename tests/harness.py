"""A whole gateway in front of a simulated Ollama, and the check that nothing stayed behind.

Suites import the fixtures from here.  After every test the conservation check runs: no slot, no queue place,
no live call, no upstream connection, no body byte, no task, no descriptor and no fault that nobody saw is
left, and every admitted call was logged, counted and written to the ledger exactly once, with one outcome.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import structlog
from structlog.testing import capture_logs

from gpushare import app
from gpushare.core.config import Config, parse
from gpushare.core.keys import KeyRecord, KeyRing, digest, new_key
from gpushare.core.model import Role, Service
from gpushare.edge.beside import NAME as BESIDE
from gpushare.edge.files import KeyFile
from gpushare.edge.store import Store
from gpushare.edge.store.schema import open_reader
from gpushare.sim import Script, SimOllama
from gpushare.web.parts import Parts

PATIENCE_S = 60
"""Only ends a broken test, well before the run is given up."""
PATIENCE = aiohttp.ClientTimeout(total=PATIENCE_S)
CANARY = "canary-7d1f"
"""Put into prompts, keys and names by tests; it must never come out anywhere but in an answer."""


@dataclass(kw_only=True)
class Gate:
    """A running gateway, its simulated Ollama and its people's keys."""

    sim: SimOllama
    running: app.Running
    key_file: KeyFile
    keys: dict[str, str] = field(default_factory=dict)
    logs: list[Any] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.running.url

    @property
    def port(self) -> int:
        """The gateway's port on 127.0.0.1."""
        return self.running.port

    @property
    def parts(self) -> Parts:
        """The gateway's objects."""
        return self.running.parts

    def bearer(self, person: str = "alice") -> dict[str, str]:
        """Returns the header that carries a person's key."""
        return {"Authorization": f"Bearer {self.keys[person]}"}

    async def request(
        self, method: str, path: str, *, who: str | None = "alice", **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Sends one request and returns status, headers and body."""
        headers = {**(self.bearer(who) if who else {}), **options.pop("headers", {})}
        async with (
            aiohttp.ClientSession(auto_decompress=False, timeout=PATIENCE) as session,
            session.request(method, self.url + path, headers=headers, **options) as response,
        ):
            return response.status, response.headers, await response.read()

    async def post(
        self, path: str, body: object, *, who: str | None = "alice", **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Posts JSON."""
        return await self.request("POST", path, who=who, json=body, **options)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until something about the gateway is true."""
        await until(condition)

    async def waiting(self, count: int) -> None:
        """Waits until so many calls are queued."""
        await self.until(lambda: len(self.parts.slots.snapshot().waiting) == count)

    def add_keys(self, people: Mapping[str, dict[str, Any]]) -> None:
        """Adds keys to the key file, all in one edit; the gateway reads the file by itself."""
        now = datetime.now(UTC)

        def add(ring: KeyRing) -> KeyRing:
            for name, fields in people.items():
                secret = self.keys[name] = new_key(os.urandom(32))
                record = KeyRecord(id=secret.split("_")[1], name=name, sha256=digest(secret), **fields)
                ring = ring.added(record, now)
            return ring

        self.key_file.edit(add)

    def add_key(self, name: str, **fields: Any) -> str:
        """Adds one key and returns its secret."""
        self.add_keys({name: fields})
        return self.keys[name]

    def forget(self) -> None:
        """Begins anew with what is checked at rest: what happened until now does not count."""
        self.logs.clear()
        self.parts.stats.requests.clear()
        self.sim.log.clear()
        self.began = time.time()

    async def rest(self) -> None:
        """Waits until everything that ends by itself has ended, then checks that nothing is left."""
        await at_rest(self.parts)
        await self.until(lambda: all(entry.ended for entry in self.sim.log))
        done = [entry for entry in self.logs if entry["event"] == "request.done"]
        ids = [entry["request"] for entry in done]
        assert len(ids) == len(set(ids)), "a call was logged twice"
        assert sum(self.parts.stats.requests.values()) == len(ids), "log and counters disagree"
        text = repr(self.logs) + await self._check_ledger(done)
        assert CANARY not in text
        for secret in self.keys.values():
            assert secret not in text

    async def _check_ledger(self, done: list[Any]) -> str:
        """Checks that the ledger says what the log says; returns all that is in it."""
        store = cast("Store", self.parts.ledger)
        await store.flush()
        with closing(open_reader(store.path)) as connection:
            assert list(connection.execute("SELECT * FROM running")) == [], "a call is still noted as running"
            refused = connection.execute("SELECT count FROM refusals WHERE minute >= ?", (self.began // 60,))
            refusals = sum(count for (count,) in refused)
        rows = {
            (row.request_id, row.outcome.value, row.status) for row in await store.calls(self.began, list)
        }
        told = {
            (entry["request"], entry["outcome"], entry["status"])
            for entry in done
            if entry["log_level"] == "info"
        }
        assert rows ^ told == set(), "log and ledger disagree"
        noted = [entry for entry in done if entry["log_level"] == "debug" and entry["outcome"] != "ok"]
        assert refusals >= len(noted), "log and ledger disagree on refusals"
        state = store.state
        assert (state.writable, state.waiting, state.lost) == (True, 0, 0)
        return "".join(
            path.read_bytes().decode("latin-1") for path in store.path.parent.glob(f"{store.path.name}*")
        )


async def until(condition: Callable[[], object]) -> None:
    """Waits until something is true; the limit only ends a broken test."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


async def at_rest(parts: Parts) -> None:
    """Waits until every call has ended, then checks that none of them left anything of a gateway's taken."""
    slots = parts.slots
    await until(lambda: not parts.gateway.live and slots.snapshot().held == 0)
    view = slots.snapshot()
    assert view.waiting == ()
    assert view.granted_total == view.released_total
    assert parts.body_budget.held_bytes == 0


@asynccontextmanager
async def running(config: Config, key_file: KeyFile, *, port: int = 0) -> AsyncIterator[app.Running]:
    """Runs a gateway for the block, and checks at its end that it is at rest."""
    async with app.running(config, key_file, port=port) as server:
        yield server
        await at_rest(server.parts)


@contextmanager
def every_log_line() -> Iterator[list[Any]]:
    """Collects what is logged for the block, whatever level somebody left set."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        with capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=before)


@asynccontextmanager
async def gateway(
    folder: Path,
    *,
    script: Script | None = None,
    settings: str = "",
    people: Mapping[str, dict[str, Any]] | None = None,
    engine: str = "",
    gpu: str = "none",
) -> AsyncIterator[Gate]:
    """Runs a gateway for the block: alice, bob and carol are persons, root is an admin, robot is background.

    Args:
        folder: for the key file.
        script: the simulated Ollama's behaviour.
        settings: TOML text of the configuration.
        people: further keys, by name.
        engine: the address of a real engine to use instead of the simulated Ollama.
        gpu: where GPU numbers come from; by default no process is started for them.
    """
    sim = SimOllama(script)
    await sim.start()
    env = {"GPUSHARE_OLLAMA__URL": engine or sim.url, "GPUSHARE_GPU__BACKEND": gpu}
    config: Config = parse(settings, source="test", env=env)
    key_file = KeyFile(folder)
    gate = Gate(sim=sim, running=None, key_file=key_file)  # type: ignore[arg-type]
    everybody: dict[str, dict[str, Any]] = {"alice": {}, "bob": {}, "carol": {}}
    everybody["root"] = {"role": Role.ADMIN}
    everybody["robot"] = {"service": Service.BACKGROUND}
    gate.add_keys({**everybody, **(people or {})})
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sim.stop)
        gate.logs = stack.enter_context(every_log_line())
        gate.running = await stack.enter_async_context(running(config, key_file))
        yield gate
        await gate.rest()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway with the defaults: one slot, an Ollama that answers at once."""
    async with gateway(tmp_path) as one:
        yield one


class _Complaints(logging.Handler):
    """What asyncio says of faults that nobody looked at."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        if "never retrieved" in (said := record.getMessage()):
            self.found.append(said)


@contextmanager
def every_fault_seen() -> Iterator[None]:
    """Checks that no task or future of the block has failed without anybody's notice."""
    complaints, log = _Complaints(), logging.getLogger("asyncio")
    log.addHandler(complaints)
    try:
        yield
    finally:
        log.removeHandler(complaints)
    assert not complaints.found, complaints.found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Checks that no descriptor and no fault stayed behind, once what nobody waits for has ended too."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only the number matters
    with every_fault_seen():
        yield
    for thread in threading.enumerate():
        if thread.name == BESIDE:
            thread.join(PATIENCE_S)
    after = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert after <= before, f"{after - before} descriptors left open"


def chat(text: str = "hello", *, model: str = "m", stream: bool = True, **fields: Any) -> dict[str, Any]:
    """A chat body in the native form, also understood by the two others."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **fields}


structlog.configure(cache_logger_on_first_use=False)
