"""What people and machines look at: the table of the pages, their JSON, metrics and health.

Called by: ``app`` (``setup``, before the catch-all route of the API).
"""

from pathlib import Path

from aiohttp import web

from gpushare.web.inference import alive
from gpushare.web.pages.assets import Assets
from gpushare.web.pages.cancel import cancel, cancel_json
from gpushare.web.pages.connect import connect_page, connecting_json, tool_page
from gpushare.web.pages.forms import form
from gpushare.web.pages.health import alive_probe, metrics, openapi_json, ready_probe
from gpushare.web.pages.keys import replace_key, welcome, welcome_page
from gpushare.web.pages.login import login, login_page, logout
from gpushare.web.pages.me import me_page
from gpushare.web.pages.queue import queue_json
from gpushare.web.pages.render import PAGE_HEADERS, Handler, by_method, reading, setup_templates
from gpushare.web.pages.status import status_json, status_page
from gpushare.web.pages.whoami import whoami_json


def setup(app: web.Application, *, templates: Path, static: Path) -> None:
    """Adds the pages to the application.

    Args:
        app: gets the routes; its catch-all route must come later.
        templates: the folder of the page templates.
        static: the folder of the style sheet and the icons.
    """
    assets = Assets(static)
    setup_templates(app, templates, asset=assets.address)
    routes: dict[str, Handler] = {
        "/": root,
        "/status": status_page,
        "/connect": connect_page,
        "/me": me_page,
        "/connect/{tool}": tool_page,
        "/gpushare/v1/status": status_json,
        "/gpushare/v1/queue": queue_json,
        "/gpushare/v1/connecting": connecting_json,
        "/gpushare/v1/whoami": whoami_json,
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
        "/gpushare/v1/queue/{id}": by_method(DELETE=cancel_json),
    }
    for path, handler in other.items():
        app.router.add_route("*", path, handler)


async def root(request: web.Request) -> web.Response:
    """Sends browsers to the status page and answers everybody else as Ollama does."""
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=302, headers={**PAGE_HEADERS, "Location": "/status"})
    return alive()
