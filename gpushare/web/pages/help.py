"""The page of answers: what people ask, and what each error and each notice means and asks for."""

from aiohttp import web

from gpushare.web.pages.render import plain_page, render


async def help_page(request: web.Request) -> web.Response:
    """Shows all answers; each error code and each notice is an anchor."""
    return render(request, "help.html", plain_page(request, "Help"))
