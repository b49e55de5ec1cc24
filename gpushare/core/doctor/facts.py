"""What the checks look at: the machine, Ollama and the server's own files as they were found.

Called by: ``app.examination``, which finds it out.  Rules: what could not be found out is None or empty, and
never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gpushare.core import breaker
from gpushare.core.about import Probe
from gpushare.core.config import Config
from gpushare.core.gpu import GpuReport
from gpushare.core.ledger import LedgerState
from gpushare.core.problems import Problem

LEAST_FREE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that can be seen."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address somebody listens on; ``holders`` is empty where this user may not see who."""

    address: str
    port: int
    holders: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ollama:
    """The Ollama of ``ollama.url``.

    ``error`` is why it does not answer, empty if it does.  ``open_at`` are addresses besides loopback where
    it answers or listens.  ``environment`` is what it was started with, None where that cannot be seen.
    """

    error: str = ""
    version: str = ""
    models: int = 0
    answer_s: float = 0.0
    open_at: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The address the server listens on, or would: that of its socket unit, else ``server.listen``.

    ``server`` is how what answers there calls itself, None if nothing answers.  ``refused`` is why nobody
    could listen there, asked only where nobody does.
    """

    where: str
    listeners: tuple[Listener, ...] = ()
    server: str | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The key file; ``problem`` is why it cannot be used."""

    people: int = 0
    admins: int = 0
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The usage ledger; ``size`` is None where there is none yet, ``error`` why it cannot be read now."""

    path: str
    size: int | None = None
    problem: Problem | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder that others have no business in.

    ``allowed`` are the bits of ``mode`` that others may have.
    """

    path: str
    mode: int
    owner: int
    allowed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The disk that holds the state directory, in bytes."""

    free: int
    total: int

    @property
    def nearly_full(self) -> bool:
        """Whether somebody should make room."""
        return self.free < LEAST_FREE * self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The wall clock, and the newest file of the program, which it cannot be before."""

    now: datetime
    newest: datetime
    synchronized: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What came of asking ourselves at ``server.public_url``.

    ``asked`` is false without a key to ask with.  ``arrived_s`` tells when each line came, in seconds since
    the first one.  ``via`` is what named itself on the way.
    """

    asked: bool = False
    error: str = ""
    lines: tuple[Probe, ...] = ()
    arrived_s: tuple[float, ...] = ()
    via: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine says without asking anybody else.

    ``folder`` is the state directory.  ``service`` and ``socket`` hold what systemd says of the two units,
    and are empty where there is no systemd or no such unit.  ``descriptors`` is how many the server may have.
    """

    door: Door
    clock: Clock
    folder: str
    entries: tuple[Entry, ...] = ()
    disk: Disk | None = None
    service: Mapping[str, str] = field(default_factory=dict)
    socket: Mapping[str, str] = field(default_factory=dict)
    descriptors: int | None = None
    certificate_ends: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a server knows of itself while it runs.

    ``failing`` are models that calls are turned away for, ``rejected`` whether what is on disk has mistakes.
    """

    breaker: breaker.Door
    failing: tuple[str, ...]
    ledger: LedgerState
    rejected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was found; ``gpu`` is None where no numbers are wanted, ``running`` from outside.

    ``source`` tells where the settings come from, ``differing`` how many of them are not the defaults.
    """

    config: Config
    source: str
    differing: int
    keys: Keys
    ledger: Ledger
    ollama: Ollama
    gpu: GpuReport | None
    machine: Machine
    front: Front | None = None
    running: Running | None = None
