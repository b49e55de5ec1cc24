"""Who a key says its caller is, as JSON."""

from aiohttp import web

from gpushare import __version__
from gpushare.core.about import Whoami
from gpushare.web.pages.render import json_answer
from gpushare.web.pages.viewers import known_viewer
from gpushare.web.parts import PARTS


async def whoami_json(request: web.Request) -> web.Response:
    """Returns the person behind the key.

    Raises:
        KeyMissing: there is no key.
    """
    who = known_viewer(request)
    return json_answer(
        Whoami(
            name=who.name,
            key_id=who.key_id,
            role=who.role,
            service=who.service,
            weight=who.weight,
            host=request.app[PARTS].host,
            version=__version__,
        )
    )
