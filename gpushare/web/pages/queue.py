"""The queue as it concerns the caller, as JSON: why own calls wait."""

from aiohttp import web

from gpushare.core.why import why_all
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import json_answer
from gpushare.web.pages.viewers import known_viewer
from gpushare.web.parts import PARTS


async def queue_json(request: web.Request) -> web.Response:
    """Returns why the caller's calls wait; an admin is told of all.

    Raises:
        KeyMissing: there is no key.
    """
    who = known_viewer(request)
    look = Look(request.app[PARTS])
    return json_answer(why_all(look.showing.picture, look.audience(who)))
