"""Ten thousand calls of clients that leave whenever they like: afterwards everything is as it was before."""

import asyncio
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

from gpushare.sim import Plan, Script
from tests.conformance.tools import STREAMING, body_of, calls, dial, know_models, post, warm
from tests.harness import Gate, gateway
from tests.integration.leaving import WAYS
from tests.unit.web.wire import Wire

CALLS = 10_000
CLIENTS = 64
PERSONS = tuple(f"person{number}" for number in range(8))
MOMENTS = ("body", "sent", "later", "later", "begun", "middle", "end")
SETTINGS = """
[queue]
slots = 4
max_waiting = 1000
max_waiting_per_person = 1000
"""


class Crowd:
    """Clients that share one stream of call numbers; ``waiting`` maps the ids of calls left while queued."""

    def __init__(self, gate: Gate, *, seed: int) -> None:
        self._gate = gate
        self._chance = random.Random(seed)
        self._numbers = iter(range(CALLS))
        self.left: dict[str, int] = {}
        self.answers: Counter[bytes] = Counter()

    async def client(self) -> None:
        """Makes one call after the other."""
        for number in self._numbers:
            async with dial(self._gate.port) as wire:
                await self._call(wire, number)

    async def _call(self, wire: Wire, number: int) -> None:
        chance = self._chance
        path = chance.choice((*STREAMING, "/api/embed", "/v1/embeddings"))
        embeds = path not in STREAMING
        fields = {"model": "embed"} if embeds else {"stream": chance.random() < 0.6}
        body = body_of(path, f"call-{number}-", **fields)
        request = post(self._gate, path, body, "Connection: close", who=chance.choice(PERSONS))
        moment = chance.choice(MOMENTS)
        await wire.send(request[:-7] if moment == "body" else request)
        await self._stay(wire, moment)
        if moment == "end":
            return
        self._note(number)
        chance.choice(list(WAYS.values()))(wire)

    async def _stay(self, wire: Wire, moment: str) -> None:
        """Waits until the moment of leaving."""
        if moment == "later":
            await asyncio.sleep(self._chance.random() * 0.3)  # anywhere between the queue and the answer
        elif moment in ("begun", "middle", "end"):
            self.answers[(await wire.until(b"\r\n"))[:12]] += 1
            if moment == "middle":
                await wire.until(b"}")
            elif moment == "end":
                await wire.rest()

    def _note(self, number: int) -> None:
        needle = f"call-{number}-".encode()
        for live in self._gate.parts.gateway.live.values():
            if needle in live.call.body:
                self.left[live.request_id] = number


async def test_ten_thousand_departures_leave_nothing_behind(tmp_path: Path) -> None:
    """P1, P2, P3, P12: no slot, place, task or descriptor is lost, and none is sent twice or for nobody."""
    script = Script(slots=4, tokens=4, default=Plan(ttft_ms=2, delay_ms=1))
    people: dict[str, dict[str, object]] = {name: {} for name in PERSONS}
    async with gateway(tmp_path, script=script, settings=SETTINGS, people=people) as gate:
        await know_models(gate)
        await warm(gate, "m", "embed")
        await gate.parts.monitor.poll()  # both models are known to fit together: nobody waits for a swap
        granted = gate.parts.slots.snapshot().granted_total
        before, tasks = descriptors(), len(asyncio.all_tasks())
        crowd = Crowd(gate, seed=1)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(crowd.client())
        await gate.rest()
        await gate.until(lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks)
        await gate.until(lambda: not gate.sim.gpu.computing)
        check_accounts(gate, crowd, granted)


def check_accounts(gate: Gate, crowd: Crowd, before: int) -> None:
    """Checks that queue, slots, log and Ollama tell the same story of the crowd."""
    done = [line for line in gate.logs if line["event"] == "request.done"]
    outcomes = Counter(line["outcome"] for line in done)
    assert set(outcomes) == {"ok", "client_gone_queued", "client_gone_running"}
    assert min(outcomes.values()) > CALLS // 20, "the mix of moments does not test much"
    assert set(crowd.answers) == {b"HTTP/1.1 200"}
    view = gate.parts.slots.snapshot()
    assert (view.held, view.waiting) == (0, ())
    assert view.granted_total == view.released_total
    ran = len(done) - outcomes["client_gone_queued"]  # a grant may meet a departure, and go on to the next
    assert ran <= view.granted_total - before <= len(done)
    assert max(backend.busy for backend in view.backends) == 0
    seen = [int(re.findall(r"call-(\d+)-", json.dumps(json.loads(entry.body)))[0]) for entry in calls(gate)]
    assert len(seen) == len(set(seen)), "a call reached Ollama twice"
    assert gate.sim.gpu.most_computing <= 4 + 2
    in_queue = {line["request"] for line in done if line["outcome"] == "client_gone_queued"}
    never = {number for request, number in crowd.left.items() if request in in_queue}
    assert len(never) > CALLS // 20
    assert not never & set(seen), "a call whose client had left the queue reached Ollama"


def descriptors() -> int:
    """Returns how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only the number matters
