"""The simulated Ollama as a process, so that it can be killed: ``python -m tests.soak.ollama PORT``."""

import asyncio
import sys

from gpushare.sim import Plan, Script, SimModel, SimOllama

MODELS = (
    SimModel(name="m:latest", load_s=0.2),
    SimModel(name="n:latest", load_s=0.3),
    SimModel(name="embed:latest", size=300_000_000, embedding=True, family="nomic-bert"),
)


async def main(port: int) -> None:
    """Serves until its standard input ends, so that it never outlives who started it."""
    pace = Plan(ttft_ms=5, delay_ms=2)
    sim = SimOllama(Script(models=MODELS, slots=6, default=pace, keep_bodies=False, log_size=100))
    await sim.start(port)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await sim.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
