"""Whether a caller may go on before the queue: wrong keys, and the bytes of bodies held in memory.

Owns: the counts behind both limits.  Called by: ``web.callers``, ``web.inference``, ``web.pages.login``.
Rules: each table is bounded, because what fills it comes from strangers; time is an argument.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from gpushare.core.errors import RETRY_AFTER_MAX_S, Overloaded, PersonCrowded, TooManyBadKeys, spread_retry_s

WRONG_KEYS_PER_WINDOW = 20  # per address; a person who mistypes needs fewer, a guesser is stopped
WRONG_LOGINS_PER_WINDOW = 10  # the same for the page on which a person types a key
WINDOW_S = 60.0
ADDRESSES_KEPT = 4096
BODY_RETRY_S = 5.0  # memory frees with every call that ends, and most end within seconds


class WrongKeys:
    """Counts wrong keys per address over a sliding minute; ``limit`` is how many are heard out."""

    def __init__(self, limit: int = WRONG_KEYS_PER_WINDOW) -> None:
        self._limit = limit
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str, now: float) -> None:
        """Lets the address try a key.

        Raises:
            TooManyBadKeys: after ``limit`` wrong keys within a minute; it says when the next try counts, no
                later than clients can be told.
        """
        tries = self._tries.get(address)
        if not tries:
            return
        while tries and now - tries[0] >= WINDOW_S:
            tries.popleft()
        if len(tries) < self._limit:
            return
        left_s = min(tries[0] + WINDOW_S, tries[-1] + RETRY_AFTER_MAX_S) - now
        if left_s > 0:
            raise TooManyBadKeys(left_s)

    def note(self, address: str, now: float) -> None:
        """Counts one wrong key; the address unseen for longest is forgotten when the table is full."""
        tries = self._tries.setdefault(address, deque(maxlen=self._limit))
        self._tries.move_to_end(address)
        tries.append(now)
        if len(self._tries) > ADDRESSES_KEPT:
            self._tries.popitem(last=False)


class BodyBudget:
    """The bytes of request bodies held by all calls, from before they are read until their call ends.

    One owner holds at most half of the budget, so that one person's pictures are never the reason for
    another person's refusal.

    Args:
        total_bytes: the budget.
        jitter: returns a number in [0, 1) that spreads ``Retry-After``.
    """

    def __init__(self, total_bytes: int, *, jitter: Callable[[], float]) -> None:
        self.total_bytes = total_bytes
        self.held_bytes = 0
        self.by_owner: dict[str, int] = {}
        self.jitter = jitter


class BodyShare:
    """What one request holds of the budget; given back at once, however it was taken."""

    __slots__ = ("_budget", "_held", "_owner")

    def __init__(self, budget: BodyBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._held = 0

    def take(self, count: int) -> None:
        """Reserves ``count`` bytes more.

        Raises:
            Overloaded: the budget would be exceeded.
            PersonCrowded: this owner's half of it would be.
        """
        budget = self._budget
        mine = budget.by_owner.get(self._owner, 0) + count
        total = budget.held_bytes + count
        if total > budget.total_bytes:
            raise Overloaded("memory for request bodies", spread_retry_s(BODY_RETRY_S, budget.jitter()))
        if mine > budget.total_bytes // 2:
            raise PersonCrowded(spread_retry_s(BODY_RETRY_S, budget.jitter()))
        budget.by_owner[self._owner] = mine
        budget.held_bytes = total
        self._held += count

    def give(self) -> None:
        """Returns everything."""
        budget, count = self._budget, self._held
        rest = budget.by_owner.get(self._owner, 0) - count
        budget.held_bytes -= count
        if rest > 0:
            budget.by_owner[self._owner] = rest
        else:
            budget.by_owner.pop(self._owner, None)
        self._held = 0
