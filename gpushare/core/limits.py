"""Whether a caller may go on before the queue: wrong keys, and the bytes of bodies held in memory.

Owns: the counts behind both limits.  Called by: ``web.inference``.  Rules: each table is bounded, because
what fills it comes from strangers; time is an argument.
"""

from collections import OrderedDict, deque

from gpushare.core.errors import Overloaded, TooManyBadKeys

WRONG_KEYS_PER_WINDOW = 20  # per address; a person who mistypes needs fewer, a guesser is stopped
WINDOW_S = 60.0
ADDRESSES_KEPT = 4096


class WrongKeys:
    """Counts wrong keys per address over a sliding minute."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str, now: float) -> None:
        """Lets the address try a key.

        Raises:
            TooManyBadKeys: after 20 wrong keys within a minute; it says when the next try counts.
        """
        tries = self._tries.get(address)
        if not tries:
            return
        while tries and now - tries[0] >= WINDOW_S:
            tries.popleft()
        if len(tries) >= WRONG_KEYS_PER_WINDOW:
            raise TooManyBadKeys(WINDOW_S - (now - tries[0]))

    def note(self, address: str, now: float) -> None:
        """Counts one wrong key; the address unseen for longest is forgotten when the table is full."""
        tries = self._tries.setdefault(address, deque(maxlen=WRONG_KEYS_PER_WINDOW))
        self._tries.move_to_end(address)
        tries.append(now)
        if len(self._tries) > ADDRESSES_KEPT:
            self._tries.popitem(last=False)


class BodyBudget:
    """The bytes of request bodies held by all calls, from before they are read until their call ends.

    One owner holds at most half of the budget, so that one person's pictures are never the reason for
    another person's refusal.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.held_bytes = 0
        self._by_owner: dict[str, int] = {}

    def take(self, owner: str, count: int, *, retry_after_s: float) -> None:
        """Reserves ``count`` bytes; a refused caller is told to come back after ``retry_after_s``.

        Raises:
            Overloaded: the budget, or this owner's half of it, would be exceeded.
        """
        mine = self._by_owner.get(owner, 0) + count
        if self.held_bytes + count > self.total_bytes or mine > self.total_bytes // 2:
            raise Overloaded("memory for request bodies", retry_after_s=retry_after_s)
        self._by_owner[owner] = mine
        self.held_bytes += count

    def give(self, owner: str, count: int) -> None:
        """Returns what ``take`` reserved."""
        rest = self._by_owner.get(owner, 0) - count
        self.held_bytes -= count
        if rest > 0:
            self._by_owner[owner] = rest
        else:
            self._by_owner.pop(owner, None)


class BodyShare:
    """What one request holds of the budget; given back at once, however it was taken."""

    def __init__(self, budget: BodyBudget, owner: str, *, retry_after_s: float) -> None:
        self._budget = budget
        self._owner = owner
        self._retry_after_s = retry_after_s
        self._held = 0

    def take(self, count: int) -> None:
        """Reserves ``count`` bytes more; raises as ``BodyBudget.take``."""
        self._budget.take(self._owner, count, retry_after_s=self._retry_after_s)
        self._held += count

    def give(self) -> None:
        """Returns everything."""
        self._budget.give(self._owner, self._held)
        self._held = 0
