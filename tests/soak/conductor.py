"""The course of a soak: clients, what is done to the gateway and to Ollama meanwhile, and the verdict."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpushare.core.keys import KeyRecord, KeyRing, digest, new_key
from gpushare.core.model import Record, Role, Service
from gpushare.edge.files import KeyFile
from gpushare.edge.store.reading import calls
from gpushare.edge.store.schema import open_reader
from tests.soak.books import Balance, balance
from tests.soak.clients import GUEST, PERSONS, Crowd
from tests.soak.process import Gateway, Ollama, Rest

PEOPLE: dict[str, dict[str, Any]] = {
    **{name: {} for name in PERSONS},
    GUEST: {},
    "root": {"role": Role.ADMIN},
    "robot": {"service": Service.BACKGROUND},
}
SETTINGS = """
connect_timeout = "1s"
first_byte_timeout = "10s"
idle_timeout = "3s"
total_timeout = "20s"
health_interval = "1s"
[queue]
slots = {slots}
embedding_slots = {embedding}
max_waiting = {waiting}
max_wait = "8s"
[server]
header_timeout = "2s"
body_timeout = "3s"
write_stall = "2s"
finish_timeout = "2s"
shutdown_grace = "3s"
keepalive_timeout = "5s"
[auth]
revoke_running = "{revoke}"
[status]
people = "{people}"
max_viewers = 30
max_viewers_per_address = 30
[gpu]
backend = "fake"
[log]
level = "debug"
format = "json"
"""
"""They go on with ``[ollama]``.  Deadlines are short, so that all of them pass often."""
GROWTH_BYTES = 10 * 2**20
"""How much the memory of a process may grow once it is warm."""
POOL = (os.cpu_count() or 1) + 4
"""Threads that asyncio keeps once they were needed, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How long things take, in seconds.

    In the first ``harm_s`` the gateway is killed and stopped now and then; after it one process lives to the
    end.  ``step_s`` is how often something is done to either program, ``rest_s`` how often a rest is made.
    """

    total_s: float
    harm_s: float
    step_s: float
    rest_s: float
    clients: int = 40
    seed: int = 1


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a soak ended with."""

    seconds: float
    balance: Balance
    rests: list[list[Rest]]  # of each process
    ends: Counter[str]
    steps: Counter[str]
    did: Counter[str]
    statuses: Counter[int]
    wrong: list[str]
    lost: list[str]
    leaked: int


class Soak:
    """One soak; ``say`` is told of each rest."""

    def __init__(self, course: Course, folder: Path, say: Callable[[str], None]) -> None:
        self.course = course
        self.folder = folder
        self.say = say
        self.ollama = Ollama()
        self.gateway = Gateway(folder, self.ollama)
        self.chance = random.Random(course.seed)
        self.crowd = Crowd(self.gateway, random.Random(course.seed + 1))
        self.settings = self._new_settings()
        self.steps: Counter[str] = Counter()
        self.rests: list[list[Rest]] = []
        self.wrong: list[str] = []
        self._revival = 0.0

    async def run(self, *, moment_s: float) -> Findings:
        """Runs it to its end.

        Args:
            moment_s: how young a row may be that ``kill -9`` loses.
        """
        begun = time.monotonic()
        await self.ollama.start()
        try:
            await self._start(PEOPLE)
            async with asyncio.TaskGroup() as tasks:
                clients = [tasks.create_task(self.crowd.client()) for _ in range(self.course.clients)]
                await self._harm(begun + self.course.harm_s)
                await self._last(begun + self.course.total_s)
                for client in clients:
                    client.cancel()
            await self.gateway.terminate()
        finally:
            await self.gateway.close()
            await self.ollama.kill()
        return self._findings(time.monotonic() - begun, moment_s)

    async def _harm(self, until: float) -> None:
        """Kills and stops one gateway after the other, in full traffic."""
        for number in range(1_000_000):
            if time.monotonic() >= until:
                break
            for _ in range(self.chance.randrange(4, 10)):
                await self._step()
            await self._rest()
            self.crowd.go_on()
            await asyncio.sleep(2 + 3 * self.chance.random())
            await (self.gateway.terminate() if number % 3 == 2 else self.gateway.kill())
            await self._start()

    async def _last(self, until: float) -> None:
        """Lets one gateway live to the end, with a rest now and then."""
        rest_at = time.monotonic() + self.course.rest_s / 3  # soon: then it is warm
        while time.monotonic() < until:
            await self._step()
            if time.monotonic() >= rest_at:
                await self._rest()
                self.crowd.go_on()
                rest_at = time.monotonic() + self.course.rest_s
        await self._rest()

    async def _start(self, people: dict[str, dict[str, Any]] | None = None) -> None:
        """Starts the next gateway and lets it be at rest before anybody asks."""
        await self.crowd.pause()
        await self.gateway.start(self.settings, people)
        self.rests.append([])
        await self._rest()
        self.crowd.go_on()

    async def _rest(self) -> None:
        await self.crowd.pause()
        await self.ollama.start()
        rest = await self.gateway.rest()
        self.rests[-1].append(rest)
        self.say(f"process {len(self.rests)}: {rest}")

    # --- what is done to the gateway and to Ollama ---------------------------------------------------------

    async def _step(self) -> None:
        await asyncio.sleep(self.course.step_s * (0.5 + self.chance.random()))
        if time.monotonic() >= self._revival:
            await self.ollama.start()
        names = list(STEPS)
        (name,) = self.chance.choices(names, [STEPS[name][1] for name in names])
        self.steps[name] += 1
        await STEPS[name][0](self)

    def _new_settings(self) -> str:
        chance = self.chance
        return SETTINGS.format(
            slots=chance.randrange(2, 7),
            embedding=chance.randrange(1, 4),
            waiting=chance.randrange(8, 40),
            revoke=chance.choice(("finish", "cut")),
            people=chance.choice(("names", "initials", "hidden")),
        )

    async def reload(self) -> None:
        """New settings and a SIGHUP."""
        self.settings = self._new_settings()
        await self._hang_up(self.settings, "config.loaded")

    async def reload_wrongly(self) -> None:
        """Settings with a mistake, then the right ones again."""
        await self._hang_up(self.settings.replace("slots = ", "slots = -", 1), "config.rejected")
        await self._hang_up(self.settings, "config.loaded")

    async def _hang_up(self, settings: str, event: str) -> None:
        server = self.gateway.running
        before = sum(line["event"] == event for line in server.log)
        text = server.config.read_text()
        server.config.write_text(text[: text.index(SETTINGS.partition("=")[0])] + settings)
        server.process.send_signal(signal.SIGHUP)
        await server.said(event, before + 1)

    async def replace_key(self) -> None:
        """A new key for the guest; the old one ends."""
        secret, now = new_key(os.urandom(32)), datetime.now(UTC)
        record = KeyRecord(id=secret.split("_")[1], name=GUEST, sha256=digest(secret))

        def change(ring: KeyRing) -> KeyRing:
            old = [record.id for record in ring.find(GUEST, now) if not record.ended(now)]
            return ring.changed(old, revoked=now).added(record, now)

        KeyFile(self.folder / "state").edit(change)
        self.gateway.keys[GUEST] = secret

    async def kill_ollama(self) -> None:
        """Ollama is away for up to 8 s."""
        if time.monotonic() >= self._revival:
            await self.ollama.kill()
            self._revival = time.monotonic() + 8 * self.chance.random()

    async def nothing(self) -> None:
        """Lets things go on as they are."""

    # --- the verdict ---------------------------------------------------------------------------------------

    def _findings(self, seconds: float, moment_s: float) -> Findings:
        found = balance(self.crowd.answers, self.gateway.lives, self._rows())
        rests = [rest for life in self.rests for rest in life]
        leaked = sum(abs(rest.granted - rest.released - rest.held) + rest.held for rest in rests)
        findings = Findings(
            seconds=seconds,
            balance=found,
            rests=self.rests,
            ends=self.gateway.ends,
            steps=self.steps,
            did=self.crowd.did,
            statuses=self.crowd.statuses,
            wrong=[*self.wrong, *self.crowd.wrong, *found.wrong],
            lost=found.lost(moment_s),
            leaked=leaked,
        )
        findings.wrong += judge(findings)
        return findings

    def _rows(self) -> dict[str, Record]:
        with closing(open_reader(self.folder / "state" / "ledger.db")) as connection:
            (running,) = connection.execute("SELECT count(*) FROM running").fetchone()
            if running:
                self.wrong.append(f"{running} calls are noted as running after the end")
            return {row.request_id: row for row in calls(connection, 0)}


def judge(findings: Findings) -> list[str]:
    """Returns what must not be: slots and rows that are gone, and what has grown."""
    wrong = []
    if findings.leaked:
        wrong.append(f"{findings.leaked} slots leaked")
    if findings.lost:
        ages = {request: round(findings.balance.missing[request], 2) for request in findings.lost}
        wrong.append(f"{len(ages)} rows lost, with their ages in seconds: {ages}")
    for number, rests in enumerate(findings.rests, 1):
        first, last = rests[0], rests[-1]
        wrong += [
            f"process {number} began with {getattr(first, name)} {name} and ended with {getattr(last, name)}"
            f"; more are open: {dict(last.opened - first.opened)}"
            for name, more in (("descriptors", 0), ("threads", POOL), ("tasks", 0))
            if getattr(last, name) > getattr(first, name) + more
        ]
    grown = growth_bytes(findings.rests[-1])
    if grown > GROWTH_BYTES:
        wrong.append(f"the memory of the last process grew by {grown / 2**20:.1f} MiB")
    return wrong


def growth_bytes(rests: list[Rest]) -> int:
    """Returns how much a process has grown since it was warm: in the second half of its life."""
    return rests[-1].memory_bytes - rests[len(rests) // 2].memory_bytes


STEPS: dict[str, tuple[Callable[[Soak], Awaitable[None]], int]] = {
    "settings reloaded": (Soak.reload, 8),
    "wrong settings refused": (Soak.reload_wrongly, 2),
    "key replaced": (Soak.replace_key, 4),
    "Ollama killed": (Soak.kill_ollama, 3),
    "nothing": (Soak.nothing, 3),
}
"""What is done, and how often."""
