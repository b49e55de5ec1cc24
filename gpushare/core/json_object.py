"""One JSON object, opened only as far as a decision needs, and only if every reader opens it alike.

Called by: ``core.body``.
Rules: Ollama's reader (Go's ``encoding/json``) matches names without regard to case and lets the last of two
equal names win, where most readers are exact.  What the two would read differently is refused.  All work is
linear in the body's length, and its extent is bounded before the first object is built, because the event
loop of every running stream waits meanwhile.
"""

import codecs
import re
from array import array
from collections.abc import Collection
from itertools import accumulate

import msgspec
from msgspec import Raw

from gpushare.core.errors import BadJson, InvalidRequest

DEPTH_MAX = 64
MEMBERS_MAX = 50_000  # strings, and arrays and objects, in one body
_UTF8_STEP = 1 << 18
_COUNTED_IN_FULL = 1 << 16
_STRINGS_UNCHECKED = 1_000

_OFFSET = re.compile(r"\(byte (\d+)\)")
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(code for code in range(256) if code not in _BRACKETS)
_TURNS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")  # as signed bytes: +1 and -1


class _Name:
    """A member's name that equals nothing but itself, so that a repeated name is not swallowed."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _name(_type: type, text: object) -> _Name:
    return _Name(str(text))


_MEMBERS = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=_name)


def read_object(body: bytes, *, known: Collection[str]) -> dict[str, Raw]:
    """Returns the members of the one JSON object that a whole body is, their values untouched.

    Args:
        body: the bytes as received.
        known: the names Ollama reads, in lower case; they must not appear in another spelling.

    Raises:
        BadJson: not JSON, not UTF-8, not an object.
        InvalidRequest: nested too deep, too many parts, a name given twice or in another spelling.
    """
    _check_utf8(body)
    _check_extent(body)
    return members(body, known=known)


def members(text: bytes | Raw, *, known: Collection[str]) -> dict[str, Raw]:
    """Returns the members of one object whose extent is known to be harmless; else as ``read_object``."""
    try:
        pairs = _MEMBERS.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:
        raise BadJson("The request body is not a JSON object.") from None
    except UnicodeDecodeError:
        raise BadJson("The request body is not valid UTF-8.") from None
    except msgspec.DecodeError as problem:
        raise BadJson(f"The request body is not JSON ({_place(bytes(text), str(problem))}).") from None
    found: dict[str, Raw] = {}
    for name, value in pairs.items():
        spelling = name.text
        folded = spelling.casefold()
        if spelling in found:
            raise InvalidRequest(f"{_quoted(folded, known)} is given twice. Give it once.")
        if folded in known and spelling not in known:
            raise InvalidRequest(f'The field "{folded}" is spelt in another case. Write it in lower case.')
        found[spelling] = value
    return found


def _quoted(folded: str, known: Collection[str]) -> str:
    return f'The field "{folded}"' if folded in known else "A field of the request"


def _place(text: bytes, problem: str) -> str:
    """Returns the line and column, both from 1, of the byte a decoding problem names."""
    match = _OFFSET.search(problem)
    before = text[: int(match[1])] if match else text
    line_start = before.rfind(b"\n") + 1
    line = before.count(b"\n") + 1
    column = len(before[line_start:].decode(errors="replace")) + 1
    return f"line {line}, column {column}"


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # In steps: a whole body as one string could take four times its size.
        for start in range(0, len(body), _UTF8_STEP):
            decoder.decode(body[start : start + _UTF8_STEP])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise BadJson("The request body is not valid UTF-8.") from None


def _check_extent(body: bytes) -> None:
    """Refuses nesting and numbers of parts that no honest request has, without parsing.

    For text that is not JSON the answer may be either way: it is refused by the parser next.
    """
    if not (
        _has_more(body, b'"', 2 * _STRINGS_UNCHECKED)
        or _has_more(body, b"{", DEPTH_MAX // 2)
        or _has_more(body, b"[", DEPTH_MAX // 2)
    ):
        return
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 2 * MEMBERS_MAX:
        raise _too_many()
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_strings.translate(_TURNS, _NOT_BRACKETS)
    if len(brackets) > 2 * MEMBERS_MAX:
        raise _too_many()
    if max(accumulate(array("b", brackets)), default=0) > DEPTH_MAX:
        raise _too_deep()


def _has_more(body: bytes, mark: bytes, most: int) -> bool:
    if len(body) <= _COUNTED_IN_FULL:
        return body.count(mark) > most
    at = -1  # jumping from hit to hit passes a long text or picture ten times faster than counting
    for _ in range(most + 1):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return True


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The request body is nested too deep; the limit here is {DEPTH_MAX} levels.")


def _too_many() -> InvalidRequest:
    return InvalidRequest(
        f"The request body has too many parts; the limit here is {MEMBERS_MAX} strings or objects."
    )
