"""The GPUs beside a whole gateway: on the page, and never in the way of a call."""

import json
from pathlib import Path
from typing import Any

from tests.driver.nvml_library import CARD, GPU_IS_LOST
from tests.harness import Gate, chat, gateway
from tests.machine import TWO_CARDS, Machine, children, driver_readers, machine

__all__ = ["machine"]

HANGS = [{**CARD, "hang": "nvmlDeviceGetUtilizationRates"}]
SETTINGS = '[gpu]\ninterval = "500ms"\n'


async def gpus(gate: Gate) -> list[Any]:
    """Returns the cards of the status document, as anybody sees them."""
    _, _, body = await gate.request("GET", "/gpushare/v1/status", who=None)
    cards: list[Any] = json.loads(body)["gpus"]
    return cards


async def test_cards_are_on_the_page_and_in_the_metrics(tmp_path: Path, machine: Machine) -> None:
    """P38: what the driver says is shown, and the loss of a card within the next readings."""
    async with gateway(tmp_path, settings=SETTINGS, gpu="auto") as gate:
        watch = gate.parts.gpus
        assert watch is not None
        await gate.until(lambda: watch.view.readable)
        assert [(card["busy"], card["lost"]) for card in await gpus(gate)] == [(0.87, False), (0.05, False)]
        machine.says(cards=[{**CARD, "uuid": "GPU-1", "errors": {"every call": GPU_IS_LOST}}, TWO_CARDS[1]])
        await gate.until(lambda: watch.view.note)
        assert [(card["busy"], card["lost"]) for card in await gpus(gate)] == [(None, True), (0.05, False)]
        _, _, page = await gate.request("GET", "/status")
        assert b"No numbers: GPU 0: GPU is lost." in page
        _, _, page = await gate.request("GET", "/metrics", who=None)
        assert b'gpushare_gpu_up{gpu="0",uuid="GPU-1"} 0.0' in page
        assert b'gpushare_gpu_busy_ratio{gpu="1",uuid="GPU-2"} 0.05' in page


async def test_a_driver_that_hangs_holds_no_call_up(tmp_path: Path, machine: Machine) -> None:
    """Calls run and the gateway ends while a call into the driver never comes back."""
    machine.says(cards=HANGS)
    async with gateway(tmp_path, settings=SETTINGS, gpu="nvml") as gate:
        await gate.until(driver_readers)
        status, _, _ = await gate.post("/api/chat", chat())
        assert status == 200
        assert await gpus(gate) == []
        assert len(driver_readers()) == 1
    assert children() == []
