"""The limits of one running answer, and the one timer that watches them.

Owns: the timer.  Called by: ``engine.relay``, which notes progress as bytes pass.

Rules:
- Progress only notes the time; it arms no timer.  The timer looks at what was noted when it fires.
- A limit counts on the second look, after input that was waiting has been read: a pause of this process is
  not silence of Ollama's.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from gpushare.core.errors import ClientSlow, GpushareError, OllamaSilent
from gpushare.core.model import Outcome

STALL_BYTES = 16 * 1024
"""A client that takes less than this in ``write_stall_s``, while more waits for it, counts as stalled."""

_SECOND_LOOK_S = 0.01
_NEVER = float("inf")


class Deadlines(Struct, frozen=True, kw_only=True):
    """Limits in seconds; 0 turns one off.

    ``first_byte_s`` runs from the sending of the request; ``idle_s`` from the last record (from the last byte
    of a single document); ``total_s`` from the start of the relay; ``write_stall_s`` while the client has not
    taken what waits for it, once anything was passed on; ``finish_s`` from the decision until the client has
    taken the rest.
    """

    first_byte_s: float = 0.0
    idle_s: float = 0.0
    total_s: float = 0.0
    write_stall_s: float = 0.0
    finish_s: float = 0.0


class Watch:
    """Watches one answer from its beginning until ``stop``.

    Attributes:
        first_at: when the first byte came, in the loop's time.

    Args:
        limits: what to watch.
        expired: called once with the reason, when a limit is reached.
        waiting: returns the bytes passed to the client so far, and how many of them it has not taken.
    """

    def __init__(
        self,
        limits: Deadlines,
        *,
        expired: Callable[[GpushareError], None],
        waiting: Callable[[], tuple[int, int]],
    ) -> None:
        self._limits = limits
        self._sample_s = limits.write_stall_s / 4 or _NEVER  # often enough to see the client read
        self._expired = expired
        self._waiting = waiting
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._began_at = self._progress_at = self._taken_at = self._loop.time()
        self._sent_at = _NEVER
        self._taken = 0
        self._held_back = False
        self._looked = False
        self._passing = False
        self.first_at: float | None = None

    def begin(self) -> None:
        """Starts watching: a dial counts for the total.  Nothing else can be due before the first look."""
        limits = self._limits
        limit_s = min(limits.first_byte_s or _NEVER, limits.total_s or _NEVER)
        if limit_s != _NEVER:
            self._timer = self._loop.call_at(self._began_at + limit_s, self._look)

    def sent(self) -> float:
        """Notes that the request is on its way; returns the loop's time."""
        now = self._sent_at = self._loop.time()
        if self._limits.first_byte_s:
            self._look_by(now + self._limits.first_byte_s)
        return now

    def first_byte(self) -> None:
        """Notes the first byte: from now on gaps count."""
        self.first_at = self._progress_at = now = self._loop.time()
        if self._limits.idle_s:
            self._look_by(now + self._limits.idle_s)

    def passing(self) -> None:
        """Notes that bytes go to the client: from now on it counts whether it reads."""
        self._passing = True
        self._taken_at = now = self._loop.time()
        self._look_by(now + self._sample_s)

    def progress(self) -> None:
        """Notes a record."""
        self._progress_at = self._loop.time()

    def hold_back(self) -> None:
        """Stops counting silence: Ollama is not read until the client has caught up."""
        self._held_back = True

    def let_on(self) -> None:
        """Counts silence again, from now."""
        self._held_back = False
        self._progress_at = self._loop.time()
        self._look()

    def stop(self) -> None:
        """Watches no more, and lets go of whom it would tell: two that know each other outlive their use."""
        self._disarm()
        self._expired, self._waiting = _tell_nobody, _nothing_waits

    def _look_by(self, instant: float) -> None:
        if self._timer is None or self._timer.when() > instant:  # else the next look comes in time
            self._look()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Reports a limit that is reached, or sleeps until the next one could be."""
        self._disarm()
        now = self._loop.time()
        due, outcome, limit_s = min(self._due(now))
        if due == _NEVER:
            return
        if due > now:
            self._looked = False
            look_at = min(due, now + self._sample_s) if self._passing else due
            self._timer = self._loop.call_at(look_at, self._look)
        elif not self._looked:
            self._looked = True
            self._timer = self._loop.call_at(now + _SECOND_LOOK_S, self._look)
        else:
            slow = outcome is Outcome.CLIENT_SLOW
            self._expired(ClientSlow(limit_s) if slow else OllamaSilent(limit_s, outcome))

    def _due(self, now: float) -> list[tuple[float, Outcome, float]]:
        """Returns each instant at which the answer must end, why, and after how long."""
        limits = self._limits
        due = [(_NEVER, Outcome.OK, 0.0)]
        if limits.total_s:
            due.append((self._began_at + limits.total_s, Outcome.TIMEOUT_TOTAL, limits.total_s))
        if self.first_at is None:
            if limits.first_byte_s:
                limit_s = limits.first_byte_s
                due.append((self._sent_at + limit_s, Outcome.TIMEOUT_FIRST_BYTE, limit_s))
            return due
        if limits.idle_s and not self._held_back:
            due.append((self._progress_at + limits.idle_s, Outcome.TIMEOUT_IDLE, limits.idle_s))
        if self._passing and limits.write_stall_s:
            self._sample(now)
            due.append((self._taken_at + limits.write_stall_s, Outcome.CLIENT_SLOW, limits.write_stall_s))
        return due

    def _sample(self, now: float) -> None:
        passed, backlog = self._waiting()
        taken = passed - backlog
        if not backlog or taken >= self._taken + STALL_BYTES:
            self._taken, self._taken_at = taken, now


def _tell_nobody(_error: GpushareError) -> None:
    """Stands for what was called, once a watch has stopped."""


def _nothing_waits() -> tuple[int, int]:
    return 0, 0
