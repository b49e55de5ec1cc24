"""Targets: request bodies, forms and lists."""

import contextlib
import json
import re
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from gpushare.core.body import read_call
from gpushare.core.dialects import ENDPOINTS
from gpushare.core.errors import BadJson, GpushareError, InvalidRequest
from gpushare.core.json_object import read_object
from gpushare.core.lists import filter_list
from gpushare.core.model import Intent, Kind
from gpushare.core.multipart import boundary_of, read_form_field
from gpushare.core.names import is_model_name, may_use
from tests.fuzz import golike
from tests.fuzz.target import pick, words
from tests.turns import at_once

BODIES = (
    b'{"model":"m","Model":"n","stream":true}',
    b'{"Stream":false,"model":"m","messages":[1]}',
    b'{"model":"m","x":1,"x":2}',
    b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false}',
    b'{"model":"llama3.2:1b","prompt":"","keep_alive":0}',
    b'{"model":"m","keep_alive":"-5m","options":{"num_ctx":4096,"stop":["a"]}}',
    b'{"name":"m","verbose":true}',
    b'{"model":"m","input":["a","b"],"dimensions":8}',
    b'{"model":"m","tools":[{"type":"web_search_20250305"}],"max_tokens":5,"messages":[]}',
    b' {"model":"\\u006d","stream":true,"x":{"a":[1,2.5e3,null,"\\ud83d\\ude00"]}} ',
)
BODY_TOKENS = words(
    b'"model":"n"|"MODEL":"n"|"Model":"n"|"mod\\u0065l":"n"|"stream":true|"Stream":false|'
    b'"me\xc5\xbf\xc5\xbfages":[]|"\xe2\x84\xaaeep_alive":0|"keep_alive":"0s"|"name":"n"|'
    b'"options":{"NUM_CTX":1}|"options":{}|,|,|{|}|[|]|"|\\|\\\\|:|null|true|1e999|-0|NaN|\xff|'
    b'\xc0\xae|\xef\xbb\xbf|\\ud800| |\n|"a":1|"a":1,|"prompt":"x"|"prompt":null|"messages":[ ]|'
    b'"stream":"x"|"model":null'
)
ROUTES = tuple(row for row in ENDPOINTS if row.method == "POST" and not row.multipart and not row.upload)


def gate(data: bytes) -> None:
    """What it lets through is what it got, and Go would read what it read."""
    endpoint = pick(data, ROUTES)
    try:
        call = at_once(read_call(endpoint, endpoint.path, data, content_type="", content_encoding=""))
    except GpushareError as error:
        assert error.status in (400, 403, 415)
        assert str(error).isprintable()
        return
    assert call.body is data or (call.body == b"" and endpoint.kind is Kind.REFUSED)
    if not call.body:
        return
    go = golike.read(data)
    named = go.model if isinstance(go.model, str) and go.model else go.name
    if endpoint.kind is Kind.QUEUED or endpoint.kind is Kind.PASSED:
        assert call.asked == (named if endpoint.kind is Kind.PASSED else go.model)
        assert is_model_name(call.asked)
    if (
        endpoint.streams is not None
        and call.intent is Intent.GENERATE
        and "_debug_render_only" not in str(data)
    ):
        streams = endpoint.streams if go.stream is None else go.stream
        assert call.streaming is streams
    if call.intent is Intent.UNLOAD:
        assert go.keep_alive is not None


def object_reader(data: bytes) -> None:
    """The members are those of the standard library's reader, with the same values, each once."""
    try:
        found = at_once(read_object(data, known=frozenset({"model", "stream"})))
    except (BadJson, InvalidRequest):
        return
    pairs = json.loads(data, object_pairs_hook=lambda pairs: pairs, parse_constant=_no_constant)
    assert [_whole(key) for key, _ in pairs] == list(found)
    for (_, value), raw in zip(pairs, found.values(), strict=True):
        assert _whole(json.loads(bytes(raw), object_pairs_hook=lambda pairs: pairs)) == _whole(value)


def _whole(value: Any) -> Any:
    """Returns a value as Ollama reads it: with U+FFFD in the place of each half of a surrogate pair."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return [_whole(each) for each in value] if isinstance(value, list | tuple) else value


def _no_constant(word: str) -> object:
    raise AssertionError(word)


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\nRIFF\r\n--x--\r\n"
)
FORM_TOKENS = words(
    b'--x\r\n|--x|--x--|\r\n|\r\n\r\n|\n|; filename="b"|; filename*=utf-8\'\'m|name="model"|'
    b'Content-Disposition: form-data; name="model"\r\n|Content-Transfer-Encoding: base64\r\n|"|\\|'
    b';|; name="file"|; name=model|name*0=mo; name*1=del| |\t|\x00|Content-Type: text/plain\r\n'
)


def form(data: bytes) -> None:
    """What is read from a form, the standard library's reader finds as well, once and as text."""
    for content_type in (
        data.decode("latin-1"),
        "multipart/form-data; boundary=" + data[:50].decode("latin-1"),
    ):
        with contextlib.suppress(InvalidRequest):
            assert re.fullmatch(r"[A-Za-z0-9'()+_,./:=?-]{1,70}", boundary_of(content_type))
    try:
        found = read_form_field(data, boundary="x", field="model")
    except InvalidRequest:
        return
    if re.search(rb"\r(?!\n)|(?<!\r)\n", data):
        return  # the standard library takes these for line ends, Go does not: test_readers.py
    head = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + data)
    parts = [
        part for part in message.walk() if part.get_param("name", header="content-disposition") == "model"
    ]
    assert len(parts) == (found is not None)
    if found is not None:
        content = parts[0].get_payload(decode=True)
        assert isinstance(content, bytes)
        assert content.decode() == found
        assert parts[0].get_filename() is None


LISTS = (
    b'{"models":[{"name":"m:latest","size":1},{"name":"n:latest"}]}',
    b'{"object":"list","data":[{"id":"m:latest"},{"id":"n"}]}',
)
LIST_TOKENS = words(b'[|]|{|}|,|"|null|1|"models":|"data":|"name":|\xff|\\ud800|NaN')


def lists(data: bytes) -> None:
    """What a key may not see is not in its list, whatever Ollama said."""
    shown = json.loads(filter_list(data, ("m",)))
    assert isinstance(shown, dict)
    for rows, name in ((shown.get("models"), "name"), (shown.get("data"), "id")):
        if isinstance(rows, list):
            assert all(may_use(("m",), str(row.get(name, ""))) for row in rows)
            break
