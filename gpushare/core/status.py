"""What one viewer may see of the queue, the models and the last day.

Called by: the pages, their live stream and ``GET /gpushare/v1/status``, which all show the same.

Rules: what a viewer may not see is left out here, before anything is rendered; ``core.audience`` alone
decides it.  What several viewers see alike is made once.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import UNSET, structs

from gpushare.core import wording
from gpushare.core.audience import Audience
from gpushare.core.document import (
    Document,
    LastDay,
    LastRequest,
    Model,
    Ollama,
    PersonShare,
    Running,
    State,
    Waiting,
    You,
)
from gpushare.core.gpu_status import gpus
from gpushare.core.model import Lane, ResidentModel
from gpushare.core.notices import notices
from gpushare.core.picture import Picture, Progress, state_of
from gpushare.core.stats import Day
from gpushare.core.views import Reason, RunningView, WaitingView

SPEED_AFTER_S = 1.0  # a speed over less time than this is noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The queue as some viewers see it.

    A waiting row has only the instant at which it starts: what is shown must not change by itself.
    """

    running: tuple[Running, ...]
    waiting: tuple[Waiting, ...]


class Showing:
    """One picture, shown to any number of viewers.

    A row is made once for all viewers of a kind, and once more for whoever it is about.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.state = state_of(picture)
        self.ollama = _ollama(picture)
        self.gpus = None if picture.gpus is None else gpus(picture.gpus)
        queue = picture.queue
        self._involved = {row.owner for row in queue.running} | {row.owner for row in queue.waiting}
        self._involved |= {row.reason.owner for row in queue.waiting if row.reason}
        self._day_s = sum(row.slot_s for row in picture.day.persons)
        self._day = {row.owner: row for row in picture.day.persons}
        self._rows: dict[Hashable, Rows] = {}
        self._running: dict[Hashable, Running] = {}
        self._waiting: dict[Hashable, Waiting] = {}
        self._models: dict[Hashable, tuple[Model, ...]] = {}

    def document(self, audience: Audience, starts_in_s: float | None) -> Document:
        """Returns everything a viewer may see; for ``starts_in_s`` see the method."""
        picture, rows = self.picture, self.rows(audience)
        starts = picture.after(starts_in_s) if starts_in_s else None
        return Document(
            now=picture.at(picture.now),
            host=picture.host,
            version=picture.version,
            state=self.state,
            notices=notices(picture, admin=audience.is_admin),
            new_request_starts_in_s=self._left_s(starts) if starts else starts_in_s,
            new_request_starts=starts,
            ollama=self.ollama,
            running=rows.running,
            waiting=tuple(structs.replace(row, starts_in_s=self._left_s(row.starts)) for row in rows.waiting),
            models=self.models(audience),
            gpus=self.gpus,
            gpu_note=None if picture.gpus is None else picture.gpus.note,
            day=self.day(audience) if audience.signed_in else UNSET,
            you=self.you(audience) or UNSET,
        )

    def starts_in_s(self, expected_s: float | None) -> float | None:
        """Returns when a viewer is told that a new call of theirs would start, below 0 when that has passed.

        It is 0 for at once, where nobody is, and None where nobody knows or none is taken.  Where nothing is
        known of the first in line, a newcomer is told no more.
        """
        first = next((row for row in self.picture.queue.waiting if row.lane is Lane.GENERATE), None)
        match self.state:
            case State.FREE:
                return 0.0
            case State.BUSY | State.SWAP if first is None or first.eta_s is not None:
                return expected_s
            case _:
                return None

    def queue_scope(self, audience: Audience) -> Hashable:
        """Returns what viewers have in common to whom ``rows`` are the same."""
        return audience.kind, audience.own(self._involved)

    def rows(self, audience: Audience) -> Rows:
        """Returns the running and the waiting calls."""
        scope = self.queue_scope(audience)
        if scope not in self._rows:
            queue = self.picture.queue
            self._rows[scope] = Rows(
                running=tuple(self._running_row(row, audience) for row in queue.running),
                waiting=tuple(self._waiting_row(row, audience) for row in queue.waiting),
            )
        return self._rows[scope]

    def _running_row(self, row: RunningView, audience: Audience) -> Running:
        key = row.id, audience.kind, audience.own({row.owner})
        if key not in self._running:
            self._running[key] = _running(self.picture, row, audience)
        return self._running[key]

    def _waiting_row(self, row: WaitingView, audience: Audience) -> Waiting:
        owners = {row.owner, row.reason.owner} if row.reason else {row.owner}
        key = row.id, audience.kind, audience.own(owners)
        if key not in self._waiting:
            self._waiting[key] = _waiting(self.picture, row, audience)
        return self._waiting[key]

    def models(self, audience: Audience) -> tuple[Model, ...]:
        """Returns the models in memory."""
        if audience.kind not in self._models:
            self._models[audience.kind] = models_seen(self.picture.ollama.loaded, audience)
        return self._models[audience.kind]

    def day_scope(self, audience: Audience) -> Hashable:
        """Returns what viewers have in common to whom ``day`` is the same."""
        return audience.kind, audience.own(self._day)

    def day(self, audience: Audience) -> LastDay:
        """Returns the last 24 hours."""
        day = self.picture.day
        people = []
        for row in day.persons:
            own = audience.is_own(row.owner)
            name = self.picture.names.get(row.owner, row.person)
            people.append(
                PersonShare(
                    who=audience.shown(name, own=own),
                    you=own,
                    requests=row.requests,
                    slot_s=round(row.slot_s, 1),
                    share=self._share(row.slot_s),
                )
            )
        return _last_day(day, tuple(people))

    def you(self, audience: Audience) -> You | None:
        """Returns the viewer's own last 24 hours; None without a key."""
        if audience.who is None:
            return None
        owner = audience.who.owner
        row = self._day.get(owner)
        last = self.picture.last.get(owner)
        shown = (
            None
            if last is None
            else LastRequest(
                ended=datetime.fromtimestamp(int(last.ended_at), UTC),
                model=audience.model(last.model),
                waited_s=round(last.waited_s, 1),
                took_s=round(last.took_s, 1),
            )
        )
        return You(
            who=audience.who.name,
            requests=row.requests if row else 0,
            share=self._share(row.slot_s) if row else None,
            last=shown,
        )

    def _left_s(self, starts: datetime | None) -> float | None:
        """Returns the time left to a told instant, which may have passed."""
        if starts is None:
            return None
        return max(0.0, round((starts - self.picture.wall).total_seconds(), 1))

    def _share(self, slot_s: float) -> float | None:
        return round(slot_s / self._day_s, 3) if self._day_s else None


def models_seen(loaded: Iterable[ResidentModel], audience: Audience) -> tuple[Model, ...]:
    """Returns the models in memory of which a viewer may know."""
    return tuple(_model(row) for row in loaded if audience.may_see(row.name))


def _ollama(picture: Picture) -> Ollama:
    view = picture.ollama
    if view.since is None:
        return Ollama(up=None, version=None, since=None)
    since = picture.at(view.since)
    return Ollama(up=view.up, version=view.version or None, since=since, at_least=view.at_least)


def _running(picture: Picture, row: RunningView, audience: Audience) -> Running:
    own = audience.is_own(row.owner)
    shown = Running(
        id=row.id,
        who=audience.shown(picture.names.get(row.owner, row.owner), own=own),
        you=own,
        model=audience.model(row.model),
        started=picture.at(picture.now - row.started_s),
        swap=row.swap,
    )
    progress = picture.progress.get(row.id)
    if not audience.sees_details(row.owner) or progress is None:
        return shown
    tokens = progress.records if progress.streaming else None
    speed = _speed(progress)
    return structs.replace(shown, tokens=tokens, tokens_per_s=speed, tool=progress.tool)


def _speed(progress: Progress) -> float | None:
    """Returns tokens a second since the first one, None while that says nothing."""
    if not progress.streaming or progress.first_at is None or progress.at - progress.first_at < SPEED_AFTER_S:
        return None
    return round(progress.records / (progress.at - progress.first_at), 1)


def _waiting(picture: Picture, row: WaitingView, audience: Audience) -> Waiting:
    own = audience.is_own(row.owner)
    shown = Waiting(
        id=row.id,
        position=row.position,
        who=audience.shown(picture.names.get(row.owner, row.owner), own=own),
        you=own,
        model=audience.model(row.model),
        since=picture.at(row.since),
        starts_in_s=None,
        starts=picture.after(row.eta_s),
        swap=row.loads,
        reason=_reason(picture, row.reason, audience) if row.reason else None,
    )
    progress = picture.progress.get(row.id)
    if not audience.sees_details(row.owner) or progress is None:
        return shown
    return structs.replace(shown, tool=progress.tool)


def _reason(picture: Picture, reason: Reason, audience: Audience) -> str:
    own = audience.is_own(reason.owner)
    return wording.reason(reason, audience.whose(picture.names.get(reason.owner, reason.owner), own=own))


def _model(row: ResidentModel) -> Model:
    return Model(
        name=row.name,
        vram_bytes=row.vram_bytes,
        on_gpu=round(row.vram_bytes / row.size_bytes, 3) if row.size_bytes else None,
        context=row.context,
        unloads=row.expires,
    )


def _last_day(day: Day, people: tuple[PersonShare, ...]) -> LastDay:
    return LastDay(
        requests=day.requests,
        wait_p50_s=_rounded(day.wait_p50_s),
        wait_p95_s=_rounded(day.wait_p95_s),
        swaps=day.swaps,
        swaps_context=day.reloads,
        people=people,
        wait_p95_by_hour_s=tuple(_rounded(hour) for hour in day.hours),
    )


def _rounded(seconds: float | None) -> float | None:
    """Returns tenths of a second: more would pretend to know."""
    return None if seconds is None else round(seconds, 1)
