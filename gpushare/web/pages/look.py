"""One look at the server: what is known at a moment, reduced for whoever asks.

Called by: ``web.pages.status`` for one viewer, ``web.pages.hub`` for all at once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from gpushare import __version__
from gpushare.core.audience import Audience, owner_names
from gpushare.core.doctor import Report
from gpushare.core.document import Document
from gpushare.core.model import Principal
from gpushare.core.names import canonical_model
from gpushare.core.picture import Picture, Progress
from gpushare.core.stats import Day
from gpushare.core.status import Showing
from gpushare.core.tools.choice import choose_model
from gpushare.core.views import told
from gpushare.web.inference import ANONYMOUS
from gpushare.web.parts import Parts


class Look:
    """The server at one moment.

    Args:
        parts: where everything is read.
        day: the last day and how far running calls are, if they were read a moment ago; else read now.
        progress: see ``day``.
    """

    def __init__(
        self, parts: Parts, *, day: Day | None = None, progress: Mapping[str, Progress] | None = None
    ) -> None:
        self.now = parts.monotonic()
        self.wall = parts.wall(self.now)
        self._parts = parts
        queue = parts.slots.snapshot()
        picture = Picture(
            now=self.now,
            wall=datetime.fromtimestamp(self.wall, UTC),
            host=parts.host,
            version=__version__,
            queue=told(queue, parts.told, self.wall),
            ollama=parts.monitor.view,
            day=day or parts.stats.day(self.wall),
            max_waiting=parts.config.queue.max_waiting,
            gpus=parts.gpus.view if parts.gpus else None,
            disk=parts.disk,
            late_s=parts.lag.worst_s,
            draining=parts.draining,
            config_rejected=parts.config_rejected,
            names=owner_names(parts.ring),
            progress=progress_now(parts, self.now) if progress is None else progress,
            last=parts.stats.last,
        )
        self.showing = Showing(picture)
        self._in_account = {row.owner for row in queue.shares if row.deficit_s or row.waiting or row.running}

    def audience(self, who: Principal | None) -> Audience:
        """Returns what a viewer may see, by the settings of now."""
        return Audience(who=who, people=self._parts.config.status.people)

    def document(self, who: Principal | None) -> Document:
        """Returns the status document for one viewer."""
        return self.showing.document(self.audience(who), self.starts_in_s(who))

    def examined(self) -> tuple[Report, datetime] | None:
        """Returns what the server found of itself last, and when; None while that is not known yet."""
        examiner = self._parts.examiner
        found = examiner.look() if examiner else None
        return None if found is None or examiner is None else (found, self.showing.picture.at(examiner.at))

    def newcomer(self, who: Principal | None) -> str:
        """Returns what viewers have in common whose next call would start at the same time."""
        caller = who or ANONYMOUS
        owner = caller.owner if caller.owner in self._in_account else ""
        return " ".join(("new", caller.service, owner, *caller.models))

    def starts_in_s(self, who: Principal | None) -> float | None:
        """Returns when a call of the viewer would start if it came now, for a model that is in memory.

        As ``Showing.starts_in_s`` puts it.
        """
        newcomers = self._parts.newcomers
        return self.showing.starts_in_s(
            newcomers.left_s(self.newcomer(who), self.wall, lambda: self._forecast(who))
        )

    def _forecast(self, who: Principal | None) -> float | None:
        caller, parts = who or ANONYMOUS, self._parts
        view = parts.monitor.view
        # The model a tool would most likely ask for, as the page that connects tools names it.
        model, _ = choose_model(view.loaded, parts.stats.model_requests, view.models, patterns=caller.models)
        return parts.slots.forecast_new(caller, canonical_model(model) if model else "").eta_s


def progress_now(parts: Parts, now: float) -> dict[str, Progress]:
    """Returns how far each live call is; ``now`` in monotonic seconds."""
    return {
        request_id: Progress(
            tool=live.tool,
            at=now,
            streaming=live.call.streaming,
            records=live.relay.records if live.relay else 0,
            first_at=live.relay.first_at if live.relay else None,
        )
        for request_id, live in parts.gateway.live.items()
    }
