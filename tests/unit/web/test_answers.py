import json
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.errors import MalformedRequest, Overloaded
from gpushare.core.model import Dialect
from gpushare.web.answers import raw_answer, raw_head, refusal


def test_head() -> None:
    """A head block has the status, the given headers, a date and no versions."""
    first, *fields, end, last = raw_head(404, {"A": "b"}).decode().split("\r\n")
    assert first == "HTTP/1.1 404 Not Found"
    assert (end, last) == ("", "")
    headers = dict(field.split(": ", 1) for field in fields)
    assert parsedate_to_datetime(headers.pop("Date")).year >= 2026
    assert headers == {"A": "b", "Server": "gpushare"}


@given(st.text(max_size=20))
def test_head_has_as_many_lines_as_headers(value: str) -> None:
    """No value can add a header: it is one line, or an error."""
    try:
        head = raw_head(200, {"A": value})
    except ValueError:
        assert not value.isprintable()
    else:
        assert len(head.decode().splitlines()) == 5


def test_raw_answer() -> None:
    """A refusal without a request is a whole answer that says when to come back."""
    head, body = raw_answer(Overloaded("connections", 5.0)).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5" in head
    assert b"Connection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["error"]["code"] == "overloaded"


@pytest.mark.parametrize("dialect", list(Dialect))
def test_refusal(dialect: Dialect) -> None:
    """A refusal of a request is in the dialect of its path and closes the connection."""
    response = refusal(MalformedRequest("target"), dialect)
    assert response.status == 400
    assert response.keep_alive is False
    assert isinstance(response.body, bytes)
    assert "error" in json.loads(response.body)
