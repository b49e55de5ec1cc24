"""Targets: records as they pass through, and what is learnt from them."""

import json
import re
from typing import Any

from gpushare.core.dialects.usage import COUNT_MAX, UsageTap
from gpushare.core.framing import RecordCutter
from gpushare.core.model import Framing
from tests.fuzz.target import pieces, words

RECORDS = (
    b'{"message":{"content":"a"},"done":false}\n{"done":true,"eval_count":3}\n',
    b'{"error":"x"}\n',
    b"\n\n\r\n",
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1}}}\r\n\r\n',
    b'{"status":"pulling"}\n{"status":"success"}\n',
    b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
)
RECORD_TOKENS = words(
    b'\n|\r\n|\n\n|\n\r\n|\r\n\r\n|data: |data:|event: |[DONE]|: x\n|"done":true|"done":false|'
    b'{"done":true}|"error":"x"|"type":"message_stop"|{|}|"status":"success"|'
    b'"usage":{"input_tokens":5}|"eval_count":-1|"eval_count":1e99|,|"|'
    b'"type":"response.completed"|"response":{}|"load_duration":99999999999999999999|\\|\xff'
)


def cutter(data: bytes) -> None:
    """Whole records come out, in order, unchanged, and the same ones wherever the reads ended."""
    for framing in Framing:
        cutter = RecordCutter(framing, line_max=len(data) + 1)
        out = [cutter.feed(piece) for piece in pieces(data)]
        whole, rest = b"".join(out), cutter.rest()
        assert whole + rest == data
        assert not cutter.too_long
        if framing is Framing.NDJSON:
            assert b"\n" not in rest
            assert not whole or whole.endswith(b"\n")
        elif framing is Framing.SSE:
            assert not re.search(rb"\n\r?\n", rest)
            assert not whole or re.search(rb"(?:\A|\n)\r?\n\Z", whole)
        short = RecordCutter(framing, line_max=10)
        for piece in pieces(data):
            if short.too_long:
                break
            short.feed(piece)
            assert len(short._held) <= 10  # noqa: SLF001 - the memory is the point


TAPPED = (
    ("/api/chat", Framing.NDJSON, lambda found: found.get("done") is True),
    ("/api/pull", Framing.NDJSON, lambda found: found.get("status") == "success"),
    ("/v1/messages", Framing.SSE, lambda found: found.get("type") == "message_stop"),
    ("/v1/responses", Framing.SSE, lambda found: found.get("type") == "response.completed"),
    ("/v1/chat/completions", Framing.SSE, lambda found: False),
)


def tap(data: bytes) -> None:
    """It never raises, counts what it was fed, and calls nothing complete that another reader does not."""
    for path, framing, is_end in TAPPED:
        cutter, tap = RecordCutter(framing), UsageTap(path, framing)
        kept = b""
        for piece in pieces(data):
            ready = cutter.feed(piece)
            if ready and not tap.done:
                kept += ready[: tap.feed(ready)]
        tap.failed()
        usage = tap.usage()
        assert data.startswith(kept)
        for count in (usage.input_tokens, usage.output_tokens):
            assert count is None or 0 <= count <= COUNT_MAX
        if tap.done:
            last = re.split(rb"\n\r?\n" if framing is Framing.SSE else rb"\n", kept)[-2]
            assert _data(last) == "[DONE]" or is_end(_object(last, framing))
        single = UsageTap(path, Framing.SINGLE)
        for piece in pieces(data):
            assert single.feed(piece) == len(piece)
        single.close()
        single.usage()


def _data(record: bytes) -> str:
    lines = re.split(rb"\r\n|\n|\r|\x0b|\x0c|\x1c|\x1d|\x1e|\x85", record)
    return "\n".join(
        line[5:].strip().decode("utf-8", "replace") for line in lines if line.startswith(b"data:")
    )


def _object(record: bytes, framing: Framing) -> dict[str, Any]:
    text = _data(record) if framing is Framing.SSE else record.decode("utf-8", "replace")
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
