"""The static files of the pages (style sheet, scripts, icons), each under a name that changes with it.

Owns: the files' contents, read once.
"""

from hashlib import sha256
from pathlib import Path

from aiohttp import web

from gpushare.core.errors import UnknownEndpoint
from gpushare.web.pages.render import PAGE_HEADERS

ASSET_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Assets:
    """The static files, each under a name that holds its content's hash, so that it may be kept for ever."""

    def __init__(self, folder: Path) -> None:
        self._names: dict[str, str] = {}
        self._files: dict[str, tuple[bytes, str]] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix in ASSET_TYPES:
                content = file.read_bytes()
                name = f"{file.stem}.{sha256(content).hexdigest()[:8]}{file.suffix}"
                self._names[file.name] = name
                self._files[name] = content, ASSET_TYPES[file.suffix]

    def address(self, name: str) -> str:
        """Returns the address of a file."""
        return f"/static/{self._names[name]}"

    async def serve(self, request: web.Request) -> web.Response:
        """Answers with a file."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise UnknownEndpoint
        content, content_type = found
        headers = {**PAGE_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(body=content, content_type=content_type, charset="utf-8", headers=headers)
