"""Why a call waits: who is before it, what its owner used and was due, and what would change its start.

Called by: ``web.pages.queue``; whatever shows a viewer's own waiting calls.

Rules: a person is told of own calls, an admin of all.  Names are shown by ``Audience`` alone.  Fields are
added to ``gpushare.queue/1``, never renamed; null is what nobody knows.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from gpushare.core.audience import SOMEBODY, Audience
from gpushare.core.model import Lane, Service
from gpushare.core.views import QueueView, RunningView, ShareView, WaitingView
from gpushare.core.wording import duration, reason

SCHEMA = "gpushare.queue/1"


class Place(Struct, frozen=True, kw_only=True):
    """One call in the line of its lane; ``position`` 0 is running, ``for_s`` how long it runs or waits."""

    position: int
    lane: Lane
    who: str
    you: bool
    model: str
    for_s: float
    usual_s: float | None
    swap: bool


class Share(Struct, frozen=True, kw_only=True):
    """GPU time in seconds: what an owner used, what sharing by weight was due, and the balance now."""

    weight: float
    used_s: float
    due_s: float
    balance_s: float


class Load(Struct, frozen=True, kw_only=True):
    """A load in the way; ``for_s`` is null while it has not begun."""

    model: str
    for_s: float | None
    usual_s: float | None


class Held(Struct, frozen=True, kw_only=True):
    """A waiting call: what holds it back, and what would change its start, a sentence each."""

    id: str
    who: str
    you: bool
    model: str
    lane: Lane
    position: int
    waited_s: float
    starts_in_s: float | None
    reason: str | None
    share: Share
    load: Load | None
    because: tuple[str, ...]
    changes: tuple[str, ...]


class Queue(Struct, frozen=True, kw_only=True):
    """The queue as it concerns one viewer.

    ``line`` is everybody up to the last of ``calls``: what runs, then who waits, in the order of service.
    """

    schema: str = SCHEMA
    now: datetime
    line: tuple[Place, ...]
    calls: tuple[Held, ...]


def why(
    view: QueueView, audience: Audience, names: Mapping[str, str], *, now: datetime, ollama_up: bool
) -> Queue:
    """Returns why the viewer's calls wait, or for an admin why all do.

    Args:
        view: the queue.
        audience: who looks.
        names: the names shown for owners.
        now: the instant of ``view``.
        ollama_up: whether Ollama answers.
    """
    calls = [row for row in view.waiting if audience.is_admin or audience.is_own(row.owner)]
    last = {lane: max((row.position for row in calls if row.lane is lane), default=-1) for lane in Lane}
    sight = _Sight(view, audience, names, ollama_up=ollama_up)
    rows: list[RunningView | WaitingView] = [row for row in view.running if last[row.lane] >= 0]
    rows += [row for row in view.waiting if row.position <= last[row.lane]]
    return Queue(
        now=now,
        line=tuple(sight.place(row) for row in rows),
        calls=tuple(sight.held(row) for row in calls),
    )


class _Sight:
    """A queue seen by one viewer."""

    def __init__(
        self, view: QueueView, audience: Audience, names: Mapping[str, str], *, ollama_up: bool
    ) -> None:
        self._view = view
        self._audience = audience
        self._names = names
        self._ollama_up = ollama_up
        self._moves = ollama_up and view.paused_since is None
        self._shares = {row.owner: row for row in view.shares}

    def place(self, row: RunningView | WaitingView) -> Place:
        position, for_s = (0, row.started_s) if isinstance(row, RunningView) else self._waits(row)
        return Place(
            position=position,
            lane=row.lane,
            who=self._who(row.owner),
            you=self._audience.is_own(row.owner),
            model=row.model,
            for_s=round(for_s, 1),
            usual_s=_rounded(row.usual_s),
            swap=row.swap,
        )

    def _waits(self, row: WaitingView) -> tuple[int, float]:
        """Returns the place in line, and since how many seconds."""
        return row.position, self._view.now - row.since

    def held(self, row: WaitingView) -> Held:
        share = self._shares[row.owner]
        load = self._load(row)
        position, waited_s = self._waits(row)
        return Held(
            id=row.id,
            who=self._who(row.owner),
            you=self._audience.is_own(row.owner),
            model=row.model,
            lane=row.lane,
            position=position,
            waited_s=round(waited_s, 1),
            starts_in_s=_rounded(row.eta_s),
            reason=reason(row.reason, self._whose(row.reason.owner)) if row.reason else None,
            share=Share(
                weight=share.weight,
                used_s=round(share.used_s, 1),
                due_s=round(share.due_s, 1),
                balance_s=round(share.deficit_s, 1),
            ),
            load=load,
            because=tuple(self._because(row, share, load)),
            changes=tuple(self._changes(row)),
        )

    def _load(self, row: WaitingView) -> Load | None:
        """Returns the load in the way: one that goes on holds back everything, also in the other lane."""
        for each in self._view.running:
            if each.swap and each.lane is Lane.GENERATE:
                return Load(model=each.model, for_s=round(each.started_s, 1), usual_s=_rounded(each.load_s))
        return Load(model=row.model, for_s=None, usual_s=_rounded(row.load_s)) if row.swap else None

    def _because(self, row: WaitingView, share: ShareView, load: Load | None) -> Iterator[str]:
        """Yields what holds a call back, besides those before it; the gravest first."""
        whose = _opening(self._whose(row.owner))
        if not self._ollama_up:
            yield "Ollama does not answer: nothing starts until it is back."
        if self._view.paused_since is not None:
            yield "An admin has paused the queue: nothing starts until it is resumed."
        if 0 < share.max_running <= share.running:
            requests = "request" if share.max_running == 1 else "requests"
            yield f"{whose} limit of {share.max_running} running {requests} holds it back till one has ended."
        if load:
            usually = f", which usually takes {duration(load.usual_s)}" if load.usual_s else ""
            if load.for_s is None:
                yield f"{load.model} has to be loaded first{usually}."
            else:
                yield f"{load.model} is being loaded{usually}. Nothing else starts meanwhile."
        if row.service is Service.BACKGROUND and self._people_wait(row.lane):
            yield "It came with a background key, which gives way to people."
        if share.deficit_s <= -1:
            beyond = duration(-share.deficit_s)
            yield f"{whose} requests took {beyond} of GPU time more than the turns gave, so others go first."

    def _changes(self, row: WaitingView) -> Iterator[str]:
        """Yields what would make a call start sooner or later than is told."""
        if row.eta_s is None and self._moves:
            yield "There is no estimate: too little is known of the models that are asked for."
        running = [each for each in self._view.running if each.lane is row.lane and not each.swap]
        if running:
            answer = f"{self._whose(running[0].owner)} answer"
            if running[0].usual_s and running[0].ran_s > running[0].usual_s:
                yield f"{_opening(answer)} is longer than usual; it starts sooner if that ends soon."
            else:
                yield f"It starts sooner if {answer} is shorter than usual, and later if it is longer."
        loaded = [model for each in self._view.backends if each.lane is row.lane for model in each.resident]
        if row.swap and loaded:
            yield f"A request for {loaded[0]}, which is loaded, would not wait for a load."
        if row.service is Service.BACKGROUND:
            yield "It starts later if people send requests."
        else:
            yield "It starts later if somebody who has used less sends a request."

    def _people_wait(self, lane: Lane) -> bool:
        waiting = (row.service for row in self._view.waiting if row.lane is lane)
        return Service.INTERACTIVE in waiting

    def _who(self, owner: str) -> str:
        own = self._audience.is_own(owner)
        return self._audience.shown(self._names.get(owner, owner), own=own)

    def _whose(self, owner: str) -> str:
        own = self._audience.is_own(owner)
        return self._audience.whose(self._names.get(owner, owner), own=own)


def _opening(words: str) -> str:
    """Returns words as they stand at the beginning of a sentence; names stay as they are."""
    return words.capitalize() if words.startswith(("your", SOMEBODY)) else words


def _rounded(seconds: float | None) -> float | None:
    """Returns tenths of a second: more would pretend to know."""
    return None if seconds is None else round(seconds, 1)
