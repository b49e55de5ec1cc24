"""Keys that change while the server runs: in the key file, by the clock, and by what people do on the pages.

Owns: replacing ``Parts.ring``.  Called by: ``app.serving``, as a task; ``app.reload``; ``web.pages``, for the
``KeyStore`` of ``engine.ports``.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gpushare.core.errors import KeyRevoked
from gpushare.core.keys import KeyRing
from gpushare.core.keys.differing import differences
from gpushare.core.model import Principal
from gpushare.core.problems import ConfigErrors
from gpushare.edge.beside import beside
from gpushare.edge.files import KeyFile
from gpushare.web.parts import Parts

KEY_FILE_POLL_S = 0.5
ON_THE_SERVER = Principal(key_id="", name="on the server", owner="")
"""Who changes the key file past the pages, with ``gpushare key`` or by hand: nobody knows more."""

_log = structlog.get_logger()


async def watch_keys(parts: Parts, key_file: KeyFile) -> None:
    """Swaps in a changed key file whole; a broken one changes nothing and is logged.

    Keys also begin and end by the clock, so what they grant is looked at each time.
    """
    while True:
        await asyncio.sleep(KEY_FILE_POLL_S)
        _look(parts, key_file)


class KeyKeeper:
    """The key file as the pages change it; what they did is noted where they did it.

    Args:
        key_file: the one that is watched; edits have their own, or the watch would miss what they have seen.
    """

    def __init__(self, parts: Parts, key_file: KeyFile) -> None:
        self._parts = parts
        self._watched = key_file
        self._edited = KeyFile(key_file.path.parent)
        self._turn = asyncio.Lock()

    async def edit(self, change: Callable[[KeyRing], KeyRing]) -> None:
        """Changes the key file and acts on it at once; in a thread, because it may wait for a lock.

        One after the other: two changes of one key, seen as one, would pass for somebody else's.
        """
        edited = self._parts.edited

        def noted(ring: KeyRing) -> KeyRing:
            made = change(ring)
            edited.update({each.key_id: made.get(each.key_id) for each in differences(ring, made)})
            return made

        async with self._turn:
            await beside(lambda: self._edited.edit(noted))
            _look(self._parts, self._watched)


def _look(parts: Parts, key_file: KeyFile) -> None:
    """Looks at the key file and at the clock."""
    ring = parts.ring
    try:
        if key_file.changed():
            ring = key_file.load()
            _log.info("keys.loaded", people=len(ring.owners(datetime.now(UTC))))
    except ConfigErrors as errors:
        _log.error("keys.rejected", problems=errors.briefly())
    except Exception:  # noqa: BLE001 - a broken file must not stop the server
        _log.exception("keys.rejected")
    apply_keys(parts, ring)


def _note_others(parts: Parts, ring: KeyRing) -> None:
    """Notes which keys are not as they were, but for what the pages have changed."""
    if ring is parts.ring:
        return
    for each in differences(parts.ring, ring):
        if each.key_id in parts.edited and parts.edited[each.key_id] == ring.get(each.key_id):
            del parts.edited[each.key_id]
        else:
            parts.ledger.note_action(ON_THE_SERVER, each.what, each.key_id, each.detail)


def apply_keys(parts: Parts, ring: KeyRing) -> None:
    """Gives everybody the terms of now: calls of ended keys leave the queue, or by setting their slot."""
    now = datetime.now(UTC)
    _note_others(parts, ring)
    parts.ring = ring
    parts.slots.set_people(parts.ring.owners(now))

    def ended(who: Principal) -> bool:
        return bool(who.key_id) and not parts.ring.active(who.key_id, now)

    parts.slots.evict(ended, KeyRevoked)
    if parts.config.auth.revoke_running == "cut":
        parts.gateway.cut(ended, KeyRevoked)
