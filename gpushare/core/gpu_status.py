"""What viewers are told of the GPUs: in the status document, in notices, and in one line in the terminal.

Called by: ``core.status`` for the document, ``gpushare status`` for the line.

Rules: everybody may see everything here; which program holds memory, and the card's serial, are not in it.
"""

from collections.abc import Iterator

from gpushare.core import wording
from gpushare.core.document import Gpu, Notice
from gpushare.core.gpu import HARDWARE, HEAT, POWER, GpuReading, GpuView

CROWDED = 0.1  # part of a card's memory that other programs may hold before people are told


def gpus(view: GpuView) -> tuple[Gpu, ...]:
    """Returns the cards as the document has them."""
    return tuple(_gpu(reading, view.history.get(reading.key, ())) for reading in view.readings)


def trouble(view: GpuView) -> Iterator[Notice]:
    """Yields what is wrong with the cards: nothing to read, a lost card, one that is slowed down.

    A card at its power limit is as fast as it may be, which is how most of them work all day: no notice.
    """
    lost = ", ".join(str(reading.index) for reading in view.readings if reading.lost)
    if lost:
        why = view.note or f"the driver no longer lists GPU {lost}"
        advice = "If requests fail too, the machine may need a restart."
        yield Notice(code="gpu-lost", level="bad", text=f"GPU numbers are missing: {why}. {advice}")
    elif view.fault:
        text = f"GPU numbers are not available: {view.note}. Requests work all the same."
        yield Notice(code="gpu-error", level="warn", text=text)
    for reading in view.readings:
        for word in reading.slowed or ():
            if word in _SLOWED:
                code, why = _SLOWED[word]
                heat = f" ({reading.celsius} °C)" if word == HEAT and reading.celsius is not None else ""
                text = f"{_name(view, reading)} is slowing down {why}{heat}. Requests take longer than usual."
                yield Notice(code=code, level="warn", text=text)


_SLOWED = {
    HEAT: ("gpu-hot", "because it is hot"),
    POWER: ("gpu-power", "because its power supply is at its limit"),
    HARDWARE: ("gpu-slow", "to protect itself"),
}
"""For each word that deserves a notice: the notice's code, and why the card slows down."""


def neighbours(view: GpuView) -> Iterator[Notice]:
    """Yields where other programs hold much of a card's memory."""
    for reading in view.readings:
        held, total = reading.others_bytes, reading.memory_total
        if held and total and held > CROWDED * total:
            who = "Another program holds" if reading.others == 1 else f"{reading.others} other programs hold"
            where = "" if len(view.readings) == 1 else f" of GPU {reading.index}"
            text = f"{who} {wording.size(held)} of GPU memory{where}. Models may not fit beside it."
            yield Notice(code="gpu-shared", level="warn", text=text)


def line(gpu: Gpu, *, alone: bool) -> str:
    """Returns one card as one line: ``GPU 87 %  memory 21.3/24.0 GB  71 °C  338/450 W``."""
    head = "GPU" if alone else f"GPU {gpu.index}:"
    if gpu.lost:
        return f"{head} does not answer"
    parts = [head if gpu.busy is None else f"{head} {100 * gpu.busy:.0f} %"]
    if gpu.memory_used_bytes is not None and gpu.memory_total_bytes is not None:
        used = wording.size(gpu.memory_used_bytes).removesuffix(" GB")
        parts.append(f"memory {used}/{wording.size(gpu.memory_total_bytes)}")
    if gpu.celsius is not None:
        parts.append(f"{gpu.celsius} °C")
    if gpu.watts is not None:
        limit = "" if gpu.watts_limit is None else f"/{gpu.watts_limit:.0f}"
        parts.append(f"{gpu.watts:.0f}{limit} W")
    if gpu.slowed:
        parts.append(f"slowed down: {', '.join(gpu.slowed)}")
    return "  ".join(parts)


def _name(view: GpuView, reading: GpuReading) -> str:
    """Returns how a sentence begins that is about one card."""
    return "The GPU" if len(view.readings) == 1 else f"GPU {reading.index}"


def _gpu(reading: GpuReading, history: tuple[float | None, ...]) -> Gpu:
    return Gpu(
        index=reading.index,
        name=reading.name,
        busy=reading.busy,
        memory_used_bytes=reading.memory_used,
        memory_total_bytes=reading.memory_total,
        celsius=reading.celsius,
        watts=reading.watts,
        watts_limit=reading.watts_limit,
        slowed=reading.slowed,
        others=reading.others,
        others_bytes=reading.others_bytes,
        lost=reading.lost,
        busy_history=tuple(None if ratio is None else round(ratio, 2) for ratio in history),
    )
