"""Keys that change while the server runs: in the key file, by the clock, and by what people do on the pages.

Owns: replacing ``Parts.ring``.  Called by: ``app.serving``, as tasks; ``app.reload``; ``web.pages``, for the
``KeyStore`` of ``engine.ports``.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gpushare.core.errors import KeyRevoked, KeysUnwritable
from gpushare.core.keys import KeyRing
from gpushare.core.keys.differing import differences
from gpushare.core.model import Principal
from gpushare.core.problems import ConfigErrors
from gpushare.edge.beside import beside
from gpushare.edge.files import KeyFile
from gpushare.web.parts import Parts

KEY_FILE_POLL_S = 0.5
LATE_S = 5.0
"""After how long without an answer the disk is taken to hang."""
NO_ANSWER = "the disk does not answer"
ON_THE_SERVER = Principal(key_id="", name="on the server", owner="")
"""Who changes the key file past the pages, with ``gpushare key`` or by hand: nobody knows more."""

_log = structlog.get_logger()


async def watch_clock(parts: Parts) -> None:
    """Lets keys begin and end by the clock, whether or not the disk answers."""
    while True:
        await asyncio.sleep(KEY_FILE_POLL_S)
        apply_keys(parts, parts.ring)


async def watch_key_file(parts: Parts, key_file: KeyFile) -> None:
    """Swaps in a changed key file whole; a broken one changes nothing and is logged."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(KEY_FILE_POLL_S)
        late = loop.call_later(LATE_S, _tell_late)  # whoever has the turn may wait for the disk, too
        try:
            async with parts.keys_turn:
                ring = await _changed(key_file)
                if ring is not None:
                    apply_keys(parts, ring)
        finally:
            late.cancel()


async def _changed(key_file: KeyFile) -> KeyRing | None:
    """Returns the keys of a changed file, None where there is nothing new that can be used."""
    ring = None
    try:
        ring = await beside(lambda: key_file.load() if key_file.changed() else None)
    except ConfigErrors as errors:
        _log.error("keys.rejected", problems=errors.briefly())
    except Exception:  # noqa: BLE001 - a broken file must not stop the server
        _log.exception("keys.rejected")
    if ring is not None:
        _log.info("keys.loaded", people=len(ring.owners(datetime.now(UTC))))
    return ring


def _tell_late() -> None:
    _log.error("keys.unread", reason=NO_ANSWER)


class KeyKeeper:
    """The key file as the pages change it; what they did is noted where they did it.

    Args:
        key_file: the one that is watched; edits have their own, or the watch would miss what they have seen.
    """

    def __init__(self, parts: Parts, key_file: KeyFile) -> None:
        self._parts = parts
        self._edited = KeyFile(key_file.path.parent)

    async def edit(self, change: Callable[[KeyRing], KeyRing]) -> None:
        """Changes the key file and acts on it at once; in a thread, because it may wait for a lock.

        What others have done to the file meanwhile comes with it, and is theirs.

        Raises:
            KeysUnwritable: the file cannot be used or written; nothing was changed.
        """
        found = self._parts.ring

        def noting(ring: KeyRing) -> KeyRing:
            nonlocal found
            found = ring
            return change(ring)

        await self._take_turn()
        try:
            ring = await beside(lambda: self._edited.edit(noting))
            apply_keys(self._parts, found)
            apply_keys(self._parts, ring, by_others=False)
        except ConfigErrors as errors:
            _log.error("keys.unwritten", problems=errors.briefly())
            raise KeysUnwritable from errors
        finally:
            self._parts.keys_turn.release()

    async def _take_turn(self) -> None:
        """Waits until nobody else is at the keys, but not for a disk that hangs; raises as ``edit``."""
        try:
            async with asyncio.timeout(LATE_S):
                await self._parts.keys_turn.acquire()
        except TimeoutError:
            _log.error("keys.unwritten", problems=(NO_ANSWER,))
            raise KeysUnwritable from None


def apply_keys(parts: Parts, ring: KeyRing, *, by_others: bool = True) -> None:
    """Gives everybody the terms of now: calls of ended keys leave the queue, or by setting their slot.

    Whoever brings other keys than those in use holds ``Parts.keys_turn`` from reading them, so that none
    come back that were replaced meanwhile.

    Args:
        parts: where they are used.
        ring: the keys.
        by_others: what is new was done past the pages; it is noted.
    """
    now = datetime.now(UTC)
    if by_others and ring is not parts.ring:
        for each in differences(parts.ring, ring):
            parts.ledger.note_action(ON_THE_SERVER, each.what, each.key_id, each.detail)
    parts.ring = ring
    parts.slots.set_people(parts.ring.owners(now))

    def ended(who: Principal) -> bool:
        return bool(who.key_id) and not parts.ring.active(who.key_id, now)

    parts.slots.evict(ended, KeyRevoked)
    if parts.config.auth.revoke_running == "cut":
        parts.gateway.cut(ended, KeyRevoked)
