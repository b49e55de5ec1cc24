"""Why a call waits: who is before it, what its owner used and was due, and what would change its start.

Called by: ``web.pages.queue``, ``web.pages.sections``.

Rules: a person is told of own calls, an admin of all.  Names and models are shown by ``Audience`` alone.  As
in the status document, fields are added and never renamed, and null is what nobody knows.
"""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from gpushare.core.audience import OTHER_MODEL, SOMEBODY, Audience
from gpushare.core.model import Lane, Service
from gpushare.core.picture import Picture
from gpushare.core.views import RunningView, ShareView, WaitingView
from gpushare.core.wording import duration, reason

SCHEMA = "gpushare.queue/1"
MOST = 8  # own waiting requests that a page tells of: as many as may wait


class Place(Struct, frozen=True, kw_only=True):
    """One call in the line of its lane, ``since`` when it runs or waits; ``position`` 0 is running."""

    position: int
    lane: Lane
    who: str
    you: bool
    model: str
    since: datetime
    usual_s: float | None
    swap: bool


class Share(Struct, frozen=True, kw_only=True):
    """GPU time in seconds: what an owner used, what sharing by weight was due, and the balance now."""

    weight: float
    used_s: float
    due_s: float
    balance_s: float


class Load(Struct, frozen=True, kw_only=True):
    """A load in the way; ``since`` is null while it has not begun."""

    model: str
    since: datetime | None
    usual_s: float | None


class Held(Struct, frozen=True, kw_only=True):
    """A waiting call: what holds it back, and what would change its start, a sentence each."""

    id: str
    who: str
    you: bool
    model: str
    lane: Lane
    position: int
    since: datetime
    starts_in_s: float | None
    starts: datetime | None
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


def why_all(picture: Picture, audience: Audience) -> Queue:
    """Returns why the calls wait that the viewer may know about: an admin of all."""
    return _why(picture, audience, picture.queue.waiting if audience.is_admin else _own(picture, audience))


def why_own(picture: Picture, audience: Audience) -> Queue:
    """Returns why the viewer's own calls wait, at most the first few of them."""
    return _why(picture, audience, _own(picture, audience)[:MOST])


def _own(picture: Picture, audience: Audience) -> tuple[WaitingView, ...]:
    return tuple(row for row in picture.queue.waiting if audience.is_own(row.owner))


def _why(picture: Picture, audience: Audience, calls: tuple[WaitingView, ...]) -> Queue:
    view = picture.queue
    last = {lane: max((row.position for row in calls if row.lane is lane), default=-1) for lane in Lane}
    sight = _Sight(picture, audience)
    return Queue(
        now=picture.at(picture.now),
        line=(
            *(sight.runs(row) for row in view.running if last[row.lane] >= 0),
            *(sight.waits(row) for row in view.waiting if row.position <= last[row.lane]),
        ),
        calls=tuple(sight.held(row) for row in calls),
    )


class _Sight:
    """A picture seen by one viewer."""

    def __init__(self, picture: Picture, audience: Audience) -> None:
        self._picture = picture
        self._view = picture.queue
        self._audience = audience
        self._paused = picture.queue.paused_since is not None
        self._shares = {row.owner: row for row in picture.queue.shares}

    def runs(self, row: RunningView) -> Place:
        return self._place(row, 0, self._picture.now - row.started_s, swap=row.swap)

    def waits(self, row: WaitingView) -> Place:
        return self._place(row, row.position, row.since, swap=row.loads)

    def _place(self, row: RunningView | WaitingView, position: int, since: float, *, swap: bool) -> Place:
        return Place(
            position=position,
            lane=row.lane,
            who=self._who(row.owner),
            you=self._audience.is_own(row.owner),
            model=self._audience.model(row.model),
            since=self._picture.at(since),
            usual_s=_rounded(row.usual_s),
            swap=swap,
        )

    def held(self, row: WaitingView) -> Held:
        share = self._shares[row.owner]
        load = self._load(row)
        return Held(
            id=row.id,
            who=self._who(row.owner),
            you=self._audience.is_own(row.owner),
            model=self._audience.model(row.model),
            lane=row.lane,
            position=row.position,
            since=self._picture.at(row.since),
            starts_in_s=None if row.eta_s is None else round(max(0.0, row.eta_s), 1),
            starts=self._picture.after(row.eta_s),
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
                since = self._picture.at(self._picture.now - each.started_s)
                return Load(
                    model=self._audience.model(each.model), since=since, usual_s=_rounded(each.load_s)
                )
        model = self._audience.model(row.model)
        return Load(model=model, since=None, usual_s=_rounded(row.load_s)) if row.swap else None

    def _because(self, row: WaitingView, share: ShareView, load: Load | None) -> Iterator[str]:
        """Yields what holds a call back, besides those before it; the gravest first."""
        whose = _opening(self._whose(row.owner))
        if not self._picture.ollama.up:
            yield "Ollama does not answer: nothing starts until it is back."
        if self._paused:
            yield "An admin has paused the queue: nothing starts until it is resumed."
        if 0 < share.max_running <= share.running:
            requests = "request" if share.max_running == 1 else "requests"
            yield f"{whose} limit of {share.max_running} running {requests} holds it back till one has ended."
        if load:
            usually = f", which usually takes {duration(load.usual_s)}" if load.usual_s else ""
            model = _opening(load.model)
            if load.since is None:
                yield f"{model} has to be loaded first{usually}."
            else:
                yield f"{model} is being loaded{usually}. Nothing else starts meanwhile."
        if row.service is Service.BACKGROUND and self._people_wait(row.lane):
            yield "It came with a background key, which gives way to people."
        if share.deficit_s <= -1:
            beyond = duration(-share.deficit_s)
            yield f"{whose} requests took {beyond} of GPU time more than the turns gave, so others go first."

    def _changes(self, row: WaitingView) -> Iterator[str]:
        """Yields what would make a call start sooner or later than is told."""
        if row.eta_s is None and self._picture.ollama.up and not self._paused:
            yield "There is no estimate: too little is known of the models that are asked for."
        running = [each for each in self._view.running if each.lane is row.lane and not each.swap]
        if running:
            answer = f"{self._whose(running[0].owner)} answer"
            if running[0].usual_s and running[0].ran_s > running[0].usual_s:
                yield f"{_opening(answer)} is longer than usual; it starts sooner if that ends soon."
            else:
                yield f"It starts sooner if {answer} is shorter than usual, and later if it is longer."
        models = [model for each in self._view.backends if each.lane is row.lane for model in each.resident]
        loaded = [model for model in models if self._audience.may_see(model)]
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
        return self._audience.shown(self._picture.names.get(owner, owner), own=own)

    def _whose(self, owner: str) -> str:
        own = self._audience.is_own(owner)
        return self._audience.whose(self._picture.names.get(owner, owner), own=own)


def _opening(words: str) -> str:
    """Returns words as they stand at the beginning of a sentence; names stay as they are."""
    return words[0].upper() + words[1:] if words.startswith(("your", SOMEBODY, OTHER_MODEL)) else words


def _rounded(seconds: float | None) -> float | None:
    """Returns tenths of a second: more would pretend to know."""
    return None if seconds is None else round(seconds, 1)
