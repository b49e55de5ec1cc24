from datetime import UTC, datetime

import msgspec

from gpushare.core.document import Document, LastDay, Ollama, Running, State

NOW = datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)

EMPTY = Document(
    now=NOW,
    host="atlas",
    version="0.1.0",
    state=State.STARTING,
    notices=(),
    new_request_starts_in_s=None,
    ollama=Ollama(up=None, version=None, since=None),
    running=(Running(id="r_1", who="somebody", you=False, model="m", started=NOW, swap=False),),
    waiting=(),
    models=(),
)


def test_what_is_not_shown_is_absent_and_what_is_unknown_is_null() -> None:
    """A reader can tell the two apart; times are UTC with a Z."""
    plain = msgspec.json.decode(msgspec.json.encode(EMPTY))
    assert plain["schema"] == "gpushare.status/1"
    assert plain["now"] == "2026-11-20T14:03:12Z"
    assert "day" not in plain
    assert plain["running"][0].keys() == {"id", "who", "you", "model", "started", "swap"}
    assert plain["gpus"] is None
    assert plain["ollama"] == {"up": None, "version": None, "since": None, "at_least": False}


def test_readers_in_python_get_the_same_document_back() -> None:
    """The terminal's status command reads the document by these types."""
    day = LastDay(requests=1, wait_p50_s=0.5, wait_p95_s=None, swaps=0, people=())
    document = msgspec.structs.replace(EMPTY, day=day)
    assert msgspec.json.decode(msgspec.json.encode(document), type=Document) == document


def test_readers_pass_over_fields_they_do_not_know() -> None:
    """Fields are added within one schema version without breaking older readers."""
    plain = msgspec.json.decode(msgspec.json.encode(EMPTY))
    plain["energy"] = {"watts": 338}
    assert msgspec.convert(plain, Document) == EMPTY
