"""A browser as far as forms and cookies go: it keeps cookies and says where its forms come from."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

PAGE = "text/html,application/xhtml+xml"


@dataclass(frozen=True, slots=True)
class Shown:
    """What came back: where it leads to (empty for a page that stays), and its text."""

    status: int
    location: str
    headers: Mapping[str, str]
    text: str


class Browser:
    """One browser with its cookies."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.session = session
        self.origin = origin

    @property
    def cookie(self) -> str:
        """The session cookie, empty when there is none."""
        return next((c.value for c in self.session.cookie_jar if c.key == "gpushare_session"), "")

    async def get(self, path: str, **headers: str) -> Shown:
        """Opens a page."""
        return await self._send("GET", path, {"Sec-Fetch-Site": "none", **headers})

    async def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> Shown:
        """Sends a form from a page of this server, as far as the given headers do not say otherwise."""
        return await self._send("POST", path, {"Origin": self.origin, **headers}, fields or {})

    async def sign_in(self, key: str) -> Shown:
        """Signs in with a key."""
        return await self.post("/login", {"key": key, "next": "/me"})

    async def _send(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str] | None = None
    ) -> Shown:
        async with self.session.request(
            method,
            self.origin + path,
            headers={"Accept": PAGE, **headers},
            data=fields,
            allow_redirects=False,
        ) as answer:
            return Shown(
                answer.status, answer.headers.get("Location", ""), answer.headers.copy(), await answer.text()
            )


@asynccontextmanager
async def browser(origin: str) -> AsyncIterator[Browser]:
    """Opens a browser; unlike a real one it also keeps cookies of addresses without a name."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session, origin)
