"""The route table: every path that is answered, in which dialect, and how it is treated.

Called by: the web layer, with the request line's target exactly as received.
Rules: a path outside the table does not exist.  Decisions are made on the raw target; nothing is decoded or
normalised, so there is no second reading of a path that could differ from the one checked here.  What is
sent to Ollama is a constant of the table, save for one parameter held to an anchored pattern.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from gpushare.core.errors import MethodNotAllowed, UnknownEndpoint
from gpushare.core.model import Dialect, Endpoint, Framing, Kind, Lane

# Where a row ends in one of these, the client's last segment must match and is appended to the constant.
_PARAMETERS = {
    "{model}": re.compile(r"[A-Za-z0-9._:-]+"),
    "{digest}": re.compile(r"sha256[:-][0-9a-f]{64}"),
    "{key}": re.compile(r"[A-Za-z0-9._~-]+"),
}
# Every character a path of the table, of a page or of a static file may hold.  No "%", "\" or ";": Ollama's
# router would read those in its own way.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._:~@+/-]*")
_PATH_KEY = re.compile(r"/k/(gs_[A-Za-z0-9_]+)(/.*)?")
_SECRET_SEGMENT = re.compile(r"/[kK]/+[^/?#]*")


class Target(Struct, frozen=True, kw_only=True):
    """A request target taken apart.

    ``path`` is without the key segment and with one leading slash; ``query`` is as received, for pages.
    """

    path: str
    query: str
    key: str | None

    def __repr__(self) -> str:
        return f"Target(path={self.path!r}, query={self.query!r})"  # the key is a secret

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """Returns what consoles and tracebacks print: the same."""
        return [("path", self.path), ("query", self.query)]


def _rows() -> Iterator[Endpoint]:
    ollama, openai, anthropic = Dialect.OLLAMA, Dialect.OPENAI, Dialect.ANTHROPIC
    for method in ("GET", "HEAD"):
        yield Endpoint(method=method, path="/", dialect=Dialect.GPUSHARE, kind=Kind.LIVE)
        for path in ("/api/version", "/api/tags"):
            yield Endpoint(method=method, path=path, dialect=ollama, kind=Kind.PASSED, anonymous=True)
    yield Endpoint(method="GET", path="/api/ps", dialect=ollama, kind=Kind.PASSED, anonymous=True)
    yield Endpoint(method="GET", path="/v1/models", dialect=openai, kind=Kind.PASSED, anonymous=True)
    yield Endpoint(method="GET", path="/v1/models/{model}", dialect=openai, kind=Kind.PASSED)
    yield Endpoint(method="POST", path="/api/show", dialect=ollama, kind=Kind.PASSED)
    for path in ("/api/status", "/api/experimental/model-recommendations"):
        yield Endpoint(method="GET", path=path, dialect=ollama, kind=Kind.PASSED)

    for path in ("/api/generate", "/api/chat"):
        yield _queued(path, ollama, streams=True, framing=Framing.NDJSON)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
        yield _queued(path, openai, streams=False, framing=Framing.SSE)
    yield _queued("/v1/messages", anthropic, streams=False, framing=Framing.SSE)
    for path, dialect in (("/api/embed", ollama), ("/api/embeddings", ollama), ("/v1/embeddings", openai)):
        yield _queued(path, dialect, lane=Lane.EMBED)
    yield _queued("/v1/audio/transcriptions", openai, multipart=True)

    for path in ("/api/pull", "/api/push", "/api/create"):
        yield Endpoint(
            method="POST", path=path, dialect=ollama, kind=Kind.ADMIN, streams=True, framing=Framing.NDJSON
        )
    yield Endpoint(method="POST", path="/api/copy", dialect=ollama, kind=Kind.ADMIN)
    yield Endpoint(method="DELETE", path="/api/delete", dialect=ollama, kind=Kind.ADMIN)
    yield Endpoint(method="HEAD", path="/api/blobs/{digest}", dialect=ollama, kind=Kind.ADMIN)
    yield Endpoint(method="POST", path="/api/blobs/{digest}", dialect=ollama, kind=Kind.ADMIN, upload=True)

    experimental = ("/api/experimental/web_search", "/api/experimental/web_fetch")
    for path in ("/api/me", "/api/signout", *experimental):
        yield Endpoint(method="POST", path=path, dialect=ollama, kind=Kind.REFUSED)
    yield Endpoint(method="DELETE", path="/api/user/keys/{key}", dialect=ollama, kind=Kind.REFUSED)


def _queued(
    path: str,
    dialect: Dialect,
    *,
    lane: Lane = Lane.GENERATE,
    streams: bool | None = None,
    framing: Framing = Framing.SINGLE,
    multipart: bool = False,
) -> Endpoint:
    return Endpoint(
        method="POST",
        path=path,
        dialect=dialect,
        kind=Kind.QUEUED,
        lane=lane,
        streams=streams,
        framing=framing,
        multipart=multipart,
    )


ENDPOINTS: tuple[Endpoint, ...] = tuple(_rows())
"""Every route, from Ollama's own table (``server/routes.go``) sorted by what it does to the GPU."""

_BY_PATH: dict[str, dict[str, Endpoint]] = {}
for _row in ENDPOINTS:
    _BY_PATH.setdefault(_row.path, {})[_row.method] = _row


def split_target(raw: str, *, key_in_path: bool) -> Target:
    """Takes the request line's target apart.

    One doubled slash in front of ``v1`` or ``api`` is read as one, because several tools join their base URL
    and the path that way.

    Args:
        raw: the target as received, undecoded.
        key_in_path: whether ``/k/<key>/…`` is accepted.

    Raises:
        UnknownEndpoint: the target holds anything that a plain path does not.
    """
    path, _, query = raw.partition("#")[0].partition("?")
    key = None
    if _PLAIN_PATH.fullmatch(path) is None or ".." in path:
        raise UnknownEndpoint
    if path.startswith("/k/"):
        match = _PATH_KEY.fullmatch(path)
        if match is None or not key_in_path:
            raise UnknownEndpoint
        key, path = match[1], match[2] or "/"
    if path.startswith(("//v1/", "//api/")):
        path = path[1:]
    if "//" in path:
        raise UnknownEndpoint
    return Target(path=path, query=query, key=key)


def find_endpoint(method: str, path: str, *, query: str = "") -> tuple[Endpoint, str]:
    """Returns the row for a path from ``split_target``, and the target to ask Ollama for.

    The query decides nothing and stays behind, save ``beta=true`` on ``/v1/messages``, which Anthropic
    clients send.

    Raises:
        UnknownEndpoint: no such path.
        MethodNotAllowed: the path exists for other methods.
    """
    row_path = path if path in _BY_PATH and not path.endswith("}") else _parametrised(path)
    by_method = _BY_PATH[row_path]
    if method not in by_method:
        raise MethodNotAllowed(tuple(sorted(by_method)))
    beta = path == "/v1/messages" and "beta=true" in query.split("&")
    return by_method[method], f"{path}?beta=true" if beta else path


def _parametrised(path: str) -> str:
    parent, _, last = path.rpartition("/")
    for name, pattern in _PARAMETERS.items():
        row_path = f"{parent}/{name}"
        if row_path in _BY_PATH and pattern.fullmatch(last):
            return row_path
    raise _unknown(path)


def _unknown(path: str) -> UnknownEndpoint:
    """Returns the error for a path outside the table, which tells a usual wrong base address apart."""
    if f"/v1{path}" in _BY_PATH:
        return UnknownEndpoint(lacking="/v1")
    for surplus in ("/v1", "/api"):
        if path.startswith(f"{surplus}/") and path.removeprefix(surplus) in _BY_PATH.keys() - {"/"}:
            return UnknownEndpoint(surplus=surplus)
    return UnknownEndpoint()


def dialect_of(path: str) -> Dialect:
    """Returns the dialect whose error format a path gets, known or not, with or without its key segment."""
    path = "/" + _SECRET_SEGMENT.sub("", path, count=1).lstrip("/")
    if _is_under(path, "/api"):
        return Dialect.OLLAMA
    if _is_under(path, "/v1/messages"):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI if _is_under(path, "/v1") else Dialect.GPUSHARE


def _is_under(path: str, root: str) -> bool:
    return path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/", "?", "#"}
