"""The npm libraries and curl: programs of their own, each behind the verbs of ``Library``."""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, cast

from tests.e2e.library import EMBEDDER, MODEL, Child, Failure, Library
from tests.e2e.python_libraries import FUNCTION, bearer, pieces_of, said

NODE = Path(__file__).parent / "node"


class ScriptError(Exception):
    """What a script or curl reported."""

    def __init__(self, name: str, status: int | None, text: str) -> None:
        super().__init__(name)
        self.name = name
        self.status = status
        self.text = text


class NodeLibrary(Library):
    """A script in ``tests/e2e/node``, started for each call; it prints one JSON object a line."""

    script: ClassVar[str]
    errors = (ScriptError,)

    def start(self, verb: str, **arguments: object) -> Child:
        """Starts one call."""
        settings = {"url": self.url, "key": self.key, "headers": self.headers, "retries": self.retries}
        return Child("node", str(NODE / self.script), json.dumps({"verb": verb, **settings, **arguments}))

    def run(self, verb: str, **arguments: object) -> Any:
        """Returns what one call returned."""
        child = self.start(verb, **arguments)
        outcomes = list(child.lines())
        complaint = child.end()
        assert len(outcomes) == 1, complaint
        return outcome(outcomes[0])

    def say(self, text: str, *, model: str = MODEL) -> str:
        return str(self.run("say", text=text, model=model))

    def stream(self, text: str) -> Generator[str]:
        child = self.start("stream", text=text, model=MODEL)
        try:
            for line in child.lines():
                piece = outcome(line)
                if piece is not None:
                    yield piece
        finally:
            child.end()

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        name, arguments = self.run("callTool", text=text, model=MODEL, tool=FUNCTION)
        return name, arguments

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return cast("list[list[float]]", self.run("embed", texts=list(texts), model=EMBEDDER))

    def models(self) -> list[str]:
        return cast("list[str]", self.run("models"))

    def show(self, model: str) -> str:
        return str(self.run("show", model=model))

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, ScriptError)
        return Failure(error.status, error.text)


def outcome(line: str) -> Any:
    """Returns the value a script printed.

    Raises:
        ScriptError: the library threw.
    """
    printed = json.loads(line)
    if error := printed.get("error"):
        raise ScriptError(error["name"], error.get("status"), error["text"])
    return printed["value"]


class OllamaJs(NodeLibrary):
    """``ollama`` from npm; it never repeats a call."""

    script = "ollama.mjs"
    path = "/api/chat"


class OpenAIJs(NodeLibrary):
    """``openai`` from npm."""

    script = "openai.mjs"
    path = "/v1/chat/completions"


class Curl(Library):
    """curl with ``-d``, so with the content type of a form."""

    path = "/api/chat"
    errors = (ScriptError, RuntimeError)

    def words(self, path: str, body: object = None) -> list[str]:
        """Returns the command line of one call; the status goes to standard error."""
        words = ["curl", "--silent", "--no-buffer", "--write-out", "%{stderr}%{http_code}"]
        # A refused try's body would stand in front of the next one's.
        words += ["--fail", "--retry", str(self.retries)] if self.retries else ["--fail-with-body"]
        for name, value in {**bearer(self.key), **self.headers}.items():
            words += ["-H", f"{name}: {value}"]
        words += ["-d", json.dumps(body)] if body is not None else []
        return [*words, self.url + path]

    def lines(self, path: str, body: object = None) -> Generator[str]:
        """Yields the lines of the answer.

        Raises:
            ScriptError: curl was refused; the lines were the refusal.
        """
        child = Child(*self.words(path, body))
        lines = []
        try:
            for line in child.lines():
                lines.append(line)
                yield line
        except GeneratorExit:
            child.process.terminate()
            raise
        finally:
            status = child.end()
        if int(status) >= 400:
            raise ScriptError("curl", int(status), json.loads("".join(lines))["error"])

    def send(self, path: str, body: object = None) -> Any:
        """Returns the JSON of a whole answer."""
        return json.loads("".join(self.lines(path, body)))

    def say(self, text: str, *, model: str = MODEL) -> str:
        body = {"model": model, "messages": said(text), "stream": False}
        return str(self.send(self.path, body)["message"]["content"])

    def stream(self, text: str) -> Generator[str]:
        with closing(self.lines(self.path, {"model": MODEL, "messages": said(text)})) as lines:
            yield from pieces_of(lines)

    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        body = {"model": MODEL, "messages": said(text), "tools": [FUNCTION], "stream": False}
        function = self.send(self.path, body)["message"]["tool_calls"][0]["function"]
        return function["name"], function["arguments"]

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        body = {"model": EMBEDDER, "input": list(texts)}
        return cast("list[list[float]]", self.send("/api/embed", body)["embeddings"])

    def models(self) -> list[str]:
        return [one["name"] for one in self.send("/api/tags")["models"]]

    def show(self, model: str) -> str:
        return str(self.send("/api/show", {"model": model})["details"]["family"])

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, ScriptError):
            return Failure(error.status, error.text)
        return Failure(None, str(error))
