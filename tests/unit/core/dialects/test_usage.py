"""``core.dialects.usage``: whether an answer is complete and what it cost, read from its bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.dialects.usage import COUNT_MAX, TAIL_BYTES, UsageTap, is_object
from gpushare.core.framing import RecordCutter
from gpushare.core.model import Framing, Usage

METRICS = b'"total_duration":9,"load_duration":2000000000,"prompt_eval_count":26,"eval_count":7'
NATIVE_TOKEN = b'{"model":"m","message":{"role":"assistant","content":" caf\xc3\xa9"},"done":false}\n'
NATIVE_END = b'{"model":"m","message":{"content":""},"done":true,"done_reason":"stop",' + METRICS + b"}\n"
CHAT_TOKEN = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
CHAT_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":26,"completion_tokens":7,"total_tokens":33}}\n\n'
CHAT_END = b"data: [DONE]\n\n"
RESPONSES_TOKEN = (
    b'event: response.output_text.delta\ndata: {"delta":"x","type":"response.output_text.delta"}\n\n'
)
RESPONSES_BEGIN = b'event: response.created\ndata: {"response":{"usage":null},"type":"response.created"}\n\n'
RESPONSES_END = (
    b'event: response.completed\ndata: {"response":{"output":[],"usage":{"input_tokens":26,'
    b'"output_tokens":7}},"sequence_number":9,"type":"response.completed"}\n\n'
)
MESSAGES_BEGIN = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":999}}}\n\n'
)
MESSAGES_TOKEN = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"x"}}\n\n'
MESSAGES_DELTA = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"input_tokens":26,"output_tokens":7}}\n\n'
)
MESSAGES_END = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

STREAMS = {
    "/api/chat": (Framing.NDJSON, [NATIVE_TOKEN, NATIVE_TOKEN, NATIVE_END]),
    "/v1/chat/completions": (Framing.SSE, [CHAT_TOKEN, CHAT_TOKEN, CHAT_USAGE, CHAT_END]),
    "/v1/completions": (
        Framing.SSE,
        [b'data: {"usage":{"prompt_tokens":0,"completion_tokens":0}}\n\n', CHAT_USAGE, CHAT_END],
    ),
    "/v1/responses": (Framing.SSE, [RESPONSES_BEGIN, RESPONSES_TOKEN, RESPONSES_END]),
    "/v1/messages": (Framing.SSE, [MESSAGES_BEGIN, MESSAGES_TOKEN, MESSAGES_DELTA, MESSAGES_END]),
}

HOSTILE = {
    Framing.NDJSON: [
        b'{"message":{"content":"\\"done\\":true,\\"eval_count\\":5"},"done":false}\n',
        b'{"message":{"tool_calls":[{"function":{"arguments":{"done":true,"error":"x"}}}]},"done":false}\n',
        b'{"done":true\n',
        b'"done":true\n',
        b"\n",
        b'{"done":"true"}\n',
        b'[{"done":true}]\n',
        b"\xff\xfe\n",
        b'{"error":null}\n',
    ],
    Framing.SSE: [
        b'data: {"choices":[{"delta":{"content":"[DONE] response.completed message_stop"}}]}\n\n',
        b'data: {"x":{"usage":{"prompt_tokens":5}}}\n\n',
        b"data: {[DONE]\n\n",
        b": [DONE]\n\n",
        b"event: message_stop\n\n",
        b'data: {"type":"response.failed.not"}\n\n',
    ],
}
FAILURES = {
    Framing.NDJSON: [b'{"error":"boom"}\n', b'{"StatusCode":500,"error":"boom"}\n'],
    Framing.SSE: [
        b'data: {"error":{"message":"boom"}}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n',
        b'event: response.failed\ndata: {"response":{},"type":"response.failed"}\n\n',
    ],
}


def watch(path: str, framing: Framing, *pieces: bytes) -> tuple[UsageTap, bytes]:
    """Returns a tap that saw the pieces through a cutter, and what it let pass."""
    cutter, tap = RecordCutter(framing), UsageTap(path, framing)
    passed = b""
    for piece in pieces:
        ready = cutter.feed(piece)
        passed += ready[: tap.feed(ready)]
        if tap.done:
            break
    return tap, passed


@pytest.mark.parametrize("path", STREAMS)
def test_a_complete_stream_is_seen_and_counted(path: str) -> None:
    """Each dialect's own end mark counts, and its counts are the last true ones."""
    framing, records = STREAMS[path]
    tap, passed = watch(path, framing, *records)
    assert tap.done
    assert not tap.failed()
    assert passed == b"".join(records)
    assert (tap.usage().input_tokens, tap.usage().output_tokens) == (26, 7)
    assert tap.records == len(records)


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_without_its_end_mark_is_not_done(path: str) -> None:
    """One record short is not complete."""
    framing, records = STREAMS[path]
    tap, _ = watch(path, framing, *records[:-1])
    assert not tap.done


@pytest.mark.parametrize("path", STREAMS)
def test_nothing_passes_behind_the_end_mark(path: str) -> None:
    """What follows the record that ended the answer does not belong to it."""
    framing, records = STREAMS[path]
    tap, passed = watch(path, framing, b"".join([*records, records[0]]))
    assert passed == b"".join(records)
    assert tap.records == len(records)


@pytest.mark.parametrize(("path", "framing"), [(path, framing) for path, (framing, _) in STREAMS.items()])
def test_nothing_that_only_looks_like_an_end_is_one(path: str, framing: Framing) -> None:
    """Text, inner keys, broken JSON and other types never end an answer."""
    for record in HOSTILE[framing]:
        tap, passed = watch(path, framing, record)
        assert not tap.done
        assert not tap.failed()
        assert passed == record
        assert tap.usage() == Usage()


@pytest.mark.parametrize(
    ("framing", "record"), [(framing, record) for framing, records in FAILURES.items() for record in records]
)
def test_an_error_record_ends_the_answer(framing: Framing, record: bytes) -> None:
    """Ollama's own error is told from an answer that merely stopped."""
    path = "/api/chat" if framing is Framing.NDJSON else "/v1/responses"
    begin = STREAMS[path][1][0]
    tap, passed = watch(path, framing, begin + record)
    assert tap.failed()
    assert not tap.done
    assert passed == begin + record
    assert not watch(path, framing, record, begin)[0].failed()


@given(st.data())
def test_the_result_does_not_depend_on_the_cuts(data: st.DataObject) -> None:
    """However the same bytes are cut, the same passes and the same is learnt."""
    path = data.draw(st.sampled_from(sorted(STREAMS)))
    framing, records = STREAMS[path]
    pool = [*records, *HOSTILE[framing], *FAILURES[framing]]
    stream = b"".join(data.draw(st.lists(st.sampled_from(pool), max_size=8)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    cut_tap, cut_passed = watch(path, framing, *pieces)
    tap, passed = watch(path, framing, stream)
    assert cut_passed == passed
    assert cut_tap.usage() == tap.usage()
    assert (cut_tap.done, cut_tap.failed(), cut_tap.records) == (tap.done, tap.failed(), tap.records)


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.sampled_from(list(Framing)),
    st.sampled_from(sorted(STREAMS)),
)
def test_no_input_raises(pieces: list[bytes], framing: Framing, path: str) -> None:
    """Whatever comes, the tap only watches."""
    tap, _ = watch(path, framing, *pieces, b'{"error":' + b"[" * 5000 + b"\n\n")
    tap.close()
    tap.usage()


def test_progress_ends_with_success() -> None:
    """A download is complete when it says so, not when a layer is done."""
    tap, _ = watch("/api/pull", Framing.NDJSON, b'{"status":"pulling","done":true}\n')
    assert not tap.done
    tap.feed(b'{"status":"success"}\n')
    assert tap.done


def test_a_last_record_of_any_length_is_read() -> None:
    """The final record of a generation lists all its tokens before the counts."""
    context = b",".join(b"%d" % n for n in range(100_000))
    record = b'{"response":"","done":true,"context":[' + context + b"]," + METRICS + b"}\n"
    tap, _ = watch("/api/generate", Framing.NDJSON, record[:70_000], record[70_000:])
    assert tap.usage() == Usage(input_tokens=26, output_tokens=7, load_s=2.0)


def document(*pieces: bytes) -> UsageTap:
    """Returns a tap that saw a single document."""
    tap = UsageTap("/api/chat", Framing.SINGLE)
    for piece in pieces:
        assert tap.feed(piece) == len(piece)
    tap.close()
    return tap


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":{},"done":true,' + METRICS + b"}",
        b'{"choices":[],"usage":{"prompt_tokens":26,"completion_tokens":7}}\n',
        b'{"content":[],"usage":{"input_tokens":26,"output_tokens":7}}\n',
    ],
)
@pytest.mark.parametrize("padding", [0, 2 * TAIL_BYTES])
def test_a_document_is_counted_whatever_its_length(body: bytes, padding: int) -> None:
    """Of a long one only the end is kept, and its last top-level fields are read from that."""
    body = b'{"text":"' + b"x" * padding + b'",' + body[1:]
    tap = document(body[:1000], body[1000:])
    assert tap.done
    assert (tap.usage().input_tokens, tap.usage().output_tokens, tap.records) == (26, 7, 1)


def test_inner_fields_of_a_long_document_are_not_read() -> None:
    """A tool call's arguments, which the model writes, cannot pass for counts."""
    forged = b'{"text":"%s","tool_calls":[{"arguments":{"total_duration":1,"eval_count":1}}]}'
    assert document(forged % (b"x" * 2 * TAIL_BYTES)).usage() == Usage()


def test_a_document_that_is_no_object_is_not_done() -> None:
    """A cut or foreign document is not a complete answer."""
    assert not document(b'{"message":').done
    assert not document(b"").done
    assert not document(b"[]").done


def test_an_error_document_is_a_failure() -> None:
    """A document with a top-level error is Ollama's own failure, also under status 200."""
    tap = document(b'{"error":"boom"}')
    assert tap.failed()
    assert not tap.done


@pytest.mark.parametrize(("count", "kept"), [(10**12, COUNT_MAX), (-3, 0), (10**30, COUNT_MAX)])
def test_absurd_counts_are_clamped_and_marked(count: int, kept: int) -> None:
    """A count no model can reach is not believed."""
    usage = document(json.dumps({"eval_count": count, "load_duration": -1}).encode()).usage()
    assert usage == Usage(output_tokens=kept, load_s=0.0, suspect=True)


@pytest.mark.parametrize("count", [True, 1.5, "7", None, [], {}])
def test_what_is_not_a_whole_number_is_no_count(count: object) -> None:
    """Other types say nothing."""
    assert document(json.dumps({"eval_count": count}).encode()).usage() == Usage()


def test_objects_are_told_from_everything_else() -> None:
    """An error that passes unchanged must at least be a JSON object."""
    assert is_object(b'{"error":"x"}')
    for text in (b"", b"[]", b"404 page not found", b"<html>", b"{" * 100_000):
        assert not is_object(text)
