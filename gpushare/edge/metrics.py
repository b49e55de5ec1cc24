"""The Prometheus page: what is counted elsewhere, put into the exposition format.

Called by: ``app``, which hands ``Metrics.render`` to the pages.

Rules: nothing is counted here; each scrape reads the counters, the queue's figures and the last views of
Ollama and the GPUs.  Labels come from closed lists (``core.stats``), so input adds no series.  Names are
``gpushare_<noun>_<unit>``, units are seconds, bytes and ratios.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gpushare.core.breaker import Door
from gpushare.core.gpu import SLOWED_WORDS, GpuReading, GpuView
from gpushare.core.ledger import LedgerState
from gpushare.core.picture import OllamaView
from gpushare.core.stats import Histogram, Stats
from gpushare.core.views import QueueCounts

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Label values, and the sample they belong to."""


class Doors(Protocol):
    """The counts of client connections: open now, those without an accepted key, and limits that were hit."""

    open: int
    anonymous: int

    @property
    def events(self) -> Mapping[str, int]:
        """Returns how often each limit was hit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the figures come from; the functions return the newest state.

    ``names`` maps owners to the names shown.  Without ``people`` nothing is told apart by person.
    ``rejected`` tells whether the settings or keys on disk were refused.  ``gpus`` gives None where
    nothing reads them.
    """

    stats: Stats
    queue: Callable[[], QueueCounts]
    ollama: Callable[[], OllamaView]
    gpus: Callable[[], GpuView | None]
    names: Callable[[], Mapping[str, str]]
    draining: Callable[[], bool]
    body_bytes: Callable[[], int]
    doors: Callable[[], Doors | None]
    version: str
    people: Callable[[], bool]
    rejected: Callable[[], bool]
    ledger: Callable[[], LedgerState]
    lag_s: Callable[[], float]
    strays: Callable[[], int]


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(sources))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Returns the page and its content type, in the format the ``Accept`` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Collector(Collector):
    """Reads every source once for each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yields all families."""
        sources = self._sources
        yield InfoMetricFamily("gpushare_build", "The running version.", {"version": sources.version})
        yield _gauge("gpushare_draining", "1 while calls are turned away by a drain.", sources.draining())
        refused = "1 while the settings or keys on disk have mistakes and the old ones are in use."
        yield _gauge("gpushare_config_rejected", refused, sources.rejected())
        late = "The most a timer of the last ten seconds was late."
        yield _gauge("gpushare_loop_lag_seconds", late, sources.lag_s())
        yield from _calls(sources.stats)
        yield from _models(sources.stats)
        if sources.people():
            yield from _people(sources.stats)
        queue = sources.queue()
        yield from _queue(queue)
        yield from _fairness(sources, queue)
        yield from _ollama(sources.ollama())
        strays = "Answers of Ollama that had bytes behind their end; these were dropped."
        yield CounterMetricFamily("gpushare_stray_answers", strays, value=sources.strays())
        gpus = sources.gpus()
        if gpus is not None:
            yield from _gpus(gpus)
        yield _gauge("gpushare_body_bytes", "Request bodies held in memory.", sources.body_bytes())
        yield from _ledger(sources.ledger())
        doors = sources.doors()
        if doors is not None:
            yield from _connections(doors)


def _calls(stats: Stats) -> Iterator[Metric]:
    requests = [((route, outcome.value), count) for (route, outcome), count in stats.requests.items()]
    yield _counter("gpushare_requests", "Requests that ended.", requests, labels=("route", "outcome"))
    errors = "Requests answered with an error of gpushare's own, before anything was sent."
    yield _counter("gpushare_errors", errors, _rows(stats.errors), labels=("code",))
    yield _counter("gpushare_sent_bytes", "Answer bytes sent to clients.", [((), stats.bytes_out)])
    yield _counter("gpushare_undelivered", "Answers a client did not wait for.", [((), stats.undelivered)])
    yield _counter("gpushare_swaps", "Models that were loaded for a request.", [((), stats.swaps)])
    waits = [((service.value,), histogram) for service, histogram in stats.wait.items()]
    yield _histogram("gpushare_wait_seconds", "Time in the queue.", waits, labels=("class",))
    first = "Time from the start of a request to the first byte of its answer."
    yield _histogram("gpushare_first_byte_seconds", first, [((), stats.first)])
    yield _histogram("gpushare_request_seconds", "Length of a request.", [((), stats.duration)])


def _models(stats: Stats) -> Iterator[Metric]:
    label = ("model",)
    yield _counter("gpushare_model_requests", "Queued requests.", _rows(stats.model_requests), labels=label)
    tokens = [((model, "input"), count) for model, count in stats.input_tokens.items()]
    tokens += [((model, "output"), count) for model, count in stats.output_tokens.items()]
    counted = "Tokens, as Ollama counts them."
    yield _counter("gpushare_model_tokens", counted, tokens, labels=("model", "direction"))
    loading = "Time spent loading models, charged to nobody."
    yield _counter("gpushare_model_load_seconds", loading, _rows(stats.load_s), labels=label)


def _people(stats: Stats) -> Iterator[Metric]:
    label = ("person",)
    yield _counter("gpushare_person_requests", "Queued requests.", _rows(stats.person_requests), labels=label)
    yield _counter(
        "gpushare_person_slot_seconds", "Slot-seconds charged.", _rows(stats.person_slot_s), labels=label
    )


def _queue(queue: QueueCounts) -> Iterator[Metric]:
    """Yields the slots, of which always granted = released + held."""
    yield _counter("gpushare_slots_granted", "Slots given to requests.", [((), queue.granted_total)])
    yield _counter("gpushare_slots_released", "Slots given back.", [((), queue.released_total)])
    yield _gauge("gpushare_slots_held", "Slots in use.", queue.held)
    yield _gauge("gpushare_waiting_requests", "Requests in the queue.", queue.waiting)
    yield _gauge("gpushare_running_requests", "Requests that hold a slot.", queue.held)


def _connections(doors: Doors) -> Iterator[Metric]:
    yield _gauge("gpushare_connections", "Client connections open.", doors.open)
    yield _gauge("gpushare_anonymous_connections", "Those on which no key was accepted yet.", doors.anonymous)
    hit = "Connections that a limit or a deadline refused or ended."
    rows = [((event,), count) for event, count in doors.events.items()]
    yield _counter("gpushare_connection_limits", hit, rows, labels=("limit",))


def _fairness(sources: Sources, queue: QueueCounts) -> Iterator[Metric]:
    """Yields what each person got and was owed, as parts of all that was used while somebody waited."""
    if queue.jain is not None:
        text = "Jain's fairness index over what each active person got for what was due: 1 is fair."
        yield _gauge("gpushare_fairness_jain_ratio", text, queue.jain)
    if not sources.people():
        return
    names = sources.names()
    used: defaultdict[str, float] = defaultdict(float)
    due: defaultdict[str, float] = defaultdict(float)
    for row in (row for row in queue.shares if row.used_s or row.due_s):
        person = sources.stats.person_label(names.get(row.owner, row.owner))
        used[person] += row.used_s
        due[person] += row.due_s
    label = ("person",)
    yield _gauges(
        "gpushare_person_share_obtained_ratio",
        "Part of all slot time that was obtained.",
        _parts(used),
        labels=label,
    )
    yield _gauges(
        "gpushare_person_share_due_ratio", "Part of all slot time that was due.", _parts(due), labels=label
    )


def _ollama(view: OllamaView) -> Iterator[Metric]:
    yield _gauge("gpushare_ollama_up", "1 while Ollama answers.", view.up)
    doors = [((door.value,), door is view.breaker) for door in Door]
    text = "1 for the state of the breaker: whether calls go to Ollama."
    yield _gauges("gpushare_breaker_state", text, doors, labels=("state",))
    yield _gauge("gpushare_failing_models", "Models whose calls are refused for now.", len(view.failing))
    dropped = "Models dropped from memory because they kept silent."
    yield CounterMetricFamily("gpushare_dropped_models", dropped, value=view.drops)
    resident = [((row.name,), row.vram_bytes) for row in view.loaded]
    yield _gauges("gpushare_model_vram_bytes", "GPU memory of loaded models.", resident, labels=("model",))


def _gpus(view: GpuView) -> Iterator[Metric]:
    """Yields what the cards tell; a value that nobody knows has no sample."""
    yield _gauge("gpushare_gpu_readable", "1 while at least one card can be read.", view.readable)
    info = InfoMetricFamily("gpushare_gpu", "The cards.", labels=_GPU)
    for reading in view.readings:
        info.add_metric(_card(reading), {"name": reading.name or ""})
    yield info
    for name, text, value in _GPU_VALUES:
        rows = [(_card(reading), value(reading)) for reading in view.readings]
        yield _gauges(
            name, text, [(card, float(known)) for card, known in rows if known is not None], labels=_GPU
        )
    slowed = [
        ((*_card(reading), word), float(word in reading.slowed))
        for reading in view.readings
        if reading.slowed is not None
        for word in SLOWED_WORDS
    ]
    yield _gauges(
        "gpushare_gpu_slowed", "1 while this slows the card down.", slowed, labels=(*_GPU, "reason")
    )


_GPU = ("gpu", "uuid")

_GPU_VALUES: tuple[tuple[str, str, Callable[[GpuReading], float | None]], ...] = (
    ("gpushare_gpu_up", "1 while the card answers.", lambda card: not card.lost),
    ("gpushare_gpu_busy_ratio", "Part of the time in which the card computed.", lambda card: card.busy),
    ("gpushare_gpu_memory_used_bytes", "Memory in use.", lambda card: card.memory_used),
    ("gpushare_gpu_memory_total_bytes", "Memory of the card.", lambda card: card.memory_total),
    ("gpushare_gpu_celsius", "Temperature of the chip.", lambda card: card.celsius),
    ("gpushare_gpu_watts", "Power the card draws.", lambda card: card.watts),
    ("gpushare_gpu_watts_limit", "Power the card may draw.", lambda card: card.watts_limit),
    ("gpushare_gpu_other_programs", "Programs on the card that are not Ollama's.", lambda card: card.others),
    ("gpushare_gpu_other_bytes", "Memory that these programs hold.", lambda card: card.others_bytes),
)


def _card(reading: GpuReading) -> tuple[str, str]:
    """Returns the labels of a card."""
    return str(reading.index), reading.uuid or ""


def _ledger(state: LedgerState) -> Iterator[Metric]:
    yield _gauge("gpushare_ledger_writable", "1 while rows of the ledger are being written.", state.writable)
    yield _gauge("gpushare_ledger_lag_seconds", "How long the oldest row has waited.", state.lag_s)
    yield _gauge("gpushare_ledger_waiting_rows", "Rows that are not written yet.", state.waiting)
    yield _counter("gpushare_ledger_rows", "Rows written.", [((), state.written)])
    yield _counter("gpushare_ledger_lost_rows", "Rows given up.", [((), state.lost)])


def _parts(amounts: Mapping[str, float]) -> Rows:
    """Returns each amount as a part of all; nothing while there is none."""
    total = sum(amounts.values())
    return [((name,), amount / total) for name, amount in amounts.items()] if total else []


def _rows(counts: Mapping[str, float]) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), count) for name, count in counts.items()]


def _counter(name: str, text: str, rows: Rows, *, labels: tuple[str, ...] = ()) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def _gauges(name: str, text: str, rows: Rows, *, labels: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _histogram(
    name: str,
    text: str,
    rows: Iterable[tuple[tuple[str, ...], Histogram]],
    *,
    labels: tuple[str, ...] = (),
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in rows:
        buckets = [
            ("+Inf" if bound == float("inf") else str(bound), count)
            for bound, count in histogram.cumulative()
        ]
        family.add_metric(values, buckets, sum_value=histogram.total)
    return family
