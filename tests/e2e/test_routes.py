"""The routes beyond plain conversation, through the libraries that use them."""

import json
from pathlib import Path

import anthropic
import ollama
import openai
import pytest

from gpushare.sim import Script, SimModel
from tests.e2e.async_libraries import langchain
from tests.e2e.library import EMBEDDER, MODEL
from tests.e2e.python_libraries import TOKENS, bearer, said
from tests.harness import Gate, gateway

SAY, ANSWER = "#sim:tokens=3", "This is the "


async def test_ollama_generates(gate: Gate) -> None:
    """``generate``: whole, streamed, with counts, and as the form that only loads a model."""
    async with ollama.AsyncClient(host=gate.url, headers=bearer(gate.keys["alice"])) as client:
        whole = await client.generate(MODEL, SAY)
        parts = [part async for part in await client.generate(MODEL, SAY, stream=True)]
        loaded = await client.generate(MODEL)
    assert (whole.response, whole.eval_count, whole.done_reason) == (ANSWER, 3, "stop")
    assert [part.response for part in parts] == ["This ", "is ", "the ", ""]
    assert whole.context
    assert loaded.done_reason == "load"


async def test_ollama_options_and_thoughts(tmp_path: Path) -> None:
    """Options and ``think`` reach Ollama as they were set, and thoughts come back apart from the answer."""
    script = Script(models=(SimModel(name="thinker:latest", thinking=True),))
    async with (
        gateway(tmp_path, script=script) as gate,
        ollama.AsyncClient(host=gate.url, headers=bearer(gate.keys["alice"])) as client,
    ):
        options = {"temperature": 0.25, "num_ctx": 8192}
        answer = await client.chat("thinker", said("#sim:thinking=2,tokens=3"), think=True, options=options)
        body = json.loads((await gate.sim.arrived(0, path="/api/chat")).body)
    assert (answer.message.thinking, answer.message.content) == ("This is ", ANSWER)
    assert (body["options"], body["think"]) == (options, True)


async def test_ollama_lists_what_is_loaded(gate: Gate) -> None:
    """``ps`` names the model that was just used; the old form of embeddings still works."""
    async with ollama.AsyncClient(host=gate.url, headers=bearer(gate.keys["alice"])) as client:
        assert len((await client.embeddings(EMBEDDER, "one")).embedding) == gate.sim.script.dimensions
        assert [one.model for one in (await client.ps()).models] == ["embed:latest"]


async def test_ollama_unloading_is_for_admins(gate: Gate) -> None:
    """Nobody takes a model away from the others; ``ollama stop`` says so."""
    async with ollama.AsyncClient(host=gate.url, headers=bearer(gate.keys["alice"])) as client:
        with pytest.raises(ollama.ResponseError, match="Unloading m affects everybody here") as caught:
            await client.generate(MODEL, keep_alive=0)
    assert caught.value.status_code == 403


async def test_openai_counts_tokens(gate: Gate) -> None:
    """The usage comes with a whole answer, and with a stream if it was asked for."""
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=gate.keys["alice"]) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": SAY}])
        chunks = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": SAY}],
            stream=True,
            stream_options={"include_usage": True},
        )
        last = [chunk async for chunk in chunks][-1]
    assert whole.usage
    assert last.usage
    assert whole.usage.completion_tokens == last.usage.completion_tokens == 3
    done = [entry for entry in gate.logs if entry["event"] == "request.done"]
    assert [entry["tokens_out"] for entry in done] == [3, 3]


async def test_openai_completes(gate: Gate) -> None:
    """The old completions, whole and streamed."""
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=gate.keys["alice"]) as client:
        whole = await client.completions.create(model=MODEL, prompt=SAY)
        chunks = await client.completions.create(model=MODEL, prompt=SAY, stream=True)
        pieces = [chunk.choices[0].text async for chunk in chunks]
    assert whole.choices[0].text == "".join(pieces) == ANSWER


async def test_openai_responds(gate: Gate) -> None:
    """The responses interface, whole and as events in their order."""
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=gate.keys["alice"]) as client:
        whole = await client.responses.create(model=MODEL, input=SAY)
        events = [event async for event in await client.responses.create(model=MODEL, input=SAY, stream=True)]
    assert whole.output_text == ANSWER
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == ANSWER


async def test_openai_transcribes(gate: Gate) -> None:
    """A sound file is sent as a form, and the words come back."""
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=gate.keys["alice"]) as client:
        answer = await client.audio.transcriptions.create(model=MODEL, file=("a.wav", b"RIFF" + bytes(4096)))
    assert answer.text == "simulated words"


async def test_openai_counts_vectors(gate: Gate) -> None:
    """Vectors as numbers are those the library unpacks from base64 by default."""
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=gate.keys["alice"]) as client:
        packed = await client.embeddings.create(model=EMBEDDER, input="one")
        plain = await client.embeddings.create(model=EMBEDDER, input="one", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)


async def test_anthropic_thinks(gate: Gate) -> None:
    """The stream's final message has the thoughts, the text and the true counts."""
    async with (
        anthropic.AsyncAnthropic(base_url=gate.url, api_key=gate.keys["alice"]) as client,
        client.messages.stream(
            model=MODEL,
            max_tokens=TOKENS,
            system="Be brief.",
            messages=[{"role": "user", "content": "#sim:thinking=2,tokens=3"}],
        ) as stream,
    ):
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 5)


async def test_langchain_counts_tokens(gate: Gate) -> None:
    """The message carries the usage."""
    async with openai.DefaultAsyncHttpxClient() as http:
        answer = await langchain(gate.url, gate.keys["alice"], http).ainvoke(SAY)
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 3


async def test_a_raw_answer_has_our_headers(gate: Gate) -> None:
    """The libraries' raw access shows the id that the log line has."""
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=gate.keys["alice"]) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": SAY}]
        )
    assert raw.request_id == raw.headers["X-Gpushare-Request"]
    await gate.until(lambda: [one for one in gate.logs if one.get("request") == raw.request_id])
