"""Items 45 to 66: bodies that are too large, too slow, not JSON, or could be read in two ways."""

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.tools import (
    DIALECTS,
    INFERENCE,
    calls,
    dial,
    error_of,
    exchange,
    know_models,
    nothing_ran,
    only_call,
)
from tests.conformance.tools import body_of as body_for
from tests.harness import CANARY, Gate, gateway
from tests.hostile.tools import BODY, body_of, chat_shot, quotes_nothing, refused, sentence, shot
from tests.unit.web.wire import statuses

SMALL = '[server]\nmax_body = "4kB"'


def chat_with(**fields: Any) -> bytes:
    """Returns a chat body with some fields of its own."""
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": CANARY}], "stream": False, **fields}
    ).encode()


def raw_field(text: str) -> bytes:
    """Returns a chat body with members written exactly so."""
    return BODY[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


# --- size and time ----------------------------------------------------------------------------------------


@pytest.mark.item(45)
async def test_more_than_was_declared(tmp_path: Path) -> None:
    """What is sent behind the declared length is no part of the body, and no request either."""
    async with gateway(tmp_path, settings=SMALL) as gate:
        await know_models(gate)
        answer = await exchange(gate, chat_shot(gate) + b"x" * 100_000)
        assert statuses(answer) in ([200], [200, 400], [400])
        assert [entry.body for entry in calls(gate)] in ([BODY], [])


@pytest.mark.item(45)
@pytest.mark.parametrize("path", INFERENCE)
async def test_a_body_without_end(tmp_path: Path, path: str) -> None:
    """Chunks are counted as they come, and the reading stops at the limit."""
    async with gateway(tmp_path, settings=SMALL) as gate, dial(gate.port) as wire:
        await wire.send(shot(gate, f"POST {path} HTTP/1.1", "Transfer-Encoding: chunked"))
        reading = asyncio.create_task(wire.until(b"\r\n\r\n"))
        sent = 0
        while not reading.done():
            await wire.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await asyncio.sleep(0)
            sent += 4096
        assert statuses(await reading) == [413]
        assert sent < 10_000_000
        assert gate.parts.body_budget.held_bytes == 0
        assert nothing_ran(gate)


@pytest.mark.item(47)
async def test_a_body_byte_by_byte(tmp_path: Path) -> None:
    """P19: the deadline is for the whole body, so that single bytes do not move it."""
    async with (
        gateway(tmp_path, settings='[server]\nbody_timeout = "300ms"') as gate,
        dial(gate.port) as wire,
    ):
        request = chat_shot(gate)
        await wire.send(request[: -len(BODY)])
        reading = asyncio.create_task(wire.until(b"\r\n\r\n"))
        for byte in BODY[:-1]:
            if reading.done():
                break
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.01)
        assert statuses(await reading) == [408]
        assert nothing_ran(gate)


# --- compression ------------------------------------------------------------------------------------------

BOMB = gzip.compress(b" " * 10_000_000)
CODED = {
    "gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    " gzip ": BOMB,
    "gzip, gzip": gzip.compress(BOMB),
    "deflate": zlib.compress(BODY),
    "br": BODY,
    "zstd": BODY,
    "identity, gzip": gzip.compress(BODY),
    "gzip;q=1": b"garbage",
    "none": BODY,
}


@pytest.mark.item(48)
@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/responses", "/v1/messages", "/api/show"])
async def test_compressed_bodies(gate: Gate, coding: str, path: str) -> None:
    """They are never unpacked and never passed on, whatever they hold."""
    body = CODED[coding]
    fields = [f"Content-Length: {len(body)}", f"Content-Encoding: {coding}"]
    await refused(gate, shot(gate, f"POST {path} HTTP/1.1", *fields, "Connection: close", body=body), 415)


# --- JSON -------------------------------------------------------------------------------------------------

NOT_JSON = {
    "nothing": b"",
    "blanks": b" \r\n\t",
    "words": b"hello " + CANARY.encode(),
    "null": b"null",
    "a list": b"[]",
    "a list of bodies": b"[" + BODY + b"]",
    "text": b'"x"',
    "number": b"1",
    "true": b"true",
    "half": BODY[:-1],
    "two": BODY + BODY,
    "two on lines": BODY + b"\n" + BODY,
    "trailing comma": BODY[:-1] + b",}",
    "trailing word": BODY + b" x",
    "trailing null byte": BODY + b"\0",
    "single quotes": BODY.replace(b'"', b"'"),
    "comment": b"/*x*/" + BODY,
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "utf-16": BODY.decode().encode("utf-16"),
    "utf-32": BODY.decode().encode("utf-32-le"),
    "latin-1": BODY.replace(b"canary", b"\xe4\xf6\xfc"),
    "overlong": BODY.replace(b"canary", b"\xc0\xae"),
    "surrogate bytes": BODY.replace(b"canary", b"\xed\xa0\x80"),
    "control": BODY.replace(b"canary", b"a\nb"),
    "bare word": raw_field('"x":undefined'),
    "NaN": raw_field('"x":NaN'),
    "NaN inside": raw_field('"x":[{"y":NaN}]'),
    "Infinity": raw_field('"temperature":-Infinity'),
    "hex": raw_field('"x":0x10'),
    "plus": raw_field('"x":+1'),
    "leading zero": raw_field('"x":01'),
    "bad escape": raw_field(r'"x":"\x41"'),
    "half escape": raw_field(r'"x":"\u00"'),
}


@pytest.mark.item(49)
@pytest.mark.item(50)
@pytest.mark.item(52)
@pytest.mark.parametrize("path", DIALECTS)
async def test_what_is_not_one_json_object(gate: Gate, path: str) -> None:
    """P17: it is refused in the dialect, and the refusal quotes nothing of it."""
    for name, body in NOT_JSON.items():
        request = chat_shot(gate, body=body).replace(b"/api/chat", path.encode(), 1)
        answer = await refused(gate, request, 400)
        assert error_of(path, body_of(answer)), name


TWO_READINGS = {
    "twice": '"model":"n"',
    "twice, escaped": r'"mod\u0065l":"n"',
    "upper case": '"MODEL":"n"',
    "mixed case": '"Stream":true',
    "kelvin sign": '"\u212aeep_alive":0',
    "long s": '"me\u017f\u017fages":[]',
    "long s, upper case": '"MAX_TOKEN\u017f":1',
    "unknown, twice": '"zz":1,"zz":2',
    "options twice": '"options":{},"options":{"num_ctx":1}',
    "in options, twice": '"options":{"num_ctx":1,"num_ctx":2}',
    "in options, case": '"options":{"num_ctx":1,"NUM_CTX":2}',
    "in options, escaped": r'"options":{"num_ctx":1,"num_ct\u0078":2}',
    "in options, kelvin sign": '"options":{"top_\u212a":1}',
}


@pytest.mark.item(54)
@pytest.mark.parametrize("name", TWO_READINGS)
async def test_what_two_readers_read_differently(gate: Gate, name: str) -> None:
    """Names given twice, or in a case that Ollama's reader ignores, are refused where it matters."""
    await refused(gate, chat_shot(gate, body=raw_field(TWO_READINGS[name])), 400)


DEEP = {
    "lists": b"[" * 100_000,
    "closed lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000,
    "in a field": BODY[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "in the messages": BODY.replace(b'"messages":[', b'"messages":[' + b"[" * 5000),
    "in options": BODY[:-1] + b',"options":' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
    "65 levels": BODY[:-1] + b',"x":' + b"[" * 65 + b"]" * 65 + b"}",
    "behind a quote": BODY[:-1] + b',"y":"\\"","x":' + b"[" * 65 + b"]" * 65 + b"}",
}


@pytest.mark.item(51)
@pytest.mark.parametrize("name", DEEP)
async def test_deep_nesting(gate: Gate, name: str) -> None:
    """Depth is counted before anything is parsed, so that it is no fault of ours."""
    await refused(gate, chat_shot(gate, body=DEEP[name]), 400)


@pytest.mark.item(52)
@pytest.mark.parametrize("number", ["9" * 10_000, "1e999", "-1e999", "0." + "0" * 500 + "1", "1" + "0" * 400])
@pytest.mark.parametrize("place", ['"seed":%s', '"options":{"num_ctx":%s}', '"keep_alive":%s', '"stream":%s'])
async def test_numbers_that_nothing_holds(gate: Gate, number: str, place: str) -> None:
    """Where a number could be decided on it must be one."""
    body = BODY.replace(b',"stream":false', b"")[:-1] + b"," + (place % number).encode() + b"}"
    await refused(gate, chat_shot(gate, body=body), 400)


NO_MODELS = r"""
    \ud800 \udc00m m\u0000 \u0000 m\u0020 \u0020m m\n m\r\nX:y \u202em \u200bm \uff4d \u043c m\" m'
    ../m a/../m /m m/ //m a/b/c/d m: :m m:a:b:c <m> m?x=1 m#x m%00 m%2e m\\n m;x $(m) m|x @m m@sha256:0 -m .m
""".split()
NO_MODELS += ["", " ", "m" * 10_240]


@pytest.mark.item(53)
@pytest.mark.item(57)
@pytest.mark.parametrize("model", NO_MODELS)
async def test_names_of_models(gate: Gate, model: str) -> None:
    """A name that no model can have goes nowhere."""
    for path in DIALECTS:
        body = json.dumps({**body_for(path, CANARY), "model": "@@"}).replace("@@", model).encode()
        await refused(gate, chat_shot(gate, body=body).replace(b"/api/chat", path.encode(), 1), 400)


@pytest.mark.item(53)
@pytest.mark.parametrize("text", [r"\ud800", r"a\udfffb", r"\u0000", r"\ud83d\ude00", r"\ud800\ud800"])
async def test_odd_characters_in_a_prompt(gate: Gate, text: str) -> None:
    """They pass as they were written, half a surrogate pair included: tools cut emoji in two."""
    body = BODY.replace(CANARY.encode(), text.encode())
    answer = await exchange(gate, chat_shot(gate, body=body))
    assert statuses(answer) == [200]
    assert [entry.body for entry in calls(gate)] == [body]


def many_messages() -> bytes:
    """Returns a body with nearly as many messages as there may be."""
    message = {"role": "user", "content": "x"}
    return json.dumps({"model": "m", "stream": False, "messages": [message] * 49_000}).encode()


MANY: dict[str, Callable[[], bytes]] = {
    "lists": lambda: BODY[:-1] + b',"x":[' + b"[]," * 10_000_000 + b"[]]}",
    "keys": lambda: b"{" + b",".join(b'"k%d":1' % number for number in range(1_000_000)) + b"}",
    "options": lambda: BODY[:-1] + b',"options":{' + b",".join(b'"k%d":1' % n for n in range(2000)) + b"}}",
    "numbers": lambda: BODY[:-1] + b',"x":[' + b"1," * 10_000_000 + b"1]}",
    "blanks": lambda: BODY[:-1] + b" " * 20_000_000 + b"}",
    "texts": lambda: BODY[:-1] + b',"x":[' + b'"",' * 7_000_000 + b"1]}",
    "quotes": lambda: BODY[:-1] + b',"x":"' + b'\\"' * 10_000_000 + b'"}',
    "an open quote": lambda: BODY[:-1] + b',"x":"' + b"\\" * 20_000_001,
    "messages": many_messages,
}


@pytest.mark.item(55)
@pytest.mark.parametrize("name", MANY)
async def test_many_parts(gate: Gate, name: str) -> None:
    """A body full of parts is refused before it is taken apart, or served like any other."""
    await know_models(gate)
    answer = await exchange(gate, chat_shot(gate, body=MANY[name]()))
    assert statuses(answer) == [200 if name in ("quotes", "messages") else 400]


WRONG_TYPES: dict[str, list[Any]] = {
    "model": [["a"], {}, 1, True],
    "stream": ["false", 1, 0, [], {}],
    "messages": [{}, "x", 1, True],
    "options": [[], "x", 1, True],
    "keep_alive": [[], {}, True, "soon", "5 m", "5M", "1e3s", ""],
}


@pytest.mark.item(56)
@pytest.mark.parametrize("field", WRONG_TYPES)
async def test_wrong_types(gate: Gate, field: str) -> None:
    """The refusal names the field."""
    for value in WRONG_TYPES[field]:
        answer = await refused(gate, chat_shot(gate, body=chat_with(**{field: value})), 400)
        assert f'"{field}"' in sentence(answer), value


# --- models -----------------------------------------------------------------------------------------------


@pytest.mark.item(58)
@pytest.mark.parametrize("path", DIALECTS)
async def test_a_hidden_model_and_one_that_is_not_there(tmp_path: Path, path: str) -> None:
    """Nobody learns which models they may not see."""
    async with gateway(tmp_path, people={"limited": {"models": ("m",)}}) as gate:
        await know_models(gate)
        said = {}
        for model in ("n", "x"):
            body = json.dumps(body_for(path, CANARY, model=model)).encode()
            request = chat_shot(gate, body=body, who="limited").replace(b"/api/chat", path.encode(), 1)
            said[model] = sentence(await refused(gate, request, 404))
        assert said["n"].replace("'n'", "") == said["x"].replace("'x'", "")


CLOUD = """
    x:cloud X:CLOUD x:Cloud gpt-oss:120b-cloud gpt-oss:120B-CLOUD library/x:cloud me/x:cloud x:cloud:local
    registry.ollama.ai/library/x:cloud https://registry.ollama.ai/library/x:cloud
    ollama.com/me/x:1-cloud x:a-Cloud
""".split()


@pytest.mark.item(59)
@pytest.mark.parametrize("model", CLOUD)
async def test_models_of_the_cloud(gate: Gate, model: str) -> None:
    """However it is spelt, a model that runs elsewhere is closed; nothing reaches Ollama."""
    await know_models(gate)
    for path in DIALECTS:
        body = json.dumps(body_for(path, CANARY, model=model)).encode()
        request = chat_shot(gate, body=body).replace(b"/api/chat", path.encode(), 1)
        await refused(gate, request, 403)


@pytest.mark.item(59)
@pytest.mark.parametrize("model", [" x:cloud", "x:cloud ", r"x:cloud\t", r"x:cloud\u00a0", r"x:\u202ecloud"])
async def test_a_cloud_model_with_blanks(gate: Gate, model: str) -> None:
    """Ollama trims blanks; here they are in no name."""
    body = BODY.replace(b'"model":"m"', b'"model":"%b"' % model.encode())
    await refused(gate, chat_shot(gate, body=body), 400, 403)


@pytest.mark.item(60)
@pytest.mark.parametrize("keep_alive", ["0", '"0"', '"0s"', '"-0h"', '"0.5s"', "0.9"])
async def test_unloading_for_everybody(gate: Gate, keep_alive: str) -> None:
    """The form that only unloads is for admins."""
    await know_models(gate)
    for path, fields in (("/api/generate", '"model":"m"'), ("/api/chat", '"model":"m","messages":[]')):
        body = f'{{{fields},"keep_alive":{keep_alive}}}'.encode()
        await refused(gate, chat_shot(gate, body=body).replace(b"/api/chat", path.encode(), 1), 403)


# --- fields -----------------------------------------------------------------------------------------------


@pytest.mark.item(64)
@pytest.mark.parametrize("path", DIALECTS)
async def test_fields_that_nobody_knows(gate: Gate, path: str) -> None:
    """They pass with the rest, byte for byte, in every dialect alike."""
    body = json.dumps({**body_for(path), "x_new": {"a": [1, {"A": 2, "a": 3}]}, "": None, "🙂": 1.0}).encode()
    request = chat_shot(gate, body=body).replace(b"/api/chat", path.encode(), 1)
    assert statuses(await exchange(gate, request)) == [200]
    assert only_call(gate).body == body


@pytest.mark.item(65)
@pytest.mark.parametrize("path", DIALECTS)
async def test_addresses_in_a_body(gate: Gate, path: str, trap: socket.socket) -> None:
    """None of them is dialled."""
    url = f"http://127.0.0.1:{trap.getsockname()[1]}/"
    names = ("api_base", "base_url", "remote_host", "url", "callback_url", "webhook", "host", "proxy")
    body = json.dumps({**body_for(path), **dict.fromkeys(names, url)}).encode()
    request = chat_shot(gate, f"X-Ollama-Host: {url}", body=body).replace(b"/api/chat", path.encode(), 1)
    assert statuses(await exchange(gate, request)) == [200]
    with pytest.raises(BlockingIOError):
        trap.accept()


@pytest.mark.item(66)
@pytest.mark.parametrize(
    "content_type", ["multipart/form-data; boundary=x", "Multipart/Mixed", " multipart/x"]
)
async def test_forms(gate: Gate, content_type: str) -> None:
    """A form is taken by the one route that needs it."""
    for path in (*DIALECTS, "/api/show"):
        request = chat_shot(gate, f"Content-Type: {content_type}").replace(b"/api/chat", path.encode(), 1)
        await refused(gate, request, 415)


@pytest.mark.item(66)
@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Content-Type: text/plain"],
        ["Content-Type: application/x-www-form-urlencoded"],
        ["Content-Type: "],
    ],
)
async def test_json_under_another_name(gate: Gate, fields: list[str]) -> None:
    """What counts is what the body is."""
    assert statuses(await exchange(gate, chat_shot(gate, *fields))) == [200]
    entry = only_call(gate)
    assert (entry.body, entry.header("Content-Type")) == (BODY, "application/json")
    form = chat_shot(gate, *fields, body=b"model=m&prompt=" + CANARY.encode())
    answer = await exchange(gate, form)
    assert statuses(answer) == [400]
    quotes_nothing(gate, answer)
    assert len(calls(gate)) == 1
