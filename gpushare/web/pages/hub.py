"""Who watches live, and what each still has to be told.

Owns: the viewers of the live stream.  Called by: ``web.pages.live`` (``join``, ``leave``), ``app`` (``run``,
``close``).

Rules:
- Nobody watches: nothing is looked at and nothing rendered.
- What several viewers see alike is looked at, compared and rendered once, and only when it changed.
- A viewer has no queue.  It is told what differs from what it was told last, and only when it has taken all
  of that.  So the newest state wins, and a viewer that never reads costs one state.
- Between pieces of a millisecond everything else has its turn: a token does not notice.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zlib import crc32

import msgspec
import structlog

from gpushare.core.document import Document
from gpushare.core.errors import Overloaded, spread_retry_s
from gpushare.core.keys import KeyRing
from gpushare.core.model import Principal
from gpushare.core.picture import Progress
from gpushare.core.stats import Day
from gpushare.core.you import Card
from gpushare.web.pages import events
from gpushare.web.pages.look import Look, progress_now
from gpushare.web.pages.sections import SECTIONS, VIEWS, HeadPart, Renderer
from gpushare.web.parts import Parts
from gpushare.web.transport import ResponseSink

TICK_S = 0.5
PIECE_S = 0.001
HEARTBEAT_S = 10.0  # the longest silence of a living stream
SAY_S = 10.0  # a screen reader is told no more often
STUCK_S = 15.0
PROGRESS_S = 5.0  # tokens come all the time, and a new count is the whole table again
DAY_S = 15.0
JSON_S = 1.0
KEEP_SEAT_S = 60.0  # who comes back within is sent only what changed
FULL_RETRY_S = 20.0

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Shown:
    """What a section shows to those who see it alike; ``line`` is made once for all of them."""

    content: object
    line: bytes
    looked_at: float


@dataclass(slots=True, eq=False)
class Viewer:
    """One open stream.

    ``told`` is what was written last of each section.  ``backlog`` is what of that lies unread, and
    ``stuck_since`` when it last became less.
    """

    seat: "Seat"
    sink: ResponseSink
    address: str
    ended: asyncio.Event
    told: dict[str, bytes] = field(default_factory=dict)
    said: str = ""
    said_at: float = 0.0
    told_at: float = float("-inf")
    backlog: int = 0
    stuck_since: float = 0.0


@dataclass(slots=True, eq=False)
class Seat:
    """The viewers of one person on one page, who are all told the same.

    ``proof`` is what they have shown, which is void once it would be another one.  ``start`` begins what they
    are given as ``rev``, which another seat's viewers cannot use.  ``changed`` numbers, for each section, the
    round in which its line became another one.
    """

    start: str
    view: str
    who: Principal | None
    as_json: bool
    by_session: bool = False
    proof: Hashable = None
    ring: KeyRing | None = None
    viewers: list[Viewer] = field(default_factory=list)
    lines: dict[str, bytes] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    page: dict[str, object] = field(default_factory=dict)
    sentence: str = ""
    written: tuple[Hashable, bytes] = (None, b"")
    document: Document | None = None
    looked_at: float = float("-inf")
    empty_since: float | None = None

    @property
    def rev(self) -> str:
        """What the viewers know once they were told everything: the round in which anything changed last."""
        return f"{self.start}-{max(self.changed.values(), default=0)}"


class Hub:
    """Keeps the viewers up to date.

    Args:
        parts: what is shown.
        renderer: of the sections.
        icon: gives an icon's address.
        build: changes with what a loaded page was made of.
        start: tells this process's rounds from those of another.
    """

    def __init__(
        self,
        parts: Parts,
        renderer: Renderer,
        *,
        icon: Callable[[str], str],
        build: str,
        start: str,
    ) -> None:
        self._parts = parts
        self._renderer = renderer
        self._icon = icon
        self._build = build
        self._start = start
        self._seats: dict[Hashable, Seat] = {}
        self._by_address: Counter[str] = Counter()
        self._shown: dict[Hashable, Shown] = {}
        self._round = 0
        self._busy = asyncio.Event()
        self._closing = False
        self._day: Day | None = None
        self._day_at = 0.0
        self._progress: dict[str, Progress] = {}
        self._progress_at = float("-inf")

    # --- coming and going ------------------------------------------------------------------------------

    def check_room(self, address: str) -> None:
        """Makes sure that one more viewer may watch.

        Raises:
            Draining: the server closes down.
            Overloaded: as many watch as may, in all or from this address.
        """
        limits = self._parts.config.status
        if self._closing:
            raise self._parts.slots.closing_down()
        full = self._by_address.total() >= limits.max_viewers
        if full or self._by_address[address] >= limits.max_viewers_per_address:
            raise Overloaded("place on the live page", spread_retry_s(FULL_RETRY_S, self._parts.jitter()))

    def join(
        self,
        sink: ResponseSink,
        address: str,
        *,
        view: str,
        who: Principal | None,
        by_session: bool,
        rev: str,
        as_json: bool,
    ) -> Viewer:
        """Adds a viewer, who is told everything in the next round, or all since ``rev``.

        Whoever comes back may have heard a sentence a moment ago.  ``by_session``: the viewer is known by a
        session, not by the key itself.
        """
        proof = who and _proof(self._parts.ring, who.key_id, by_session=by_session)
        key = view, who and who.key_id, proof, as_json
        seat = self._seats.get(key)
        if seat is None:
            seat = self._seats[key] = Seat(
                start=f"{self._start}{crc32(repr(key).encode()):08x}",
                view=view,
                who=who,
                as_json=as_json,
                by_session=by_session,
                proof=proof,
            )
        viewer = Viewer(seat=seat, sink=sink, address=address, ended=asyncio.Event(), said=seat.sentence)
        start, _, number = rev.rpartition("-")
        if rev:
            viewer.said_at = self._parts.monotonic()
        if start == seat.start and number.isdecimal():
            known = int(number)
            viewer.told = {name: line for name, line in seat.lines.items() if seat.changed[name] <= known}
        seat.viewers.append(viewer)
        seat.empty_since = None
        self._by_address[address] += 1
        self._busy.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forgets a viewer.  Idempotent."""
        seat = viewer.seat
        if viewer not in seat.viewers:
            return
        seat.viewers.remove(viewer)
        if not seat.viewers:
            seat.empty_since = self._parts.monotonic()
        self._by_address[viewer.address] -= 1
        self._by_address += Counter()  # addresses without viewers go
        if not self._by_address:
            self._busy.clear()

    def close(self) -> None:
        """Says goodbye to everybody: the server restarts.  Nobody may join from now on."""
        self._closing = True
        for seat in list(self._seats.values()):
            self.send_away(seat.viewers, "restart")

    def send_away(self, viewers: Iterable[Viewer], why: str) -> None:
        """Says goodbye to some."""
        for viewer in list(viewers):
            wait_s = 2.0 + 3.0 * self._parts.jitter()
            viewer.sink.write(events.bye(why, wait_s))
            viewer.sink.finish()
            self._end(viewer)

    def _end(self, viewer: Viewer) -> None:
        viewer.ended.set()
        self.leave(viewer)

    # --- rounds ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Plays round after round while anybody watches, until cancelled."""
        while True:
            await self._busy.wait()
            try:
                await self.play_round()
            except Exception:  # noqa: BLE001 - one bad picture must not end all streams
                _log.exception("live.failed")
            await asyncio.sleep(TICK_S)

    async def play_round(self) -> None:
        """Looks once and tells everybody what changed for them."""
        look = self._look()
        self._round += 1
        used: set[Hashable] = set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for key, seat in list(self._seats.items()):
            if self._is_over(key, seat, look.now):
                continue
            if seat.as_json:
                self._tell_document(seat, look)
            else:
                used.update(self._update(seat, look))
                for viewer in list(seat.viewers):
                    self._tell(viewer, seat, look)
            if loop.time() - began > PIECE_S:
                await asyncio.sleep(0)
                began = loop.time()
        self._shown = {key: shown for key, shown in self._shown.items() if key in used}

    def _look(self) -> Look:
        """Returns the server of now; what is dear to read, or moves all the time, is read less often."""
        now, parts = self._parts.monotonic(), self._parts
        if self._day is None or now - self._day_at >= DAY_S:
            self._day, self._day_at = parts.stats.day(parts.wall(now)), now
        progress = progress_now(parts, now)
        if now - self._progress_at < PROGRESS_S:
            progress = {call: self._progress.get(call, fresh) for call, fresh in progress.items()}
        else:
            self._progress_at = now
        self._progress = progress
        return Look(parts, day=self._day, progress=progress)

    def _is_over(self, key: Hashable, seat: Seat, now: float) -> bool:
        """Whether a seat needs nothing: it is empty, or its people may not look any more."""
        if not seat.viewers:
            if seat.empty_since is not None and now - seat.empty_since > KEEP_SEAT_S:
                del self._seats[key]
            return True
        if seat.who is None:
            welcome = self._parts.config.status.anonymous != "off"
        else:
            ring, today = self._parts.ring, datetime.now(UTC)
            welcome = ring.active(seat.who.key_id, today)
            if welcome and seat.ring is not ring:
                current = ring.principal(seat.who.key_id, today)
                proof = _proof(ring, seat.who.key_id, by_session=seat.by_session)
                welcome = current is not None and current.role is seat.who.role and proof == seat.proof
                seat.who, seat.ring = current or seat.who, ring
        if not welcome:
            self.send_away(seat.viewers, "signed-out")
        return not welcome

    def _update(self, seat: Seat, look: Look) -> Iterator[Hashable]:
        """Brings a seat up to date; yields what was used for it."""
        audience = look.audience(seat.who)
        contents = {}
        for name in VIEWS[seat.view]:
            section = SECTIONS[name]
            key = name, section.scope(look, audience)
            yield key
            shown = self._shown.get(key)
            if shown is None or look.now - shown.looked_at >= max(section.every_s, TICK_S) - TICK_S / 2:
                content = section.content(look, audience)
                if shown is None or shown.content != content:
                    line = b"" if content is None else events.data(self._renderer.render(section, content))
                    shown = self._shown[key] = Shown(content, line, look.now)
                shown.looked_at = look.now
            contents[name] = shown.content
            if seat.lines.get(name) != shown.line and shown.content is not None:
                seat.lines[name] = shown.line
                seat.changed[name] = self._round
        self._entitle(seat, contents)

    def _entitle(self, seat: Seat, contents: dict[str, object]) -> None:
        """Works out what the tab shows and a screen reader says."""
        match contents.get("you"):
            case Card() as card:
                seat.sentence, place = card.sentence, card.place
            case _:
                seat.sentence, place = "", None
        head = contents.get("head")
        if seat.view == "status" and isinstance(head, HeadPart):
            seat.page = {"title": head.title(place), "icon": self._icon(f"{head.headline.icon}.svg")}

    # --- telling ---------------------------------------------------------------------------------------

    def _tell(self, viewer: Viewer, seat: Seat, look: Look) -> None:
        """Writes to a viewer what it does not know yet, if it has taken what it was told before."""
        if self._is_stuck(viewer, look.now):
            return
        news = tuple(name for name, line in seat.lines.items() if viewer.told.get(name) is not line)
        say = None
        if not viewer.told:
            viewer.said = seat.sentence
        elif viewer.said != seat.sentence and look.now - viewer.said_at >= SAY_S:
            say = viewer.said = seat.sentence
            viewer.said_at = look.now
        if not news and say is None and look.now - viewer.told_at < HEARTBEAT_S:
            return
        viewer.sink.write(self._written(seat, news, say, look))
        viewer.told.update(seat.lines)
        viewer.told_at = look.now

    def _written(self, seat: Seat, news: tuple[str, ...], say: str | None, look: Look) -> bytes:
        """Returns events as they go out; the viewers of a seat mostly need the same ones."""
        key = self._round, news, say
        if seat.written[0] != key:
            rev = seat.rev
            about = {"now": round(look.wall, 1), "build": self._build, "say": say, **seat.page}
            parts = [events.part(rev, name, seat.lines[name]) for name in news]
            seat.written = key, b"".join([*parts, events.meta(rev, about)])
        return seat.written[1]

    def _is_stuck(self, viewer: Viewer, now: float) -> bool:
        """Whether a viewer has not taken everything yet; one that takes nothing for long is dropped."""
        backlog = viewer.sink.backlog()
        if backlog < viewer.backlog or not viewer.backlog:
            viewer.stuck_since = now
        viewer.backlog = backlog
        if backlog and now - viewer.stuck_since >= STUCK_S:
            viewer.sink.abort()
            self._end(viewer)
        return backlog > 0

    def _tell_document(self, seat: Seat, look: Look) -> None:
        """Writes the whole document, at most once a second, to those who read JSON."""
        if look.now - seat.looked_at < JSON_S - TICK_S / 2:
            return
        seat.looked_at = look.now
        document = look.document(seat.who)
        if seat.document is None or not _same(seat.document, document):
            seat.document = document
            seat.changed["state"] = self._round
            seat.lines["state"] = events.data(msgspec.json.encode(document).decode())
        line = seat.lines["state"]
        for viewer in list(seat.viewers):
            news = viewer.told.get("state") is not line or look.now - viewer.told_at >= HEARTBEAT_S
            if not self._is_stuck(viewer, look.now) and news:
                viewer.sink.write(events.state(seat.rev, line))
                viewer.told["state"], viewer.told_at = line, look.now


def _proof(ring: KeyRing, key_id: str, *, by_session: bool) -> Hashable:
    """Returns what somebody has shown who is known by a key, or by one of its sessions."""
    record = ring.get(key_id)
    return record and (record.sha256, record.sign_outs if by_session else None)


def _same(one: Document, other: Document) -> bool:
    """Whether two documents differ only in their time."""
    return msgspec.structs.replace(one, now=other.now) == other
