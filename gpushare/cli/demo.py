"""``gpushare demo``: the whole product with invented people and a simulated Ollama.

Everything but the people and the model is real: the gateway, its queue, its keys and its pages.  Nothing is
left behind; the keys live in a temporary folder.
"""

import asyncio
import http.client
import json
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpushare.cli.key import make_record
from gpushare.cli.terminal import ExitCode, Failure, note
from gpushare.core.config import Config, load
from gpushare.core.keys import KeyRing
from gpushare.core.model import Role
from gpushare.edge.files import KeyFile

if TYPE_CHECKING:  # these load aiohttp, which --help must not wait for
    from gpushare.cli.invented import Models
    from gpushare.sim import Script

REAL = "http://127.0.0.1:11434"
_LABEL = "demo"  # the notice on every page says what that means
_YOU = "sam"
_PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of a demo: two to try, and one for each invented person."""

    you: str
    admin: str
    people: dict[str, str]


@click.command
@click.option("--people", default=6, show_default=True, type=click.IntRange(0, 12), help="How many play.")
@click.option("--port", default=11435, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--ollama", "use_real", is_flag=True, help=f"Use the real Ollama at {REAL}.")
def demo(people: int, port: int, *, use_real: bool) -> None:
    """Play the whole product: invented people, a simulated Ollama, no GPU."""
    found = models_at(REAL)
    if use_real and not found:
        raise Failure(
            "ollama-not-usable",
            f"no Ollama with a model at {REAL}",
            exit_code=ExitCode.UNREACHABLE,
            hint="without it: gpushare demo",
        )
    if found is not None and not use_real:
        note(f"An Ollama answers at {REAL}. The demo leaves it alone; to use it: gpushare demo --ollama")
    try:
        asyncio.run(_play(people, port, real=found if use_real else None))
    except OSError as error:
        raise Failure(
            "cannot-listen",
            f"cannot listen on 127.0.0.1:{port} ({error.strerror or error})",
            exit_code=ExitCode.FAILED,
            hint="another port: gpushare demo --port 0",
        ) from error


async def _play(people: int, port: int, *, real: list[str] | None) -> None:
    """Runs until SIGINT or SIGTERM."""
    from gpushare import app
    from gpushare.cli.invented import NAMES
    from gpushare.edge import logs

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="gpushare-demo-") as folder:
        key_file = KeyFile(Path(folder))
        keys = _make_keys(key_file, NAMES[:people])
        async with _upstream(real) as (ollama, models):
            config = _config(ollama, folder, gpu="fake" if real is None else "auto")
            logs.configure(config.log)
            async with app.running(config, key_file, port=port) as server:
                await server.parts.monitor.probed.wait()  # only then the pages say whose answers they show
                click.echo(_welcome(server.url, keys, models.usual, simulated=real is None))
                async with _crowd(server.url, keys.people, models):
                    await stop.wait()
    click.echo("\nThe demo has ended and left nothing behind.")


@asynccontextmanager
async def _upstream(real: list[str] | None) -> "AsyncIterator[tuple[str, Models]]":
    """Gives the address of the Ollama to use, and its models."""
    from gpushare.cli.invented import Models
    from gpushare.sim import SimOllama

    if real is not None:
        chatty = [name for name in real if "embed" not in name] or real
        embedding = next((name for name in real if "embed" in name), "")
        yield REAL, Models(usual=chatty[0], other=chatty[-1], embedding=embedding)
        return
    sim = SimOllama(_script())
    try:
        yield (
            await sim.start(),
            Models(usual="qwen3-coder:30b", other="gemma3:27b", embedding="nomic-embed-text:latest"),
        )
    finally:
        await sim.stop()


def _script() -> "Script":
    """Returns a 24 GB card that holds one of its two large models at a time."""
    from gpushare.sim import Script, SimModel

    return Script(
        models=(
            SimModel(
                name="qwen3-coder:30b",
                size=18_600_000_000,
                load_s=4.0,
                tokens_per_s=45,
                prompt_per_s=1500,
                family="qwen3moe",
                parameters="30.5B",
                context=32_768,
            ),
            SimModel(
                name="gemma3:27b",
                size=17_400_000_000,
                load_s=4.0,
                tokens_per_s=30,
                prompt_per_s=900,
                family="gemma3",
                parameters="27.4B",
                context=32_768,
            ),
            SimModel(
                name="nomic-embed-text:latest",
                size=300_000_000,
                load_s=0.5,
                tokens_per_s=40,
                embedding=True,
                family="nomic-bert",
                parameters="137M",
            ),
        ),
        memory=24_000_000_000,
        tokens=120,
        version="0.33.0-simulated",
        dimensions=768,
        keep_bodies=False,
        log_size=1000,
    )


@asynccontextmanager
async def _crowd(url: str, keys: dict[str, str], models: "Models") -> AsyncIterator[None]:
    """Lets the people live for the length of the block."""
    import aiohttp

    from gpushare.cli.invented import HABITS, Visitor, live

    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
    async with session, asyncio.TaskGroup() as tasks:
        people = [Visitor(session=session, url=url, key=key, models=models) for key in keys.values()]
        lives = [tasks.create_task(live(*both)) for both in zip(people, cycle(HABITS), strict=False)]
        yield
        for one in lives:
            one.cancel()


def _make_keys(key_file: KeyFile, names: tuple[str, ...]) -> Keys:
    made = {name: make_record(name) for name in (_YOU, *names)}
    made["admin"] = make_record("admin", role=Role.ADMIN)

    def add_all(ring: KeyRing) -> KeyRing:
        for record, _ in made.values():
            ring = ring.added(record, record.made)
        return ring

    key_file.edit(add_all)
    keys = {name: secret for name, (_, secret) in made.items()}
    return Keys(you=keys.pop(_YOU), admin=keys.pop("admin"), people=keys)


def _config(ollama: str, folder: str, *, gpu: str) -> Config:
    """Returns the defaults, whatever configuration this machine has."""
    options = {
        "server.name": _LABEL,
        "ollama.url": ollama,
        "gpu.backend": gpu,
        "state.dir": folder,
        "log.level": "warning",
    }
    return load("", source="demo", env={}, options=options).value


def _welcome(url: str, keys: Keys, model: str, *, simulated: bool) -> str:
    """Returns what to look at and what to type; nothing in it is a placeholder."""
    what = "a simulated Ollama: no model, no GPU" if simulated else f"the real Ollama at {REAL}"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    return f"""
gpushare demo with invented people and {what}.

  page       {url}/status
  your key   {keys.you}
  admin key  {keys.admin}

Ask something, and find yourself on the page:

  curl {url}/api/chat -H 'Authorization: Bearer {keys.you}' -d '{body}'

The Ollama command line takes the key in its address:

  OLLAMA_HOST={url}/k/{keys.you} ollama run {model}

Ctrl-C ends the demo.
"""


def models_at(url: str) -> list[str] | None:
    """Returns the models of the Ollama at this address, or None where none answers."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/api/tags")
        found = json.loads(connection.getresponse().read())
        return [str(model["name"]) for model in found["models"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        connection.close()
