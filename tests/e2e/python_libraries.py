"""The Python libraries people use, each behind the verbs of ``Library``."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import anthropic
import langchain_openai
import ollama
import openai
import requests
from langchain_core.messages import AIMessage
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.e2e.library import DUMMY, EMBEDDER, MODEL, WEATHER, Failure, Library

FUNCTION = {"type": "function", "function": WEATHER}
TOKENS = 1000
"""The limit that Anthropic's library wants with every call."""


def said(text: str) -> list[dict[str, str]]:
    """Returns a conversation of one message."""
    return [{"role": "user", "content": text}]


def bearer(key: str) -> dict[str, str]:
    """Returns the header for a key, nothing for none."""
    return {"Authorization": f"Bearer {key}"} if key else {}


class Ollama(Library):
    """``ollama.Client``; it never repeats a call."""

    path = "/api/chat"
    errors = (ollama.ResponseError,)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client = ollama.Client(host=self.url, headers={**bearer(self.key), **self.headers})

    def close(self) -> None:
        self.client.close()  # type: ignore[no-untyped-call]

    def say(self, text: str, *, model: str = MODEL) -> str:
        return self.client.chat(model=model, messages=said(text)).message.content or ""

    def stream(self, text: str) -> Generator[str]:
        for part in self.client.chat(model=MODEL, messages=said(text), stream=True):
            if not part.done:
                yield part.message.content or ""

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        answer = self.client.chat(model=MODEL, messages=said(text), tools=[FUNCTION])
        assert answer.message.tool_calls
        function = answer.message.tool_calls[0].function
        return function.name, dict(function.arguments)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [list(one) for one in self.client.embed(model=EMBEDDER, input=texts).embeddings]

    def models(self) -> list[str]:
        return [one.model or "" for one in self.client.list().models]

    def show(self, model: str) -> str:
        details = self.client.show(model).details
        return (details and details.family) or ""

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, ollama.ResponseError)
        # The library's own "no status" is -1.
        return Failure(error.status_code if error.status_code > 0 else None, error.error)


class OpenAI(Library):
    """``openai.OpenAI``."""

    path = "/v1/chat/completions"
    errors = (openai.APIError,)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client = openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.key or DUMMY,
            default_headers=self.headers,
            max_retries=self.retries,
        )

    def close(self) -> None:
        self.client.close()

    def say(self, text: str, *, model: str = MODEL) -> str:
        answer = self.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}]
        )
        return answer.choices[0].message.content or ""

    def stream(self, text: str) -> Generator[str]:
        with self.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}], stream=True
        ) as chunks:
            for chunk in chunks:
                if chunk.choices[0].finish_reason is None:
                    yield chunk.choices[0].delta.content or ""

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        answer = self.client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": text}],
            tools=[{"type": "function", "function": cast("Any", WEATHER)}],
        )
        calls = answer.choices[0].message.tool_calls
        assert calls
        assert calls[0].type == "function"
        return calls[0].function.name, json.loads(calls[0].function.arguments)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        answer = self.client.embeddings.create(model=EMBEDDER, input=list(texts))
        return [one.embedding for one in answer.data]

    def models(self) -> list[str]:
        return [one.id for one in self.client.models.list()]

    def show(self, model: str) -> str:
        return self.client.models.retrieve(model).id

    def failure(self, error: Exception) -> Failure:
        return openai_failure(error)


def openai_failure(error: Exception) -> Failure:
    """Returns the status and the sentence; the library keeps the error object's fields in ``body``."""
    assert isinstance(error, openai.APIError)
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    body = cast("Mapping[str, Any]", error.body)
    return Failure(status, str(body["message"]))


class Anthropic(Library):
    """``anthropic.Anthropic``; Ollama has no embeddings and no model list in this form."""

    path = "/v1/messages"
    errors = (anthropic.APIError,)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client = anthropic.Anthropic(
            base_url=self.url,
            api_key=self.key or DUMMY,
            default_headers=self.headers,
            max_retries=self.retries,
        )

    def close(self) -> None:
        self.client.close()

    def say(self, text: str, *, model: str = MODEL) -> str:
        answer = self.client.messages.create(
            model=model, max_tokens=TOKENS, messages=[{"role": "user", "content": text}]
        )
        return "".join(block.text for block in answer.content if block.type == "text")

    def stream(self, text: str) -> Generator[str]:
        with self.client.messages.stream(
            model=MODEL, max_tokens=TOKENS, messages=[{"role": "user", "content": text}]
        ) as stream:
            yield from stream.text_stream

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        answer = self.client.messages.create(
            model=MODEL,
            max_tokens=TOKENS,
            messages=[{"role": "user", "content": text}],
            tools=[
                {
                    "name": WEATHER["name"],
                    "description": WEATHER["description"],
                    "input_schema": WEATHER["parameters"],
                }
            ],
        )
        block = answer.content[-1]
        assert block.type == "tool_use"
        return block.name, cast("dict[str, Any]", block.input)

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, anthropic.APIError)
        # In mid-stream the library reports the status of the head, which was 200.
        status = error.status_code if isinstance(error, anthropic.APIStatusError) else 0
        body = cast("Mapping[str, Any]", error.body)
        return Failure(status if status >= 400 else None, str(body["error"]["message"]))


class LangChain(Library):
    """``langchain_openai``; it passes the exceptions of ``openai`` on and has no model list."""

    path = "/v1/chat/completions"
    errors = (openai.APIError,)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._http = openai.DefaultHttpxClient()  # its own would be shared with every other instance
        settings: dict[str, Any] = {
            "base_url": f"{self.url}/v1",
            "api_key": self.key or DUMMY,
            "default_headers": self.headers,
            "max_retries": self.retries,
            "http_client": self._http,
        }
        self.chat = langchain_openai.ChatOpenAI(model=MODEL, **settings)
        self.embeddings = langchain_openai.OpenAIEmbeddings(
            model=EMBEDDER,
            check_embedding_ctx_length=False,  # otherwise it sends token numbers, which Ollama refuses
            **settings,
        )

    def close(self) -> None:
        self._http.close()

    def say(self, text: str, *, model: str = MODEL) -> str:
        return str(self.chat.invoke(text, model=model).content)

    def stream(self, text: str) -> Generator[str]:
        for chunk in self.chat.stream(text):
            if chunk.content:
                yield str(chunk.content)

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        answer = self.chat.bind_tools([FUNCTION]).invoke(text)
        assert isinstance(answer, AIMessage)
        return answer.tool_calls[0]["name"], answer.tool_calls[0]["args"]

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return self.embeddings.embed_documents(list(texts))

    def failure(self, error: Exception) -> Failure:
        return openai_failure(error)


class Requests(Library):
    """``requests`` and a reader of lines, as many scripts have it."""

    path = "/api/chat"
    errors = (requests.HTTPError, RuntimeError)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session = requests.Session()
        self.session.headers.update({**bearer(self.key), **self.headers})
        if self.retries:
            retry = Retry(total=self.retries, status_forcelist=[429], allowed_methods=None)
            self.session.mount("http://", HTTPAdapter(max_retries=retry))

    def close(self) -> None:
        """Closes connections too: the session leaves that to the last answer, which an exception may hold."""
        for adapter in map(self.session.get_adapter, ("http://", "https://")):
            assert isinstance(adapter, HTTPAdapter)
            pools = adapter.poolmanager.pools
            for name in pools.keys():  # noqa: SIM118 - it is no mapping and cannot be iterated
                pools[name].close()
        self.session.close()

    def send(self, method: str, path: str, body: Any = None, *, stream: bool = False) -> requests.Response:
        """Sends a request and raises for a refusal."""
        answer = self.session.request(method, self.url + path, json=body, stream=stream, timeout=60)
        answer.raise_for_status()
        return answer

    def say(self, text: str, *, model: str = MODEL) -> str:
        body = {"model": model, "messages": said(text), "stream": False}
        return str(self.send("POST", self.path, body).json()["message"]["content"])

    def stream(self, text: str) -> Generator[str]:
        body = {"model": MODEL, "messages": said(text)}
        with self.send("POST", self.path, body, stream=True) as answer:
            yield from pieces_of(answer.iter_lines())

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        body = {"model": MODEL, "messages": said(text), "tools": [FUNCTION], "stream": False}
        function = self.send("POST", self.path, body).json()["message"]["tool_calls"][0]["function"]
        return function["name"], function["arguments"]

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        body = {"model": EMBEDDER, "input": list(texts)}
        return cast("list[list[float]]", self.send("POST", "/api/embed", body).json()["embeddings"])

    def models(self) -> list[str]:
        return [one["name"] for one in self.send("GET", "/api/tags").json()["models"]]

    def show(self, model: str) -> str:
        return str(self.send("POST", "/api/show", {"model": model}).json()["details"]["family"])

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, requests.HTTPError):
            assert error.response is not None
            return Failure(error.response.status_code, error.response.json()["error"])
        return Failure(None, str(error))


def pieces_of(lines: Iterator[bytes] | Iterator[str]) -> Generator[str]:
    """Yields the pieces of a native stream.

    Raises:
        RuntimeError: a line is an error record.
    """
    for line in lines:
        record = json.loads(line)
        if "error" in record:
            raise RuntimeError(record["error"])
        if not record["done"]:
            yield record["message"]["content"]
