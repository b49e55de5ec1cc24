"""How long a model takes to begin its answer, so that one that never will is told from one that reads a lot.

Owns: the last paces of each model.  Called by: ``engine.gateway``.

Rules:
- Reading a prompt takes about as long for each byte of it; the slowest of the last calls is what counts.
- Only calls whose model was loaded teach, and only such calls are held to it: a load takes what it takes.
- A limit is generous: a long answer that is cut is worse than a dead one that is kept for a minute.
"""

from collections import OrderedDict, deque

KEPT = 50
NEEDED = 5  # fewer tell nothing
MODELS_KEPT = 200
SMALLEST_BYTES = 1024  # below it the time is that of the call, not of its length
PATIENCE_S = 60.0
TIMES = 4.0


class Paces:
    """Seconds to the first byte for each byte of a request, by model."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, model: str, size: int, seconds: float) -> None:
        """Learns from a call of a loaded model whose answer began.

        Args:
            model: canonical name.
            size: bytes of the request's body.
            seconds: from the sending of the request to the first byte.
        """
        seen = self._models.get(model)
        if seen is None:
            seen = self._models[model] = deque(maxlen=KEPT)
            if len(self._models) > MODELS_KEPT:
                self._models.popitem(last=False)
        seen.append(seconds / max(size, SMALLEST_BYTES))

    def limit_s(self, model: str, size: int) -> float | None:
        """Returns for how many seconds the first byte may stay away; None while too little is known."""
        seen = self._models.get(model)
        if seen is None or len(seen) < NEEDED:
            return None
        return PATIENCE_S + TIMES * max(seen) * max(size, SMALLEST_BYTES)
