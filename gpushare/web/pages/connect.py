"""The pages that say what to type into which tool, and the facts they are filled in with as JSON."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from gpushare.core.about import Connecting
from gpushare.core.hosts import is_loopback
from gpushare.core.tools import EXAMPLE_KEY, EXAMPLE_MODEL, TOOLS, USUAL_CONTEXT, Site, Tool, tools
from gpushare.core.tools.choice import choose_model
from gpushare.core.tools.text import WINDOWS, plain
from gpushare.web.callers import base_url, client_address
from gpushare.web.pages.render import Page, json_answer, render
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectPage(Page):
    """What ``connect.html`` and ``tool.html`` use.

    ``own_key`` tells that the viewer wants their own key filled in, which happens in their browser alone: the
    server knows no key.  ``unknown`` tells that no tool has the name asked for, ``misleading`` that the
    address means another machine to this viewer.
    """

    tools: tuple[Tool, ...]
    tool: Tool | None
    unknown: bool
    facts: Connecting
    site: Site
    own_key: bool
    misleading: bool
    windows: str


async def connect_page(request: web.Request) -> web.Response:
    """Shows the list of the tools."""
    return render(request, "connect.html", _page(request, ""))


async def tool_page(request: web.Request) -> web.Response:
    """Shows the steps for one tool; for an unknown one the list, as 404."""
    slug = request.match_info["tool"]
    if slug not in TOOLS:
        return render(request, "connect.html", _page(request, slug), status=404)
    return render(request, "tool.html", _page(request, slug))


async def connecting_json(request: web.Request) -> web.Response:
    """Returns what the steps are filled in with, for ``gpushare connect``."""
    return json_answer(_facts(request))


def every_tool(request: web.Request, key: str) -> tuple[Tool, ...]:
    """Returns the steps for every tool with a key filled in, for the one page that knows one."""
    return tools(_site(_facts(request), key))


def _page(request: web.Request, slug: str) -> ConnectPage:
    facts = _facts(request)
    site = _site(facts, EXAMPLE_KEY)
    tool = TOOLS[slug](site) if slug in TOOLS else None
    choice = request.query.get("key") or ("own" if viewer(request) else "example")
    return ConnectPage(
        path="/connect",
        title=f"Connect {plain(tool.name) if tool else 'a tool'} · gpushare",
        host=request.app[PARTS].host,
        base_url=facts.base_url,
        tools=() if tool else tools(site),  # the page of one shows no list
        tool=tool,
        unknown=bool(slug) and tool is None,
        facts=facts,
        site=site,
        own_key=choice == "own",
        misleading=_is_misleading(request, facts.base_url),
        windows=WINDOWS if tool and any("export " in step.copy for step in tool.steps) else "",
    )


def _site(facts: Connecting, key: str) -> Site:
    return Site(
        base_url=facts.base_url,
        key=key,
        model=facts.model or EXAMPLE_MODEL,
        context=facts.context or USUAL_CONTEXT,
    )


def _facts(request: web.Request) -> Connecting:
    """Returns the address, and as much about models as this caller may see."""
    parts = request.app[PARTS]
    who = viewer(request)
    shown = who is not None or (parts.config.auth.anonymous_models and parts.config.status.anonymous != "off")
    model, context = None, None
    if shown:
        view = parts.monitor.view
        model, context = choose_model(
            view.loaded, parts.stats.model_requests, view.models, patterns=who.models if who else ()
        )
    return Connecting(base_url=base_url(request), model=model, context=context)


def _is_misleading(request: web.Request, base: str) -> bool:
    """Whether the address works only on the server itself and the viewer sits elsewhere."""
    return is_loopback(urlsplit(base).hostname or "") and not is_loopback(client_address(request))
