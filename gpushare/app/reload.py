"""A changed configuration and changed keys, taken into use while the server runs.

Called by: ``app.process``, on SIGHUP.  Rules: everything is read and checked, beside the loop, before
anything changes; then all of it changes in one step of the loop, or nothing does.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from gpushare.app.keys import apply_keys
from gpushare.app.life import Life
from gpushare.core.changes import Change, compare
from gpushare.core.config import Config
from gpushare.core.keys import KeyRing
from gpushare.core.problems import ConfigErrors
from gpushare.edge.beside import beside
from gpushare.web.parts import Parts

READ_TIMEOUT_S = 5.0  # a file system may hang; the loop does not wait for it

Read = Callable[[], tuple[Config, KeyRing]]
"""Reads settings and keys anew, raising ``ConfigErrors``; called in a thread of its own."""


class Announce(Protocol):
    """Whoever tells the service manager how the server is."""

    def reloading(self) -> None:
        """A reload begins."""

    def serving(self) -> None:
        """The reload has ended, one way or the other, and the server serves."""


_log = structlog.get_logger()


class Reload:
    """Reloads whenever asked, one time after the other.

    Args:
        parts: whose configuration and keys are replaced.
        life: told of the new configuration.
        read: where both come from.
        announce: told when a reload begins, and when the server serves on.
        timeout_s: how long reading may take.
    """

    def __init__(
        self,
        parts: Parts,
        life: Life,
        read: Read,
        announce: Announce,
        *,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._parts = parts
        self._life = life
        self._read = read
        self._announce = announce
        self._timeout_s = timeout_s
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reloads soon; asking again before it began changes nothing."""
        self._asked.set()

    async def run(self) -> None:
        """Reloads as often as asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.once()

    async def once(self) -> None:
        """Reads, checks, and takes everything into use or nothing; says in the log which."""
        parts = self._parts
        if parts.closing:
            return  # nothing that could change would still matter
        self._announce.reloading()
        try:
            async with asyncio.timeout(self._timeout_s), parts.keys_turn:
                change, ring, uses = await beside(self._read_all)
            # No turn of the loop from here on: nobody else brings keys in between.
            self._life.reload(parts.config, change.config)
        except TimeoutError:
            parts.config_rejected = True
            _log.error("config.rejected", problems=(f"cannot be read within {self._timeout_s:g} s",))
        except ConfigErrors as errors:
            parts.config_rejected = True
            _log.error("config.rejected", problems=errors.briefly())
        except Exception:  # noqa: BLE001 - whatever it was, the server goes on as before
            parts.config_rejected = True
            _log.exception("config.rejected")
        else:
            parts.config_rejected = False
            for use in uses:
                use()
            apply_keys(parts, ring)
            _log.info("config.loaded", changed=change.changed, restart=change.kept)
        if not parts.closing:
            self._announce.serving()

    def _read_all(self) -> tuple[Change, KeyRing, list[Callable[[], None]]]:
        """Reads settings and keys, and what the settings name; in a thread of its own."""
        config, ring = self._read()
        change = compare(self._parts.config, config)
        return change, ring, self._life.read(change.config)
