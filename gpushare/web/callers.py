"""Who is calling: whose key a request carries, from which address, and under which address it found us.

Called by: ``web.middleware`` (every request, before anything is answered), ``web.inference``, ``web.pages``.
Rules: a key counts only after the ring has accepted it; what a proxy says counts only from a trusted one.
"""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gpushare.core.credentials import KEY_HEADERS, find_key
from gpushare.core.errors import KeyProblem, KeyRevoked
from gpushare.core.hosts import forwarded_address, is_trusted, same_origin
from gpushare.core.model import Principal
from gpushare.web.parts import PARTS, PRINCIPAL, TARGET, Parts
from gpushare.web.transport import key_accepted


def identify(request: web.Request, parts: Parts) -> Principal | None:
    """Returns whose key the request carries, None when it carries none; the middleware does it once.

    Raises:
        TwoKeys: two different keys in one request.
        KeyProblem: the key is not valid.
        TooManyBadKeys: too many wrong keys from this address.
    """
    headers = request.headers
    others = [value for name in KEY_HEADERS for value in headers.getall(name, ())]
    secret = find_key(headers.getall(hdrs.AUTHORIZATION, ()), others, request[TARGET].key)
    if secret is None:
        return None
    try:
        who = parts.ring.authenticate(secret, now=datetime.now(UTC), host=parts.host)
    except KeyProblem:
        address = client_address(request)
        parts.wrong_keys.check(address, parts.monotonic())
        parts.wrong_keys.note(address, parts.monotonic())
        raise
    key_accepted(request)
    request[PRINCIPAL] = who
    return who


def check_key(request: web.Request, who: Principal) -> None:
    """Looks once more at a key that was accepted, after something that took time.

    Raises:
        KeyRevoked: it has ended meanwhile.
    """
    if who.key_id and not request.app[PARTS].ring.active(who.key_id, datetime.now(UTC)):
        raise KeyRevoked


def client_address(request: web.Request) -> str:
    """Returns the caller's address, through trusted proxies."""
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return forwarded_address(
        request.remote or "", forwarded, request.app[PARTS].config.server.trusted_proxies
    )


def base_url(request: web.Request) -> str:
    """Returns the address people type for this server, without a slash at its end."""
    parts = request.app[PARTS]
    server = parts.config.server
    if server.public_url:
        return server.public_url.rstrip("/")
    scheme = server.scheme
    if is_trusted(request.remote or "", server.trusted_proxies):
        scheme = "https" if request.headers.get("X-Forwarded-Proto", "").lower() == "https" else scheme
    return f"{scheme}://{request.headers.get(hdrs.HOST, parts.host)}"


def is_own_origin(request: web.Request, origin: str) -> bool:
    """Whether an ``Origin`` is this server, under the address that was asked for or its public one."""
    public = urlsplit(request.app[PARTS].config.server.public_url).netloc
    return any(same_origin(origin, host) for host in (request.headers.get(hdrs.HOST, ""), public))
