"""``engine.stuck``: which models are dropped from memory, how often, and what comes of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gpushare.core.breaker import DROP_TOLD_S, MODEL_FAILURES
from gpushare.core.errors import ModelFailing, OllamaBroken
from gpushare.core.model import Outcome
from gpushare.engine.stuck import StuckModels
from tests.unit.engine.test_health import Clinic
from tests.unit.engine.test_slots import settle_loop


class Memory:
    """Ollama's memory; it may refuse."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses = False

    async def unload(self, model: str) -> None:
        """Notes it."""
        self.asked.append(model)
        if self.refuses:
            raise OllamaBroken("answered an unload with status 500")


class Ward(Clinic):
    """A breaker, a memory, and what drops models from it."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.seen: list[tuple[list[str], tuple[str, ...]]] = []
        self.stuck = StuckModels(self.memory, self.health, look=self.look, enabled=True)
        self.start()

    def start(self) -> None:
        """Runs it."""
        self.task = asyncio.create_task(self.stuck.run())

    async def look(self) -> None:
        """Notes what was asked to leave, and what nobody may ask for yet."""
        self.seen.append((list(self.memory.asked), self.health.shut_models()))

    async def ended(self, outcome: Outcome, *models: str, status: int = 504) -> None:
        """Ends calls, as often as shuts a model."""
        for _ in range(MODEL_FAILURES):
            for model in models:
                self.health.ended(model, outcome, status, loading=True)
        await settle_loop()


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    """One that runs."""
    bench = Ward()
    yield bench
    bench.task.cancel()
    await asyncio.wait([bench.task])


async def test_a_silent_model_is_dropped_once_and_tried_again(ward: Ward) -> None:
    """P14: the next call is let on at once; that it was dropped is said until it answers."""
    with capture_logs() as lines:
        await ward.ended(Outcome.TIMEOUT_FIRST_BYTE, "big")
    assert ward.memory.asked == ["big"]
    assert ward.seen == [(["big"], ("big",))]  # else the next call would pass for one of a loaded model
    assert [line["model"] for line in lines if line["event"] == "model.dropped"] == ["big"]
    assert (ward.health.dropped_models(), ward.health.shut_models(), ward.health.drops) == (("big",), (), 1)
    ward.health.admit("big")
    with pytest.raises(ModelFailing):
        ward.health.admit("big")
    ward.health.ended("big", Outcome.OK, 200)
    assert ward.health.dropped_models() == ()
    ward.health.admit("big")


async def test_what_was_dropped_is_not_told_for_ever(ward: Ward) -> None:
    """Nobody may ask for it again: it is told for an hour."""
    await ward.ended(Outcome.TIMEOUT_FIRST_BYTE, "big")
    ward.clock.now += DROP_TOLD_S - 1.0
    assert ward.health.dropped_models() == ("big",)
    ward.clock.now += 1.0
    assert ward.health.dropped_models() == ()


async def test_it_is_dropped_again_when_that_did_not_help(ward: Ward) -> None:
    """The trial is silent too: the model stays shut for twice as long, unless it can be dropped again."""
    ward.memory.refuses = True
    await ward.ended(Outcome.TIMEOUT_IDLE, "big")
    assert ward.health.shut_models() == ("big",)
    assert ward.health.drops == 0
    ward.clock.now += 40.0
    ward.health.admit("big")
    ward.memory.refuses = False
    ward.health.ended("big", Outcome.TIMEOUT_FIRST_BYTE, 504)
    await settle_loop()
    assert ward.memory.asked == ["big", "big"]
    assert ward.health.dropped_models() == ("big",)


async def test_what_ollama_refuses_is_logged(ward: Ward) -> None:
    """The model is shut as if nothing had been asked, and the next one is dropped all the same."""
    ward.memory.refuses = True
    with capture_logs() as lines:
        await ward.ended(Outcome.TIMEOUT_FIRST_BYTE, "big", "large")
    kept = {line["model"]: line["reason"] for line in lines if line["event"] == "model.kept"}
    assert kept.keys() == {"big", "large"}
    assert "status 500" in kept["big"]
    assert set(ward.health.shut_models()) == {"big", "large"}


async def test_other_failures_drop_nothing(ward: Ward) -> None:
    """An error of Ollama's own is an answer: the model is not stuck."""
    await ward.ended(Outcome.UPSTREAM_ERROR, "big", status=500)
    assert ward.health.shut_models() == ("big",)
    assert ward.memory.asked == []


async def test_without_the_setting_nothing_is_dropped(ward: Ward) -> None:
    """Others may need the model more than a cure."""
    ward.stuck.enabled = False
    await ward.ended(Outcome.TIMEOUT_FIRST_BYTE, "big")
    assert ward.memory.asked == []
    assert ward.health.shut_models() == ("big",)


async def test_what_is_left_of_a_run_that_failed(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run drops it, without news."""
    monkeypatch.setattr(ward.memory, "unload", None)
    with capture_logs():
        await ward.ended(Outcome.TIMEOUT_FIRST_BYTE, "big", "large")
    assert ward.task.done()
    assert isinstance(ward.task.exception(), TypeError)
    monkeypatch.undo()
    ward.start()
    await settle_loop()
    assert len(ward.memory.asked) == 1
