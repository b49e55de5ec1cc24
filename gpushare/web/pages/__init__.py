"""What people and machines look at: the table of the pages, their JSON, metrics and health.

Called by: ``app`` (``setup``, before the catch-all route of the API).
"""

from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from aiohttp import web

from gpushare import __version__
from gpushare.core.controls import Control
from gpushare.web.inference import alive
from gpushare.web.middleware import EXPLAIN
from gpushare.web.pages.acts import ACTS, Acts
from gpushare.web.pages.admin import (
    AdminFormHandler,
    AdminHandler,
    admin_page,
    cancel_any,
    confirm_cancel,
    control_queue,
    sent_by_admins,
    shown_to_admins,
    unload_model,
)
from gpushare.web.pages.assets import Assets
from gpushare.web.pages.cancel import cancel, cancel_json
from gpushare.web.pages.connect import connect_page, connecting_json, tool_page
from gpushare.web.pages.controls import control_json, models_json, unload_json
from gpushare.web.pages.forms import form
from gpushare.web.pages.health import alive_probe, metrics, openapi_json, ready_probe
from gpushare.web.pages.help import help_page
from gpushare.web.pages.hub import Hub
from gpushare.web.pages.keyring import (
    about_one_key,
    change_key,
    confirm_revoke,
    make_key,
    new_key_page,
    one_key_page,
    revoke_key,
    rotate_key,
    switch_key,
)
from gpushare.web.pages.keys import replace_key, welcome, welcome_page
from gpushare.web.pages.live import HUB, live_events
from gpushare.web.pages.login import login, login_page, logout
from gpushare.web.pages.me import me_page
from gpushare.web.pages.probe import probe_lines
from gpushare.web.pages.queue import queue_json
from gpushare.web.pages.refused import explain
from gpushare.web.pages.render import PAGE_HEADERS, Handler, by_method, reading, setup_templates
from gpushare.web.pages.sections import RENDERER, Renderer
from gpushare.web.pages.status import status_json, status_page
from gpushare.web.pages.usage import usage_report
from gpushare.web.pages.whoami import whoami_json
from gpushare.web.parts import PARTS


def setup(app: web.Application, *, templates: Path, static: Path) -> Hub:
    """Adds the pages to the application; returns what keeps them up to date, not yet running.

    Args:
        app: gets the routes; its catch-all route must come later.
        templates: the folder of the page templates.
        static: the folder of the style sheet, the script and the icons.
    """
    assets = Assets(static)
    build = f"{__version__}+{_fingerprint(templates, static)}"
    app[EXPLAIN] = explain
    acts = app[ACTS] = Acts()
    app.cleanup_ctx.append(acts.lifetime)
    environment = setup_templates(app, templates, asset=assets.address, build=build)
    renderer = app[RENDERER] = Renderer(environment)
    hub = app[HUB] = Hub(app[PARTS], renderer, icon=assets.address, build=build, start=f"b{token_hex(3)}")
    routes: dict[str, Handler] = {
        "/": root,
        "/status": status_page,
        "/connect": connect_page,
        "/me": me_page,
        "/connect/{tool}": tool_page,
        "/events": live_events,
        "/help": help_page,
        "/admin": shown_to_admins(admin_page),
        "/gpushare/v1/status": status_json,
        "/gpushare/v1/queue": queue_json,
        "/gpushare/v1/models": models_json,
        "/gpushare/v1/connecting": connecting_json,
        "/gpushare/v1/usage": usage_report,
        "/gpushare/v1/whoami": whoami_json,
        "/gpushare/v1/probe": probe_lines,
        "/gpushare/v1/openapi.json": openapi_json,
        "/metrics": metrics,
        "/healthz": alive_probe,
        "/readyz": ready_probe,
        "/static/{name}": assets.serve,
    }
    for path, handler in routes.items():
        app.router.add_route("*", path, reading(handler))
    other: dict[str, Handler] = {
        "/login": form(login, show=login_page),
        "/logout": form(logout),
        "/welcome/{token}": form(welcome, show=welcome_page),
        "/me/cancel": form(cancel),
        "/me/key": form(replace_key),
        **{f"/gpushare/v1/queue/{what}": by_method(POST=control_json(what)) for what in Control},
        "/gpushare/v1/queue/{id}": by_method(DELETE=cancel_json),
        "/gpushare/v1/models/unload": by_method(POST=unload_json),
    }
    for path, handler in (other | _forms_of_admins()).items():
        app.router.add_route("*", path, handler)
    return hub


def _forms_of_admins() -> dict[str, Handler]:
    """Returns the forms of the admins, each with the page it is on if that is one of its own."""
    forms: dict[str, tuple[AdminFormHandler, AdminHandler | None]] = {
        "/admin/queue/{what:pause|resume|drain}": (control_queue, None),
        "/admin/unload": (unload_model, None),
        "/cancel/{id}": (cancel_any, confirm_cancel),
        "/admin/keys/new": (make_key, new_key_page),
        "/admin/keys/{id}": (about_one_key(change_key), one_key_page),
        "/admin/keys/{id}/switch": (about_one_key(switch_key), None),
        "/admin/keys/{id}/rotate": (about_one_key(rotate_key), None),
        "/admin/keys/{id}/revoke": (about_one_key(revoke_key), confirm_revoke),
    }
    return {
        path: form(sent_by_admins(handle), show=shown_to_admins(show) if show else None)
        for path, (handle, show) in forms.items()
    }


def _fingerprint(*folders: Path) -> str:
    """Returns a word that changes with any file of the folders."""
    files = (file for folder in folders for file in sorted(folder.iterdir()))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


async def root(request: web.Request) -> web.Response:
    """Sends browsers to the status page and answers everybody else as Ollama does."""
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=302, headers={**PAGE_HEADERS, "Location": "/status"})
    return alive()
