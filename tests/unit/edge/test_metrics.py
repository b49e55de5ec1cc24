import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gpushare.core.gpu import SLOWED_WORDS, GpuReading, GpuView
from gpushare.core.ledger import LedgerState
from gpushare.core.model import Outcome, ResidentModel
from gpushare.core.picture import OllamaView
from gpushare.core.stats import OTHER, PERSON_LIMIT, Stats
from gpushare.core.views import QueueCounts, ShareView
from gpushare.edge.metrics import Metrics, Sources
from tests.unit import records
from tests.unit.records import CALL

CANARY = "canary-2c9e"


def share(owner: str, used_s: float, due_s: float) -> ShareView:
    """Returns what one owner got and was owed."""
    return ShareView(owner=owner, weight=1.0, used_s=used_s, due_s=due_s, deficit_s=0.0, waiting=0, running=0)


QUEUE = QueueCounts(
    waiting=0,
    held=1,
    granted_total=7,
    released_total=6,
    shares=(share("aaaaaa", 30.0, 20.0), share("bbbbbb", 10.0, 20.0)),
    jain=0.8,
)
VIEW = OllamaView(
    up=True,
    since=0.0,
    loaded=(
        ResidentModel(name="qwen3:8b", size_bytes=9, vram_bytes=8_000_000_000, context=4096, expires=None),
    ),
)


LEDGER = LedgerState(writable=True, lag_s=0.25, waiting=2, written=40, lost=3, answered_s=0.1)


class FakeDoors:
    """Connections, some of which met a limit."""

    open = 3
    anonymous = 1

    def __init__(self) -> None:
        self.events: Mapping[str, int] = {"per_address": 2}


CARD = msgspec.structs.replace(
    records.CARD, memory_used=20, memory_total=24, watts=338.0, slowed=("heat",), others_bytes=8
)
GPUS = GpuView(readings=(CARD, GpuReading(index=1, uuid="GPU-b").gone()), note=None)


def metrics(
    stats: Stats, *, people: bool = True, queue: QueueCounts = QUEUE, gpus: GpuView | None = GPUS
) -> Metrics:
    """Returns metrics over made-up sources."""
    return Metrics(
        Sources(
            stats=stats,
            queue=lambda: queue,
            ollama=lambda: VIEW,
            gpus=lambda: gpus,
            names=lambda: {"aaaaaa": "alice", "bbbbbb": "bob"},
            draining=lambda: False,
            body_bytes=lambda: 1234,
            doors=FakeDoors,
            version="0.1.0",
            people=lambda: people,
            rejected=lambda: False,
            ledger=lambda: LEDGER,
            lag_s=lambda: 0.004,
            strays=lambda: 2,
        )
    )


def families(page: Metrics) -> Mapping[str, Metric]:
    """Returns the page as Prometheus reads it."""
    body, _ = page.render("")
    return {family.name: family for family in parse_text(body.decode())}


def value(page: Metrics, name: str, /, **labels: str) -> float:
    """Returns the one sample with these labels."""
    found = [
        sample
        for family in families(page).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) == 1, f"{name}{labels}: {found}"
    return float(found[0].value)


def test_the_values_of_a_card_are_shown() -> None:
    """Each value has its family, and each reason for being slow a sample of its own."""
    page = metrics(Stats())
    card = {"gpu": "0", "uuid": "GPU-a"}
    for name, expected in {
        "up": 1,
        "busy_ratio": 0.87,
        "memory_used_bytes": 20,
        "memory_total_bytes": 24,
        "celsius": 71,
        "watts": 338,
        "watts_limit": 450,
        "other_programs": 1,
        "other_bytes": 8,
    }.items():
        assert value(page, f"gpushare_gpu_{name}", **card) == expected
    assert value(page, "gpushare_gpu_info", **card, name="NVIDIA RTX 4090") == 1
    assert value(page, "gpushare_gpu_readable") == 1
    reasons = {reason: value(page, "gpushare_gpu_slowed", **card, reason=reason) for reason in SLOWED_WORDS}
    assert reasons == {"heat": 1, "power": 0, "power limit": 0, "hardware": 0}


def test_a_lost_card_has_no_numbers() -> None:
    """What nobody knows has no sample; that the card is gone has one."""
    page = metrics(Stats())
    lost = {"gpu": "1", "uuid": "GPU-b"}
    found = {
        sample.name: sample.value
        for family in families(page).values()
        for sample in family.samples
        if lost.items() <= sample.labels.items()
    }
    assert found == {"gpushare_gpu_up": 0, "gpushare_gpu_info": 1}
    assert value(metrics(Stats(), gpus=GpuView()), "gpushare_gpu_readable") == 0


def test_without_gpu_numbers_there_are_no_gpu_metrics() -> None:
    """A configuration that wants none has no families that would look like zeros."""
    page = metrics(Stats(), gpus=None)
    assert not [name for name in families(page) if name.startswith("gpushare_gpu")]


def test_connections_bodies_and_the_limits_they_met_are_shown() -> None:
    """P8: what is bounded says how full it is and how often its limit was hit."""
    shown = metrics(Stats())
    assert value(shown, "gpushare_connections") == 3
    assert value(shown, "gpushare_anonymous_connections") == 1
    assert value(shown, "gpushare_body_bytes") == 1234
    assert value(shown, "gpushare_loop_lag_seconds") == 0.004
    assert value(shown, "gpushare_stray_answers_total") == 2
    assert value(shown, "gpushare_connection_limits_total", limit="per_address") == 2


def test_counts_of_calls() -> None:
    """Each finished call adds to its route and outcome, its model and its person."""
    stats = Stats()
    stats.record(CALL)
    page = metrics(stats)
    assert value(page, "gpushare_requests_total", route="/api/chat", outcome="ok") == 1
    assert value(page, "gpushare_model_tokens_total", model="qwen3:8b", direction="input") == 10
    assert value(page, "gpushare_model_load_seconds_total", model="qwen3:8b") == 1
    assert value(page, "gpushare_person_slot_seconds_total", person="bob") == 4
    assert value(page, "gpushare_sent_bytes_total") == 300
    assert value(page, "gpushare_wait_seconds_count", **{"class": "interactive"}) == 1
    assert value(page, "gpushare_wait_seconds_sum", **{"class": "interactive"}) == 2
    assert value(page, "gpushare_wait_seconds_bucket", **{"class": "interactive", "le": "2.5"}) == 1
    assert value(page, "gpushare_wait_seconds_bucket", **{"class": "interactive", "le": "1.0"}) == 0


def test_errors_are_counted_by_their_code() -> None:
    """Requests answered with an error of gpushare's own are counted, also those that were never queued."""
    stats = Stats()
    stats.errors["body_too_large"] += 2
    assert value(metrics(stats), "gpushare_errors_total", code="body_too_large") == 2


def test_granted_is_released_and_held() -> None:
    """The three slot figures are there and agree."""
    page = metrics(Stats())
    granted = value(page, "gpushare_slots_granted_total")
    assert granted == value(page, "gpushare_slots_released_total") + value(page, "gpushare_slots_held") == 7


def test_fairness_is_a_metric() -> None:
    """Share obtained stands against share due for each active person, and Jain's index for all."""
    page = metrics(Stats())
    assert value(page, "gpushare_person_share_obtained_ratio", person="alice") == 0.75
    assert value(page, "gpushare_person_share_due_ratio", person="alice") == 0.5
    assert value(page, "gpushare_fairness_jain_ratio") == 0.8


def test_fairness_is_absent_before_anybody_was_owed_anything() -> None:
    """An idle server claims no fairness."""
    page = metrics(Stats(), queue=replace(QUEUE, shares=(), jain=None))
    assert "gpushare_fairness_jain_ratio" not in families(page)
    assert not families(page)["gpushare_person_share_due_ratio"].samples


def test_people_without_calls_have_no_share() -> None:
    """A key that was never used adds no series."""
    queue = replace(QUEUE, shares=(*QUEUE.shares, share("cccccc", 0.0, 0.0)))
    assert "cccccc" not in metrics(Stats(), queue=queue).render("")[0].decode()


def test_owners_of_one_name_are_one_series() -> None:
    """Two owners with one name are added up, because a series may appear only once."""
    queue = replace(QUEUE, shares=(*QUEUE.shares, share("bob", 10.0, 10.0)))
    assert value(metrics(Stats(), queue=queue), "gpushare_person_share_obtained_ratio", person="bob") == 0.4


def test_ollama_and_process_figures() -> None:
    """Whether Ollama answers, what is loaded, and when the process started are on the page."""
    page = metrics(Stats())
    assert value(page, "gpushare_ollama_up") == 1
    assert value(page, "gpushare_model_vram_bytes", model="qwen3:8b") == 8e9
    assert value(page, "gpushare_build_info", version="0.1.0") == 1
    assert value(page, "process_start_time_seconds") > 0


@pytest.mark.parametrize("people", [True, False])
def test_people_are_named_only_when_wanted(people: bool) -> None:  # noqa: FBT001 - a case
    """``metrics.people = false`` leaves no person on the page."""
    stats = Stats()
    stats.record(CALL)
    body, _ = metrics(stats, people=people).render("")
    assert (b"person=" in body) is people


@pytest.mark.item(79)
def test_series_are_bounded() -> None:
    """P35: ten thousand invented names of every kind add no more series than the limits allow."""
    stats = Stats()
    stats.record(CALL)
    before = sum(len(family.samples) for family in families(metrics(stats)).values())
    for number in range(10_000):
        stats.record(
            msgspec.structs.replace(
                CALL,
                route=f"/{number}",
                model=f"{CANARY}-{number}",
                tool=f"tool-{number}",
                outcome=Outcome.UPSTREAM_ERROR,
            )
        )
    after = sum(len(family.samples) for family in families(metrics(stats)).values())
    assert after - before <= 10
    assert CANARY.encode() not in metrics(stats).render("")[0]


def test_persons_are_bounded() -> None:
    """The person label has at most 200 values and ``other``, over all families together."""
    stats = Stats()
    for number in range(PERSON_LIMIT + 20):
        stats.record(msgspec.structs.replace(CALL, person=f"p{number}"))
    queue = replace(QUEUE, shares=tuple(share(f"q{number}", 1.0, 1.0) for number in range(300)))
    persons = {
        sample.labels["person"]
        for family in families(metrics(stats, queue=queue)).values()
        for sample in family.samples
        if "person" in sample.labels
    }
    assert len(persons) == PERSON_LIMIT + 1
    assert OTHER in persons


def test_hostile_label_values_stay_values() -> None:
    """Quotes, backslashes and line breaks in a name do not break the format."""
    name = 'a"b\\c\nd'
    stats = Stats()
    stats.record(msgspec.structs.replace(CALL, person=name))
    assert value(metrics(stats), "gpushare_person_requests_total", person=name) == 1


def test_openmetrics_when_asked_for() -> None:
    """A scraper that asks for OpenMetrics gets it, valid by its stricter parser."""
    stats = Stats()
    stats.record(CALL)
    body, content_type = metrics(stats).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert {"gpushare_requests", "gpushare_wait_seconds", "gpushare_slots_granted"} <= names


def test_names_and_units() -> None:
    """Every family of ours is called ``gpushare_<noun>_<unit>``, with a help text that is a sentence."""
    stats = Stats()
    stats.record(CALL)
    ours = [family for name, family in families(metrics(stats)).items() if name.startswith("gpushare_")]
    assert len(ours) > 15
    for family in ours:
        assert re.fullmatch(r"gpushare(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")


def test_every_family_is_documented() -> None:
    """The table of metrics in the documentation is complete."""
    stats = Stats()
    stats.record(CALL)
    manual = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, family in families(metrics(stats)).items():
        if name.startswith("gpushare_"):
            suffix = "_total" if family.type == "counter" else ""
            assert f"`{name}{suffix}`" in manual
