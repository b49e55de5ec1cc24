"""What is wrong, or odd, and worth a sentence at the top of the page.

Called by: ``core.status``, ``web.pages.sections``.

Rules: each notice says what is the case and what it means for whoever waits; its code is an anchor
of the page ``/help``, which says what an admin can do.
"""

from collections.abc import Iterator

from gpushare.core.breaker import Door
from gpushare.core.document import Notice
from gpushare.core.gpu_status import neighbours, trouble
from gpushare.core.picture import Picture

MOST = 3  # more are not read
SIMULATED = "-simulated"
"""How the version of the simulated Ollama ends, by which it is told from a real one."""

DEMO = Notice(
    code="demo",
    level="info",
    text="Demo: invented people, no GPU. Ollama and the GPU's numbers are simulated here.",
)
OLLAMA_DOWN = Notice(
    code="ollama-down",
    level="bad",
    text="Ollama does not answer. Requests are turned away until it is back.",
)
OLLAMA_SILENT = Notice(
    code="ollama-down",
    level="bad",
    text="Ollama does not answer. Requests are tried all the same; they may wait or fail.",
)
DRAINING = Notice(
    code="draining",
    level="bad",
    text="This server is closing for maintenance. Running requests finish, new ones are turned away.",
)
PAUSED = Notice(
    code="paused",
    level="warn",
    text="An admin has paused the queue. Running requests finish, everything else waits.",
)
CONFIG_REJECTED = Notice(
    code="config-rejected",
    level="warn",
    text="The settings or keys on disk have mistakes, so the earlier ones are in use. What is wrong: "
    "gpushare config check",
)
MODEL_ON_CPU = Notice(
    code="model-on-cpu",
    level="warn",
    text="A model does not fit into GPU memory and runs partly on the processor. Answers take much longer.",
)


def model_failing(models: tuple[str, ...]) -> Notice:
    """Returns the notice about models that are shut for a while; names are for those who may see all."""
    which = f"a model ({', '.join(models)})" if models else "a model"
    text = f"Ollama keeps failing with {which}. Requests for it are turned away for a while, others run."
    return Notice(code="model-failing", level="bad", text=text)


def model_dropped(models: tuple[str, ...]) -> Notice:
    """Returns the notice about models that left memory because they kept silent."""
    which = f"a model ({', '.join(models)})" if models else "a model"
    text = f"Ollama kept silent with {which}, so it was dropped from memory. The next request loads it again."
    return Notice(code="model-dropped", level="warn", text=text)


SWAPPING = Notice(
    code="swapping",
    level="warn",
    text="More than a fifth of the GPU's time lately went into loading models. "
    "Requests for the model that is in memory start sooner.",
)
DISK_FULL = Notice(
    code="disk-full",
    level="warn",
    text="Less than 5 % of the server's disk is free. Requests run all the same; when it is full, what they "
    "use is not written down.",
)
SERVER_LATE = Notice(
    code="server-late",
    level="warn",
    text="The server itself has more to do than it can, so all of this comes late, whatever the GPU does.",
)
LATE_S = 1.0
SWAPPING_PART = 0.2
SWAPPING_AFTER_S = 300.0  # of work: the first load of a morning is no news


def notices(picture: Picture, *, admin: bool) -> tuple[Notice, ...]:
    """Returns at most three notices, the gravest first; only admins are told what only they can put right.

    That everything is invented is said besides, whatever else there is to say.
    """
    demo = (DEMO,) if picture.ollama.version.endswith(SIMULATED) else ()
    return (*tuple(_found(picture, admin=admin))[:MOST], *demo)


def _found(picture: Picture, *, admin: bool) -> Iterator[Notice]:
    ollama = picture.ollama
    if ollama.since is not None and (not ollama.up or ollama.breaker is Door.OPEN):
        yield OLLAMA_DOWN if ollama.breaker is Door.OPEN else OLLAMA_SILENT
    if picture.draining:
        yield DRAINING
    if picture.queue.paused_since is not None:
        yield PAUSED
    if picture.config_rejected and admin:
        yield CONFIG_REJECTED
    if picture.late_s >= LATE_S:
        yield SERVER_LATE
    if ollama.failing:
        yield model_failing(ollama.failing if admin else ())
    if ollama.dropped:
        yield model_dropped(ollama.dropped if admin else ())
    if picture.gpus:
        yield from trouble(picture.gpus)
    if any(row.vram_bytes < row.size_bytes for row in picture.ollama.loaded):
        yield MODEL_ON_CPU
    if picture.gpus:
        yield from neighbours(picture.gpus)
    day = picture.day
    if day.loading_s > SWAPPING_PART * max(SWAPPING_AFTER_S, day.busy_s + day.loading_s):
        yield SWAPPING
    if picture.disk is not None and picture.disk.nearly_full:
        yield DISK_FULL
