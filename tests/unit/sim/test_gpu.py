"""Residency, swaps and slots."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gpushare.sim import Entry, Events, Plan, Script, SimModel, State
from gpushare.sim.gpu import Gpu, GpuError

SMALL = SimModel(name="small:latest", size=2)
BIG = SimModel(name="big:latest", size=9)


class Bench:
    """A GPU with room for 10, and requests that stay until they are let go."""

    def __init__(self, **changes: object) -> None:
        self.events = Events()
        self.gpu = Gpu(Script(memory=10, **changes), self.events)  # type: ignore[arg-type]

    def use(self, model: SimModel, *, keep: float | None = None, **options: object) -> "Use":
        return Use(self, model, keep, options)


class Use:
    def __init__(self, bench: Bench, model: SimModel, keep: float | None, options: dict[str, object]) -> None:
        self.entry = Entry(number=0, method="POST", target="/", headers=(), events=bench.events)
        self.entry.plan = Plan()
        self.leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(bench.gpu, model, keep, options))

    async def _run(self, gpu: Gpu, model: SimModel, keep: float | None, options: dict[str, object]) -> None:
        held = gpu.runner(model, options, keep_alive_s=keep, entry=self.entry)
        async with held as runner, gpu.slot(runner, entry=self.entry):
            await self.leave.wait()
        self.entry.enter(State.DONE)

    async def end(self) -> None:
        self.leave.set()
        await self.task


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A GPU with one slot per model."""
    made = Bench()
    yield made
    made.gpu.close()


async def test_a_model_is_loaded_once(bench: Bench) -> None:
    """The second request for a resident model does not load it again."""
    for _ in range(2):
        use = bench.use(SMALL)
        await use.entry.reached(State.PROMPT)
        await use.end()
    assert bench.gpu.loads == ["small:latest"]


async def test_slots_are_served_first_come_first_served(bench: Bench) -> None:
    """With one slot the second request waits, and computes when the first is gone."""
    first, second = bench.use(SMALL), bench.use(SMALL)
    await first.entry.reached(State.PROMPT)
    await second.entry.reached(State.WAITING)
    assert bench.gpu.computing == 1
    await first.end()
    await second.entry.reached(State.PROMPT)
    await second.end()
    assert bench.gpu.most_computing == 1


async def test_a_swap_waits_for_the_running_request(bench: Bench) -> None:
    """A model that does not fit beside the running one is loaded after its last request."""
    small = bench.use(SMALL)
    await small.entry.reached(State.PROMPT)
    big = bench.use(BIG)
    await big.entry.reached(State.PENDING)
    assert State.LOADING not in big.entry.at
    await small.end()
    await big.entry.reached(State.PROMPT)
    assert list(bench.gpu.resident) == ["big:latest"]
    await big.end()


async def test_models_that_fit_stay_beside_each_other(bench: Bench) -> None:
    """Nothing is evicted while there is room."""
    other = SimModel(name="other:latest", size=2)
    for model in (SMALL, other):
        await bench.use(model).end()
    assert set(bench.gpu.resident) == {"small:latest", "other:latest"}


async def test_other_load_options_load_again(bench: Bench) -> None:
    """The same model with another context size is a reload; sampling options are not."""
    await bench.use(SMALL).end()
    await bench.use(SMALL, num_ctx=8192).end()
    await bench.use(SMALL, num_ctx=8192, temperature=1).end()
    assert bench.gpu.loads == ["small:latest"] * 2
    assert bench.gpu.resident["small:latest"].context == 8192


async def test_a_load_is_thrown_away_when_its_requester_leaves() -> None:
    """Cancelling during the load leaves the model unloaded and the loader free."""
    bench = Bench()
    slow = SimModel(name="slow:latest", size=1, load_s=3600)
    use = bench.use(slow)
    await use.entry.reached(State.LOADING)
    use.task.cancel()
    await asyncio.wait([use.task])
    assert not bench.gpu.resident
    await bench.use(SMALL).end()
    bench.gpu.close()


async def test_the_pending_queue_is_bounded() -> None:
    """One more than the limit is refused with Ollama's words."""
    bench = Bench(max_queue=1)
    slow = SimModel(name="slow:latest", size=1, load_s=3600)
    use = bench.use(slow)
    await use.entry.reached(State.LOADING)
    with pytest.raises(GpuError, match=r"server busy, please try again\.  maximum pending") as caught:
        await bench.use(SMALL).task
    assert caught.value.status == 503
    use.task.cancel()
    await asyncio.wait([use.task])


async def test_a_model_larger_than_memory_is_refused(bench: Bench) -> None:
    """A model that can never fit is a 500."""
    with pytest.raises(GpuError, match="requires more system memory") as caught:
        await bench.use(SimModel(name="huge", size=11)).task
    assert caught.value.status == 500


async def test_keep_alive_zero_unloads_after_the_last_request(bench: Bench) -> None:
    """A request with keep_alive 0 drops the model when it ends."""
    await bench.use(SMALL, keep=0.0).end()
    assert not bench.gpu.resident


async def test_keep_alive_sticks_to_the_model(bench: Bench) -> None:
    """A request that does not say keeps what an earlier one asked for."""
    await bench.use(SMALL, keep=7.0).end()
    await bench.use(SMALL).end()
    assert bench.gpu.resident["small:latest"].keep_alive_s == 7.0


async def test_lingering_keeps_the_slot_after_the_client_left(bench: Bench) -> None:
    """A prompt batch that cannot be stopped holds the slot for a while after its client has gone."""
    first = bench.use(SMALL)
    first.entry.plan = Plan(linger_ms=20)
    await first.entry.reached(State.PROMPT)
    second = bench.use(SMALL)
    await second.entry.reached(State.WAITING)
    first.task.cancel()
    await asyncio.wait([first.task])
    assert bench.gpu.computing == 1
    assert second.entry.state is State.WAITING
    await second.entry.reached(State.PROMPT)
    await second.end()
