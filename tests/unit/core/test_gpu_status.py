import msgspec
import pytest

from gpushare.core.document import Gpu
from gpushare.core.gpu import GpuReading, GpuView
from gpushare.core.gpu_status import gpus, line, neighbours, trouble
from tests.unit.records import CARD

GB = 1024**3
LONGER = "Requests take longer than usual."
SECOND = msgspec.structs.replace(CARD, index=1, uuid="GPU-b", busy=0.02)


def view(*readings: GpuReading, note: str | None = None, fault: bool = False) -> GpuView:
    """Returns a picture of some cards."""
    return GpuView(readings=readings, note=note, fault=fault, history={"GPU-a": (0.401, None, 0.87)})


def told(shown: GpuView) -> list[tuple[str, str, str]]:
    """Returns all notices about the cards."""
    return [(notice.code, notice.level, notice.text) for notice in (*trouble(shown), *neighbours(shown))]


def slowed(*words: str, celsius: int | None = 86) -> GpuReading:
    """Returns a card that is slowed down."""
    return msgspec.structs.replace(CARD, slowed=words, celsius=celsius)


def test_the_document_has_all_but_the_serial() -> None:
    """The card's own id is nobody's business; everything else is in the document, with its history."""
    assert gpus(view(CARD)) == (
        Gpu(
            index=0,
            name="NVIDIA RTX 4090",
            busy=0.87,
            memory_used_bytes=22_870_000_000,
            memory_total_bytes=24 * GB,
            celsius=71,
            watts=338.4,
            watts_limit=450.0,
            slowed=(),
            others=1,
            others_bytes=858_993_459,
            lost=False,
            busy_history=(0.4, None, 0.87),
        ),
    )
    assert b"GPU-a" not in msgspec.json.encode(gpus(view(CARD)))


def test_a_card_that_is_well_needs_no_notice() -> None:
    """Nor does a card at its power limit, which is how a busy card works."""
    assert told(view(CARD)) == []
    assert told(view(slowed("power limit"))) == []


@pytest.mark.parametrize(
    ("reading", "code", "text"),
    [
        (
            slowed("heat"),
            "gpu-hot",
            "The GPU is slowing down because it is hot (86 °C). Requests take longer than usual.",
        ),
        (
            slowed("heat", "power limit", celsius=None),
            "gpu-hot",
            "The GPU is slowing down because it is hot. Requests take longer than usual.",
        ),
        (
            slowed("power"),
            "gpu-power",
            f"The GPU is slowing down because its power supply is at its limit. {LONGER}",
        ),
        (
            slowed("hardware"),
            "gpu-slow",
            "The GPU is slowing down to protect itself. Requests take longer than usual.",
        ),
    ],
)
def test_a_slow_card_says_why(reading: GpuReading, code: str, text: str) -> None:
    """P39: who waits longer than usual is told that the card is slow, and why."""
    assert told(view(reading)) == [(code, "warn", text)]


def test_one_of_several_cards_is_named() -> None:
    """With two cards a notice says which one it is about."""
    ((_, _, text),) = told(view(slowed("heat"), SECOND))
    assert text.startswith("GPU 0 is slowing down")


def test_lost_cards_are_one_grave_notice() -> None:
    """It has the driver's words, and says what to try."""
    shown = view(CARD, SECOND.gone(), note="GPU 1: GPU is lost", fault=True)
    text = (
        "GPU numbers are missing: GPU 1: GPU is lost. If requests fail too, the machine may need a restart."
    )
    assert told(shown) == [("gpu-lost", "bad", text)]


def test_a_card_that_is_listed_no_more_is_lost_too() -> None:
    """Where the driver has no words the index is named."""
    ((code, _, text),) = told(view(CARD, SECOND.gone()))
    assert code == "gpu-lost"
    assert "the driver no longer lists GPU 1" in text


def test_a_driver_that_fails_is_a_notice() -> None:
    """Only if it is a fault: a machine without a driver has none."""
    words = "GPU numbers are not available: Driver Not Loaded. Requests work all the same."
    assert told(view(note="Driver Not Loaded", fault=True)) == [("gpu-error", "warn", words)]
    assert told(view(note="NVML Shared Library Not Found")) == []
    assert told(GpuView()) == []


@pytest.mark.parametrize(
    ("others", "held", "text"),
    [
        (1, 3 * GB, "Another program holds 3.0 GB of GPU memory. Models may not fit beside it."),
        (2, 3 * GB, "2 other programs hold 3.0 GB of GPU memory. Models may not fit beside it."),
        (1, 2 * GB, ""),
        (1, None, ""),
    ],
)
def test_other_programs_are_told_of_when_they_hold_much(others: int, held: int | None, text: str) -> None:
    """More than a tenth of the memory is much."""
    reading = msgspec.structs.replace(CARD, others=others, others_bytes=held)
    assert [words for _, _, words in told(view(reading))] == ([text] if text else [])


def test_the_line_in_the_terminal() -> None:
    """One card in one line, with units, and what is not known left out."""
    (card,) = gpus(view(CARD))
    assert line(card, alone=True) == "GPU 87 %  memory 21.3/24.0 GB  71 °C  338/450 W"
    (hot,) = gpus(view(slowed("heat", "power limit")))
    assert line(hot, alone=False).startswith("GPU 0: 87 %  memory")
    assert line(hot, alone=False).endswith("W  slowed down: heat, power limit")
    (unknown,) = gpus(view(GpuReading(index=0, watts=35.2)))
    assert line(unknown, alone=True) == "GPU  35 W"
    (lost,) = gpus(view(CARD.gone()))
    assert line(lost, alone=True) == "GPU does not answer"
