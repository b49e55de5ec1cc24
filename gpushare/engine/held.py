"""One call from its admission to the end of its lease: a place in the queue, then a slot.

Called by: ``engine.gateway``, inside one ``with``; made by ``engine.slots``, which does what is asked here.
"""

import asyncio
from typing import Protocol, Self

from gpushare.core.model import Outcome, Principal
from gpushare.core.scheduler import Lease as Grant
from gpushare.core.scheduler import Ticket


class Keeper(Protocol):
    """Who keeps the slots: ``engine.slots.LocalSlots``."""

    def pump(self) -> None:
        """Grants free slots."""

    async def wait(self, waiter: "HeldSlot") -> None:
        """Waits for a grant."""

    def requeue(self, waiter: "HeldSlot") -> None:
        """Gives a slot back unused."""

    def leave(self, waiter: "HeldSlot") -> None:
        """Takes a call out, wherever it is."""

    def started(self, grant: Grant) -> None:
        """Begins to charge."""

    def loaded(self, grant: Grant) -> None:
        """Notes that the model answers."""

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """Gives a slot back."""


class HeldSlot:
    """One call from its admission to the end of its lease: a place in the queue, then a slot.

    A context manager: leaving its block is the one way out, whatever happened in between.

    Attributes:
        added: when it was admitted, on the clock of the slots.
        grant: the scheduler's decision, None while the call waits.
        waited: whether it ever had to.
        future: what ``turn`` awaits, None while nobody does.
    """

    __slots__ = ("_slots", "added", "future", "grant", "max_wait_s", "ticket", "timer", "waited", "who")

    def __init__(
        self, slots: Keeper, ticket: Ticket, who: Principal, *, added: float, max_wait_s: float
    ) -> None:
        self._slots = slots
        self.ticket = ticket
        self.who = who
        self.added = added
        self.max_wait_s = max_wait_s
        self.waited = False
        self.future: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.grant: Grant | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._slots.leave(self)

    async def turn(self) -> None:
        """Waits for a fair turn; returns at once where a slot is free and nobody goes first.

        Raises:
            GpushareError: WaitedTooLong, Paused, Draining or the error given to ``evict``.
        """
        if self.grant is None:
            self._slots.pump()
        if self.grant is None:
            await self._slots.wait(self)

    def held(self) -> Grant:
        """Returns the grant.

        Raises:
            AssertionError: the call still waits.
        """
        if self.grant is None:
            raise AssertionError(self.ticket.id)
        return self.grant

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.held().backend.name

    @property
    def waited_s(self) -> float:
        """Seconds from admission to the grant."""
        return self.held().t_grant - self.added

    @property
    def swap(self) -> bool:
        """Whether the model was not resident at the grant."""
        return self.held().swap

    @property
    def loading(self) -> bool:
        """Whether an error of this call can be one of loading: the model was not, or is not, in memory."""
        return self.held().swap or self.held().unlisted

    def sent(self) -> None:
        """Starts charging if the model is resident; otherwise the load comes first, on nobody's account."""
        grant = self.held()
        if not grant.swap:
            self._slots.started(grant)

    def again(self) -> None:
        """Goes back to the head of its queue, because nothing came of the slot; await ``turn`` again.

        Raises:
            Draining: nobody may wait any more.
        """
        self._slots.requeue(self)

    def first_byte(self) -> None:
        """Starts charging at the latest now, and tells the scheduler that the model is there."""
        self._slots.loaded(self.held())

    def settle(self, outcome: Outcome) -> None:
        """Gives the slot back; see ``LocalSlots.settle``."""
        self._slots.settle(self.held(), outcome)
