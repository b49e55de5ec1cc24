"""The live parts of the pages: what each shows, from which template, how often, and to whom alike.

Called by: pages, for their first paint, and ``web.pages.hub``, for the stream.  A section ``queue`` is made
from ``templates/_queue.html``, which finds what it shows in ``part``, and fills the element with that id.

Rules: the content of a section does not change by the mere passing of time, or it would be sent for ever.
So it holds instants, and two readers put them into words: the page's first paint, which has a ``now`` and is
all that readers without scripts get, and ``static/live.js``, which counts on and fills what the stream left
empty.  That is the only difference between the two ways a section is rendered.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime

import jinja2
from aiohttp import web
from markupsafe import Markup
from msgspec.structs import replace

from gpushare.core import wording
from gpushare.core.audience import Audience
from gpushare.core.controls import Control, before, unloading
from gpushare.core.doctor import Finding, summary
from gpushare.core.document import Gpu, LastDay, Model, Notice, Ollama, PersonShare, State, Waiting
from gpushare.core.names import canonical_model
from gpushare.core.notices import notices
from gpushare.core.status import Rows
from gpushare.core.why import Held, Place, why_own
from gpushare.core.wording import Headline
from gpushare.core.you import KEYLESS, MOST, Card, card
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import command

MOST_PEOPLE = 8  # of the last day; the others are one row


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a page.

    ``content`` is what the template shows, None where a viewer has no such part; ``scope`` is what viewers
    have in common to whom it is the same.  ``every_s`` is how often it is looked at, at most.
    """

    name: str
    every_s: float
    content: Callable[[Look, Audience], object]
    scope: Callable[[Look, Audience], Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePart:
    """What is wrong.  ``help``: admins are told what they can do."""

    notices: tuple[Notice, ...]
    help: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPart:
    """The headline, and when a new request would start.

    ``newcomer`` is a sentence, or its beginning where ``starts`` is its end.
    """

    headline: Headline
    newcomer: str
    starts: datetime | None
    waiting: int
    host: str
    ollama: Ollama

    def title(self, place: int | None) -> str:
        """Returns what the tab shows; ``place`` is the viewer's own in the queue."""
        return wording.title(self.headline, self.host, waiting=self.waiting, own_place=place)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePart:
    """Running and waiting.

    ``details``: the viewer may see tokens and speed of some rows.  ``ends``: the viewer may end any call.
    """

    rows: Rows
    details: bool
    free: bool
    ends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyPart:
    """Why the viewer's calls wait; as everywhere on a page, they hold only the instant of their start."""

    line: tuple[Place, ...]
    calls: tuple[Held, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlsPart:
    """What admins can do to the queue, and to which models; each with what it does to whom."""

    paused: bool
    draining: bool
    effects: Mapping[Control, str]
    unloads: Mapping[str, str]
    commands: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPart:
    """What ``gpushare doctor`` finds; ``at`` is None while that is being found out for the first time."""

    findings: tuple[Finding, ...] = ()
    summary: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPart:
    """The cards; ``note`` says why numbers are missing."""

    gpus: tuple[Gpu, ...]
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsPart:
    """The models in memory, if that is ``known``.

    ``swaps`` is how many were loaded in the last 24 hours, ``reloads`` how often with another context.
    """

    known: bool
    models: tuple[Model, ...]
    swaps: int
    reloads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPart:
    """The last 24 hours; ``others`` stands for everybody beyond the first rows."""

    day: LastDay
    people: tuple[PersonShare, ...]
    others: PersonShare | None
    count: int


class Renderer:
    """Renders sections.

    Args:
        environment: of the templates.
    """

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def render(self, section: Section, content: object, now: datetime | None = None) -> Markup:
        """Returns the inside of a section's element on one line; ``now`` puts its instants into words."""
        template = self._environment.get_template(f"_{section.name}.html")
        line = b" ".join(template.render(part=content, now=now).encode().split())
        line = line.replace(b"> <t", b"><t").replace(b"> </t", b"></t")  # within tables spaces are nothing
        return Markup(line.decode())  # noqa: S704 - the template has escaped what it shows

    def first_paint(self, look: Look, audience: Audience, view: str) -> Mapping[str, Markup]:
        """Returns the sections of a page, by name, as it first shows them."""
        now = look.showing.picture.wall
        contents = {name: SECTIONS[name].content(look, audience) for name in VIEWS[view]}
        return {
            name: self.render(SECTIONS[name], content, now)
            for name, content in contents.items()
            if content is not None
        }


RENDERER = web.AppKey("renderer", Renderer)


def _notice(look: Look, audience: Audience) -> NoticePart:
    found = notices(look.showing.picture, admin=audience.is_admin)
    return NoticePart(notices=found, help=audience.is_admin)


def head(look: Look, audience: Audience) -> HeadPart:
    """Returns the first lines of the status page."""
    showing = look.showing
    rows = showing.rows(audience)
    newcomer, starts = "", None
    if showing.state in (State.BUSY, State.SWAP):
        left_s = look.starts_in_s(audience.who)
        if left_s:
            newcomer, starts = wording.NEWCOMER, showing.picture.after(left_s)
        else:
            newcomer = wording.newcomer(left_s, told=False)
    return HeadPart(
        headline=wording.headline(
            showing.state, rows.running, waiting=len(rows.waiting), ollama=showing.ollama
        ),
        newcomer=newcomer,
        starts=starts,
        waiting=len(rows.waiting),
        host=showing.picture.host,
        ollama=showing.ollama,
    )


def you(look: Look, audience: Audience) -> Card:
    """Returns the viewer's own card."""
    if not look.showing.picture.names:
        return KEYLESS
    return card(look.showing.rows(audience), look.showing.you(audience))


def _calls(look: Look, audience: Audience) -> tuple[Waiting, ...]:
    """Returns the viewer's waiting calls that their card has no room for."""
    return tuple(row for row in look.showing.rows(audience).waiting if row.you)[MOST:]


def _why(look: Look, audience: Audience) -> WhyPart:
    queue = why_own(look.showing.picture, audience)
    return WhyPart(line=queue.line, calls=tuple(replace(call, starts_in_s=None) for call in queue.calls))


def _queue(look: Look, audience: Audience) -> QueuePart:
    showing = look.showing
    rows = showing.rows(audience)
    details = audience.is_admin or any(row.you for row in rows.running)
    free = showing.state is State.FREE
    return QueuePart(rows=rows, details=details, free=free, ends=audience.is_admin)


def _controls(look: Look, _audience: Audience) -> ControlsPart:
    queue, models = look.showing.picture.queue, look.showing.picture.ollama.loaded
    people = len({row.owner for row in queue.waiting})
    effects = {what: before(what, running=len(queue.running), people=people) for what in Control}
    using = Counter(canonical_model(row.model) for row in queue.running)
    return ControlsPart(
        paused=queue.paused_since is not None,
        draining=look.showing.picture.draining,
        effects=effects,
        unloads={row.name: unloading(row.name, using[canonical_model(row.name)]) for row in models},
        commands={row.name: command("models", "unload", row.name) for row in models},
    )


def _health(look: Look, _audience: Audience) -> HealthPart:
    examined = look.examined()
    if examined is None:
        return HealthPart()
    report, at = examined
    return HealthPart(findings=report.findings, summary=summary(report), at=at)


def _gpu(look: Look, _audience: Audience) -> GpuPart | None:
    view, gpus = look.showing.picture.gpus, look.showing.gpus
    return None if view is None or gpus is None else GpuPart(gpus=gpus, note=view.note)


def _models(look: Look, audience: Audience) -> ModelsPart:
    day = look.showing.picture.day
    return ModelsPart(
        known=look.showing.ollama.up is True,
        models=look.showing.models(audience),
        swaps=day.swaps,
        reloads=day.reloads,
    )


def _day(look: Look, audience: Audience) -> DayPart | None:
    if not audience.signed_in:
        return None
    day = look.showing.day(audience)
    if len(day.people) <= MOST_PEOPLE + 1:
        return DayPart(day=day, people=day.people, others=None, count=0)
    shown = (*day.people[:MOST_PEOPLE], *(row for row in day.people[MOST_PEOPLE:] if row.you))
    rest = [row for row in day.people[MOST_PEOPLE:] if not row.you]
    others = PersonShare(
        who="",
        you=False,
        requests=sum(row.requests for row in rest),
        slot_s=sum(row.slot_s for row in rest),
        share=sum(row.share or 0.0 for row in rest),
    )
    return DayPart(day=day, people=shown, others=others, count=len(rest))


def _everybody(_look: Look, _audience: Audience) -> Hashable:
    return None


def _kind(_look: Look, audience: Audience) -> Hashable:
    return audience.kind


def _newcomer(look: Look, audience: Audience) -> Hashable:
    return audience.kind, look.newcomer(audience.who)


def _person(_look: Look, audience: Audience) -> Hashable:
    return audience.who and (audience.who.owner, audience.who.name, audience.who.models)


def _queue_rows(look: Look, audience: Audience) -> Hashable:
    return look.showing.queue_scope(audience)


def _day_rows(look: Look, audience: Audience) -> Hashable:
    return look.showing.day_scope(audience)


SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section(name="notice", every_s=0.0, content=_notice, scope=_kind),
        Section(name="head", every_s=0.5, content=head, scope=_newcomer),
        Section(name="you", every_s=0.5, content=you, scope=_person),
        Section(name="calls", every_s=0.5, content=_calls, scope=_person),
        Section(name="why", every_s=0.5, content=_why, scope=_person),
        Section(name="queue", every_s=0.5, content=_queue, scope=_queue_rows),
        Section(name="controls", every_s=0.5, content=_controls, scope=_kind),
        Section(name="health", every_s=2.0, content=_health, scope=_kind),
        Section(name="gpu", every_s=2.0, content=_gpu, scope=_everybody),
        Section(name="models", every_s=5.0, content=_models, scope=_kind),
        Section(name="day", every_s=15.0, content=_day, scope=_day_rows),
    )
}

VIEWS: dict[str, tuple[str, ...]] = {
    "status": ("notice", "head", "you", "queue", "gpu", "models", "day"),
    "me": ("notice", "you", "calls", "why"),
    "admin": ("notice", "head", "controls", "queue", "health"),
}
"""The sections of each live page."""
