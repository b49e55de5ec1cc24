"""What the gate lets through, Go reads as the gate did: the real readers, where Go is installed."""

import json
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from gpushare.core.body import read_call
from gpushare.core.errors import GpushareError
from gpushare.core.model import Call, Intent, Kind
from gpushare.core.multipart import read_form_field
from gpushare.core.names import is_model_name
from tests.fuzz import golike
from tests.fuzz.bodies import BODIES, BODY_TOKENS, FORM, FORM_TOKENS, ROUTES
from tests.fuzz.mutations import fuzz, mutated
from tests.fuzz.target import pick, words
from tests.turns import at_once

HERE = Path(__file__).parent
HEADER = b'Content-Type: a\nContent-Disposition: form-data; name="model"\r\n'
SMUGGLED = FORM.replace(b"--x\r\n", b"--x\r\n" + HEADER, 1)
"""A form with a header in a header, for readers that end a line at a bare line feed."""
MEMBERS = words(
    b'"model":"a"|"MODEL":"b"|"Model":null|"mod\\u0065l":"c"|"model":"d:1"|"mode":"x"|"name":"n"|"stream":true|'
    b'"STREAM":false|"\xc5\xbftream":true|"stream":null|"str\xd0\xb5am":true|"a":{"b":[]}|"\xe2\x84\xaaeep_alive":0|'
    b'"keep_alive":"5m"|"keep_alive":0|"x":{"model":"y"}|"options":{"model":1}|"options":{"NUM_CTX":1}|"prompt":"x"|'
    b'"messages":[]|"messages":[{"role":"user"}]|"input":"x"'
)


class GoReader:
    """The reader in Go, asked over its pipes."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, body: bytes, kind: bytes = b"j") -> dict[str, object]:
        """Returns what Go found in a body, or with ``f`` in a form."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(kind + struct.pack(">I", len(body)) + body)
        self._process.stdin.flush()
        found: dict[str, object] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoReader]:
    """The reader, compiled for this run."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is missing: only the reader of golike.py was compared with")
    folder = tmp_path_factory.mktemp("reader")
    program = folder / "reader"
    env = {**os.environ, "GOCACHE": str(folder / "cache"), "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", program, HERE / "reader.go"], check=True, env=env, cwd=folder)
    built = GoReader(program)
    yield built
    built.close()


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Draws objects of members that are right one by one, but not always together."""
    members = draw(st.lists(st.sampled_from(MEMBERS), max_size=6))
    if draw(st.integers(0, 3)):
        members.insert(draw(st.integers(0, len(members))), b'"model":"m"')
    blank = draw(st.sampled_from((b"", b" ", b"\n\t")))
    return b"{" + (blank + b"," + blank).join(members) + b"}"


def accepted(data: bytes) -> Call | None:
    """Returns the call the gate lets through."""
    endpoint = pick(data, ROUTES)
    try:
        return at_once(read_call(endpoint, endpoint.path, data, content_type="", content_encoding=""))
    except GpushareError:
        return None


def compare(call: Call, found: dict[str, object]) -> None:
    """Checks that Go decides as the gate did."""
    assert found["ok"], "Go reads this as something else"
    if call.endpoint.kind is Kind.QUEUED:
        assert found["model"] == call.asked
    elif call.endpoint.kind is Kind.PASSED:
        assert (found["model"] or found["name"]) == call.asked
    if call.endpoint.streams is not None and call.intent is Intent.GENERATE and b"_debug" not in call.body:
        asked = found["stream"]
        assert call.streaming is (call.endpoint.streams if asked is None else asked)
    if call.intent is Intent.UNLOAD:
        assert found["keep_alive"]


def test_the_gate_and_go_read_alike(reader: GoReader) -> None:
    """Bodies that are let through mean to Ollama what they meant to the gate."""
    let_in = 0

    def check(data: bytes) -> None:
        nonlocal let_in
        call = accepted(data)
        if call is not None and call.body:
            let_in += 1
            compare(call, reader.read(data))

    count = fuzz(mutated(BODIES, BODY_TOKENS) | objects(), check)
    print(f"go: {count} examples, {let_in} let in")  # noqa: T201 - pytest -rP shows it
    assert let_in > count / 50, "hardly anything was compared"


def test_the_gate_and_go_read_forms_alike(reader: GoReader) -> None:
    """The one field that is read from a form is the one Ollama reads."""
    let_in = 0

    def check(data: bytes) -> None:
        nonlocal let_in
        try:
            found = read_form_field(data, boundary="x", field="model")
        except GpushareError:
            return
        if found is None or not is_model_name(found):
            return  # refused for what it is
        let_in += 1
        go = reader.read(data, b"f")
        if go["ok"]:  # else Ollama refuses what the gate let in
            assert (go["values"], go["files"]) == ([found], 0)

    count = fuzz(mutated((FORM, SMUGGLED), FORM_TOKENS), check)
    print(f"go forms: {count} examples, {let_in} let in")  # noqa: T201 - pytest -rP shows it
    assert let_in > count / 200, "hardly anything was compared"


def test_the_stand_in_reads_as_go(reader: GoReader) -> None:
    """The reader in Python, which is always there, agrees with Go on bodies that fold, repeat and trail."""
    rng = random.Random(1)
    for _ in range(3000):
        members = rng.choices(MEMBERS, k=rng.randrange(5))
        body = b"{" + b",".join(members) + b"}" + rng.choice((b"", b" ", b"{}", b" x"))
        found, stand_in = reader.read(body), golike.read(body)
        if found["ok"]:
            assert found["model"] == (stand_in.model or ""), body
            assert found["stream"] == stand_in.stream, body
