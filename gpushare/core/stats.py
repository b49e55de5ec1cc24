"""What is counted about calls: cumulative figures for metrics and hourly ones for the last day.

Owns: every counter and histogram that grows by one call at a time.
Called by: the gateway, once for each call that ended; read by the metrics collector and the status page.
Rules: every label comes from a closed list.  Routes and models a client made up become ``other``, and so do
persons beyond a limit, so that input cannot add a series.  What the queue itself knows (slots, shares,
waiting calls) is not repeated here: it is read from the scheduler's snapshot.
"""

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from gpushare.core.dialects import ENDPOINTS
from gpushare.core.model import Outcome, Record, Service

OTHER = "other"
PERSON_LIMIT = 200  # a team has tens of persons; more would only swell the metrics page
MODEL_LIMIT = 200

WAIT_BOUNDS_S = (0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0)
FIRST_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 330.0)
TOTAL_BOUNDS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
# Steps of a quarter keep a percentile read from the buckets within an eighth of the true one.
_DAY_BOUNDS_S = tuple(0.1 * 1.25**step for step in range(40))

_ROUTES = frozenset(endpoint.path for endpoint in ENDPOINTS)
_HOUR_S = 3600
_DAY_HOURS = 24


class Histogram:
    """Counts of values in buckets, where ``bounds`` are the inclusive upper ends, ascending."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)  # the last one takes what is above every bound
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: "Histogram") -> None:
        """Adds the counts of another histogram with the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def cumulative(self) -> list[tuple[float, int]]:
        """Returns (upper end, values up to it) per bucket, ending with infinity."""
        rows, seen = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            rows.append((bound, seen))
        return rows

    def quantile(self, q: float) -> float | None:
        """Returns the value below which a part ``q`` of all values lies, None while there are none.

        Inside a bucket values are taken to be spread evenly; above the last bound its value is returned.
        """
        rank = q * sum(self.counts)
        if not rank:
            return None
        rows = [(0.0, 0), *self.cumulative()]
        for (low, below), (high, seen) in pairwise(rows):
            if seen >= rank:
                return low if high == float("inf") else low + (high - low) * (rank - below) / (seen - below)
        raise AssertionError("the last cumulative count is the number of values")


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonDay:
    """One person's last 24 hours; ``owner`` is empty for everybody beyond the limit together."""

    owner: str
    person: str
    requests: int
    slot_s: float


class LastCall(Struct, frozen=True, kw_only=True):
    """An owner's latest queued call that ended; ``ended_at`` in seconds since 1970."""

    ended_at: float
    model: str
    waited_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The last 24 hours: the current hour and the 23 before it.

    Only calls that were queued count, those that gave up waiting included.  Waits are None when there were
    none.  ``reloads`` is how often a model was seen with another context size than before, since the process
    began at most.  ``persons`` is sorted by slot-seconds, largest first.  ``hours`` is what 95 % of the calls
    of each hour waited at most, the current hour last.  ``busy_s`` and ``loading_s`` are of the current hour
    and the one before: slot-seconds, and seconds in which models were loaded instead.
    """

    requests: int
    wait_p50_s: float | None
    wait_p95_s: float | None
    swaps: int
    reloads: int
    persons: tuple[PersonDay, ...]
    hours: tuple[float | None, ...] = (None,) * _DAY_HOURS
    busy_s: float = 0.0
    loading_s: float = 0.0


@dataclass(slots=True)
class _Hour:
    number: int  # hours since 1970
    waits: Histogram = field(default_factory=lambda: Histogram(_DAY_BOUNDS_S))
    swaps: int = 0
    reloads: int = 0
    requests: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    slot_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    loading_s: float = 0.0


class _Names:
    """A set of label values that stops growing; what does not fit is ``other``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def learn(self, name: str) -> None:
        if len(self._names) < self._limit:
            self._names.add(name)

    def label(self, name: str) -> str:
        return name if name in self._names else OTHER


def _has_swapped(record: Record) -> bool:
    """Whether a model was loaded for a call; of several that waited for one load, the first counts."""
    return record.swap and record.load_s is not None


def _last_call(record: Record, waited_s: float) -> LastCall:
    return LastCall(
        ended_at=record.ended_at,
        model=record.model,
        waited_s=waited_s,
        took_s=max(0.0, record.total_s - waited_s),
    )


class Stats:
    """Everything counted since the process started.

    The public attributes are read-only for everybody else.
    """

    def __init__(self) -> None:
        self._models = _Names(MODEL_LIMIT)
        self._persons = _Names(PERSON_LIMIT)
        self._owners: dict[str, str] = {}  # the newest name of each owner
        self._hours: deque[_Hour] = deque(maxlen=_DAY_HOURS)
        self.requests: Counter[tuple[str, Outcome]] = Counter()
        self.errors: Counter[str] = Counter()  # answers of our own making, by their code: a closed list
        self.person_requests: defaultdict[str, int] = defaultdict(int)
        self.person_slot_s: defaultdict[str, float] = defaultdict(float)
        self.model_requests: defaultdict[str, int] = defaultdict(int)
        self.input_tokens: defaultdict[str, int] = defaultdict(int)
        self.output_tokens: defaultdict[str, int] = defaultdict(int)
        self.load_s: defaultdict[str, float] = defaultdict(float)
        self.last: dict[str, LastCall] = {}  # by owner: a name may have had another holder
        self.swaps = 0
        self.undelivered = 0
        self.bytes_out = 0
        self.wait = {service: Histogram(WAIT_BOUNDS_S) for service in Service}
        self.first = Histogram(FIRST_BOUNDS_S)
        self.duration = Histogram(TOTAL_BOUNDS_S)

    def know(self, models: Iterable[str]) -> None:
        """Adds model names that may be shown: those Ollama says are installed."""
        for model in models:
            self._models.learn(model)

    def closed(self, record: Record) -> Record:
        """Returns the record with every value a client can make up replaced by ``other``."""
        route = record.route if record.route in _ROUTES else OTHER
        model = self._models.label(record.model) if record.model else ""
        if route == record.route and model == record.model:
            return record
        return replace(record, route=route, model=model)

    def person_label(self, person: str) -> str:
        """Returns the person, or ``other`` beyond the limit; empty stays empty: without a key, no person."""
        if person:
            self._persons.learn(person)
        return self._persons.label(person) if person else ""

    def record(self, record: Record) -> Record:
        """Counts a call that has ended; returns it ``closed``.  Never raises."""
        if record.outcome is Outcome.OK:
            self._models.learn(record.model)  # Ollama answered it, so nobody made it up
        record = self.closed(record)
        self.requests[record.route, record.outcome] += 1
        self.bytes_out += record.bytes_out
        self.undelivered += not record.delivered
        self.duration.observe(record.total_s)
        if record.first_s is not None:
            self.first.observe(record.first_s)
        if record.waited_s is not None:
            self._record_queued(record, record.waited_s)
            self._remember(record)
        return record

    def reloaded(self, now: float) -> None:
        """Counts that a model has another context size than before; ``now`` as for ``day``."""
        self._hour(now).reloads += 1

    def day(self, now: float) -> Day:
        """Returns the last 24 hours.

        Args:
            now: wall-clock seconds since 1970, on the same clock as ``Record.ended_at``.
        """
        newest = int(now // _HOUR_S)
        hours = [hour for hour in self._hours if newest - _DAY_HOURS < hour.number <= newest]
        waits, requests = Histogram(_DAY_BOUNDS_S), Counter[str]()
        worst = {hour.number: hour.waits.quantile(0.95) for hour in hours}
        for hour in hours:
            waits.merge(hour.waits)
            requests.update(hour.requests)
        persons = [
            PersonDay(
                owner=owner,
                person=self._owners.get(owner, OTHER),
                requests=count,
                slot_s=sum(hour.slot_s.get(owner, 0.0) for hour in hours),
            )
            for owner, count in requests.items()
        ]
        late = [hour for hour in hours if hour.number >= newest - 1]
        return Day(
            requests=requests.total(),
            wait_p50_s=waits.quantile(0.5),
            wait_p95_s=waits.quantile(0.95),
            swaps=sum(hour.swaps for hour in hours),
            reloads=sum(hour.reloads for hour in hours),
            persons=tuple(sorted(persons, key=lambda row: (-row.slot_s, row.person))),
            busy_s=sum(sum(hour.slot_s.values()) for hour in late),
            loading_s=sum(hour.loading_s for hour in late),
            hours=tuple(worst.get(number) for number in range(newest - _DAY_HOURS + 1, newest + 1)),
        )

    def restore(self, record: Record) -> None:
        """Takes in a call of the last day that an earlier process served, the oldest first.

        What only counts since the start stays as it is.
        """
        if record.queued:
            self._remember(record)

    def restore_last(self, calls: Iterable[Record]) -> None:
        """Takes in each owner's newest call that was queued and is known to have ended, however old."""
        for record in calls:
            self._keep_last(self._owner(record), _last_call(record, record.waited_s or 0.0))

    def _record_queued(self, record: Record, waited_s: float) -> None:
        """Counts what only a call with a place in the queue has."""
        person, model = self.person_label(record.person), record.model
        self.wait[record.service].observe(waited_s)
        self.person_requests[person] += 1
        self.person_slot_s[person] += record.slot_s
        self.model_requests[model] += 1
        self.input_tokens[model] += record.input_tokens or 0
        self.output_tokens[model] += record.output_tokens or 0
        self.load_s[model] += record.load_s or 0.0
        self.swaps += _has_swapped(record)

    def _remember(self, record: Record) -> None:
        """Counts what outlives the process: the last day, and each owner's last call."""
        owner = self._owner(record)
        hour = self._hour(record.ended_at)
        if record.waited_s is not None:
            hour.waits.observe(record.waited_s)
            self._keep_last(owner, _last_call(record, record.waited_s))
        if _has_swapped(record):
            hour.swaps += 1
            hour.loading_s += record.load_s or 0.0
        hour.requests[owner] += 1
        hour.slot_s[owner] += record.slot_s

    def _owner(self, record: Record) -> str:
        """Returns whose figures a call counts for, empty beyond the limit."""
        if record.owner not in self._owners and len(self._owners) >= PERSON_LIMIT:
            return ""
        self._owners[record.owner] = record.person
        return record.owner

    def _keep_last(self, owner: str, call: LastCall) -> None:
        if owner:
            self.last[owner] = call

    def _hour(self, ended_at: float) -> _Hour:
        """Returns the hour a call ended in.  A wall clock that was set only opens one more."""
        number = int(ended_at // _HOUR_S)
        if not self._hours or number != self._hours[-1].number:
            self._hours.append(_Hour(number))
        return self._hours[-1]
