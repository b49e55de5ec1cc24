"""The typed configuration: every setting, its default, its bounds, and what must hold between settings.

Owns: nothing; a ``Config`` is immutable and replaced whole.  Rules: attribute names are the setting names;
times are float seconds and sizes int bytes; a setting acts on reload unless it is marked ``RESTART``; the
annotated reference is ``config.toml``, which a test holds equal to the defaults here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gpushare.core import forms
from gpushare.core.forms import Form
from gpushare.core.hosts import is_loopback
from gpushare.core.schema import Reading, Wrong, read, settings


def _as(form: Form) -> Meta:
    return Meta(extra={"form": form})


RESTART = Meta(extra={"restart": True})
"""Marks a setting whose change acts only after a restart."""
Seconds = Annotated[float, _as(forms.TIME)]
SecondsOrZero = Annotated[float, _as(forms.TIME_OR_ZERO)]
SecondsOrAuto = Annotated[float | None, _as(forms.TIME_OR_AUTO)]
SecondsZeroOrAuto = Annotated[float | None, _as(forms.TIME_ZERO_OR_AUTO)]
Span = Annotated[float, _as(forms.SPAN)]
Bytes = Annotated[int, _as(forms.SIZE)]
Hours = Annotated[str, _as(forms.HOURS)]
Listen = Annotated[str, _as(forms.LISTEN)]
Url = Annotated[str, _as(forms.URL)]
PublicUrl = Annotated[str, _as(forms.PUBLIC_URL)]
Origin = Annotated[str, _as(forms.ORIGIN)]
Host = Annotated[str, _as(forms.HOST)]
Ip = Annotated[str, _as(forms.IP)]
Network = Annotated[str, _as(forms.NETWORK)]
Slots = Annotated[int, Meta(ge=1, le=4096)]
Places = Annotated[int, Meta(ge=1, le=100_000)]
Device = Annotated[int, Meta(ge=0, le=255)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Server(Struct, frozen=True, kw_only=True):
    """``[server]``: the address, and the limits of connections and bodies."""

    listen: Annotated[Listen, RESTART] = "127.0.0.1:11435"
    public_url: PublicUrl = ""
    name: Annotated[str, Meta(max_length=64)] = ""
    trusted_proxies: tuple[Ip, ...] = ("127.0.0.1", "::1")
    allowed_hosts: tuple[Host, ...] = ()
    allowed_origins: tuple[Origin, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    max_body: Bytes = 32_000_000
    body_memory: Bytes = 256_000_000
    header_timeout: Seconds = 15.0
    body_timeout: Seconds = 30.0
    keepalive_timeout: Seconds = 75.0
    write_stall: Seconds = 30.0
    finish_timeout: Seconds = 10.0
    shutdown_grace: SecondsOrZero = 60.0
    max_connections: Places = 512
    max_connections_per_address: Places = 64

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``."""
        return forms.address(self.listen)

    @property
    def scheme(self) -> str:
        """``https`` where clients speak TLS, else ``http``."""
        return "https" if self.tls_cert else "http"


class Ollama(Struct, frozen=True, kw_only=True):
    """``[ollama]``: where Ollama listens and how long it may take."""

    url: Annotated[Url, RESTART] = "http://127.0.0.1:11434"
    cloud: bool = False
    connect_timeout: Seconds = 3.0
    send_timeout: Seconds = 10.0
    first_byte_timeout: SecondsOrZero = 330.0
    idle_timeout: SecondsOrZero = 360.0
    total_timeout: SecondsOrZero = 900.0
    health_interval: Seconds = 5.0
    unload_stuck: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``url``."""
        return forms.url_address(self.url)


class Queue(Struct, frozen=True, kw_only=True):
    """``[queue]``: slots, limits of waiting, and how turns are shared out.  None means ``"auto"``."""

    slots: Slots = 1
    embedding_slots: Slots = 2
    max_waiting: Places = 64
    max_waiting_per_person: Places = 8
    max_wait: Seconds = 240.0
    breaker_queue_grace: SecondsOrZero = 5.0
    quantum: SecondsOrAuto = None
    background_weight: Share = 0.11
    stay_on_model: SecondsZeroOrAuto = None


class Auth(Struct, frozen=True, kw_only=True):
    """``[auth]``: what needs a key, and how keys act."""

    anonymous_models: bool = True
    key_in_path: bool = True
    revoke_running: Literal["finish", "cut"] = "finish"
    login_days: Annotated[int, Meta(ge=1, le=366)] = 30
    session_secret_file: Annotated[str, RESTART] = ""


class Status(Struct, frozen=True, kw_only=True):
    """``[status]``: what viewers of the status page see."""

    anonymous: Literal["summary", "off"] = "summary"
    people: Literal["names", "initials", "hidden"] = "names"
    max_viewers: Places = 200
    max_viewers_per_address: Places = 10


class Gpu(Struct, frozen=True, kw_only=True):
    """``[gpu]``: where GPU numbers come from.  ``"auto"`` and ``"nvml"`` differ where there is no driver."""

    backend: Annotated[Literal["auto", "nvml", "none", "fake"], RESTART] = "auto"
    devices: Annotated[tuple[Device, ...], RESTART] = ()
    interval: Annotated[Seconds, RESTART] = 2.0


class Metrics(Struct, frozen=True, kw_only=True):
    """``[metrics]``: who may read ``/metrics``, and whether it names people."""

    enabled: bool = True
    allow: tuple[Network, ...] = (
        "127.0.0.0/8",
        "::1",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
    )
    people: bool = True


class Ledger(Struct, frozen=True, kw_only=True):
    """``[ledger]``: how long what each call used is kept, and what its energy costs."""

    keep: Span = 400 * 86_400.0
    price_per_kwh: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    currency: Annotated[str, Meta(max_length=8)] = "€"


class Capacity(Struct, frozen=True, kw_only=True):
    """``[capacity]``: when the admins' page calls the hardware too small."""

    wait_p95: Seconds = 30.0
    working_hours: Hours = "08:00-18:00"
    working_days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = (
        *("mon", "tue", "wed", "thu", "fri"),
    )

    @property
    def hours(self) -> tuple[int, int]:
        """The hour that ``working_hours`` begins with, and the one it ends before."""
        return forms.hours(self.working_hours)


class Log(Struct, frozen=True, kw_only=True):
    """``[log]``: how much is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class State(Struct, frozen=True, kw_only=True):
    """``[state]``: where keys are kept.  Empty: the service's state directory, else the person's own."""

    dir: Annotated[str, RESTART] = ""


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration; ``Config()`` is what an empty file gives."""

    server: Server = Server()
    ollama: Ollama = Ollama()
    queue: Queue = Queue()
    auth: Auth = Auth()
    status: Status = Status()
    gpu: Gpu = Gpu()
    metrics: Metrics = Metrics()
    ledger: Ledger = Ledger()
    capacity: Capacity = Capacity()
    log: Log = Log()
    state: State = State()


def parse(
    text: str, *, source: str, env: Mapping[str, str], options: Mapping[str, str] | None = None
) -> Config:
    """Returns the configuration that a file, the environment and command-line options give together.

    Args:
        text: the file's text; empty for none.
        source: the file's path, for problems.
        env: variables ``GPUSHARE_<SECTION>__<NAME>`` win over the file; all others are ignored.
        options: settings such as ``{"server.listen": "0.0.0.0:11435"}`` win over both.

    Raises:
        ConfigErrors: with every problem found, each with its place.
    """
    return load(text, source=source, env=env, options=options).value


def load(
    text: str, *, source: str, env: Mapping[str, str], options: Mapping[str, str] | None = None
) -> Reading[Config]:
    """As ``parse``, and tells for each setting that is not a default where its value came from."""
    return read(
        text,
        Config,
        source=source,
        env=env,
        options=options,
        judge=_contradictions,
        reference="gpushare config docs",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A setting that works but opens a door or loses requests; ``subject`` says in one word what of."""

    subject: str
    text: str
    fix: str

    def __str__(self) -> str:
        """Writes both as sentences."""
        return f"{self.text}. {self.fix[:1].upper()}{self.fix[1:]}."


def differing(config: Config) -> int:
    """Returns how many settings differ from the defaults."""
    defaults = set(settings(Config()))
    return sum(setting not in defaults for setting in settings(config))


def warnings(config: Config) -> tuple[Advice, ...]:
    """Returns what to think of, setting by setting."""
    return tuple(_warnings(config))


def _contradictions(config: Config) -> Iterator[Wrong]:
    """Yields what is wrong between settings that are each right by themselves."""
    server, ollama, queue = config.server, config.ollama, config.queue
    if server.address == ollama.address:
        yield Wrong("ollama.url", "is the address gpushare itself listens on (server.listen)", ("listen",))
    if bool(server.tls_cert) != bool(server.tls_key):
        lacking, given = ("tls_key", "tls_cert") if server.tls_cert else ("tls_cert", "tls_key")
        yield Wrong(f"server.{given}", f"needs server.{lacking} beside it: TLS takes both", (lacking,))
    if server.max_body > server.body_memory // 2:
        yield Wrong(
            "server.max_body",
            "must be at most half of server.body_memory, one person's share of it",
            ("body_memory",),
        )
    if server.max_connections_per_address > server.max_connections:
        yield Wrong(
            "server.max_connections_per_address",
            "must not be over server.max_connections",
            ("max_connections",),
        )
    if queue.max_waiting_per_person > queue.max_waiting:
        yield Wrong("queue.max_waiting_per_person", "must not be over queue.max_waiting", ("max_waiting",))
    if len(set(config.gpu.devices)) < len(config.gpu.devices):
        yield Wrong("gpu.devices", "has a card twice")
    if not 0.5 <= config.gpu.interval <= 10:
        yield Wrong("gpu.interval", "must be from 500ms to 10s")
    if 0 < ollama.first_byte_timeout <= ollama.connect_timeout:
        yield Wrong(
            "ollama.first_byte_timeout", "must be longer than ollama.connect_timeout", ("connect_timeout",)
        )
    if ollama.total_timeout and ollama.total_timeout <= max(ollama.idle_timeout, ollama.first_byte_timeout):
        yield Wrong(
            "ollama.total_timeout",
            "must be longer than ollama.idle_timeout and ollama.first_byte_timeout, or 0",
            ("idle_timeout", "first_byte_timeout"),
        )


def _warnings(config: Config) -> Iterator[Advice]:
    server = config.server
    if not is_loopback(server.address[0]) and not server.tls_cert:
        yield Advice(
            subject="listen",
            text=f"server.listen is {server.listen}: other machines reach it without TLS",
            fix="let only your own network through the firewall, or set server.tls_cert and server.tls_key",
        )
    if not is_loopback(config.ollama.address[0]):
        yield Advice(
            subject="ollama",
            text=f"ollama.url is {config.ollama.url}: who reaches that address goes round the queue",
            fix="keep Ollama on 127.0.0.1",
        )
    if config.gpu.backend == "fake":
        yield Advice(
            subject="gpu",
            text="gpu.backend is fake: the GPU numbers on the page are invented",
            fix='set it to "auto" where people rely on them',
        )
    if config.queue.max_wait >= 300:
        yield Advice(
            subject="config",
            text="queue.max_wait is 5 min or more: most tools give up by then, so requests wait in vain",
            fix='set it to less, such as "4m"',
        )
