"""Tests of why a call waits."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import structs

from gpushare.core.audience import Audience, People
from gpushare.core.model import Lane, Principal, Role, Service
from gpushare.core.picture import OllamaView, Picture
from gpushare.core.stats import Stats
from gpushare.core.views import BackendView, Delay, QueueView, Reason, RunningView, ShareView, WaitingView
from gpushare.core.why import MOST, why_all, why_own

NOW = datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)
NAMES = {"a": "alice", "b": "bob", "c": "carol jones"}
ALICE = Principal(key_id="a", name="alice", owner="a")
ROOT = Principal(key_id="r", name="root", owner="r", role=Role.ADMIN)

RUNS = RunningView(
    id="run_b",
    owner="b",
    service=Service.INTERACTIVE,
    model="qwen3:8b",
    backend="gpu",
    started_s=8.04,
    swap=False,
    ran_s=8.0,
    usual_s=12.0,
)
WAITS = WaitingView(
    id="wait_a",
    owner="a",
    service=Service.INTERACTIVE,
    model="qwen3:8b",
    since=86.0,
    position=2,
    eta_s=21.04,
    swap=False,
    usual_s=10.0,
)
BEFORE = replace(WAITS, id="wait_c", owner="c", position=1, since=90.0)
BEHIND = replace(WAITS, id="late_c", owner="c", position=3)
SHARE = ShareView(owner="a", weight=1.0, used_s=30.04, due_s=40.0, deficit_s=4.0, waiting=1, running=0)
GPU = BackendView(
    name="gpu",
    lane=Lane.GENERATE,
    slots=1,
    busy=1,
    up=True,
    resident=("qwen3:8b",),
    incoming=None,
)


def queue(
    *rows: RunningView | WaitingView, share: ShareView = SHARE, paused_since: float | None = None
) -> QueueView:
    """Returns a queue at 100 s."""
    return QueueView(
        now=100.0,
        running=tuple(row for row in rows if isinstance(row, RunningView)),
        waiting=tuple(row for row in rows if isinstance(row, WaitingView)),
        shares=(share, replace(SHARE, owner="b"), replace(SHARE, owner="c")),
        backends=(GPU,),
        granted_total=0,
        released_total=0,
        held=0,
        paused_since=paused_since,
        jain=None,
    )


def picture(view: QueueView, *, ollama_up: bool = True) -> Picture:
    """Returns everything that is known when the queue is this."""
    return Picture(
        now=100.0,
        wall=NOW,
        host="atlas",
        version="0.1.0",
        queue=view,
        ollama=OllamaView(up=ollama_up, since=0.0),
        day=Stats().day(NOW.timestamp()),
        max_waiting=64,
        names=NAMES,
    )


def seen(
    view: QueueView, who: Principal = ALICE, people: People = "names", *, ollama_up: bool = True
) -> dict[str, Any]:
    """Returns the JSON a viewer gets."""
    made = why_all(picture(view, ollama_up=ollama_up), Audience(who=who, people=people))
    return json.loads(msgspec.json.encode(made))  # type: ignore[no-any-return]


def said(view: QueueView, *, ollama_up: bool = True) -> list[str]:
    """Returns what alice is told of her call."""
    call = seen(view, ollama_up=ollama_up)["calls"][0]
    return [*call["because"], *call["changes"]]


LINE = queue(RUNS, BEFORE, WAITS, BEHIND)


def test_an_own_call_is_told_in_detail() -> None:
    """Everything there is to say of it, and everybody before it; nobody behind it."""
    assert seen(LINE) == {
        "schema": "gpushare.queue/1",
        "now": "2026-11-20T14:03:12Z",
        "line": [
            {"position": 0, "who": "bob", "you": False, "since": "2026-11-20T14:03:03Z", "usual_s": 12.0}
            | {"lane": "generate", "model": "qwen3:8b", "swap": False},
            {
                "position": 1,
                "who": "carol jones",
                "you": False,
                "since": "2026-11-20T14:03:02Z",
                "usual_s": 10.0,
            }
            | {"lane": "generate", "model": "qwen3:8b", "swap": False},
            {"position": 2, "who": "alice", "you": True, "since": "2026-11-20T14:02:58Z", "usual_s": 10.0}
            | {"lane": "generate", "model": "qwen3:8b", "swap": False},
        ],
        "calls": [
            {
                "id": "wait_a",
                "who": "alice",
                "you": True,
                "model": "qwen3:8b",
                "lane": "generate",
                "position": 2,
                "since": "2026-11-20T14:02:58Z",
                "starts_in_s": 21.0,
                "starts": "2026-11-20T14:03:33Z",
                "reason": None,
                "share": {"weight": 1.0, "used_s": 30.0, "due_s": 40.0, "balance_s": 4.0},
                "load": None,
                "because": [],
                "changes": [
                    "It starts sooner if bob's answer is shorter than usual, and later if it is longer.",
                    "It starts later if somebody who has used less sends a request.",
                ],
            }
        ],
    }


def test_calls_of_others_are_nobodys_business() -> None:
    """A person is told of own calls alone, and without any of nobody; an admin of all."""
    assert [call["id"] for call in seen(LINE)["calls"]] == ["wait_a"]
    assert seen(queue(RUNS, BEFORE)) | {"now": 0} == {
        "schema": "gpushare.queue/1",
        "now": 0,
        "line": [],
        "calls": [],
    }
    assert [call["id"] for call in seen(LINE, ROOT)["calls"]] == ["wait_c", "wait_a", "late_c"]


@pytest.mark.parametrize(
    ("people", "names", "whose"),
    [
        ("names", ["bob", "carol jones", "alice"], "bob's"),
        ("initials", ["B.", "C.J.", "alice"], "B.'s"),
        ("hidden", ["somebody", "somebody", "alice"], "somebody's"),
    ],
)
def test_others_are_named_as_on_the_page(people: People, names: list[str], whose: str) -> None:
    """What ``status.people`` hides is in no field and no sentence."""
    view = queue(RUNS, BEFORE, replace(WAITS, reason=Reason(delay=Delay.LONGER, owner="b")))
    told = seen(view, people=people)
    assert [place["who"] for place in told["line"]] == names
    assert told["calls"][0]["reason"] == f"{whose} answer is longer than usual"
    text = json.dumps(told)
    assert people == "names" or not [name for name in ("bob", "carol") if name in text]


def test_an_admin_reads_of_others_by_name() -> None:
    """Sentences are about the call's owner, not about the reader."""
    share = replace(SHARE, deficit_s=-75.0, running=1, max_running=1)
    call = seen(queue(RUNS, WAITS, share=share), ROOT, "hidden")["calls"][0]
    assert call["because"] == [
        "alice's limit of 1 running request holds it back till one has ended.",
        "alice's requests took 1 min 15 s of GPU time more than the turns gave, so others go first.",
    ]


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (
            replace(SHARE, running=2, max_running=2),
            "Your limit of 2 running requests holds it back till one has ended.",
        ),
        (
            replace(SHARE, deficit_s=-12.4),
            "Your requests took 12 s of GPU time more than the turns gave, so others go first.",
        ),
    ],
)
def test_what_ones_own_account_has_to_do_with_it_is_said(share: ShareView, sentence: str) -> None:
    """Limits and debt."""
    assert said(queue(RUNS, WAITS, share=share))[0] == sentence
    assert sentence not in said(queue(RUNS, WAITS))


def test_nothing_starts_while_paused_or_without_ollama() -> None:
    """The gravest comes first; that nothing is known is not said besides."""
    stopped = queue(RUNS, replace(WAITS, eta_s=None), paused_since=50.0)
    assert said(stopped, ollama_up=False)[:2] == [
        "Ollama does not answer: nothing starts until it is back.",
        "An admin has paused the queue: nothing starts until it is resumed.",
    ]
    assert not [sentence for sentence in said(stopped) if "estimate" in sentence]


def test_without_an_estimate_it_is_said_why() -> None:
    """Too few calls have ended."""
    assert said(queue(RUNS, replace(WAITS, eta_s=None)))[0] == (
        "There is no estimate: too little is known of the models that are asked for."
    )


def test_a_load_that_goes_on_is_in_everybodys_way() -> None:
    """Which model, for how long, and how long it usually takes; also for the lane of embeddings."""
    load = replace(RUNS, model="gemma3:27b", swap=True, load_s=20.0, started_s=5.0)
    for lane in Lane:
        view = queue(load, replace(WAITS, lane=lane))
        assert seen(view)["calls"][0]["load"] == {
            "model": "gemma3:27b",
            "since": "2026-11-20T14:03:07Z",
            "usual_s": 20.0,
        }
        assert "gemma3:27b is being loaded, which usually takes 20 s. Nothing else starts meanwhile." in said(
            view
        )


def test_a_model_that_is_not_loaded_has_to_be() -> None:
    """It says how long that takes, if it was measured, and which model would need no load."""
    view = queue(RUNS, replace(WAITS, model="gemma3:27b", swap=True, load_s=20.0))
    assert seen(view)["calls"][0]["load"] == {"model": "gemma3:27b", "since": None, "usual_s": 20.0}
    assert said(view)[0] == "gemma3:27b has to be loaded first, which usually takes 20 s."
    assert "A request for qwen3:8b, which is loaded, would not wait for a load." in said(view)
    unknown = queue(RUNS, replace(WAITS, model="gemma3:27b", swap=True))
    assert said(unknown)[0] == "gemma3:27b has to be loaded first."


def test_an_answer_longer_than_usual_is_said_to_be() -> None:
    """It can no longer be shorter than usual."""
    late = queue(replace(RUNS, ran_s=30.0), WAITS)
    assert said(late)[0] == "bob's answer is longer than usual; it starts sooner if that ends soon."
    own = queue(replace(RUNS, owner="a", ran_s=30.0), WAITS)
    assert said(own)[0] == "Your answer is longer than usual; it starts sooner if that ends soon."


def test_a_background_call_gives_way() -> None:
    """It says so while people wait, and what they would change."""
    back = replace(WAITS, service=Service.BACKGROUND)
    assert said(queue(RUNS, BEFORE, back))[0] == "It came with a background key, which gives way to people."
    assert "It came with a background key, which gives way to people." not in said(queue(RUNS, back))
    assert said(queue(RUNS, back))[-1] == "It starts later if people send requests."


def test_lanes_have_lines_of_their_own() -> None:
    """Generations do not stand before an embedding."""
    embedding = replace(WAITS, lane=Lane.EMBED, position=1)
    assert [place["who"] for place in seen(queue(RUNS, BEFORE, embedding))["line"]] == ["alice"]


def test_models_a_key_may_not_see_are_no_ones() -> None:
    """A key that is limited to some models hears of no other by name, loaded, loading or asked for."""
    limited = structs.replace(ALICE, models=("gemma3:27b",))
    load = replace(RUNS, swap=True, load_s=20.0)
    view = queue(load, BEFORE, replace(WAITS, model="gemma3:27b", swap=True))
    text = json.dumps(seen(view, limited))
    assert "qwen3" not in text
    assert "Another model is being loaded" in text


def test_a_page_tells_of_the_first_own_calls() -> None:
    """An admin's own page is about the admin, and a long line of own calls is cut."""
    many = [replace(WAITS, id=f"w{place}", position=place) for place in range(2, 20)]
    made = why_own(picture(queue(RUNS, BEFORE, *many)), Audience(who=ALICE))
    assert [call.position for call in made.calls] == list(range(2, 2 + MOST))
    assert [place.position for place in made.line] == list(range(2 + MOST))
    assert why_own(picture(LINE), Audience(who=ROOT)).calls == ()


def test_an_instant_that_has_passed_is_not_below_zero() -> None:
    """What was told and has passed starts any moment."""
    assert seen(queue(RUNS, replace(WAITS, eta_s=-3.0)))["calls"][0]["starts_in_s"] == 0.0
