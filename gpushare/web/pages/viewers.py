"""Who looks at a page.

Called by: everything in ``web.pages``.  The API of the tools never asks here.
"""

from aiohttp import web

from gpushare.core.model import Principal
from gpushare.web.parts import PRINCIPAL


def viewer(request: web.Request) -> Principal | None:
    """Returns who looks at a page, None for somebody without a key."""
    who: Principal | None = request.get(PRINCIPAL)
    return who
