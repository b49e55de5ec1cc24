import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gpushare.core.document import State
from gpushare.core.gpu import GpuReading, GpuView
from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.model import Principal, ResidentModel, Role, Service
from gpushare.core.stats import Day, PersonDay
from gpushare.core.status import (
    Audience,
    OllamaView,
    People,
    Picture,
    Progress,
    document,
    owner_names,
    readiness,
    state_of,
)
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
        swap=True,
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
        persons=(
            PersonDay(person="bob", requests=2, slot_s=30.0),
            PersonDay(person="alice", requests=1, slot_s=10.0),
        ),
    ),
    max_waiting=64,
    starts_in_s=90.0,
    names=NAMES,
    progress={
        "run_b": Progress(tool="continue", streaming=True, records=1204, first_at=NOW - 30),
        "wait_a": Progress(tool="ollama", streaming=True),
        "wait_c": Progress(tool="openai", streaming=False),
    },
)


def seen(who: Principal | None, picture: Picture = PICTURE, people: People = "names") -> dict[str, Any]:
    """Returns the JSON a viewer gets."""
    made = document(picture, Audience(who=who, people=people))
    return json.loads(msgspec.json.encode(made))  # type: ignore[no-any-return]


def test_document_of_an_admin_is_complete() -> None:
    """An admin sees every name, tool and token count, and times are UTC in whole seconds."""
    status = seen(ROOT)
    assert status["schema"] == "gpushare.status/1"
    assert status["now"] == "2026-11-20T14:03:12Z"
    assert (status["host"], status["version"], status["state"]) == ("atlas", "0.1.0", "busy")
    assert status["new_request_starts_in_s"] == 90.0
    assert status["ollama"] == {"up": True, "version": "0.21.0", "since": "2026-11-20T14:02:12Z"}
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
        "starts_in_s": 12.3,
        "swap": True,
        "reason": None,
        "tool": "ollama",
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


def test_last_day_has_shares() -> None:
    """The day gives each person's part of the slot-seconds, and null for what is not measured."""
    day = seen(ALICE)["day"]
    assert [row["share"] for row in day["people"]] == [0.75, 0.25]
    assert (day["requests"], day["wait_p50_s"], day["wait_p95_s"], day["swaps"]) == (3, 2.8, 22.0, 1)
    assert day["swaps_context"] is None


def test_unknown_values_are_null() -> None:
    """Tokens of an answer in one piece, and a speed without a first token, are unknown, not zero."""
    progress = {"run_b": Progress(tool="curl", streaming=False, records=1)}
    row = seen(ROOT, replace(PICTURE, progress=progress))["running"][0]
    assert (row["tokens"], row["tokens_per_s"]) == (None, None)
    progress = {"run_b": Progress(tool="curl", streaming=True, records=1, first_at=NOW - 0.1)}
    row = seen(ROOT, replace(PICTURE, progress=progress))["running"][0]
    assert (row["tokens"], row["tokens_per_s"]) == (1, None)


def test_models_tell_how_much_is_on_the_gpu() -> None:
    """A model that does not fit gets its part and a notice."""
    split = ResidentModel(
        name="big:70b", size_bytes=40_000, vram_bytes=10_000, context=None, expires="2026-11-20T14:32:12Z"
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


def test_only_admins_are_told_of_mistakes_in_the_settings() -> None:
    """Nobody else could put them right."""
    picture = replace(PICTURE, config_rejected=True)
    codes = [[notice["code"] for notice in seen(who, picture)["notices"]] for who in (ROOT, ALICE, None)]
    assert codes == [["config-rejected"], [], []]


def test_everybody_sees_the_gpus() -> None:
    """Cards, and why there are none, need no key."""
    card = GpuReading(index=0, name="A", uuid="GPU-a", busy=0.87)
    for who in (None, ALICE, ROOT):
        status = seen(who, replace(PICTURE, gpus=GpuView(readings=(card,), note=None)))
        assert [(gpu["name"], gpu["busy"], gpu["celsius"]) for gpu in status["gpus"]] == [("A", 0.87, None)]
        status = seen(who, replace(PICTURE, gpus=GpuView(note="Driver Not Loaded")))
        assert (status["gpus"], status["gpu_note"]) == ([], "Driver Not Loaded")


FREE = replace(PICTURE, queue=queue())


@pytest.mark.parametrize(
    ("picture", "state", "starts_in_s"),
    [
        (FREE, State.FREE, 0.0),
        (PICTURE, State.BUSY, 90.0),
        (replace(PICTURE, queue=queue(running("bbbbbb", swap=True))), State.SWAP, 90.0),
        (replace(PICTURE, max_waiting=2), State.FULL, None),
        (replace(FREE, queue=queue(paused_since=NOW)), State.PAUSED, None),
        (replace(PICTURE, draining=True), State.DRAINING, None),
        (replace(PICTURE, ollama=OllamaView(up=False, since=NOW - 9)), State.OLLAMA_DOWN, None),
        (replace(FREE, ollama=OllamaView()), State.STARTING, None),
    ],
)
def test_state_is_one_word(picture: Picture, state: State, starts_in_s: float | None) -> None:
    """Each situation has its word, and a start is promised only where calls are taken."""
    assert state_of(picture) is state
    assert seen(None, picture)["new_request_starts_in_s"] == starts_in_s


def test_at_most_three_notices_gravest_first() -> None:
    """When everything is wrong at once the page stays readable."""
    loaded = (ResidentModel(name="m", size_bytes=2, vram_bytes=1, context=None, expires=None),)
    wrong = replace(
        PICTURE,
        draining=True,
        queue=queue(paused_since=NOW),
        ollama=OllamaView(since=NOW - 9, loaded=loaded),
    )
    codes = [notice["code"] for notice in seen(None, wrong)["notices"]]
    assert codes == ["ollama-down", "draining", "paused"]


def test_notices_about_the_gpu_have_their_place() -> None:
    """A card in trouble comes before a model that does not fit, and other programs after it."""
    split = ResidentModel(name="m", size_bytes=2, vram_bytes=1, context=None, expires=None)
    hot = GpuReading(index=0, slowed=("heat",), memory_total=10, others=1, others_bytes=9)
    wrong = replace(PICTURE, ollama=UP.changed(loaded=(split,)), gpus=GpuView(readings=(hot,), note=None))
    codes = [notice["code"] for notice in seen(None, wrong)["notices"]]
    assert codes == ["gpu-hot", "model-on-cpu", "gpu-shared"]


@pytest.mark.parametrize(
    ("view", "draining", "word"),
    [
        (UP, False, None),
        (UP, True, State.DRAINING),
        (OllamaView(), False, State.STARTING),
        (OllamaView(since=1.0), False, State.OLLAMA_DOWN),
    ],
)
def test_readiness_names_the_obstacle(view: OllamaView, draining: bool, word: State | None) -> None:  # noqa: FBT001
    """P37: ready means that a call would be admitted now."""
    assert readiness(view, draining=draining) is word


def test_owners_are_shown_by_their_first_key() -> None:
    """Several keys of one owner have one name."""
    records = [
        KeyRecord(id=key, name=name, sha256="0" * 64, owner="aaaaaa")
        for key, name in (("aaaaaa", "alice"), ("bbbbbb", "alice laptop"))
    ]
    assert owner_names(KeyRing(records)) == {"aaaaaa": "alice"}


def test_times_follow_the_monotonic_clock() -> None:
    """A monotonic instant becomes the wall time that many seconds ago."""
    assert PICTURE.at(NOW - 12.3) == (WALL - timedelta(seconds=12.3)).replace(microsecond=0)
