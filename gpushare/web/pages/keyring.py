"""Keys as admins make, change and end them on the pages.

Called by: ``web.pages``.  Rules: a key is handed over by a link that opens once, so that whoever makes it
need not see it; what was typed stays in the form when something of it is wrong; a change acts at once.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from gpushare.core.keys import (
    ENTROPY_BYTES,
    TOKEN_BYTES,
    KeyRecord,
    KeyRing,
    KeyState,
    NameTaken,
    NoSuchKey,
    digest,
    key_id,
    link_token,
    new_key,
    offered,
)
from gpushare.core.keys.terms import (
    FRESH,
    LastAdmin,
    Typed,
    changed_terms,
    changes_told,
    options,
    read_terms,
    written,
)
from gpushare.core.model import Principal
from gpushare.web.callers import base_url
from gpushare.web.pages.admin import AdminFormHandler, ConfirmPage
from gpushare.web.pages.controls import note
from gpushare.web.pages.forms import Fields, go_to
from gpushare.web.pages.keys import KEEP
from gpushare.web.pages.render import Page, command, message_page, render
from gpushare.web.parts import PARTS, Parts

LAST_ADMIN = "This is the last key of an admin. Make another one first, or nobody could change keys here."
DONE = {
    "changed": "The key is changed.",
    "same": "Nothing was changed.",
    "disabled": "The key is turned off.",
    "enabled": "The key is good again.",
    "revoked": "The key is revoked.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyPage(Page):
    """What ``newkey.html`` uses: what was typed, and what is wrong with which field."""

    typed: Typed
    wrong: Mapping[str, str]
    shows_key: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OneKeyPage(Page):
    """What ``onekey.html`` uses; ``others`` are further live keys of the same person."""

    told: str
    key: KeyRecord
    state: KeyState
    others: tuple[KeyRecord, ...]
    typed: Typed
    wrong: Mapping[str, str]
    problem: str
    commands: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePage(Page):
    """What ``made.html`` uses; ``secret`` is empty where the admin did not ask to see the key."""

    key: KeyRecord
    link: str
    secret: str
    old: str
    command: str


KeyFormHandler = Callable[[web.Request, Principal, KeyRecord, Fields], Awaitable[web.StreamResponse]]


def about_one_key(handle: KeyFormHandler) -> AdminFormHandler:
    """Returns the handler of a form about the key in its address, while that key has not ended for good."""

    async def found(request: web.Request, who: Principal, fields: Fields) -> web.StreamResponse:
        record = _record(request)
        if record is None:
            return _gone(request)
        try:
            return await handle(request, who, record, fields)
        except NoSuchKey:
            return _gone(request)

    return found


async def new_key_page(request: web.Request, _who: Principal) -> web.Response:
    """Shows the form for a key."""
    return _new_key(request, FRESH, {})


async def make_key(request: web.Request, who: Principal, fields: Fields) -> web.Response:
    """Makes a key and shows the link that hands it over."""
    now, typed = _now(), _typed(fields)
    values, wrong = read_terms({**FRESH, **typed}, now)
    shows = fields.get("hand") == "key"
    if wrong:
        return _new_key(request, typed, wrong, shows=shows)
    secret = new_key(secrets.token_bytes(ENTROPY_BYTES))
    record = KeyRecord(id=key_id(secret), sha256=digest(secret), created=now, **values)
    token = link_token(secrets.token_bytes(TOKEN_BYTES))
    try:
        await request.app[PARTS].edit_keys(
            lambda ring: offered(ring.added(record, now), record.id, token, now)
        )
    except NameTaken as taken:
        sentence = f"{_taken(taken)} Replace that key, or choose another name."
        return _new_key(request, typed, {"name": sentence}, shows=shows)
    note(request.app[PARTS], who, "key add", record.id, record.name)
    said = command("key", "add", record.name, *options(typed))
    return _made(request, record, token, said, secret=secret if shows else "")


async def one_key_page(request: web.Request, _who: Principal) -> web.Response:
    """Shows one key and all that can be done with it."""
    record = _record(request)
    return _one_key(request, record, written(record)) if record else _gone(request)


async def change_key(request: web.Request, who: Principal, record: KeyRecord, fields: Fields) -> web.Response:
    """Changes what a key may do."""
    typed = _typed(fields)
    known = written(record)
    values, wrong = read_terms({name: text for name, text in typed.items() if text != known[name]}, _now())
    if wrong:
        return _one_key(request, record, {**known, **typed}, wrong)
    if not values:
        return go_to(f"/admin/keys/{record.id}?done=same")
    try:
        await _change(request, who, record, "key set", **values)
    except NameTaken as taken:
        return _one_key(request, record, {**known, **typed}, {"name": _taken(taken)})
    except LastAdmin:
        return _one_key(request, record, {**known, **typed}, {"role": LAST_ADMIN})
    return go_to(f"/admin/keys/{record.id}?done=changed")


async def switch_key(
    request: web.Request, who: Principal, record: KeyRecord, _fields: Fields
) -> web.Response:
    """Turns a key off, or on again."""
    off = not record.disabled
    try:
        await _change(request, who, record, "key disable" if off else "key set", disabled=off)
    except LastAdmin:
        return _one_key(request, record, written(record), problem=LAST_ADMIN)
    return go_to(f"/admin/keys/{record.id}?done={'disabled' if off else 'enabled'}")


async def rotate_key(
    request: web.Request, who: Principal, record: KeyRecord, _fields: Fields
) -> web.Response:
    """Makes a key in the place of another, which works on for a day, and shows the link to it."""
    now = _now()
    secret = new_key(secrets.token_bytes(ENTROPY_BYTES))
    token = link_token(secrets.token_bytes(TOKEN_BYTES))

    def change(ring: KeyRing) -> KeyRing:
        old = ring.get(record.id)
        if old is None or old.state(now) is not KeyState.ACTIVE:
            raise NoSuchKey(record.id)
        ring = ring.rotated(old, secret, now=now, keep=KEEP)
        return offered(ring, key_id(secret), token, now)

    parts = request.app[PARTS]
    await parts.edit_keys(change)
    note(parts, who, "key rotate", record.id, record.name)
    made = parts.ring.get(key_id(secret)) or record
    old = f"The old key works until {now + KEEP:%Y-%m-%d %H:%M} UTC."
    return _made(request, made, token, command("key", "rotate", record.id), old=old)


async def confirm_revoke(request: web.Request, _who: Principal) -> web.Response:
    """Asks whether a key should end for good."""
    record, parts = _record(request), request.app[PARTS]
    if record is None or record.revoked:
        return _gone(request)
    page = ConfirmPage(
        path="",
        title="Revoke a key · gpushare",
        host=parts.host,
        base_url=base_url(request),
        question=f"Revoke the key {record.id} of {record.name}?",
        effect=f"It ends at once and for good. {_calls_told(parts, record)}",
        button="Revoke this key",
        command=command("key", "revoke", record.id),
        back=f"/admin/keys/{record.id}",
    )
    return render(request, "confirm.html", page)


async def revoke_key(
    request: web.Request, who: Principal, record: KeyRecord, _fields: Fields
) -> web.Response:
    """Ends a key for good."""
    try:
        await _change(request, who, record, "key revoke", revoked=_now())
    except LastAdmin:
        return _one_key(request, record, written(record), problem=LAST_ADMIN)
    return go_to(f"/admin/keys/{record.id}?done=revoked")


async def _change(
    request: web.Request, who: Principal, record: KeyRecord, what: str, **changes: object
) -> None:
    """Changes one key and notes it.

    Raises:
        NameTaken, LastAdmin: see ``changed_terms``.
    """
    now, parts = _now(), request.app[PARTS]
    await parts.edit_keys(lambda ring: changed_terms(ring, record.id, now, **changes))
    after = msgspec.structs.replace(record, **changes)
    detail = changes_told(record, after) or ("enabled" if changes.get("disabled") is False else "")
    note(parts, who, what, record.id, f"{record.name}: {detail}" if detail else record.name)


def _calls_told(parts: Parts, record: KeyRecord) -> str:
    """Returns what becomes of the calls of a key that ends."""
    mine = [live for live in parts.gateway.live.values() if live.who.key_id == record.id]
    if not mine:
        return "Nothing of it waits or runs."
    cut = "is cut" if parts.config.auth.revoke_running == "cut" else "will finish"
    count = "1 request" if len(mine) == 1 else f"{len(mine)} requests"
    return f"It has {count} here: what waits is turned away, what runs {cut}."


def _taken(taken: NameTaken) -> str:
    return f"{taken} has a key, and this is the same name or reads like it."


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)  # the key file holds whole seconds


def _typed(fields: Fields) -> dict[str, str]:
    return {name: fields[name].strip() for name in FRESH if name in fields}


def _record(request: web.Request) -> KeyRecord | None:
    return request.app[PARTS].ring.get(request.match_info["id"])


def _gone(request: web.Request) -> web.Response:
    """Answers where there is no such key, or none that this could be done with."""
    sentence = "There is no key of this id, or it has ended, so nothing can be done with it."
    return render(request, "message.html", message_page(request, "No such key", sentence), status=404)


def _new_key(
    request: web.Request, typed: Typed, wrong: Mapping[str, str], *, shows: bool = False
) -> web.Response:
    parts = request.app[PARTS]
    typed = {**FRESH, **typed}
    page = NewKeyPage(
        path="",
        title="New key · gpushare",
        host=parts.host,
        base_url=base_url(request),
        typed=typed,
        wrong=wrong,
        shows_key=shows,
        command=command("key", "add", typed["name"] or "NAME", *options(typed)),
    )
    return render(request, "newkey.html", page, status=422 if wrong else 200)


def _one_key(
    request: web.Request,
    record: KeyRecord,
    typed: Typed,
    wrong: Mapping[str, str] | None = None,
    *,
    problem: str = "",
) -> web.Response:
    parts, now = request.app[PARTS], _now()
    same = [one for one in parts.ring.records if one.owner == record.owner and one.id != record.id]
    page = OneKeyPage(
        path="",
        title=f"Key of {record.name} · gpushare",
        host=parts.host,
        base_url=base_url(request),
        told=DONE.get(request.query.get("done", ""), ""),
        key=record,
        state=record.state(now),
        others=tuple(one for one in same if not one.ended(now)),
        typed=typed,
        wrong=wrong or {},
        problem=problem,
        commands=_commands(record, typed),
    )
    return render(request, "onekey.html", page, status=422 if wrong or problem else 200)


def _commands(record: KeyRecord, typed: Typed) -> Mapping[str, str]:
    """Returns the command for each form of a key's page."""
    words = options(typed, before={} if typed == written(record) else written(record))
    name = ["--name", typed["name"]] if typed["name"] != record.name else []
    return {
        "set": command("key", "set", record.id, *name, *words),
        "enable": command("key", "set", record.id, "--enable"),
        **{what: command("key", what, record.id) for what in ("disable", "rotate", "revoke")},
    }


def _made(
    request: web.Request, record: KeyRecord, token: str, said: str, *, secret: str = "", old: str = ""
) -> web.Response:
    """Answers with what hands a new key over; it stands nowhere else and is shown this once."""
    address = base_url(request)
    page = MadePage(
        path="",
        title="A new key · gpushare",
        host=request.app[PARTS].host,
        base_url=address,
        key=record,
        link=f"{address}/welcome/{token}",
        secret=secret,
        old=old,
        command=said,
    )
    return render(request, "made.html", page)
