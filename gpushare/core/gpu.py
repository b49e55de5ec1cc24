"""What is known of the GPUs: one reading, the picture of all, and how busy each was in the last 15 minutes.

Called by: ``edge.nvml``, which makes readings; ``engine.gpu``, which keeps the picture; ``core.gpu_status``
and the metrics, which show it.

Rules: what the driver does not tell is None, never zero.  A card that was seen once stays in the picture;
when it no longer answers it is ``lost`` and has no numbers but those that cannot change.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from msgspec import Struct, structs

POINT_S = 10.0  # one point of the history is the mean of so many seconds
POINTS = 90  # 15 minutes
NOT_READ = "not read yet"

HEAT, POWER, POWER_LIMIT, HARDWARE = "heat", "power", "power limit", "hardware"

SLOWING = (
    ("nvmlClocksEventReasonSwThermalSlowdown", 0x20, HEAT),
    ("nvmlClocksEventReasonHwThermalSlowdown", 0x40, HEAT),
    ("nvmlClocksEventReasonHwPowerBrakeSlowdown", 0x80, POWER),
    ("nvmlClocksEventReasonSwPowerCap", 0x04, POWER_LIMIT),
    ("nvmlClocksEventReasonHwSlowdown", 0x08, HARDWARE),
)
"""Which bits of NVML's clock event reasons mean "slower than it could be", and the word for each.

Left out are those that are no trouble: idle, a clock somebody chose, a display, boards kept in step, and the
two newest, by which a card says that it is at the most its board and its voltage allow.
"""
SLOWED_WORDS = tuple(dict.fromkeys(word for _, _, word in SLOWING))


class GpuReading(Struct, frozen=True, kw_only=True):
    """One card at one instant.

    ``busy`` is from 0 to 1; ``slowed`` are words of ``SLOWED_WORDS``.  ``others`` counts the programs on the
    card that are not Ollama's and ``others_bytes`` is what they hold.
    """

    index: int
    name: str | None = None
    uuid: str | None = None
    busy: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    celsius: int | None = None
    watts: float | None = None
    watts_limit: float | None = None
    slowed: tuple[str, ...] | None = None
    others: int | None = None
    others_bytes: int | None = None
    lost: bool = False

    @property
    def key(self) -> str:
        """What tells this card from others, for as long as it can be told."""
        return self.uuid or f"#{self.index}"

    def gone(self) -> "GpuReading":
        """Returns what is left to say of a card that no longer answers."""
        return GpuReading(
            index=self.index, name=self.name, uuid=self.uuid, memory_total=self.memory_total, lost=True
        )


class GpuReport(Struct, frozen=True, kw_only=True):
    """What one reading of all cards brought; ``driver`` is its version.

    ``error`` is why something is missing, in the driver's own words; ``absent`` tells that this machine has
    no NVIDIA driver at all, which is no fault.
    """

    readings: tuple[GpuReading, ...] = ()
    error: str | None = None
    absent: bool = False
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuView:
    """The picture of all cards.

    ``note`` says why numbers are missing, in the driver's own words, ``absent`` that there is no driver, and
    ``fault`` whether people should be told.  ``history`` has for each ``GpuReading.key`` the busy ratios of
    the last 15 minutes, oldest first, None where nothing was read.  ``at`` is the monotonic second of the
    last report, None before it.
    """

    readings: tuple[GpuReading, ...] = ()
    note: str | None = NOT_READ
    absent: bool = False
    fault: bool = False
    history: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    at: float | None = None

    @property
    def readable(self) -> bool:
        """Whether at least one card answers."""
        return any(not reading.lost for reading in self.readings)

    @property
    def watts(self) -> float | None:
        """What all cards that answer draw together, None where one of them does not tell."""
        drawn = [reading.watts for reading in self.readings if not reading.lost]
        known = [watts for watts in drawn if watts is not None]
        return sum(known) if drawn and len(known) == len(drawn) else None

    def after(self, report: GpuReport, *, at: float, required: bool) -> "GpuView":
        """Returns the picture after a report.

        Args:
            report: what was read.
            at: monotonic seconds.
            required: whether a machine without a driver is a fault too.
        """
        known = {reading.index: reading for reading in self.readings}
        fresh = [_identified(reading, known.get(reading.index)) for reading in report.readings]
        taken = {reading.key for reading in fresh} | {f"#{reading.index}" for reading in fresh}
        gone = [reading.gone() for reading in self.readings if reading.key not in taken]
        fault = report.error is not None and (required or not report.absent or bool(self.readings))
        return replace(
            self,
            readings=tuple(sorted([*fresh, *gone], key=lambda reading: (reading.index, reading.key))),
            note=report.error,
            absent=report.absent,
            fault=fault,
            at=at,
        )


class GpuHistory:
    """How busy each card was: one mean for every 10 s, for 15 minutes.

    Owns: the points, and the ratios of the 10 s that are not over yet.
    """

    def __init__(self) -> None:
        self._span: int | None = None
        self._ratios: defaultdict[str, list[float]] = defaultdict(list)
        self._points: dict[str, deque[float | None]] = {}

    def take(self, readings: Iterable[GpuReading], *, at: float) -> None:
        """Adds what was read at a monotonic second; time without readings leaves a gap."""
        span = int(at // POINT_S)
        for _ in range(min(span - (span if self._span is None else self._span), POINTS + 1)):
            self._close()
        self._span = span
        for reading in readings:
            self._points.setdefault(reading.key, deque(maxlen=POINTS))
            if reading.busy is not None:
                self._ratios[reading.key].append(reading.busy)

    def points(self) -> Mapping[str, tuple[float | None, ...]]:
        """Returns the finished points of each card, oldest first."""
        return {key: tuple(points) for key, points in self._points.items()}

    def _close(self) -> None:
        for key, points in self._points.items():
            ratios = self._ratios.get(key)
            points.append(sum(ratios) / len(ratios) if ratios else None)
        self._ratios.clear()


def slowed_by(reasons: int) -> tuple[str, ...]:
    """Returns the words for a set of NVML's clock event reasons.

    NVML sets the general hardware bit together with a special one; it gets its word only when it is alone.
    """
    words = dict.fromkeys(word for _, bit, word in SLOWING if reasons & bit)
    if HEAT in words or POWER in words:
        words.pop(HARDWARE, None)
    return tuple(words)


def _identified(reading: GpuReading, known: GpuReading | None) -> GpuReading:
    """Returns a reading with what was learned earlier of a card that does not say now who it is."""
    if known is None or reading.uuid is not None:
        return reading
    if reading.lost:
        return known.gone()
    return structs.replace(reading, uuid=known.uuid, name=reading.name or known.name)
