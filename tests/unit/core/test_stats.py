from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gpushare.core.model import Outcome, Phase, Service
from gpushare.core.stats import MODEL_LIMIT, OTHER, PERSON_LIMIT, Histogram, LastCall, Stats
from tests.unit import records

HOUR_S = 3600.0
NOON = 500_000 * HOUR_S

CALL = msgspec.structs.replace(
    records.CALL,
    ended_at=NOON,
)


def test_counts_a_call_once_everywhere() -> None:
    """One finished call adds one to its route and outcome, and its figures to person and model."""
    stats = Stats()
    stats.record(CALL)
    assert stats.requests == {("/api/chat", Outcome.OK): 1}
    assert stats.person_requests == {"bob": 1}
    assert stats.person_slot_s == {"bob": 4.0}
    assert stats.model_requests == {"qwen3:8b": 1}
    assert (stats.input_tokens["qwen3:8b"], stats.output_tokens["qwen3:8b"]) == (10, 20)
    assert stats.load_s["qwen3:8b"] == 1.0
    assert stats.bytes_out == 300
    assert sum(stats.wait[Service.INTERACTIVE].counts) == sum(stats.first.counts) == 1


def test_calls_that_were_never_queued_have_no_wait() -> None:
    """A list or an early refusal counts as a request, but not in waits, persons or the last day."""
    stats = Stats()
    stats.record(replace(CALL, waited_s=None, first_s=None, outcome=Outcome.INVALID, admitted=False))
    assert stats.requests.total() == 1
    assert not stats.person_requests
    assert sum(stats.wait[Service.INTERACTIVE].counts) == 0
    assert stats.day(NOON).requests == 0


def test_input_adds_no_series() -> None:
    """Ten thousand invented models and routes end up as ``other``."""
    stats = Stats()
    for number in range(10_000):
        invented = replace(
            CALL,
            route=f"/api/{number}",
            model=f"made-up-{number}",
            outcome=Outcome.UPSTREAM_ERROR,
            input_tokens=None,
        )
        stats.record(invented)
    assert set(stats.requests) == {(OTHER, Outcome.UPSTREAM_ERROR)}
    assert set(stats.model_requests) == {OTHER}


def test_models_have_names_once_ollama_vouches_for_them() -> None:
    """A model is shown by name when Ollama lists it or has answered with it, not before."""
    stats = Stats()
    failed = replace(CALL, outcome=Outcome.TIMEOUT_IDLE)
    assert stats.closed(failed).model == OTHER
    stats.know(["qwen3:8b"])
    assert stats.closed(failed).model == "qwen3:8b"
    stats.record(replace(CALL, model="gemma3:27b"))
    assert stats.closed(replace(failed, model="gemma3:27b")).model == "gemma3:27b"


def test_a_call_without_a_model_stays_without_one() -> None:
    """Routes that name no model do not count as an unknown one."""
    assert Stats().closed(replace(CALL, model="")).model == ""


def test_labels_stop_growing() -> None:
    """Persons and models beyond the limit share one label; those already known keep theirs."""
    stats = Stats()
    for number in range(PERSON_LIMIT + 50):
        stats.record(replace(CALL, person=f"p{number}", model=f"m{number}:latest"))
    assert len(stats.person_requests) == PERSON_LIMIT + 1
    assert stats.person_requests[OTHER] == 50
    assert len(stats.model_requests) == MODEL_LIMIT + 1
    assert stats.person_label("p0") == "p0"


def test_a_call_without_a_key_has_no_person() -> None:
    """The keyless caller is nobody, not ``other``."""
    assert Stats().person_label("") == ""


def test_last_day_ends_after_24_hours() -> None:
    """A call counts in the hour it ended and in the 23 after it."""
    stats = Stats()
    stats.record(CALL)
    assert stats.day(NOON + 23 * HOUR_S).requests == 1
    assert stats.day(NOON + 24 * HOUR_S).requests == 0


def test_last_day_keeps_no_more_than_24_hours() -> None:
    """A month of traffic costs no more memory than a day of it."""
    stats = Stats()
    for hour in range(24 * 30):
        stats.record(replace(CALL, ended_at=NOON + hour * HOUR_S))
    assert stats.day(NOON + (24 * 30 - 1) * HOUR_S).requests == 24


@pytest.mark.parametrize("step_s", [-5 * HOUR_S, 40 * HOUR_S])
def test_last_day_survives_a_clock_that_is_set(step_s: float) -> None:
    """After the wall clock is set, calls count under the new time."""
    stats = Stats()
    stats.record(CALL)
    for _ in range(3):
        stats.record(replace(CALL, ended_at=NOON + step_s))
    assert stats.day(NOON + step_s).requests == 3


def test_last_day_by_person() -> None:
    """Persons are listed with requests and slot-seconds, the largest consumer first."""
    stats = Stats()
    stats.record(replace(CALL, owner="aaaaaa", person="alice", slot_s=1.0))
    stats.record(replace(CALL, slot_s=3.0, swap=True))
    stats.record(replace(CALL, slot_s=3.0, ended_at=NOON + HOUR_S))
    day = stats.day(NOON + HOUR_S)
    assert [(row.person, row.requests, row.slot_s) for row in day.persons] == [
        ("bob", 2, 6.0),
        ("alice", 1, 1.0),
    ]
    assert day.swaps == 1


def test_a_reused_name_inherits_no_figures() -> None:
    """Figures are an owner's: a new holder of a name begins with none, and a new name takes the old ones."""
    stats = Stats()
    stats.record(CALL)
    stats.record(replace(CALL, owner="c0ffee", slot_s=1.0))
    stats.record(replace(CALL, person="robert"))
    rows = [(row.owner, row.person, row.requests) for row in stats.day(NOON).persons]
    assert rows == [("7f3a2c", "robert", 2), ("c0ffee", "bob", 1)]
    assert set(stats.last) == {"7f3a2c", "c0ffee"}


def test_owners_beyond_the_limit_are_counted_together() -> None:
    """They share a row that is nobody's, and have no last call."""
    stats = Stats()
    for number in range(PERSON_LIMIT + 2):
        stats.record(replace(CALL, owner=f"o{number}", slot_s=1.0))
    rows = stats.day(NOON).persons
    assert (len(rows), len(stats.last)) == (PERSON_LIMIT + 1, PERSON_LIMIT)
    assert [(row.person, row.requests) for row in rows if not row.owner] == [(OTHER, 2)]


def test_a_model_that_never_answered_was_not_loaded() -> None:
    """A call for a model that does not exist, or cannot be loaded, is no swap; nor is a second one's wait."""
    stats = Stats()
    stats.record(replace(CALL, swap=True, first_s=None, load_s=None, outcome=Outcome.UPSTREAM_ERROR))
    stats.record(replace(CALL, swap=True, load_s=None))
    assert (stats.swaps, stats.day(NOON).swaps) == (0, 0)


def test_last_day_without_calls_has_no_waits() -> None:
    """A percentile of nothing is unknown, not zero."""
    day = Stats().day(NOON)
    assert (day.wait_p50_s, day.wait_p95_s) == (None, None)


@given(st.lists(st.floats(min_value=0.0, max_value=400.0), min_size=1), st.sampled_from([0.5, 0.95]))
def test_quantile_lies_in_the_right_bucket(values: list[float], q: float) -> None:
    """The quantile read from buckets lies in the bucket of the value it stands for."""
    bounds = (0.5, 1.0, 5.0, 20.0, 100.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    ordered = sorted(values)
    exact = next(value for place, value in enumerate(ordered, 1) if place >= q * len(values))
    ends = (0.0, *bounds, float("inf"))
    low, high = next((low, high) for low, high in pairwise(ends) if exact <= high)
    found = histogram.quantile(q)
    assert found is not None
    assert low <= found <= high


@given(st.lists(st.floats(min_value=0.0, max_value=400.0)))
def test_cumulative_counts_end_with_all_values(values: list[float]) -> None:
    """The last cumulative count is the number of values, and the counts never fall."""
    histogram = Histogram((1.0, 10.0, 100.0))
    for value in values:
        histogram.observe(value)
    counts = [count for _, count in histogram.cumulative()]
    assert counts == sorted(counts)
    assert counts[-1] == len(values)


def test_waits_by_hour_end_with_the_current_hour() -> None:
    """24 values for a chart of bars; an hour without calls has none."""
    stats = Stats()
    stats.record(replace(CALL, waited_s=30.0, ended_at=NOON - 23 * HOUR_S))
    stats.record(replace(CALL, waited_s=0.0))
    hours = stats.day(NOON).hours
    assert len(hours) == 24
    assert hours[1:-1] == (None,) * 22
    assert hours[0] == pytest.approx(30.0, rel=0.125)
    assert hours[-1] == pytest.approx(0.0, abs=0.1)


def test_the_last_day_survives_a_restart() -> None:
    """What the ledger gives back counts in the last day as before, and in nothing since the start."""
    calls = [
        replace(CALL, ended_at=NOON + hour * HOUR_S, waited_s=2.0 * hour, swap=hour == 1, owner="7f3a2c")
        for hour in range(5)
    ]
    calls.append(replace(CALL, waited_s=None, ended_at=NOON + 5 * HOUR_S))
    before, after = Stats(), Stats()
    for call in calls:
        before.record(call)
        after.restore(call)
    assert after.day(NOON + 5 * HOUR_S) == before.day(NOON + 5 * HOUR_S)
    assert after.last == before.last
    assert after.last["7f3a2c"].ended_at == NOON + 4 * HOUR_S
    assert not after.requests
    assert (after.swaps, after.person_requests, after.bytes_out) == (0, {}, 0)


def test_a_call_that_a_crash_ended_counts_without_a_wait() -> None:
    """It had a place in the queue; how long it waited nobody knows."""
    stats = Stats()
    lost = replace(CALL, waited_s=None, outcome=Outcome.LOST_CRASH, phase=Phase.QUEUE)
    stats.restore(lost)
    stats.restore(replace(lost, phase=Phase.CONNECT))
    day = stats.day(NOON)
    assert (day.requests, day.wait_p95_s, stats.last) == (1, None, {})


def test_each_person_has_a_last_call() -> None:
    """The newest queued one, from before the last day too; lists and refusals do not count."""
    stats = Stats()
    stats.restore_last([replace(CALL, owner="aaaaaa", person="alice", ended_at=NOON - 400 * HOUR_S)])
    stats.record(CALL)
    stats.record(replace(CALL, waited_s=None, admitted=False, ended_at=NOON + 1))
    assert stats.last == {
        "aaaaaa": LastCall(ended_at=NOON - 400 * HOUR_S, model="qwen3:8b", waited_s=2.0, took_s=4.0),
        "7f3a2c": LastCall(ended_at=NOON, model="qwen3:8b", waited_s=2.0, took_s=4.0),
    }
    assert stats.day(NOON).requests == 1


def test_loading_is_told_of_the_last_hours() -> None:
    """Loads count from this hour and the one before, and only those that brought a model."""
    stats = Stats()
    for hours, swap in ((0, True), (1, True), (2, True), (0, False)):
        ended = NOON - hours * HOUR_S
        stats.record(replace(CALL, ended_at=ended, swap=swap, load_s=10.0, slot_s=4.0, first_s=1.0))
    day = stats.day(NOON)
    assert (day.loading_s, day.busy_s, day.swaps) == (20.0, 12.0, 3)


def test_reloads_count_for_a_day() -> None:
    """By the hour, as everything of the last day."""
    stats = Stats()
    for hours in (30, 2, 0, 0):
        stats.reloaded(NOON - hours * HOUR_S)
    assert (stats.day(NOON).reloads, stats.day(NOON).swaps) == (3, 0)
