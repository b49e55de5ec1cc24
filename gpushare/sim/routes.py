"""The simulated Ollama's routes, and its errors before the first byte."""

import asyncio
import base64
import hashlib
import re
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from gpushare.sim import anthropic, gojson, openai
from gpushare.sim.answer import Answer
from gpushare.sim.asks import Ask, BadAsk, octets, read_ask, read_object, tokens_of
from gpushare.sim.generation import WRITERS, Generation
from gpushare.sim.gpu import Gpu, GpuError
from gpushare.sim.journal import Entry
from gpushare.sim.records import Final, Piece
from gpushare.sim.script import Script, SimModel, read_marker
from gpushare.sim.store import Store, full_name, is_name, one_model

JSON = {"Content-Type": "application/json; charset=utf-8"}
V1_JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
_STATUS_TEXTS = {
    404: "model '{model}' not found",
    500: "llama runner process has terminated: exit status 2",
    503: "server busy, please try again.  maximum pending requests exceeded",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What the routes work on."""

    script: Script
    gpu: Gpu
    store: Store


Handler = Callable[[Machine, Entry, Answer], Awaitable[None]]


async def refuse(entry: Entry, answer: Answer, *, status: int, text: str = "", early: bool = False) -> None:
    """Answers an error in the dialect of the path; ``early``: found by the checks in front of ``/v1``."""
    default = _STATUS_TEXTS.get(status, "something went wrong").format(model=entry.model)
    text = text or entry.plan.message or default
    if not entry.path.startswith("/v1/"):
        await answer.single(status, JSON, gojson.dump({"error": text}))
        return
    shape = anthropic.error if entry.path == "/v1/messages" else openai.error
    body = gojson.dump(shape(status, text))
    await answer.single(status, JSON if early else V1_JSON, body if early else body + b"\n")


async def _running(_: Machine, __: Entry, answer: Answer) -> None:
    await answer.single(200, {"Content-Type": "text/plain; charset=utf-8"}, b"Ollama is running")


async def _version(machine: Machine, _: Entry, answer: Answer) -> None:
    await answer.single(200, JSON, gojson.dump({"version": machine.script.version}))


async def _status(_: Machine, __: Entry, answer: Answer) -> None:
    await answer.single(200, JSON, gojson.dump({"cloud": {"disabled": True, "source": "env"}}))


async def _recommendations(_: Machine, __: Entry, answer: Answer) -> None:
    await answer.single(200, JSON, gojson.dump({"recommendations": []}))


async def _tags(machine: Machine, _: Entry, answer: Answer) -> None:
    await answer.single(200, JSON, gojson.dump(machine.store.tags()))


async def _ps(machine: Machine, _: Entry, answer: Answer) -> None:
    now = asyncio.get_running_loop().time()
    await answer.single(200, JSON, gojson.dump(machine.store.ps(machine.gpu, now)))


async def _v1_models(machine: Machine, _: Entry, answer: Answer) -> None:
    await answer.single(200, V1_JSON, gojson.dump(machine.store.models()) + b"\n")


async def _v1_model(machine: Machine, entry: Entry, answer: Answer) -> None:
    name = entry.path.removeprefix("/v1/models/")
    _installed(machine, name)
    await answer.single(200, V1_JSON, gojson.dump(one_model(name)) + b"\n")


async def _show(machine: Machine, entry: Entry, answer: Answer) -> None:
    fields = read_object(entry.path, entry.body)
    name = str(fields.get("model") or fields.get("name") or "")
    if not name:
        raise BadAsk(400, "model is required")
    model = _installed(machine, name)
    await answer.single(
        200, JSON, gojson.dump(machine.store.show(model, verbose=bool(fields.get("verbose"))))
    )


async def _generate(machine: Machine, entry: Entry, answer: Answer) -> None:
    ask = _ask(entry)
    native_chat = entry.path == "/api/chat"
    if not is_name(ask.model) and (native_chat or entry.path.startswith("/v1/")):
        raise BadAsk(400, "model is required")
    model = _installed(machine, ask.model)
    if model.embedding:
        verb = "generate" if entry.path in ("/api/generate", "/v1/completions") else "chat"
        raise BadAsk(400, f'"{ask.model}" does not support {verb}')
    if ask.think and not model.thinking:
        raise BadAsk(400, f'"{ask.model}" does not support thinking')
    if ask.empty and ask.keep_alive_s == 0:
        await _unload(machine, ask, answer, name=full_name(ask.model))
        return
    await Generation(machine.script, machine.gpu, ask=ask, model=model, entry=entry).run(answer)


async def _unload(machine: Machine, ask: Ask, answer: Answer, *, name: str) -> None:
    """Drops the model as soon as its last running request ends; the answer does not wait for that."""
    runner = machine.gpu.resident.get(name)
    if runner is not None:
        runner.keep_alive_s = 0.0
        if not runner.users:
            machine.gpu.unload(name)
    await answer.single(200, JSON, WRITERS[ask.path](ask).whole(Piece(), Final(reason="unload")))


async def _embed(machine: Machine, entry: Entry, answer: Answer) -> None:
    ask = _ask(entry)
    model = machine.store.find(ask.model)
    if model is None:
        raise BadAsk(404, f'model "{ask.model}" not found, try pulling it first')
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with machine.gpu.runner(model, ask.options, keep_alive_s=ask.keep_alive_s, entry=entry) as runner:
        loaded = loop.time()
        if not ask.empty:
            async with machine.gpu.slot(runner, entry=entry):
                per_input_s = 1 / model.tokens_per_s if model.tokens_per_s else 0.0
                await asyncio.sleep((entry.plan.ttft_ms or 0.0) / 1000 + per_input_s * len(ask.inputs))
        vectors = [_vector(text, machine.script.dimensions) for text in ask.inputs]
        tokens = sum(tokens_of(text) for text in ask.inputs)
        times = (int((loop.time() - begun) * 1e9), int((loaded - begun) * 1e9))
        headers, body = _embedding_body(ask, vectors, tokens=tokens, times=times)
        await answer.single(200, headers, body)
        entry.wrote_record()


def _embedding_body(
    ask: Ask, vectors: list[list[float]], *, tokens: int, times: tuple[int, int]
) -> tuple[dict[str, str], bytes]:
    """Returns the headers and body of the three embedding routes; ``times`` are total and load, ns."""
    if ask.path == "/api/embeddings":
        return JSON, gojson.dump({"embedding": vectors[0] if vectors else []})
    if ask.path == "/v1/embeddings":
        packed = str(ask.body.get("encoding_format")).lower() == "base64"
        shown = [_base64(vector) for vector in vectors] if packed else vectors
        return V1_JSON, gojson.dump(
            openai.embedding_list(ask, cast("list[list[float]]", shown), tokens)
        ) + b"\n"
    metrics = {"total_duration": times[0], "load_duration": times[1], "prompt_eval_count": tokens}
    kept = {name: value for name, value in metrics.items() if value}
    return JSON, gojson.dump({"model": ask.model, "embeddings": vectors, **kept})


async def _transcribe(machine: Machine, entry: Entry, answer: Answer) -> None:
    """Finds the form's fields by their names; the audio itself is not looked at."""
    named = re.search(rb'name="model"\r\n\r\n([^\r]+)\r\n', entry.body)
    if named is None:
        raise BadAsk(400, "model is required", early=True)
    entry.model = named[1].decode()
    model = _installed(machine, entry.model)
    async with machine.gpu.runner(model, {}, keep_alive_s=None, entry=entry) as runner:
        async with machine.gpu.slot(runner, entry=entry):
            await asyncio.sleep((entry.plan.ttft_ms or 0.0) / 1000)
        if re.search(rb'name="response_format"\r\n\r\ntext\r\n', entry.body):
            await answer.single(200, {"Content-Type": "text/plain; charset=utf-8"}, b"simulated words")
        else:
            await answer.single(200, V1_JSON, gojson.dump({"text": "simulated words"}) + b"\n")
        entry.wrote_record()


async def _progress(machine: Machine, entry: Entry, answer: Answer) -> None:
    """Pull, push and create: progress lines, or one object without streaming."""
    fields = read_object(entry.path, entry.body)
    name = str(fields.get("model") or fields.get("name") or "")
    if not name:
        raise BadAsk(400, "invalid model name")
    if entry.path != "/api/push":
        machine.store.put(name)
    if fields.get("stream") is False:
        await answer.single(200, JSON, gojson.dump({"status": "success"}))
        return
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    steps: list[dict[str, object]] = [{"status": "pulling manifest"}]
    steps += [
        {"status": f"pulling {digest[7:19]}", "digest": digest, "total": 400, "completed": done}
        for done in (100, 400)
    ]
    await answer.strike(None)
    answer.start(200, NDJSON)
    for number, step in enumerate([*steps, {"status": "verifying sha256 digest"}, {"status": "success"}]):
        await asyncio.sleep((entry.plan.delay_ms or 0.0) / 1000)
        await answer.strike(number)
        await answer.piece(gojson.dump(step) + b"\n")
        entry.wrote_record()
    await answer.end()


async def _copy(machine: Machine, entry: Entry, answer: Answer) -> None:
    fields = read_object(entry.path, entry.body)
    source, destination = str(fields.get("source") or ""), str(fields.get("destination") or "")
    model = machine.store.find(source)
    if model is None:
        raise BadAsk(404, f'model "{source}" not found')
    machine.store.put(destination, model)
    await answer.single(200, {}, b"")


async def _delete(machine: Machine, entry: Entry, answer: Answer) -> None:
    fields = read_object(entry.path, entry.body)
    name = str(fields.get("model") or fields.get("name") or "")
    if not machine.store.remove(name):
        raise BadAsk(404, f"model '{name}' not found")
    machine.gpu.unload(full_name(name))
    await answer.single(200, {}, b"")


async def _blob(machine: Machine, entry: Entry, answer: Answer) -> None:
    """HEAD asks, POST uploads; the body is hashed, not kept."""
    digest = entry.path.removeprefix("/api/blobs/").removeprefix("sha256").lstrip(":-")
    if entry.method == "HEAD":
        await answer.single(200 if digest in machine.store.blobs else 404, {}, b"")
    elif digest in machine.store.blobs:
        await answer.single(200, {}, b"")
    elif entry.body.decode() != digest:
        raise BadAsk(400, "digest mismatch, expected sha256:" + digest)
    else:
        machine.store.blobs.add(digest)
        await answer.single(201, {}, b"")


async def _account(_: Machine, entry: Entry, answer: Answer) -> None:
    del entry
    body = {"error": "unauthorized", "signin_url": "https://ollama.com/connect?name=sim&key=c2lt"}
    await answer.single(401, JSON, gojson.dump(body))


def _ask(entry: Entry) -> Ask:
    """Reads the request and lets a marker in its text change the plan."""
    ask = read_ask(entry.path, entry.body)
    entry.model = ask.model
    entry.plan = read_marker(ask.text, entry.plan)
    if not entry.keep_body:
        entry.body = b""
    if entry.plan.status:
        raise GpuError(entry.plan.status, "")
    return ask


def _installed(machine: Machine, name: str) -> SimModel:
    model = machine.store.find(name) if is_name(name) else None
    if model is None:
        raise BadAsk(404, f"model '{name}' not found")
    return model


def _vector(text: str, dimensions: int) -> list[float]:
    """Returns a unit-less vector that depends on the text alone; never zero, never in exponent form."""
    seed = hashlib.shake_128(octets(text)).digest(2 * dimensions)
    numbers = struct.unpack(f"<{dimensions}H", seed)
    return [(number % 9999 + 1) / 10_000 for number in numbers]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): _running,
    ("HEAD", "/"): _running,
    ("GET", "/api/version"): _version,
    ("HEAD", "/api/version"): _version,
    ("GET", "/api/status"): _status,
    ("GET", "/api/tags"): _tags,
    ("HEAD", "/api/tags"): _tags,
    ("POST", "/api/show"): _show,
    ("GET", "/api/ps"): _ps,
    ("GET", "/v1/models"): _v1_models,
    ("GET", "/v1/models/*"): _v1_model,
    ("GET", "/api/experimental/model-recommendations"): _recommendations,
    ("POST", "/api/generate"): _generate,
    ("POST", "/api/chat"): _generate,
    ("POST", "/api/embed"): _embed,
    ("POST", "/api/embeddings"): _embed,
    ("POST", "/v1/chat/completions"): _generate,
    ("POST", "/v1/completions"): _generate,
    ("POST", "/v1/embeddings"): _embed,
    ("POST", "/v1/responses"): _generate,
    ("POST", "/v1/messages"): _generate,
    ("POST", "/v1/audio/transcriptions"): _transcribe,
    ("POST", "/api/pull"): _progress,
    ("POST", "/api/push"): _progress,
    ("POST", "/api/create"): _progress,
    ("POST", "/api/copy"): _copy,
    ("DELETE", "/api/delete"): _delete,
    ("HEAD", "/api/blobs/*"): _blob,
    ("POST", "/api/blobs/*"): _blob,
    ("POST", "/api/me"): _account,
    ("POST", "/api/signout"): _account,
    ("DELETE", "/api/user/keys/*"): _account,
    ("POST", "/api/experimental/web_search"): _account,
    ("POST", "/api/experimental/web_fetch"): _account,
}


def route_at(method: str, path: str) -> Handler | None:
    """Returns the handler of exactly this method and path."""
    parent = path.rpartition("/")[0] + "/*"
    return _ROUTES.get((method, path)) or _ROUTES.get((method, parent))


def route(entry: Entry) -> tuple[Handler | None, list[str]]:
    """Returns the handler, or None and the methods the path has."""
    handler = route_at(entry.method, entry.path)
    methods = ("GET", "POST", "HEAD", "DELETE")
    return handler, [] if handler else [one for one in methods if route_at(one, entry.path)]
