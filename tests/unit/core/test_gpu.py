import pynvml
import pytest

from gpushare.core.gpu import POINTS, SLOWING, GpuHistory, GpuReading, GpuReport, GpuView, slowed_by

ZERO = GpuReading(index=0, name="A", uuid="GPU-a", busy=0.87, memory_used=10, memory_total=24, celsius=71)
ONE = GpuReading(index=1, name="B", uuid="GPU-b", busy=0.02, memory_used=1, memory_total=48, slowed=("heat",))


def after(*reports: GpuReport, required: bool = False) -> GpuView:
    """Returns the picture after some reports."""
    view = GpuView()
    for second, report in enumerate(reports):
        view = view.after(report, at=float(second), required=required)
    return view


def test_the_bits_are_those_of_nvml() -> None:
    """Each bit of the table is the constant it names, in the package as it is installed."""
    assert [getattr(pynvml, name) for name, _, _ in SLOWING] == [bit for _, bit, _ in SLOWING]


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (pynvml.nvmlClocksEventReasonNone, ()),
        (pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonApplicationsClocksSetting, ()),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, ("heat",)),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown | pynvml.nvmlClocksEventReasonHwSlowdown, ("heat",)),
        (
            pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown | pynvml.nvmlClocksEventReasonHwSlowdown,
            ("power",),
        ),
        (pynvml.nvmlClocksEventReasonHwSlowdown, ("hardware",)),
        (pynvml.nvmlClocksEventReasonSwPowerCap, ("power limit",)),
        (
            pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonSwThermalSlowdown,
            ("heat", "power limit"),
        ),
        (1 << 40, ()),
    ],
)
def test_throttling_has_a_word(reasons: int, words: tuple[str, ...]) -> None:
    """What slows a card down is said in a word; what does not, and what nobody knows yet, is left out."""
    assert slowed_by(reasons) == words


def test_before_the_first_reading_nothing_is_known() -> None:
    """The picture says that it was not read yet, which is no fault."""
    assert (GpuView().readings, GpuView().note, GpuView().fault) == ((), "not read yet", False)


def test_a_report_replaces_the_picture() -> None:
    """Readings are those of the newest report, in the order of their indexes."""
    view = after(GpuReport(readings=(ONE, ZERO)))
    assert view.readings == (ZERO, ONE)
    assert (view.note, view.fault, view.at, view.readable) == (None, False, 0.0, True)


def test_a_lost_card_turns_grey_and_nothing_else() -> None:
    """The card keeps its name and size and loses its numbers; the other one has its newest ones."""
    lost = GpuReading(index=0, lost=True)
    view = after(GpuReport(readings=(ZERO, ONE)), GpuReport(readings=(lost, ONE), error="GPU 0: GPU is lost"))
    grey, fine = view.readings
    assert grey == GpuReading(index=0, name="A", uuid="GPU-a", memory_total=24, lost=True)
    assert fine == ONE
    assert (view.readable, view.fault, view.note) == (True, True, "GPU 0: GPU is lost")


def test_a_card_that_vanishes_from_the_list_stays_as_lost() -> None:
    """Indexes move up when a card falls off the bus; by its id it is still told from the one that moved."""
    moved = GpuReading(index=0, name="B", uuid="GPU-b", busy=0.5)
    view = after(GpuReport(readings=(ZERO, ONE)), GpuReport(readings=(moved,)))
    assert [(reading.name, reading.lost) for reading in view.readings] == [("A", True), ("B", False)]


def test_a_silent_driver_turns_all_grey() -> None:
    """When nothing is read any more, no old number stays."""
    view = after(GpuReport(readings=(ZERO, ONE)), GpuReport(error="silent"))
    assert [reading.lost for reading in view.readings] == [True, True]
    assert {reading.busy for reading in view.readings} == {None}
    assert (view.readable, view.fault, view.note) == (False, True, "silent")


def test_a_card_comes_back() -> None:
    """A later reading ends the grey state."""
    view = after(GpuReport(readings=(ZERO,)), GpuReport(error="silent"), GpuReport(readings=(ZERO,)))
    assert (view.readings, view.note, view.fault) == ((ZERO,), None, False)


def test_an_id_learned_late_does_not_double_the_card() -> None:
    """A card whose id was refused once is one card, before and after."""
    nameless = GpuReading(index=0, busy=0.5)
    assert len(after(GpuReport(readings=(nameless,)), GpuReport(readings=(ZERO,))).readings) == 1
    (reading,) = after(GpuReport(readings=(ZERO,)), GpuReport(readings=(nameless,))).readings
    assert (reading.uuid, reading.name, reading.busy) == ("GPU-a", "A", 0.5)


@pytest.mark.parametrize(
    ("seen", "absent", "required", "fault"),
    [
        ((), True, False, False),
        ((), True, True, True),
        ((), False, False, True),
        ((ZERO,), True, False, True),
    ],
)
def test_a_machine_without_a_driver_is_no_fault(
    seen: tuple[GpuReading, ...],
    absent: bool,  # noqa: FBT001
    required: bool,  # noqa: FBT001
    fault: bool,  # noqa: FBT001
) -> None:
    """Only a driver that is there and fails, or one that is asked for, is worth telling people."""
    view = after(GpuReport(readings=seen), GpuReport(error="not found", absent=absent), required=required)
    assert (view.note, view.fault) == ("not found", fault)


def history(*taken: tuple[float, GpuReading | None]) -> tuple[float | None, ...]:
    """Returns the points of card A after readings at some seconds."""
    kept = GpuHistory()
    for at, reading in taken:
        kept.take([reading] if reading else [], at=at)
    return kept.points().get("GPU-a", ())


def busy(ratio: float | None) -> GpuReading:
    """Returns card A, so busy."""
    return GpuReading(index=0, uuid="GPU-a", busy=ratio)


def test_a_point_is_the_mean_of_ten_seconds() -> None:
    """A point appears when its ten seconds are over, and does not change after that."""
    taken = [(100.0, busy(0.2)), (104.0, busy(0.4)), (109.9, busy(0.6))]
    assert history(*taken) == ()
    assert history(*taken, (110.0, busy(1.0))) == pytest.approx((0.4,))
    assert history(*taken, (110.0, busy(1.0)), (119.0, busy(0.0))) == pytest.approx((0.4,))


def test_time_without_readings_is_a_gap() -> None:
    """A card that did not answer, and a ratio that nobody knows, leave holes instead of zeros."""
    taken = [(100.0, busy(0.5)), (110.0, busy(None)), (120.0, None), (130.0, busy(0.7)), (140.0, busy(0.1))]
    assert history(*taken) == (0.5, None, None, 0.7)
    assert history((100.0, busy(0.5)), (125.0, busy(0.5))) == (0.5, None)


def test_fifteen_minutes_are_kept() -> None:
    """Older points go; after a long sleep of the machine nothing old is left."""
    points = history(*((10.0 * second, busy(second / 1000)) for second in range(200)))
    assert (len(points), points[-1], points[0]) == (POINTS, 0.198, 0.109)
    points = history((0.0, busy(0.5)), (1e7, busy(0.5)))
    assert set(points) == {None}
