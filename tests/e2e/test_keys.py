"""Every place a library can put a key, the dummies some insist on, and the command line's own rule."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.e2e.conftest import Connect, every_library
from tests.e2e.library import DUMMY, MODEL, Library
from tests.e2e.program_libraries import Curl, NodeLibrary, OllamaJs, OpenAIJs
from tests.e2e.python_libraries import TOKENS, Ollama, Requests, said
from tests.harness import Gate

SAY, ANSWER = "#sim:tokens=3", "This is the "
COMMAND_LINE = {"User-Agent": "ollama/0.33.0 (amd64 linux) Go/go1.24.1"}


def basic(user: str, password: str) -> dict[str, str]:
    """Returns the header of Basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# What a person sets, given the gateway's address and the key.
PLACES: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "the library's own setting": lambda url, key: {"url": url, "key": key},
    "x-api-key": lambda url, key: {"url": url, "key": "", "headers": {"x-api-key": key}},
    "api-key": lambda url, key: {"url": url, "key": "", "headers": {"Api-Key": key}},
    "a password": lambda url, key: {"url": url, "key": "", "headers": basic("alice", key)},
    "a user name": lambda url, key: {"url": url, "key": "", "headers": basic(key, "")},
    "the path": lambda url, key: {"url": f"{url}/k/{key}", "key": ""},
    "the path, with a slash and a dummy key": lambda url, key: {"url": f"{url}/k/{key}/", "key": DUMMY},
}
STARTED_FOR_EACH = ("x-api-key", "a password", "the path, with a slash and a dummy key")
"""Enough for a library whose every call starts a program; the others are in its other tests."""


@every_library()
async def test_a_key_counts_wherever_it_is(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Each place lets the call in, no dummy gets in the way, and no key reaches Ollama."""
    names = STARTED_FOR_EACH if issubclass(kind, NodeLibrary) else tuple(PLACES)
    libraries = {name: connect(kind, **PLACES[name](gate.url, gate.keys["alice"])) for name in names}
    answers = {name: await asyncio.to_thread(library.say, SAY) for name, library in libraries.items()}
    assert answers == dict.fromkeys(names, ANSWER)
    assert "gs_" not in repr([(entry.target, entry.headers) for entry in gate.sim.log])


@every_library(Ollama, OllamaJs, OpenAIJs)
async def test_a_key_in_the_address(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """``http://user:key@host`` works in the libraries that know it; the others drop it or throw."""
    url = gate.url.replace("//", f"//alice:{gate.keys['alice']}@")
    assert await asyncio.to_thread(connect(kind, url=url, key="").say, SAY) == ANSWER


async def test_environment_of_ollama(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """``OLLAMA_HOST`` and ``OLLAMA_API_KEY`` are all that ollama-python needs."""
    monkeypatch.setenv("OLLAMA_HOST", gate.url)
    monkeypatch.setenv("OLLAMA_API_KEY", gate.keys["alice"])
    async with ollama.AsyncClient() as client:
        answer = await client.chat(model=MODEL, messages=said(SAY))
    assert answer.message.content == ANSWER


async def test_environment_of_openai(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` are all that the OpenAI library needs."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{gate.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", gate.keys["alice"])
    async with openai.AsyncOpenAI() as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": SAY}]
        )
    assert answer.choices[0].message.content == ANSWER


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
async def test_environment_of_anthropic(variable: str, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ANTHROPIC_BASE_URL`` and either variable for a key are all that the Anthropic library needs."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", gate.url)
    monkeypatch.setenv(variable, gate.keys["alice"])
    async with anthropic.AsyncAnthropic() as client:
        answer = await client.messages.create(
            model=MODEL, max_tokens=TOKENS, messages=[{"role": "user", "content": SAY}]
        )
    assert "".join(block.text for block in answer.content if block.type == "text").startswith(ANSWER)


async def test_two_keys_are_refused(gate: Gate, connect: Connect) -> None:
    """A request with two people's keys has no one identity."""
    library = connect(Requests, url=f"{gate.url}/k/{gate.keys['bob']}")
    with pytest.raises(library.errors) as caught:
        await asyncio.to_thread(library.say, SAY)
    told = library.failure(caught.value)
    assert (told.status, told.text) == (
        400,
        "The request carries two different gpushare keys. Send one of them.",
    )


@pytest.mark.parametrize("key", ["", "gs_abcdef_" + "x" * 32], ids=["no key", "a wrong key"])
@pytest.mark.parametrize("kind", [Requests, pytest.param(Curl, marks=pytest.mark.needs("curl"))])
async def test_the_command_line_gets_403(kind: type[Library], key: str, gate: Gate, connect: Connect) -> None:
    """The ``ollama`` program hides what a 401 says, so it gets the same sentence with 403."""
    library = connect(kind, key=key, headers=COMMAND_LINE)
    with pytest.raises(library.errors) as caught:
        await asyncio.to_thread(library.say, SAY)
    told = library.failure(caught.value)
    assert told.status == 403
    assert "key is not valid here" in told.text if key else "needs a key" in told.text


async def test_the_command_line_with_a_key_in_its_address(gate: Gate, connect: Connect) -> None:
    """``ollama run`` looks for the server, asks for the model, loads it, and talks."""
    address = f"{gate.url}/k/{gate.keys['alice']}"
    library = connect(Requests, url=address, key="", headers=COMMAND_LINE)
    assert isinstance(library, Requests)

    def converse() -> str:
        assert library.send("HEAD", "/").status_code == 200
        assert library.show(MODEL) == "llama"
        loaded = library.send("POST", "/api/generate", {"model": MODEL}).json()
        assert (loaded["done"], loaded["done_reason"]) == (True, "load")
        return "".join(library.stream(SAY))

    assert await asyncio.to_thread(converse) == ANSWER
