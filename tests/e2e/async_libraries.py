"""The asynchronous Python clients: for each, one function that asks and one that listens to a stream."""

from collections.abc import Callable, Coroutine
from typing import Any

import anthropic
import langchain_openai
import ollama
import openai
from pydantic import SecretStr

from tests.e2e.library import MODEL
from tests.e2e.python_libraries import TOKENS, bearer, said

Call = Callable[[str, str, str], Coroutine[Any, Any, str]]
"""Takes the gateway's address, a key and what to say; returns the whole answer."""


async def ask_ollama(url: str, key: str, text: str) -> str:
    """Asks with ``ollama.AsyncClient``."""
    async with ollama.AsyncClient(host=url, headers=bearer(key)) as client:
        return (await client.chat(model=MODEL, messages=said(text))).message.content or ""


async def listen_ollama(url: str, key: str, text: str) -> str:
    """Listens with ``ollama.AsyncClient``."""
    async with ollama.AsyncClient(host=url, headers=bearer(key)) as client:
        parts = await client.chat(model=MODEL, messages=said(text), stream=True)
        return "".join([part.message.content or "" async for part in parts])


async def ask_openai(url: str, key: str, text: str) -> str:
    """Asks with ``openai.AsyncOpenAI``."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}]
        )
        return answer.choices[0].message.content or ""


async def listen_openai(url: str, key: str, text: str) -> str:
    """Listens with ``openai.AsyncOpenAI``."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client:
        chunks = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}], stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def ask_anthropic(url: str, key: str, text: str) -> str:
    """Asks with ``anthropic.AsyncAnthropic``."""
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key) as client:
        answer = await client.messages.create(
            model=MODEL, max_tokens=TOKENS, messages=[{"role": "user", "content": text}]
        )
        return "".join(block.text for block in answer.content if block.type == "text")


async def listen_anthropic(url: str, key: str, text: str) -> str:
    """Listens with ``anthropic.AsyncAnthropic``."""
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key=key) as client,
        client.messages.stream(
            model=MODEL, max_tokens=TOKENS, messages=[{"role": "user", "content": text}]
        ) as stream,
    ):
        return "".join([piece async for piece in stream.text_stream])


async def ask_langchain(url: str, key: str, text: str) -> str:
    """Asks with ``ChatOpenAI.ainvoke``."""
    async with openai.DefaultAsyncHttpxClient() as http:
        return str((await langchain(url, key, http).ainvoke(text)).content)


async def listen_langchain(url: str, key: str, text: str) -> str:
    """Listens with ``ChatOpenAI.astream``."""
    async with openai.DefaultAsyncHttpxClient() as http:
        return "".join([str(chunk.content) async for chunk in langchain(url, key, http).astream(text)])


def langchain(url: str, key: str, http: openai.DefaultAsyncHttpxClient) -> langchain_openai.ChatOpenAI:
    """Returns a ``ChatOpenAI`` with an HTTP client of its own: the usual one is shared by all instances."""
    return langchain_openai.ChatOpenAI(
        model=MODEL, base_url=f"{url}/v1", api_key=SecretStr(key), http_async_client=http
    )


CALLS: dict[str, Call] = {
    "ollama": ask_ollama,
    "ollama-stream": listen_ollama,
    "openai": ask_openai,
    "openai-stream": listen_openai,
    "anthropic": ask_anthropic,
    "anthropic-stream": listen_anthropic,
    "langchain": ask_langchain,
    "langchain-stream": listen_langchain,
}
