import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gpushare.core.audience import Audience, People
from gpushare.core.gpu import GpuReading, GpuView
from gpushare.core.model import Lane, Principal, ResidentModel, Role, Service
from gpushare.core.picture import OllamaView, Picture, Progress
from gpushare.core.stats import Day, LastCall, PersonDay
from gpushare.core.status import Showing
from gpushare.core.views import Delay, QueueView, Reason, RunningView, WaitingView

NOW = 5000.0
WALL = datetime(2026, 11, 20, 14, 3, 12, 345678, tzinfo=UTC)

ALICE = Principal(key_id="aaaaaa", name="alice", owner="aaaaaa")
ROOT = Principal(key_id="dddddd", name="root", owner="dddddd", role=Role.ADMIN)
NAMES = {"aaaaaa": "alice", "bbbbbb": "bob", "cccccc": "carol jones"}
UP = OllamaView(up=True, version="0.21.0", since=NOW - 60)


def running(owner: str, *, swap: bool = False) -> RunningView:
    """Returns a call that has run for 31 s."""
    return RunningView(
        id=f"run_{owner[0]}",
        owner=owner,
        service=Service.INTERACTIVE,
        model="qwen3:8b",
        backend="ollama",
        started_s=31.0,
        swap=swap,
    )


def waiting(owner: str, position: int) -> WaitingView:
    """Returns a call that has waited for 14 s."""
    return WaitingView(
        id=f"wait_{owner[0]}",
        owner=owner,
        service=Service.INTERACTIVE,
        model="gemma3:27b",
        since=NOW - 14,
        position=position,
        eta_s=12.34,
        swap=False,
        loads=True,
    )


def queue(*rows: RunningView | WaitingView, paused_since: float | None = None) -> QueueView:
    """Returns a queue of the given calls."""
    held = tuple(row for row in rows if isinstance(row, RunningView))
    return QueueView(
        now=NOW,
        running=held,
        waiting=tuple(row for row in rows if isinstance(row, WaitingView)),
        shares=(),
        backends=(),
        granted_total=len(held),
        released_total=0,
        held=len(held),
        paused_since=paused_since,
        jain=None,
    )


PICTURE = Picture(
    now=NOW,
    wall=WALL,
    host="atlas",
    version="0.1.0",
    queue=queue(running("bbbbbb"), waiting("aaaaaa", 1), waiting("cccccc", 2)),
    ollama=UP,
    day=Day(
        requests=3,
        wait_p50_s=2.84,
        wait_p95_s=22.0,
        swaps=1,
        reloads=4,
        persons=(
            PersonDay(owner="bbbbbb", person="bob", requests=2, slot_s=30.0),
            PersonDay(owner="aaaaaa", person="alice", requests=1, slot_s=10.0),
        ),
    ),
    max_waiting=64,
    names=NAMES,
    progress={
        "run_b": Progress(at=NOW, tool="continue", streaming=True, records=1204, first_at=NOW - 30),
        "wait_a": Progress(at=NOW, tool="ollama", streaming=True),
        "wait_c": Progress(at=NOW, tool="openai", streaming=False),
    },
)


def seen(who: Principal | None, picture: Picture = PICTURE, people: People = "names") -> dict[str, Any]:
    """Returns the JSON a viewer gets."""
    showing = Showing(picture)
    made = showing.document(Audience(who=who, people=people), showing.starts_in_s(90.0))
    return json.loads(msgspec.json.encode(made))  # type: ignore[no-any-return]


def test_document_of_an_admin_is_complete() -> None:
    """An admin sees every name, tool and token count, and times are UTC in whole seconds."""
    status = seen(ROOT)
    assert status["schema"] == "gpushare.status/1"
    assert status["now"] == "2026-11-20T14:03:12Z"
    assert (status["host"], status["version"], status["state"]) == ("atlas", "0.1.0", "busy")
    assert status["new_request_starts_in_s"] == 89.7
    assert status["new_request_starts"] == "2026-11-20T14:04:42Z"
    assert status["ollama"] == {
        "up": True,
        "version": "0.21.0",
        "since": "2026-11-20T14:02:12Z",
        "at_least": False,
    }
    assert status["running"] == [
        {
            "id": "run_b",
            "who": "bob",
            "you": False,
            "model": "qwen3:8b",
            "started": "2026-11-20T14:02:41Z",
            "swap": False,
            "tokens": 1204,
            "tokens_per_s": 40.1,
            "tool": "continue",
        }
    ]
    assert status["waiting"][0] == {
        "id": "wait_a",
        "position": 1,
        "who": "alice",
        "you": False,
        "model": "gemma3:27b",
        "since": "2026-11-20T14:02:58Z",
        "starts_in_s": 12.7,  # to the told second, which is 12.34 s away
        "swap": True,
        "reason": None,
        "tool": "ollama",
        "starts": "2026-11-20T14:03:25Z",
    }
    assert (status["gpus"], status["gpu_note"]) == (None, None)


def test_viewer_without_a_key_sees_no_name() -> None:
    """Nothing in an anonymous document tells who anybody is; models, times and positions stay."""
    text = json.dumps(seen(None))
    assert not [name for name in (*NAMES.values(), *NAMES) if name in text]
    status = seen(None)
    assert {row["who"] for row in (*status["running"], *status["waiting"])} == {"somebody"}
    assert [row["position"] for row in status["waiting"]] == [1, 2]
    assert not any(row["you"] for row in status["waiting"])
    assert "day" not in status


@pytest.mark.parametrize("who", [None, ALICE])
def test_details_of_others_are_absent(who: Principal | None) -> None:
    """Only admins see tools and token counts of other people: the fields are not there at all."""
    status = seen(who)
    assert status["running"][0].keys().isdisjoint({"tokens", "tokens_per_s", "tool"})
    assert "tool" not in status["waiting"][1]


def test_own_requests_have_details() -> None:
    """A person sees the own calls marked, with tool and tokens."""
    picture = replace(PICTURE, queue=queue(running("aaaaaa"), waiting("aaaaaa", 1)))
    picture = replace(picture, progress={"run_a": PICTURE.progress["run_b"], **PICTURE.progress})
    status = seen(ALICE, picture)
    assert (status["running"][0]["you"], status["running"][0]["tokens"]) == (True, 1204)
    assert (status["waiting"][0]["you"], status["waiting"][0]["tool"]) == (True, "ollama")


@pytest.mark.parametrize(
    ("people", "others"),
    [("names", ["bob", "carol jones"]), ("initials", ["B.", "C.J."]), ("hidden", ["somebody", "somebody"])],
)
def test_people_see_one_another_as_configured(people: People, others: list[str]) -> None:
    """``status.people`` decides how persons see others; the own name is always there, in the day as well."""
    status = seen(ALICE, people=people)
    assert [status["running"][0]["who"], status["waiting"][1]["who"]] == others
    assert status["waiting"][0]["who"] == "alice"
    assert [(row["who"], row["you"]) for row in status["day"]["people"]] == [
        (others[0], False),
        ("alice", True),
    ]


def test_admins_see_names_whatever_people_see() -> None:
    """The setting is about persons among themselves."""
    assert seen(ROOT, people="hidden")["running"][0]["who"] == "bob"


@pytest.mark.parametrize(
    ("who", "people", "text"),
    [
        (ROOT, "hidden", "bob's answer is longer than usual"),
        (ALICE, "names", "bob's answer is longer than usual"),
        (ALICE, "initials", "B.'s answer is longer than usual"),
        (ALICE, "hidden", "somebody's answer is longer than usual"),
        (None, "names", "somebody's answer is longer than usual"),
    ],
)
def test_a_reason_names_others_as_the_rest_of_the_document_does(
    who: Principal | None, people: People, text: str
) -> None:
    """Who made the estimate grow is shown as everywhere else."""
    late = replace(waiting("aaaaaa", 1), reason=Reason(delay=Delay.LONGER, owner="bbbbbb"))
    picture = replace(PICTURE, queue=queue(running("bbbbbb"), late))
    assert seen(who, picture, people)["waiting"][0]["reason"] == text


def test_a_reason_of_ones_own_says_so() -> None:
    """Somebody's own long answer may delay the next one."""
    late = replace(waiting("aaaaaa", 1), reason=Reason(delay=Delay.LONGER, owner="aaaaaa"))
    picture = replace(PICTURE, queue=queue(running("aaaaaa"), late))
    assert seen(ALICE, picture)["waiting"][0]["reason"] == "your answer is longer than usual"


def test_a_reason_of_ones_own_is_nobody_elses() -> None:
    """Whoever is the reason and has no call any more is told so; others are told whose it was."""
    late = replace(waiting("aaaaaa", 1), reason=Reason(delay=Delay.LONGER, owner="bbbbbb"))
    showing = Showing(replace(PICTURE, queue=queue(late)))
    bob, carol = (Principal(key_id=name[0] * 6, name=name, owner=name[0] * 6) for name in ("bob", "carol"))
    reasons = [showing.rows(Audience(who=who)).waiting[0].reason for who in (bob, carol)]
    assert reasons == ["your answer is longer than usual", "bob's answer is longer than usual"]


def test_last_day_has_shares() -> None:
    """The day gives each person's part of the slot-seconds, and null for what is not measured."""
    day = seen(ALICE)["day"]
    assert [row["share"] for row in day["people"]] == [0.75, 0.25]
    assert (day["requests"], day["wait_p50_s"], day["wait_p95_s"], day["swaps"]) == (3, 2.8, 22.0, 1)
    assert day["swaps_context"] == 4


def test_everybody_sees_the_gpus() -> None:
    """Cards, and why there are none, need no key."""
    card = GpuReading(index=0, name="A", uuid="GPU-a", busy=0.87)
    for who in (None, ALICE, ROOT):
        status = seen(who, replace(PICTURE, gpus=GpuView(readings=(card,), note=None)))
        assert [(gpu["name"], gpu["busy"], gpu["celsius"]) for gpu in status["gpus"]] == [("A", 0.87, None)]
        status = seen(who, replace(PICTURE, gpus=GpuView(note="Driver Not Loaded")))
        assert (status["gpus"], status["gpu_note"]) == ([], "Driver Not Loaded")


def test_unknown_values_are_null() -> None:
    """Tokens of an answer in one piece, and a speed without a first token, are unknown, not zero."""
    progress = {"run_b": Progress(at=NOW, tool="curl", streaming=False, records=1)}
    row = seen(ROOT, replace(PICTURE, progress=progress))["running"][0]
    assert (row["tokens"], row["tokens_per_s"]) == (None, None)
    progress = {"run_b": Progress(at=NOW, tool="curl", streaming=True, records=1, first_at=NOW - 0.1)}
    row = seen(ROOT, replace(PICTURE, progress=progress))["running"][0]
    assert (row["tokens"], row["tokens_per_s"]) == (1, None)


def test_models_tell_how_much_is_on_the_gpu() -> None:
    """A model that does not fit gets its part and a notice."""
    split = ResidentModel(
        name="big:70b",
        size_bytes=40_000,
        vram_bytes=10_000,
        context=None,
        expires=WALL.replace(minute=32, microsecond=0),
    )
    status = seen(None, replace(PICTURE, ollama=UP.changed(loaded=(split,))))
    assert status["models"] == [
        {
            "name": "big:70b",
            "vram_bytes": 10_000,
            "on_gpu": 0.25,
            "context": None,
            "unloads": "2026-11-20T14:32:12Z",
        }
    ]
    assert [notice["code"] for notice in status["notices"]] == ["model-on-cpu"]


def test_a_simulated_ollama_is_labelled() -> None:
    """Whoever looks at the demo is told that its people, its Ollama and its GPU are invented."""
    status = seen(None, replace(PICTURE, ollama=UP.changed(version="0.33.0-simulated")))
    assert [notice["code"] for notice in status["notices"]] == ["demo"]


def test_rows_hold_instants_alone() -> None:
    """P38: what is shown of the queue is equal three seconds later, so that nothing is sent for nothing."""
    later = replace(
        PICTURE,
        now=NOW + 3,
        wall=WALL + timedelta(seconds=3),
        queue=replace(
            PICTURE.queue,
            running=tuple(replace(row, started_s=row.started_s + 3) for row in PICTURE.queue.running),
            waiting=tuple(replace(row, eta_s=(row.eta_s or 0) - 3) for row in PICTURE.queue.waiting),
        ),
    )
    for who in (None, ALICE, ROOT):
        audience = Audience(who=who)
        assert Showing(PICTURE).rows(audience) == Showing(later).rows(audience)


def test_what_is_alike_is_made_once() -> None:
    """Viewers without a row of their own share the rows; one with a row has others."""
    showing = Showing(PICTURE)
    dave, erin = (Principal(key_id=name[0] * 6, name=name, owner=name[0] * 6) for name in ("dave", "erin"))
    shared = showing.rows(Audience(who=dave))
    assert showing.rows(Audience(who=erin)) is shared
    assert showing.rows(Audience(who=ALICE)) is not shared
    assert showing.rows(Audience(who=None)) is not shared


def test_you_know_your_last_request() -> None:
    """The own last day has the share, and the latest request that ended; nobody gets another's."""
    last = LastCall(ended_at=WALL.timestamp() - 60, model="qwen3:8b", waited_s=2.04, took_s=9.0)
    picture = replace(PICTURE, last={"aaaaaa": last})
    assert seen(ALICE, picture)["you"] == {
        "who": "alice",
        "requests": 1,
        "share": 0.25,
        "last": {"ended": "2026-11-20T14:02:12Z", "model": "qwen3:8b", "waited_s": 2.0, "took_s": 9.0},
    }
    assert seen(ROOT, picture)["you"] == {"who": "root", "requests": 0, "share": None, "last": None}
    assert "you" not in seen(None, picture)


def test_a_reused_name_sees_nothing_of_its_forerunner() -> None:
    """Own figures are found by whose key it is, not by what its holder is called."""
    last = LastCall(ended_at=WALL.timestamp() - 60, model="qwen3:8b", waited_s=2.04, took_s=9.0)
    picture = replace(PICTURE, last={"aaaaaa": last})
    newcomer = msgspec.structs.replace(ALICE, key_id="eeeeee", owner="eeeeee")
    status = seen(newcomer, picture)
    assert status["you"] == {"who": "alice", "requests": 0, "share": None, "last": None}
    assert [row["you"] for row in status["day"]["people"]] == [False, False]


def test_the_last_day_shows_people_by_their_names_of_now() -> None:
    """Whoever was renamed is found under the new name, and whoever is gone under the last one."""
    status = seen(ROOT, replace(PICTURE, names={"bbbbbb": "robert"}))
    assert [row["who"] for row in status["day"]["people"]] == ["robert", "alice"]


@pytest.mark.parametrize(("eta_s", "told_s"), [(12.0, 89.7), (None, None)])
def test_a_newcomer_is_told_no_more_than_the_first_in_line(eta_s: float | None, told_s: float | None) -> None:
    """Beside "1st in line, no estimate yet" nobody is told when a new request would start."""
    first, second = waiting("aaaaaa", 1), waiting("cccccc", 2)
    rows = replace(first, eta_s=eta_s), second, replace(first, lane=Lane.EMBED, eta_s=None)
    status = seen(None, replace(PICTURE, queue=queue(running("bbbbbb"), *rows)))
    assert status["new_request_starts_in_s"] == told_s
    assert (status["new_request_starts"] is None) == (told_s is None)


def test_a_key_for_some_models_sees_only_those() -> None:
    """What a key may not use it does not learn of: neither what is loaded nor what others ask for."""
    loaded = tuple(
        ResidentModel(name=name, size_bytes=2, vram_bytes=2, context=None, expires=None)
        for name in ("gemma3:27b", "qwen3:8b")
    )
    limited = msgspec.structs.replace(ALICE, models=("gemma3:*",))
    status = seen(limited, replace(PICTURE, ollama=UP.changed(loaded=loaded)))
    assert [row["name"] for row in status["models"]] == ["gemma3:27b"]
    assert status["running"][0]["model"] == "another model"
    assert "qwen3" not in json.dumps(status)


@pytest.mark.parametrize(
    ("picture", "starts_in_s"),
    [
        (replace(PICTURE, queue=queue()), 0.0),
        (PICTURE, 89.7),
        (replace(PICTURE, queue=queue(running("bbbbbb", swap=True))), 89.7),
        (replace(PICTURE, max_waiting=2), None),
        (replace(PICTURE, draining=True), None),
    ],
)
def test_a_start_is_promised_only_where_calls_are_taken(picture: Picture, starts_in_s: float | None) -> None:
    """At once where nobody is, and no time at all from a server that takes none."""
    assert seen(None, picture)["new_request_starts_in_s"] == starts_in_s
