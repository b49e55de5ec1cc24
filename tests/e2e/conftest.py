"""Fixtures of the e2e suite: a gateway, a library connected to it, the npm packages, a queue that is full."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.library import Library
from tests.e2e.program_libraries import NODE, Curl, NodeLibrary, OllamaJs, OpenAIJs
from tests.e2e.python_libraries import Anthropic, LangChain, Ollama, OpenAI, Requests
from tests.harness import Gate, gate, nothing_left
from tests.npm import install

__all__ = ["gate", "nothing_left"]

Connect = Callable[..., Library]

NPM = pytest.mark.needs("node", "npm")
LIBRARIES = [
    pytest.param(Ollama, id="ollama"),
    pytest.param(OpenAI, id="openai"),
    pytest.param(Anthropic, id="anthropic"),
    pytest.param(LangChain, id="langchain"),
    pytest.param(Requests, id="requests"),
    pytest.param(OllamaJs, id="ollama-js", marks=NPM),
    pytest.param(OpenAIJs, id="openai-js", marks=NPM),
    pytest.param(Curl, id="curl", marks=pytest.mark.needs("curl")),
]


def every_library(*without: type[Library]) -> pytest.MarkDecorator:
    """Runs a test with each library, save those that lack what it tests."""
    return pytest.mark.parametrize("kind", [one for one in LIBRARIES if one.values[0] not in without])


@pytest.fixture(scope="session")
def npm_packages() -> None:
    """The npm libraries."""
    install(NODE)


@pytest.fixture
def connect(gate: Gate, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Connects the test's library to the gateway, with alice's key unless told otherwise."""
    callspec = getattr(request.node, "callspec", None)
    kind = callspec.params.get("kind") if callspec else None
    if kind is not None and issubclass(kind, NodeLibrary):
        request.getfixturevalue("npm_packages")
    with ExitStack() as stack:

        def make(kind: type[Library], **options: Any) -> Library:
            url, key = options.pop("url", gate.url), options.pop("key", gate.keys["alice"])
            return stack.enter_context(kind(url, key, **options))

        yield make
