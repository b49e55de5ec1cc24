"""What ``gpushare doctor`` examines: found out here, judged by ``core.doctor``.

Called by: ``gpushare doctor``; ``app.serving``, so that a running server can examine itself.
Rules: everything is asked at the same time, for a few seconds at the most, and nothing of it in the event
loop; nothing is changed, and no call is made.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import gpushare
from gpushare.core.config import Config, differing
from gpushare.core.doctor import Report, examine
from gpushare.core.doctor.facts import (
    Clock,
    Door,
    Entry,
    Facts,
    Front,
    Keys,
    Ledger,
    Listener,
    Machine,
    Ollama,
    Running,
)
from gpushare.core.errors import GpushareError, LedgerUnavailable, OllamaDown, OllamaSilent
from gpushare.core.forms import address
from gpushare.core.gpu import GpuReport
from gpushare.core.hosts import is_address, is_everywhere, is_loopback, reachable, with_port
from gpushare.core.model import Role
from gpushare.core.problems import ConfigErrors
from gpushare.edge import kernel, outside, systemctl, tls
from gpushare.edge.beside import beside
from gpushare.edge.files import KeyFile
from gpushare.edge.gpu import NvmlGpus
from gpushare.edge.ollama import HttpOllama
from gpushare.edge.store import NAME as LEDGER
from gpushare.edge.store import check
from gpushare.web.connections import make_listener
from gpushare.web.parts import Parts

GPU_PATIENCE_S = 6.0
LEDGER_AGAIN_S = 3600.0
SERVICE, SOCKET = "gpushare.service", "gpushare.socket"
SERVICE_FACTS = (
    "ActiveState",
    "IPAddressAllow",
    "IPAddressDeny",
    "LimitNOFILE",
    "MainPID",
    "SubState",
    "TimeoutStopUSec",
    "Type",
)
ADDRESSES = 16  # of this machine's own, tried for an Ollama that others reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is examined.

    ``source`` tells where the settings come from.  ``key`` is a person's, to ask with at
    ``server.public_url``; empty for none, None to leave that address alone.  ``gpu`` is what a running server
    has read, None to ask the driver; ``ledger`` what it has found of it lately, None to read it through.
    """

    config: Config
    source: str
    key_file: KeyFile
    key: str | None = None
    gpu: GpuReport | None = None
    ledger: Ledger | None = None


class SelfExamination:
    """Examines the server that this process is; not at its public address, for which it has no key.

    A ledger that was whole is not read through again within the hour: one of some years has a gigabyte.
    """

    def __init__(self, parts: Parts, key_file: KeyFile) -> None:
        self._parts = parts
        self._folder = key_file.path.parent
        self._whole: Ledger | None = None
        self._whole_at = 0.0

    async def report(self) -> Report:
        """Returns what is found now."""
        parts, now = self._parts, time.monotonic()
        view = parts.gpus.view if parts.gpus else None
        recent = self._whole if now - self._whole_at < LEDGER_AGAIN_S else None
        subject = Subject(
            config=parts.config,
            source="as this server runs",
            key_file=KeyFile(self._folder),  # one of its own: loading notes what was seen
            gpu=None
            if view is None
            else GpuReport(readings=view.readings, error=view.note, absent=view.absent),
            ledger=recent,
        )
        facts = await examination(subject)
        if recent is None:
            self._whole, self._whole_at = facts.ledger if facts.ledger.size else None, now
        ollama = parts.monitor.view
        running = Running(
            breaker=ollama.breaker,
            failing=ollama.failing,
            ledger=parts.ledger.state,
            rejected=parts.config_rejected,
        )
        return examine(replace(facts, running=running))


async def examination(subject: Subject) -> Facts:
    """Returns what was found."""
    config, folder = subject.config, subject.key_file.path.parent
    async with asyncio.TaskGroup() as tasks:
        ollama = tasks.create_task(_ollama(config))
        gpu = tasks.create_task(_gpu(subject))
        front = tasks.create_task(beside(lambda: _front(config, subject.key)))
        keys = tasks.create_task(beside(lambda: _keys(subject.key_file)))
        ledger = tasks.create_task(beside(lambda: _ledger(folder / LEDGER, subject.ledger)))
        machine = tasks.create_task(beside(lambda: _machine(config, folder)))
    return Facts(
        config=config,
        source=subject.source,
        differing=differing(config),
        keys=keys.result(),
        ollama=ollama.result(),
        gpu=gpu.result(),
        front=front.result(),
        ledger=ledger.result(),
        machine=machine.result(),
    )


# --- Ollama and the GPUs ---------------------------------------------------------------------------------


async def _ollama(config: Config) -> Ollama:
    found = await beside(lambda: _surroundings(config))
    client = HttpOllama(config.ollama.url)
    try:
        began = time.monotonic()
        version = await client.version()
        answer_s = time.monotonic() - began
        models = len(await client.installed())
    except GpushareError as error:
        return replace(found, error=_words(error))
    finally:
        await client.close()
    return replace(found, version=version, models=models, answer_s=answer_s)


def _words(error: GpushareError) -> str:
    match error:
        case OllamaDown(why=why):
            return why.lower()
        case OllamaSilent():
            return "no answer in time"
    return "what answers there is no Ollama"


def _surroundings(config: Config) -> Ollama:
    """Returns who reaches Ollama besides us, and how it was started; nothing of one on another machine."""
    host, port = config.ollama.address
    if not is_loopback(host):
        return Ollama()
    listeners = kernel.listeners(port)
    open_at = [with_port(found.address, port) for found in listeners if not is_loopback(found.address)]
    if port == config.server.address[1]:
        open_at = []  # the same port at another address is our own
    if not open_at:
        others = kernel.own_addresses()[:ADDRESSES]
        open_at = [with_port(other, port) for other in others if outside.is_ollama(other, port)]
    return Ollama(open_at=tuple(open_at), environment=_environment(listeners))


def _environment(listeners: tuple[Listener, ...]) -> Mapping[str, str] | None:
    """Returns Ollama's own part of what it was started with, from its process or else from its unit."""
    pids = [holder.pid for listener in listeners for holder in listener.holders]
    seen = next((found for pid in pids if (found := kernel.environment(pid)) is not None), None)
    if seen is None:
        seen = systemctl.environment("ollama.service")
    return seen and {name: value for name, value in seen.items() if name.startswith("OLLAMA_")}


async def _gpu(subject: Subject) -> GpuReport | None:
    """Returns what the cards say, None where nobody wants to know."""
    wanted = subject.config.gpu
    if subject.gpu is not None or wanted.backend == "none":
        return subject.gpu
    if wanted.backend == "fake":
        return GpuReport()
    try:
        async with asyncio.timeout(GPU_PATIENCE_S):
            await NvmlGpus(interval_s=wanted.interval, devices=wanted.devices).run(_stop_with)
    except _Told as told:
        return told.report
    except TimeoutError:
        pass
    return GpuReport(error=f"the driver does not answer within {GPU_PATIENCE_S:g} s")


class _Told(Exception):
    def __init__(self, report: GpuReport) -> None:
        super().__init__()
        self.report = report


def _stop_with(report: GpuReport) -> None:
    raise _Told(report)


# --- the server's own ------------------------------------------------------------------------------------


def _machine(config: Config, folder: Path) -> Machine:
    service = systemctl.unit(SERVICE, SERVICE_FACTS)
    socket = systemctl.unit(SOCKET, ("ActiveState", "Listen"))
    door = _door(config, socket)
    return Machine(
        door=door,
        clock=_clock(),
        folder=str(folder),
        entries=tuple(_entries(config, folder)),
        disk=kernel.disk(folder),
        service=service,
        socket=socket,
        descriptors=_descriptors(service, door),
        certificate_ends=tls.ends(config.server.tls_cert),
    )


def _door(config: Config, socket: Mapping[str, str]) -> Door:
    """Looks at the address that the socket unit holds, else at the configured one."""
    host, port = config.server.address
    held = socket.get("Listen", "").partition(" ")[0]
    if socket.get("ActiveState") == "active" and ":" in held:
        host, port = address(held)
    found = tuple(listener for listener in kernel.listeners(port) if _overlap(listener.address, host))
    name = outside.server_name(reachable(host), port, tls=bool(config.server.tls_cert)) if found else None
    refused = "" if found else _refusal(host, port)
    return Door(where=with_port(host, port), listeners=found, server=name, refused=refused)


def _refusal(host: str, port: int) -> str:
    """Returns why nobody can listen at an address, empty if one can."""
    try:
        make_listener(host, port).close()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _overlap(one: str, other: str) -> bool:
    return one == other or is_everywhere(one) or is_everywhere(other) or not is_address(other)


def _keys(key_file: KeyFile) -> Keys:
    try:
        ring = key_file.load()
    except ConfigErrors as errors:
        return Keys(problem=errors.problems[0])
    now = datetime.now(UTC)
    holders = [ring.principal(record.id, now) for record in ring.records if ring.active(record.id, now)]
    admins = {holder.owner for holder in holders if holder and holder.role is Role.ADMIN}
    return Keys(people=len(ring.owners(now)), admins=len(admins))


def _ledger(path: Path, known: Ledger | None) -> Ledger:
    found = Ledger(path=str(path))
    try:
        if not path.exists():
            return found
        size = path.stat().st_size
        if known is None:
            check(path)
    except ConfigErrors as errors:
        return replace(found, problem=errors.problems[0])
    except LedgerUnavailable as error:
        return replace(found, error=str(error.__cause__))
    except OSError as error:
        return replace(found, error=(error.strerror or str(error)).lower())
    return replace(found, size=size)


def _clock() -> Clock:
    package = Path(gpushare.__file__).parent
    return Clock(
        now=datetime.now(UTC),
        newest=datetime.fromtimestamp(kernel.newest(package), UTC),
        synchronized=systemctl.clock_is_synchronized(),
    )


def _front(config: Config, key: str | None) -> Front | None:
    if key is None or not config.server.public_url:
        return None
    return outside.probe(config.server.public_url, key) if key else Front()


def _entries(config: Config, folder: Path) -> Iterator[Entry]:
    """Yields the files and folders that are nobody else's business."""
    secret, tls_key = config.auth.session_secret_file, config.server.tls_key
    wanted = [(folder, 0o055), *((path, 0) for path in kernel.inside(folder))]
    wanted += [(Path(secret).expanduser(), 0)] if secret else []
    wanted += [(Path(tls_key), 0o070)] if tls_key else []
    for path, allowed in wanted:
        if (found := kernel.entry(path, allowed=allowed)) is not None:
            yield found


def _descriptors(service: Mapping[str, str], door: Door) -> int | None:
    """Returns the limit of the server's process, else of the unit that would start it, else of this one."""
    running = int(service.get("MainPID", "0"))
    for listener in door.listeners:
        running = running or next((holder.pid for holder in listener.holders if holder.pid > 1), 0)
    if running:
        return kernel.descriptors(running)
    unit = service.get("LimitNOFILE", "")
    return int(unit) if unit.isdigit() else kernel.descriptors(None)
