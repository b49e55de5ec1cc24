"""What admins do to the queue and to Ollama's memory: the acts themselves, and their JSON.

Called by: ``web.pages``, for ``gpushare queue`` and ``gpushare models``; ``web.pages.admin``, for its forms.
Rules: whatever an admin does is noted in the log and in the ledger, by ``note``.
"""

from collections.abc import Callable

import msgspec
import structlog
from aiohttp import web

from gpushare.core.about import Installed, Models, Unload, Unloaded
from gpushare.core.audience import Audience
from gpushare.core.controls import Control, Controls
from gpushare.core.errors import BadJson, InvalidRequest, ModelUnknown, NotAdmin
from gpushare.core.model import Principal
from gpushare.core.names import canonical_model
from gpushare.core.status import models_seen
from gpushare.web.pages.acts import to_its_end
from gpushare.web.pages.render import Handler, json_answer
from gpushare.web.pages.viewers import key_holder, known_viewer
from gpushare.web.parts import PARTS, Parts
from gpushare.web.transport import read_body

UNLOAD_MAX_BYTES = 4096

_log = structlog.get_logger()


def note(parts: Parts, who: Principal, what: str, target: str = "", detail: str = "") -> None:
    """Notes what an admin did.

    Args:
        parts: where the ledger is.
        who: did it.
        what: the command that does the same, without its arguments.
        target: to what: the id of a key or a call, or a model.
        detail: in words.
    """
    parts.ledger.note_action(who, what, target, detail)
    _log.info("admin.acted", key=who.key_id, person=who.name, what=what, target=target)


def control(parts: Parts, who: Principal, what: Control) -> Controls:
    """Does one thing to the queue and returns how it stands then."""
    slots = parts.slots
    acts: dict[Control, Callable[[], None]] = {
        Control.PAUSE: slots.pause,
        Control.RESUME: slots.resume,
        Control.DRAIN: slots.drain,
    }
    acts[what]()
    note(parts, who, f"queue {what}")
    counts = slots.counts()
    return Controls(paused=slots.paused, draining=slots.draining, running=counts.held, waiting=counts.waiting)


async def unload(parts: Parts, who: Principal, model: str) -> str:
    """Asks Ollama to drop a model from memory, and returns its name there.

    Raises:
        ModelUnknown: it is not in memory.
        GpushareError: Ollama does not do it.
    """
    wanted = canonical_model(model)
    found = [row.name for row in parts.monitor.view.loaded if canonical_model(row.name) == wanted]
    if not found:
        raise ModelUnknown(model)
    await parts.memory.unload(found[0])
    note(parts, who, "models unload", found[0])
    await parts.monitor.poll_resident()
    return found[0]


def control_json(what: Control) -> Handler:
    """Returns the handler of one control for scripts."""

    async def handler(request: web.Request) -> web.Response:
        return json_answer(control(request.app[PARTS], admin_with_key(request), what))

    return handler


async def unload_json(request: web.Request) -> web.Response:
    """Drops a model from Ollama's memory.

    Raises:
        KeyMissing, NotAdmin: see ``admin_with_key``.
        InvalidRequest: the body names no model.
        GpushareError: see ``unload``.
    """
    parts, who = request.app[PARTS], admin_with_key(request)
    body = await read_body(request, limit=UNLOAD_MAX_BYTES, timeout_s=parts.config.server.body_timeout)
    try:
        asked = msgspec.json.decode(body, type=Unload)
    except msgspec.ValidationError:
        raise InvalidRequest('The body is {"model": "…"} and nothing else.') from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadJson("The request body is not JSON.") from None
    return json_answer(Unloaded(model=await to_its_end(request, unload(parts, who, asked.model))))


async def models_json(request: web.Request) -> web.Response:
    """Returns the models there are, those in memory first, as far as the caller may see them.

    Raises:
        KeyMissing: there is no key.
    """
    who = known_viewer(request)
    view, audience = request.app[PARTS].monitor.view, Audience(who=who)
    loaded = {canonical_model(model.name): model for model in models_seen(view.loaded, audience)}
    others = {canonical_model(name): name for name in view.models if audience.may_see(name)}
    rows = [
        Installed(
            name=model.name,
            loaded=True,
            vram_bytes=model.vram_bytes,
            on_gpu=model.on_gpu,
            context=model.context,
            unloads=model.unloads,
        )
        for model in loaded.values()
    ]
    rows += [Installed(name=name, loaded=False) for key, name in others.items() if key not in loaded]
    return json_answer(Models(models=tuple(rows)))


def admin_with_key(request: web.Request) -> Principal:
    """Returns the admin whose key the request carries; a signed-in browser uses the page's forms.

    Raises:
        KeyMissing: no key.
        NotAdmin: the key of somebody else.
    """
    who = key_holder(request)
    if not who.is_admin:
        raise NotAdmin(who.name, "Controlling the queue")
    return who
