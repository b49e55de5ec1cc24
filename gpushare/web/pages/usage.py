"""What was used, from the ledger: as JSON, or as a table for a spreadsheet."""

from aiohttp import web

from gpushare.core.errors import BadQuery
from gpushare.core.model import Principal
from gpushare.core.usage import FORMATS, By, Since, csv, parse_since, priced
from gpushare.web.pages.render import PAGE_HEADERS, json_answer
from gpushare.web.pages.viewers import known_viewer
from gpushare.web.parts import PARTS


async def usage_report(request: web.Request) -> web.Response:
    """Returns what the caller used; an admin is told of all, but for ``of=me``.

    Raises:
        BadQuery: the query asks for what there is not.
        KeyMissing: there is no key.
        LedgerUnavailable: the ledger cannot be read now.
    """
    who = known_viewer(request)
    parts = request.app[PARTS]
    by, since = _by(request), _since(request)
    form = request.query.get("format", "json")
    if form not in FORMATS:
        raise BadQuery('format is "json" or "csv".')
    settings = parts.config.ledger
    found = await parts.ledger.usage(by, since, owner=_owner(request, who))
    report = priced(found, settings.price_per_kwh, settings.currency)
    if form == "json":
        return json_answer(report)
    name = f"gpushare-usage-by-{by}-{report.now:%Y-%m-%d}.csv"
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(text=csv(report), content_type="text/csv", charset="utf-8", headers=headers)


def _by(request: web.Request) -> By:
    try:
        return By(request.query.get("by", By.PERSON))
    except ValueError:
        raise BadQuery('by is "person", "model", "day" or "tool".') from None


def _owner(request: web.Request, who: Principal) -> str | None:
    """Returns whose usage is told, None for everybody's."""
    of = request.query.get("of")
    if of not in (None, "me"):
        raise BadQuery('of is "me", or left out.')
    return None if who.is_admin and of is None else who.owner


def _since(request: web.Request) -> Since:
    try:
        return parse_since(request.query.get("since", "24h"))
    except ValueError:
        raise BadQuery('since is a time such as "24h", or a day such as "2026-11-20".') from None
